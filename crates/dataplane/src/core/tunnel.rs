//! The tunnel to one peer: its WireGuard state and what waits for it.

use std::collections::VecDeque;
use std::sync::Arc;

use host::Instant;
use keys::NodePublic;
use packet::PeerId;
use wireguard::{Identity, Peer};

use super::fit::Fit;
use crate::shared::PeerCell;

/// Bytes that may wait for a handshake, per peer. A TCP opening and a few pings are far below it.
const QUEUE_LEN: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) peer: Peer,
    /// Packets that wait for a session, oldest first.
    queue: VecDeque<Vec<u8>>,
    queued: usize,
    /// What the workers see of it, and count.
    pub(crate) cell: Arc<PeerCell>,
    /// Until when the path machine knows of data that came straight.
    pub(crate) data_told: u64,
    /// Where the timer of this tunnel is in the set of all timers.
    pub(crate) timer: Option<Instant>,
    /// While a handshake waits for an answer: when the last initiation was sent, and when to look next whether the peer is
    /// there at all.
    pub(crate) knocking: Option<Knocking>,
    /// How often the handshake was started afresh since there was a session.
    pub(crate) restarts: u8,
    /// What the way carries that is used.
    pub(crate) fit: Option<Fit>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Knocking {
    pub(crate) since: Instant,
    pub(crate) probe_at: Instant,
}

impl Tunnel {
    /// `None` for a key with which no handshake can succeed.
    pub(crate) fn new(identity: Arc<Identity>, id: PeerId, key: NodePublic) -> Option<Self> {
        Some(Self {
            peer: Peer::new(identity, key)?,
            queue: VecDeque::new(),
            queued: 0,
            cell: PeerCell::new(id),
            data_told: 0,
            timer: None,
            knocking: None,
            restarts: 0,
            fit: None,
        })
    }

    /// When something is to be done for it.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let probe = self.knocking.map(|knocking| knocking.probe_at);
        let fit = self.fit.as_ref().and_then(Fit::next_timeout);
        let peer = self.peer.next_timeout();
        peer.into_iter().chain(probe).chain(fit).min()
    }

    /// Lets a packet wait. Says how many older ones had to go for it.
    pub(crate) fn park(&mut self, packet: &[u8]) -> u64 {
        let mut dropped = 0;
        while self.queued + packet.len() > QUEUE_LEN {
            let Some(oldest) = self.queue.pop_front() else {
                break;
            };
            self.queued -= oldest.len();
            dropped += 1;
        }
        self.queued += packet.len();
        self.queue.push_back(packet.to_vec());
        dropped
    }

    /// All that waits.
    pub(crate) fn take_parked(&mut self) -> VecDeque<Vec<u8>> {
        self.queued = 0;
        std::mem::take(&mut self.queue)
    }
}
