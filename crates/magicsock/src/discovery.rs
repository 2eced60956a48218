//! Looking for direct paths, and keeping those in use alive: pings and call-me-maybe messages that we send.

use std::net::SocketAddr;

use host::Instant;
use packet::PeerId;
use packet::disco::{self, Message, Ping, TxId};
use rand_core::CryptoRng;

use crate::paths::HEARTBEAT;
use crate::pings::{PingFailure, PingId, SentPing, Via};
use crate::{Magicsock, Output};

/// The largest ping: the largest IPv4 datagram without IP and UDP headers (`MaxDiscoPingSize`).
const MAX_PING: usize = 65535 - 28;
/// Bytes of a ping without padding: envelope, type, version, transaction and node key.
const PING_LEN: usize = disco::OVERHEAD + 2 + 12 + 32;
/// The most of our own addresses in one call-me-maybe.
const MAX_CALLED: usize = 64;

/// Which ways a ping takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingScope {
    /// Those that packets take at this moment.
    Paths,
    /// Those, and if they are not known to work, all that might.
    All,
}

impl Magicsock {
    /// Pings a peer. [`Output::PingDone`] follows, with the first answer.
    ///
    /// `size` is that of the whole disco datagram; smaller ones than possible are as small as possible.
    pub fn ping(
        &mut self,
        id: PingId,
        peer_id: PeerId,
        scope: PingScope,
        size: usize,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) {
        if let Err(failure) = self.ask(id, peer_id, scope, size, now, rng) {
            self.ping_done(id, Err(failure));
        }
    }

    fn ask(
        &mut self,
        id: PingId,
        peer_id: PeerId,
        scope: PingScope,
        size: usize,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), PingFailure> {
        let peer = self.peers.get(peer_id).ok_or(PingFailure::NoSuchPeer)?;
        if peer.disco.is_zero() {
            return Err(PingFailure::NoDisco);
        }
        // A relayed packet has a limit of its own, a little above that of a datagram.
        if size > MAX_PING {
            return Err(PingFailure::TooBig);
        }
        if self.pings.is_full() {
            return Err(PingFailure::Busy);
        }
        self.node_key.ok_or(PingFailure::NoPath)?;
        let route = self.route(peer_id, now).ok_or(PingFailure::NoPath)?;
        let mut ways = self.ways_of(peer_id, route);
        let is_sure = route.relay.is_none();
        if scope == PingScope::All
            && !is_sure
            && self.has_sockets()
            && let Some(peer) = self.peers.get_mut(peer_id)
        {
            let all = peer.paths.full_ping(now, true).into_iter();
            ways.extend(all.filter(|to| route.direct != Some(*to)).map(Via::Direct));
            // The other side's firewall opens for us only when it sends.
            self.send_call(peer_id, now, rng);
        }
        let mut any = false;
        for via in ways {
            any |= self.send_ping(peer_id, via, Some(id), size, now, rng);
        }
        any.then_some(()).ok_or(PingFailure::NoPath)
    }

    fn ways_of(&self, peer: PeerId, route: crate::Route) -> Vec<Via> {
        let relay = route.relay.map(|relay| {
            let home = self.peers.get(peer).map_or(0, |peer| peer.home);
            Via::Relay(match home {
                0 => self.links.region_of(relay.link).unwrap_or_default(),
                home => home,
            })
        });
        let direct = route.direct.map(Via::Direct);
        relay.into_iter().chain(direct).collect()
    }

    /// Sends one ping; says whether it could.
    fn send_ping(
        &mut self,
        id: PeerId,
        via: Via,
        asker: Option<PingId>,
        size: usize,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) -> bool {
        if self.pings.is_full_for(id) && asker.is_none() {
            return false;
        }
        let (Some(node_key), Some(peer)) = (self.node_key, self.peers.get(id)) else {
            return false;
        };
        let (home, heard_on, to) = (peer.home, peer.heard_on, peer.key);
        let mut tx = TxId::default();
        rng.fill_bytes(&mut tx.0);
        let ping = Message::Ping(Ping {
            tx,
            node_key,
            padding: size.saturating_sub(PING_LEN),
        });
        let Some(packet) = self.boxes.seal(&ping, peer.disco, rng) else {
            return false;
        };
        let output = match via {
            Via::Direct(to) if self.has_family_of(to) => Output::SendUdp { to, packet },
            Via::Direct(_) => return false,
            Via::Relay(_) => match self.link_for(home, heard_on, now) {
                Some(link) => Output::SendDerp { link, to, packet },
                None => return false,
            },
        };
        self.outputs.push_back(output);
        let sent = SentPing {
            id: asker,
            peer: id,
            via,
            at: now,
        };
        self.pings.insert(tx, sent);
        true
    }

