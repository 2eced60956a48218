//! Disco over the relay: pings and pongs.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use host::Instant;
use keys::nacl::SharedKey;
use keys::{DiscoPrivate, DiscoPublic, NodePublic};
use packet::PeerId;
use packet::addr::DERP_MAGIC;
use packet::disco::{self, Envelope, Message, Ping, Pong, TxId};
use rand_core::CryptoRng;

use crate::peers::Peers;
use crate::pings::{PingFailure, PingId, PongReceived, SentPing};
use crate::{LinkId, Magicsock, Output};

/// The largest ping: the largest IPv4 datagram without IP and UDP headers (`MaxDiscoPingSize`).
const MAX_PING: usize = 65535 - 28;
/// Bytes of a ping without padding: envelope, type, version, transaction and node key.
const PING_LEN: usize = disco::OVERHEAD + 2 + 12 + 32;

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

    pub(crate) fn keep_only(&mut self, peers: &Peers) {
        self.shared.retain(|disco, _| peers.knows_disco(disco));
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

    fn seal(
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
        let Some(envelope) = Envelope::parse(datagram) else {
            return;
        };
        // Keys of strangers are not even agreed on: that would cost them nothing and us much.
        if self.node_key.is_none() || !self.peers.knows_disco(&envelope.sender) {
            return;
        }
        let Some(peer) = self.heard(link, src) else {
            return;
        };
        let Some(message) = self.boxes.open(&envelope) else {
            return;
        };
        match message {
            Message::Ping(ping) => self.answer(link, src, envelope.sender, ping, now, rng),
            Message::Pong(pong) => self.handle_pong(envelope.sender, pong, now),
            // Invitations to direct and peer-relayed paths: whom they concern is checked, nothing follows.
            Message::CallMeMaybe(_)
            | Message::CallMeMaybeVia(_)
            | Message::AllocateRequest(_)
            | Message::AllocateResponse { .. } => {
                let _ = self.speaks_for(peer, &envelope.sender);
            }
            // Part of the handshake with a peer relay, which never goes through a DERP relay.
            Message::BindEndpoint(_) | Message::BindChallenge(_) | Message::BindAnswer(_) => {}
        }
    }

    /// Pings a peer through its relay. [`Output::PingDone`] follows.
    ///
    /// `size` is that of the whole disco datagram; smaller ones than possible are as small as possible.
    pub fn ping(
        &mut self,
        id: PingId,
        peer_id: PeerId,
        size: usize,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) {
        if let Err(failure) = self.send_ping(id, peer_id, size, now, rng) {
            self.ping_done(id, Err(failure));
        }
    }

    fn send_ping(
        &mut self,
        id: PingId,
        peer_id: PeerId,
        size: usize,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), PingFailure> {
        let peer = self.peers.get(peer_id).ok_or(PingFailure::NoSuchPeer)?;
        let (disco, home) = (peer.disco, peer.home);
        if disco.is_zero() {
            return Err(PingFailure::NoDisco);
        }
        // A relayed packet has a limit of its own, a little above that of a datagram.
        if size > MAX_PING {
            return Err(PingFailure::TooBig);
        }
        if self.pings.is_full() {
            return Err(PingFailure::Busy);
        }
        let node_key = self.node_key.ok_or(PingFailure::NoPath)?;
        let route = self.route(peer_id, now).ok_or(PingFailure::NoPath)?;
        let region = match home {
            0 => self.links.region_of(route.link).unwrap_or_default(),
            home => home,
        };
        let mut tx = TxId::default();
        rng.fill_bytes(&mut tx.0);
        let ping = Message::Ping(Ping {
            tx,
            node_key,
            padding: size.saturating_sub(PING_LEN),
        });
        let packet = self
            .boxes
            .seal(&ping, disco, rng)
            .ok_or(PingFailure::NoDisco)?;
        self.outputs.push_back(Output::SendDerp {
            link: route.link,
            to: route.to,
            packet,
        });
        let sent = SentPing {
            id,
            peer: peer_id,
            region,
            at: now,
        };
        self.pings.insert(tx, sent);
        Ok(())
    }

    /// Answers on the way by which the ping came.
    fn answer(
        &mut self,
        link: LinkId,
        to: &NodePublic,
        disco: DiscoPublic,
        ping: Ping,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) {
        let Some(region) = self.links.region_of(link) else {
            return;
        };
        let pong = Message::Pong(Pong {
            tx: ping.tx,
            src: region_addr(region),
        });
        let Some(packet) = self.boxes.seal(&pong, disco, rng) else {
            return;
        };
        self.links.note_write(region, now);
        let to = *to;
        self.outputs
            .push_back(Output::SendDerp { link, to, packet });
    }

    /// A pong counts only if it comes from the disco key that was pinged, and by a relay as the ping went by one: a direct
    /// path must never be believed on the word of a relayed answer.
    fn handle_pong(&mut self, sender: DiscoPublic, pong: Pong, now: Instant) {
        let Some(sent) = self.pings.get(&pong.tx) else {
            return;
        };
        if !self.speaks_for(sent.peer, &sender) {
            return;
        }
        let Some(sent) = self.pings.remove(&pong.tx) else {
            return;
        };
        let latency = now.since(sent.at);
        let region = sent.region;
        self.ping_done(sent.id, Ok(PongReceived { latency, region }));
    }

    /// Whether a disco key is the present one of a peer.
    fn speaks_for(&self, peer: PeerId, disco: &DiscoPublic) -> bool {
        self.peers
            .get(peer)
            .is_some_and(|peer| peer.disco == *disco)
    }
}
