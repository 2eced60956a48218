//! Protection of the handshake against floods (whitepaper 5.4.4, 5.4.7): who must prove its address, and our own proofs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use host::Instant;
use keys::NodePublic;
use rand_core::CryptoRng;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::crypto::{Secret, mac, xopen, xseal};
use crate::handshake::macs_at;
use crate::identity::{Identity, MacKeys};
use crate::message::{COOKIE, COOKIE_LEN, CookieReply, Message, field};

/// Where a handshake message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Straight from this address and port.
    Udp(SocketAddr),
    /// Through a relay, which vouches for the sender's key.
    Relay(NodePublic),
}

impl Source {
    /// What a cookie is bound to: all that tells one sender from another, the port included.
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Udp(address) => {
                let mut out = match address.ip() {
                    IpAddr::V4(ip) => ip.octets().to_vec(),
                    IpAddr::V6(ip) => ip.octets().to_vec(),
                };
                out.extend_from_slice(&address.port().to_be_bytes());
                out
            }
            Self::Relay(key) => key.as_bytes().to_vec(),
        }
    }
}

/// What to do with a handshake message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admit {
    /// Work on it.
    Proceed,
    /// Do not; send this cookie reply to where it came from.
    Challenge(Vec<u8>),
    /// Do not, silently: its sender does not know our key, or sends too many.
    Drop,
}

/// Decides which handshake messages deserve work.
///
/// Each source has its own budget, so that a flood from one never costs the others anything. A flood from very many
/// (forged) sources exhausts a budget common to all whose address is unproven; then those, and only those, are asked for
/// a cookie.
#[derive(Default)]
pub struct Gate {
    secret: Secret,
    secret_since: Option<Instant>,
    unproven: Bucket,
    loaded_until: Option<Instant>,
    sources: BTreeMap<Source, Bucket>,
    collected: Option<Instant>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Judges an initiation or a response. Other messages proceed: they cost little and have their own checks.
    pub fn admit(
        &mut self,
        identity: &Identity,
        message: &Message<'_>,
        source: Source,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) -> Admit {
        let (bytes, sender) = match message {
            Message::Initiation(initiation) => (initiation.bytes(), initiation.sender()),
            Message::Response(response) => (response.bytes(), response.sender()),
            Message::CookieReply(_) | Message::Data { .. } => return Admit::Proceed,
        };
        let (covered, macs) = bytes.split_at(macs_at(bytes));
        let (mac1, mac2) = (field::<16>(macs, 0), field::<16>(macs, 16));
        if !equal(&identity.macs.mac1(covered), &mac1) {
            return Admit::Drop;
        }
        let proven = self.proven(bytes, &mac2, source, now);
        self.collect(now);
        match (self.spend(source, proven, now), proven) {
            (true, _) => Admit::Proceed,
            (false, true) => Admit::Drop,
            (false, false) => {
                Admit::Challenge(self.reply(identity, sender, &mac1, source, now, rng))
            }
        }
    }

    /// Whether the message carries a cookie that we gave to this source.
    fn proven(&self, bytes: &[u8], mac2: &[u8; 16], source: Source, now: Instant) -> bool {
        let fresh = self
            .secret_since
            .is_some_and(|since| now.since(since) < COOKIE_LIFETIME);
        let covered = bytes.get(..bytes.len().saturating_sub(16)).unwrap_or(&[]);
        fresh && equal(&mac(self.cookie(source).as_slice(), &[covered]), mac2)
    }

    /// Takes from the budgets. A proven source has only its own; an unproven one needs room in the common one too, but
    /// takes from that only while it has room in its own: a flood from one source must not empty it for the others.
    fn spend(&mut self, source: Source, proven: bool, now: Instant) -> bool {
        let known = self.sources.get(&source);
        if known.is_some_and(|bucket| !bucket.has_room(PER_SOURCE, now)) {
            return false;
        }
        let full = self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source);
        let common = !proven || full;
        if common && !self.spend_common(proven, full, now) {
            return false;
        }
        full || self
            .sources
            .entry(source)
            .or_default()
            .take(PER_SOURCE, now)
    }

    /// Takes from the budget of those who have none of their own: whose address is unproven, or who find the table full.
    fn spend_common(&mut self, proven: bool, full: bool, now: Instant) -> bool {
        let loaded = self
            .loaded_until
            .is_some_and(|until| now < until && until.since(now) <= LOADED_FOR);
        if !proven && (loaded || full) {
            return false;
        }
        let took = self.unproven.take(UNPROVEN, now);
        if !took && !proven {
            self.loaded_until = Some(now + LOADED_FOR);
        }
        took
    }

    fn cookie(&self, source: Source) -> [u8; 16] {
        mac(self.secret.as_slice(), &[&source.bytes()])
    }

    fn reply(
        &mut self,
        identity: &Identity,
        receiver: u32,
        mac1: &[u8; 16],
        source: Source,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) -> Vec<u8> {
        if self
            .secret_since
            .is_none_or(|since| now.since(since) >= COOKIE_LIFETIME)
        {
            rng.fill_bytes(self.secret.as_mut_slice());
            self.secret_since = Some(now);
        }
        let mut nonce = [0; 24];
        rng.fill_bytes(&mut nonce);
        let mut message = vec![0; COOKIE_LEN];
        message[0] = COOKIE;
        message[4..8].copy_from_slice(&receiver.to_le_bytes());
        message[8..32].copy_from_slice(&nonce);
        let cookie = self.cookie(source);
        xseal(
            &identity.macs.cookie,
            &nonce,
            mac1,
            &cookie,
            &mut message[32..],
        );
        message
    }

    /// Forgets sources whose budget has filled up again: they are no different from new ones.
    fn collect(&mut self, now: Instant) {
        let due = self
            .collected
            .is_none_or(|last| now.since(last) >= COLLECT_EVERY);
        if due {
            self.collected = Some(now);
            self.sources.retain(|_, bucket| !bucket.is_full(now));
        }
    }
}

