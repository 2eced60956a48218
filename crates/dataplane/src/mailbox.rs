//! What waits for the engine's thread.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use magicsock::LinkId;
use packet::PeerId;

use crate::core::Command;
use crate::link::LinkEvent;
use crate::probe::ProbeAnswer;
use crate::sockets::Datagrams;
use crate::tun::FromHost;

/// Everything that arrived since the thread last looked. Commands come from our own process and are few; packets are
/// bounded by the credit that each link has (see [`crate::link`]) and by bytes, probe answers by the probes asked for.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) commands: VecDeque<Command>,
    pub(crate) links: VecDeque<(LinkId, LinkEvent)>,
    pub(crate) datagrams: VecDeque<Datagrams>,
    pub(crate) from_host: VecDeque<FromHost>,
    pub(crate) decrypted: VecDeque<Decrypted>,
    pub(crate) accepted: VecDeque<Accepted>,
    pub(crate) pokes: Vec<Poke>,
    /// Handshakes among the datagrams.
    handshakes: usize,
    /// Bytes of packets and datagrams.
    bytes: usize,
    /// Why the TUN device can be read no more.
    pub(crate) tun_lost: Option<String>,
    pub(crate) probes: VecDeque<ProbeAnswer>,
    /// Something that the thread polls by itself has changed.
    pub(crate) woken: bool,
    /// The last handle is gone.
    pub(crate) closed: bool,
}

/// Something that a worker has noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Poke {
    /// Something was sent to a peer, and its timers want a look.
    Sent(PeerId),
    /// Something came on the session with this index, and its peer's timers want a look.
    Received(PeerId, u32),
    /// The way to a peer was lent a while ago, and is in use.
    Renew(PeerId),
    /// There is no way to an address.
    Unreachable(SocketAddr),
}

/// Packets that came out of tunnels and that the engine must look at.
#[derive(Debug, Default)]
pub(crate) struct Decrypted {
    pub(crate) bytes: Vec<u8>,
    pub(crate) packets: Vec<(PeerId, Range<usize>)>,
}

impl Decrypted {
    pub(crate) fn push(&mut self, from: PeerId, packet: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(packet);
        self.packets.push((from, start..self.bytes.len()));
    }
}

/// Packets that may come in, for the engine's own stack: each alone, or several of one flow as one, whose checksums hold.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    pub(crate) bytes: Vec<u8>,
    pub(crate) runs: Vec<(Range<usize>, bool)>,
}

/// Bytes of packets that may wait for the engine. Beyond, a worker waits for a moment, and then lets go.
const MAX_BYTES: usize = 2 << 20;
/// Handshakes that may wait: what the engine can answer in a few milliseconds.
const MAX_HANDSHAKES: usize = 64;
/// How long a worker waits for the engine.
const PATIENCE: Duration = Duration::from_millis(50);

impl Inbox {
    fn is_empty(&self) -> bool {
        self.commands.is_empty()
            && self.links.is_empty()
            && self.datagrams.is_empty()
            && self.from_host.is_empty()
            && self.decrypted.is_empty()
            && self.accepted.is_empty()
            && self.pokes.is_empty()
            && self.tun_lost.is_none()
            && self.probes.is_empty()
            && !self.woken
            && !self.closed
    }
}

/// The way to the engine's thread. Many threads put in, one takes everything at once.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    inbox: Mutex<Inbox>,
    filled: Condvar,
    emptied: Condvar,
}

impl Mailbox {
    /// Puts something in and wakes the thread.
    pub(crate) fn post(&self, put: impl FnOnce(&mut Inbox)) {
        put(&mut self.lock());
        self.filled.notify_one();
    }

    /// Tells the engine what a worker has noticed.
    pub(crate) fn poke(&self, poke: Poke) {
        self.post(|inbox| inbox.pokes.push(poke));
    }

    /// Says how many packets had no room.
    pub(crate) fn post_from_host(&self, packets: FromHost) -> u64 {
        let count = packets.packets().count() as u64;
        self.post_bytes(packets.len(), count, |inbox| {
            inbox.from_host.push_back(packets)
        })
    }

    /// Takes all; says how many packets had no room.
    pub(crate) fn post_decrypted(&self, packets: &mut Decrypted) -> u64 {
        if packets.packets.is_empty() {
            return 0;
        }
        let packets = std::mem::take(packets);
        let (len, count) = (packets.bytes.len(), packets.packets.len() as u64);
        self.post_bytes(len, count, |inbox| inbox.decrypted.push_back(packets))
    }

    /// Says how many of `packets` packets had no room.
    pub(crate) fn post_accepted(&self, accepted: Accepted, packets: u64) -> u64 {
        let len = accepted.bytes.len();
        self.post_bytes(len, packets, |inbox| inbox.accepted.push_back(accepted))
    }

    fn post_bytes(&self, len: usize, count: u64, put: impl FnOnce(&mut Inbox)) -> u64 {
        let is_full = |inbox: &mut Inbox| inbox.bytes > MAX_BYTES && !inbox.closed;
        let guard = self.lock();
        let mut guard = match guard.bytes > MAX_BYTES {
            true => {
                self.emptied
                    .wait_timeout_while(guard, PATIENCE, is_full)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
            false => guard,
        };
        if guard.bytes > MAX_BYTES {
            return count;
        }
        guard.bytes += len;
        put(&mut guard);
        drop(guard);
        self.filled.notify_one();
        0
    }

    /// What is no data. Beyond what the engine can do it is dropped: whoever means it asks again.
    pub(crate) fn post_datagrams(&self, datagrams: Datagrams) {
        let mut guard = self.lock();
        if guard.bytes > MAX_BYTES {
            return;
        }
        guard.bytes += datagrams.bytes.len();
        guard.datagrams.push_back(datagrams);
        drop(guard);
        self.filled.notify_one();
    }

    /// A handshake, which costs the engine much more than others.
    pub(crate) fn post_handshake(&self, datagrams: Datagrams) {
        {
            let mut guard = self.lock();
            if guard.handshakes >= MAX_HANDSHAKES {
                return;
            }
            guard.handshakes += 1;
        }
        self.post_datagrams(datagrams);
    }

    /// Swaps `inbox`, which should be empty, with what has arrived; waits for it, but not longer than `timeout`.
    pub(crate) fn take(&self, inbox: &mut Inbox, timeout: Option<Duration>) {
        let mut guard = self.lock();
        if guard.is_empty() && timeout != Some(Duration::ZERO) {
            guard = match timeout {
                None => self
                    .filled
                    .wait_while(guard, |inbox| inbox.is_empty())
                    .unwrap_or_else(PoisonError::into_inner),
                Some(timeout) => {
                    self.filled
                        .wait_timeout_while(guard, timeout, |inbox| inbox.is_empty())
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        std::mem::swap(&mut *guard, inbox);
        guard.bytes = 0;
        guard.handshakes = 0;
        if inbox.bytes > MAX_BYTES {
            self.emptied.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
