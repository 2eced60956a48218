//! Disco messages that arrive: pings, pongs and call-me-maybe.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use host::Instant;
use keys::nacl::SharedKey;
use keys::{DiscoPrivate, DiscoPublic, NodePublic};
use packet::PeerId;
use packet::addr::DERP_MAGIC;
use packet::disco::{self, Envelope, Message, Ping, Pong, TxId};
use rand_core::CryptoRng;

use crate::candidates::Heard;
use crate::pings::{PongReceived, Via};
use crate::{LinkId, Magicsock, Output};

/// Our disco key, and the keys shared with peers, agreed on once.
#[derive(Debug)]
pub(crate) struct Boxes {
    private: DiscoPrivate,
    public: DiscoPublic,
    shared: BTreeMap<DiscoPublic, SharedKey>,
}

impl Boxes {
    pub(crate) fn new(private: DiscoPrivate) -> Self {
        Self {
            public: private.public(),
            private,
            shared: BTreeMap::new(),
        }
    }

    pub(crate) fn public(&self) -> DiscoPublic {
        self.public
    }

    pub(crate) fn forget(&mut self, peer: &DiscoPublic) {
        self.shared.remove(peer);
    }

    fn with(&mut self, peer: DiscoPublic) -> Option<&SharedKey> {
        if let std::collections::btree_map::Entry::Vacant(entry) = self.shared.entry(peer) {
            entry.insert(disco::shared_key(&self.private, &peer)?);
        }
        self.shared.get(&peer)
    }

    fn open(&mut self, envelope: &Envelope<'_>) -> Option<Message> {
        envelope.open(self.with(envelope.sender)?).ok()
    }

    pub(crate) fn seal(
        &mut self,
        message: &Message,
        to: DiscoPublic,
        rng: &mut dyn CryptoRng,
    ) -> Option<Vec<u8>> {
        let ours = self.public;
        Some(disco::seal(message, &ours, self.with(to)?, rng))
    }
}

/// The address that stands for a region in disco messages.
fn region_addr(region: u16) -> SocketAddr {
    SocketAddr::new(DERP_MAGIC.into(), region)
}

/// The way by which a message came.
#[derive(Debug, Clone, Copy)]
enum Came {
    /// A relay vouches for the peer.
    Relay { link: LinkId, peer: PeerId },
    /// Anybody could have sent it from there, again and again.
    Direct(SocketAddr),
}

impl Magicsock {
    /// Takes a datagram that [looks like disco](disco::looks_like) and came from `src` by `link`. Whatever is wrong with it,
    /// it is ignored: it may be from the future, or meant for an earlier key of ours.
    pub fn handle_disco(
        &mut self,
        link: LinkId,
        src: &NodePublic,
        datagram: &[u8],
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) {
        // Keys of strangers are not even agreed on: that would cost them nothing and us much.
        let Some(envelope) = self.known_sender(datagram) else {
            return;
        };
        if let Some(peer) = self.heard(link, src) {
            self.take(&envelope, Came::Relay { link, peer }, now, rng);
        }
    }

    /// Takes a datagram that [looks like disco](disco::looks_like) and came from the address `src`.
    pub fn handle_direct_disco(
        &mut self,
        src: SocketAddr,
        datagram: &[u8],
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) {
        if !self.has_sockets() {
            return;
        }
        if let Some(envelope) = self.known_sender(datagram) {
            self.take(&envelope, Came::Direct(src), now, rng);
        }
    }