    /// Whether the machine can send to addresses of this family at all.
    fn has_family_of(&self, addr: SocketAddr) -> bool {
        match addr {
            SocketAddr::V4(_) => self.endpoints.ports.v4.is_some(),
            SocketAddr::V6(_) => {
                let may_reach = self.home.have_v6 || addr.ip().is_loopback();
                self.endpoints.ports.v6.is_some() && may_reach
            }
        }
    }

    /// Something is sent to a peer: keeps its path alive, and has one looked for if it is not known to work.
    pub(crate) fn note_traffic(&mut self, id: PeerId, trusted: bool, now: Instant) {
        if !self.has_sockets() {
            return;
        }
        let Some(peer) = self.peers.get_mut(id).filter(|peer| !peer.disco.is_zero()) else {
            return;
        };
        let heartbeat = *peer.paths.heartbeat_at.get_or_insert(now + HEARTBEAT);
        let look_now = !trusted && peer.paths.kick(now);
        let at = if look_now { now } else { heartbeat };
        self.peers.wake_by(id, at);
    }

    /// Gives all peers whose time has come their turn.
    pub(crate) fn take_turns(&mut self, now: Instant, rng: &mut dyn CryptoRng) {
        while let Some(id) = self.peers.take_turn(now) {
            self.turn(id, now, rng);
        }
    }

    fn turn(&mut self, id: PeerId, now: Instant, rng: &mut dyn CryptoRng) {
        let has_sockets = self.has_sockets();
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        peer.paths.doubt(now);
        let beats = peer.paths.heartbeat_at.is_some_and(|at| at <= now);
        if !has_sockets || (beats && !peer.is_active(now)) {
            peer.paths.heartbeat_at = None;
            return;
        }
        let choice = peer.paths.choose(now);
        let mut look = !choice.trusted;
        if beats {
            peer.paths.heartbeat_at = Some(now + HEARTBEAT);
            look |= peer.paths.wants_full_ping(now);
            if let Some(direct) = choice.direct {
                peer.paths.candidates.note_ping(direct, now);
                peer.paths.note_heartbeat(now);
                self.send_ping(id, Via::Direct(direct), None, 0, now, rng);
            }
        }
        if look {
            self.look(id, now, rng);
        }
        let next = self.peers.get(id).and_then(|peer| {
            let times = [peer.paths.heartbeat_at, peer.paths.doubt_at()];
            times.into_iter().flatten().min()
        });
        self.peers.wake_at(id, next);
    }

    /// Pings what was not pinged of late, and asks the peer to do the same.
    fn look(&mut self, id: PeerId, now: Instant, rng: &mut dyn CryptoRng) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let addrs = peer.paths.full_ping(now, false);
        for addr in &addrs {
            self.send_ping(id, Via::Direct(*addr), None, 0, now, rng);
        }
        if !addrs.is_empty() {
            self.send_call(id, now, rng);
        }
    }

    /// Tells a peer by its relay where we are, so that it pings us there. Addresses that may be outdated are found out anew
    /// first.
    fn send_call(&mut self, id: PeerId, now: Instant, rng: &mut dyn CryptoRng) {
        if !self.endpoints.are_fresh(now) {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.paths.call_waits = true;
            }
            self.home.want_fresh(now);
            return;
        }
        let addrs: Vec<SocketAddr> = self
            .endpoints
            .current()
            .iter()
            .map(|endpoint| endpoint.addr)
            .take(MAX_CALLED)
            .collect();
        let Some(peer) = self.peers.get(id).filter(|_| !addrs.is_empty()) else {
            return;
        };
        let (home, heard_on, to, disco) = (peer.home, peer.heard_on, peer.key, peer.disco);
        let Some(link) = self.link_for(home, heard_on, now) else {
            return;
        };
        let message = Message::CallMeMaybe(addrs);
        if let Some(packet) = self.boxes.seal(&message, disco, rng) {
            self.outputs
                .push_back(Output::SendDerp { link, to, packet });
        }
    }

    /// Our own addresses are known afresh: sends the call-me-maybe messages that waited for it.
    pub(crate) fn send_waiting_calls(&mut self, now: Instant, rng: &mut dyn CryptoRng) {
        let ids: Vec<PeerId> = self.peers.ids().collect();
        for id in ids {
            let waits = self
                .peers
                .get_mut(id)
                .is_some_and(|peer| std::mem::take(&mut peer.paths.call_waits));
            if waits {
                self.send_call(id, now, rng);
            }
        }
    }

    /// A peer tells where it is. Its firewall is open there for us now, if it is at all; so there is no need to call it in
    /// turn.
    pub(crate) fn handle_call_me_maybe(
        &mut self,
        id: PeerId,
        addrs: &[SocketAddr],
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) {
        if !self.has_sockets() {
            return;
        }
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        peer.paths.call(addrs);
        for addr in peer.paths.full_ping(now, false) {
            self.send_ping(id, Via::Direct(addr), None, 0, now, rng);
        }
    }
}