/// How quickly a budget refills, and how much it holds.
#[derive(Clone, Copy)]
struct Rate {
    /// Time per token.
    cost: Duration,
    burst: u32,
}

/// As the originals.
const PER_SOURCE: Rate = Rate {
    cost: Duration::from_millis(50),
    burst: 5,
};
/// Far above what a tailnet coming up does, far below what a core can compute (about 5 000 handshakes a second).
const UNPROVEN: Rate = Rate {
    cost: Duration::from_millis(2),
    burst: 250,
};
const LOADED_FOR: Duration = Duration::from_secs(1);
const COOKIE_LIFETIME: Duration = Duration::from_secs(120);
const COLLECT_EVERY: Duration = Duration::from_secs(1);
const MAX_SOURCES: usize = 8192;

/// A token bucket, kept as the time at which it is full; none means that it is.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let full_at = self.full_after_one_more(rate, now);
        let room = full_at <= now + rate.cost * rate.burst;
        if room {
            self.full_at = Some(full_at);
        }
        room
    }

    fn has_room(&self, rate: Rate, now: Instant) -> bool {
        self.full_after_one_more(rate, now) <= now + rate.cost * rate.burst
    }

    /// A time beyond what the burst allows is left by a clock that went back: it must not shut anybody out.
    fn full_after_one_more(&self, rate: Rate, now: Instant) -> Instant {
        let plausible = now..=now + rate.cost * rate.burst;
        let full_at = self.full_at.filter(|at| plausible.contains(at));
        full_at.unwrap_or(now) + rate.cost
    }

    fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }
}

fn equal(a: &[u8; 16], b: &[u8; 16]) -> bool {
    bool::from(a.ct_eq(b))
}

/// Our own side: the authenticators of messages to one peer, and the cookie that it gave us.
pub(crate) struct CookieJar {
    keys: MacKeys,
    last_mac1: Option<[u8; 16]>,
    cookie: Option<(Zeroizing<[u8; 16]>, Instant)>,
}

impl CookieJar {
    pub(crate) fn new(peer: &NodePublic) -> Self {
        Self {
            keys: MacKeys::new(peer),
            last_mac1: None,
            cookie: None,
        }
    }

    /// Fills in both authenticators of a handshake message.
    pub(crate) fn authenticate(&mut self, message: &mut [u8], now: Instant) {
        let at = macs_at(message);
        let Some((covered, macs)) = message.split_at_mut_checked(at) else {
            return;
        };
        let Some((first, second)) = macs.split_at_mut_checked(16) else {
            return;
        };
        let mac1 = self.keys.mac1(covered);
        first.copy_from_slice(&mac1);
        self.last_mac1 = Some(mac1);
        if let Some((cookie, since)) = &self.cookie
            && now.since(*since) < COOKIE_LIFETIME
        {
            second.copy_from_slice(&mac(cookie.as_slice(), &[covered, &mac1]));
        }
    }

    /// Takes the cookie out of a reply to our last handshake message.
    pub(crate) fn accept(&mut self, reply: &CookieReply<'_>, now: Instant) -> bool {
        let Some(mac1) = self.last_mac1 else {
            return false;
        };
        let opened = xopen::<16, 32>(
            &self.keys.cookie,
            &reply.nonce(),
            &mac1,
            &reply.sealed_cookie(),
        );
        if let Some(cookie) = opened {
            self.cookie = Some((Zeroizing::new(cookie), now));
        }
        opened.is_some()
    }
}

#[cfg(test)]
mod tests;