    fn known_sender<'a>(&self, datagram: &'a [u8]) -> Option<Envelope<'a>> {
        self.node_key?;
        let envelope = Envelope::parse(datagram)?;
        self.peers.knows_disco(&envelope.sender).then_some(envelope)
    }

    fn take(&mut self, envelope: &Envelope<'_>, came: Came, now: Instant, rng: &mut dyn CryptoRng) {
        let Some(message) = self.boxes.open(envelope) else {
            return;
        };
        let sender = envelope.sender;
        match (message, came) {
            (Message::Ping(ping), Came::Relay { link, peer }) => {
                self.answer_relayed(link, peer, sender, ping, now, rng);
            }
            (Message::Ping(ping), Came::Direct(src)) => {
                self.answer_direct(src, sender, ping, now, rng);
            }
            (Message::Pong(pong), came) => self.handle_pong(sender, pong, came, now),
            // A call-me-maybe counts only if relay and box name the same peer: who can make us ping addresses must be known.
            (Message::CallMeMaybe(addrs), Came::Relay { peer, .. }) => {
                if self.speaks_for(peer, &sender) {
                    self.handle_call_me_maybe(peer, &addrs, now, rng);
                }
            }
            // Call-me-maybe does not come by direct paths. All else concerns peer relays, which we do not use.
            (
                Message::CallMeMaybe(_)
                | Message::CallMeMaybeVia(_)
                | Message::AllocateRequest(_)
                | Message::AllocateResponse { .. }
                | Message::BindEndpoint(_)
                | Message::BindChallenge(_)
                | Message::BindAnswer(_),
                _,
            ) => {}
        }
    }

    /// Answers on the way by which the ping came.
    fn answer_relayed(
        &mut self,
        link: LinkId,
        peer: PeerId,
        disco: DiscoPublic,
        ping: Ping,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) {
        let Some(region) = self.links.region_of(link) else {
            return;
        };
        let Some(to) = self.peers.get(peer).map(|peer| peer.key) else {
            return;
        };
        if let Some(packet) = self.pong(ping.tx, region_addr(region), disco, rng) {
            self.links.note_write(region, now);
            self.outputs
                .push_back(Output::SendDerp { link, to, packet });
        }
    }

    /// Answers to the address from which the ping came, which may be a way to its sender. That it is one is known only after
    /// a ping of our own: this one may be a copy that somebody else sends.
    fn answer_direct(
        &mut self,
        src: SocketAddr,
        disco: DiscoPublic,
        ping: Ping,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) {
        let ids: Vec<PeerId> = self.peers.of_disco(&disco).collect();
        let mut is_copy = true;
        for id in ids {
            let Some(peer) = self.peers.get_mut(id) else {
                continue;
            };
            let heard = peer.paths.candidates.hear(src, ping.tx, now);
            is_copy &= heard == Heard::Copy;
            if heard == Heard::New {
                peer.paths.allow_kick();
            }
        }
        if is_copy {
            return;
        }
        if let Some(packet) = self.pong(ping.tx, src, disco, rng) {
            self.outputs.push_back(Output::SendUdp { to: src, packet });
        }
    }

    fn pong(
        &mut self,
        tx: TxId,
        src: SocketAddr,
        to: DiscoPublic,
        rng: &mut dyn CryptoRng,
    ) -> Option<Vec<u8>> {
        self.boxes.seal(&Message::Pong(Pong { tx, src }), to, rng)
    }

    /// A pong counts only if it comes from the disco key that was pinged, and by a relay if and only if the ping went by
    /// one: a direct path must never be believed on the word of a relayed answer. Which address it comes from does not
    /// matter: what works is the one that was pinged.
    fn handle_pong(&mut self, sender: DiscoPublic, pong: Pong, came: Came, now: Instant) {
        let Some(sent) = self.pings.get(&pong.tx).copied() else {
            return;
        };
        let same_way = matches!(
            (sent.via, came),
            (Via::Relay(_), Came::Relay { .. }) | (Via::Direct(_), Came::Direct(_))
        );
        if !same_way || !self.speaks_for(sent.peer, &sender) {
            return;
        }
        let Some((sent, asker)) = self.pings.answered(&pong.tx) else {
            return;
        };
        let latency = now.since(sent.at);
        if let Via::Direct(to) = sent.via {
            self.direct_pong(sent.peer, to, latency, now);
        }
        if let Some(id) = asker {
            let via = sent.via;
            self.ping_done(id, Ok(PongReceived { latency, via }));
        }
    }

    fn direct_pong(
        &mut self,
        id: PeerId,
        to: SocketAddr,
        latency: std::time::Duration,
        now: Instant,
    ) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        if peer.paths.answered(to, latency, now) {
            let (key, disco) = (peer.key, peer.disco);
            self.outputs.push_back(Output::PathChanged {
                key,
                disco,
                direct: Some(to),
            });
        }
    }

    /// Whether a disco key is the present one of a peer.
    fn speaks_for(&self, peer: PeerId, disco: &DiscoPublic) -> bool {
        self.peers
            .get(peer)
            .is_some_and(|peer| peer.disco == *disco)
    }
}
