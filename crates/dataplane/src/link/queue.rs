//! What waits to be sent by a link.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::Instant;
use keys::NodePublic;
use tokio::sync::Notify;

use super::codel::Codel;

/// Bytes that wait at most: what a gigabit a second brings in 16 ms.
pub(crate) const MAX_BYTES: usize = 2 << 20;
/// The same while there is no connection: what waits longer is better lost, and the newest is what matters.
pub(crate) const MAX_BYTES_UNCONNECTED: usize = 64 << 10;
/// Bytes of a full batch, and about what is written at once.
pub(crate) const BATCH_LEN: usize = 64 << 10;
/// With this much waiting, whoever can make packets later should do so.
const HIGH_WATER: usize = 192 << 10;
/// With this little waiting, they may go on.
const LOW_WATER: usize = 64 << 10;

/// Whole frames, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) frames: Vec<u8>,
    pub(crate) packets: u32,
}

/// A place in a batch whose packet is still being written.
pub(crate) struct OpenFrame {
    body_at: usize,
}

impl Batch {
    /// A batch with room for as much as the last one took, if that was not little.
    pub(crate) fn like(last_len: usize) -> Self {
        Self {
            frames: Vec::with_capacity(last_len.min(BATCH_LEN + 4096)),
            packets: 0,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.frames.len() >= BATCH_LEN
    }

    /// Starts a frame to `to`: the caller appends the packet to `frames` and then calls [`finish`](Self::finish) or
    /// [`abandon`](Self::abandon).
    pub(crate) fn begin(&mut self, to: &NodePublic) -> OpenFrame {
        self.frames.push(derp::FrameType::SEND_PACKET.0);
        self.frames.extend_from_slice(&[0; 4]);
        let body_at = self.frames.len();
        self.frames.extend_from_slice(to.as_bytes());
        OpenFrame { body_at }
    }

    /// Fills in the frame's length; says how long the packet is.
    pub(crate) fn finish(&mut self, frame: OpenFrame) -> usize {
        let body = self.frames.len() - frame.body_at;
        let len = u32::try_from(body).unwrap_or(u32::MAX).to_be_bytes();
        let place = frame.body_at - len.len()..frame.body_at;
        if let Some(place) = self.frames.get_mut(place) {
            place.copy_from_slice(&len);
        }
        self.packets += 1;
        body - derp::KEY_LEN
    }

    /// Cuts off the oldest packet; says how many that were.
    fn drop_first(&mut self) -> u32 {
        let Some(header) = self.frames.first_chunk::<{ derp::HEADER_LEN }>() else {
            return 0;
        };
        let [_, len @ ..] = *header;
        let len = derp::HEADER_LEN + u32::from_be_bytes(len) as usize;
        self.frames.drain(..len.min(self.frames.len()));
        self.packets = self.packets.saturating_sub(1);
        1
    }

    pub(crate) fn abandon(&mut self, frame: OpenFrame) {
        self.frames.truncate(frame.body_at - derp::HEADER_LEN);
    }
}

#[derive(Debug, Default)]
struct State {
    /// Batches, and since when they wait.
    batches: VecDeque<(Instant, Batch)>,
    bytes: usize,
    codel: Codel,
    /// Frames about the connection itself; they go first.
    control: Vec<u8>,
    home: bool,
    /// When something was last taken; none while there is no connection.
    moved: Option<Instant>,
    /// Somebody waits for the queue to drain.
    watched: bool,
    /// Our own address on the connection, where it is known.
    local: Option<IpAddr>,
    /// The machine has that address no more.
    address_gone: bool,
}

impl State {
    /// Lets the oldest go until the rest fits; the newest stays in any case.
    fn keep_within_bounds(&mut self) -> u32 {
        let most = match self.moved {
            Some(_) => MAX_BYTES,
            None => MAX_BYTES_UNCONNECTED,
        };
        let mut dropped = 0;
        while self.bytes > most && self.batches.len() > 1 {
            let Some((_, oldest)) = self.batches.pop_front() else {
                break;
            };
            self.bytes -= oldest.frames.len();
            dropped += oldest.packets;
        }
        dropped
    }
}

/// What came with what was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The engine must be woken: it wanted to know when little waits.
    pub(crate) drained: bool,
    /// Packets that were dropped, for the queue stands.
    pub(crate) dropped: u32,
}

/// What the reader of a connection must do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// The server was asked for a sign of life, which must come soon.
    Alive,
    /// Nothing can come any more: our address is gone.
    AddressGone,
}

/// The queue. The engine puts in, the link's task takes out.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    state: Mutex<State>,
    filled: Notify,
    checked: Notify,
}

impl SendQueue {
    pub(crate) fn new(home: bool) -> Self {
        let queue = Self::default();
        queue.lock().home = home;
        queue
    }

    /// Whether the region is our home.
    pub(crate) fn home(&self) -> bool {
        self.lock().home
    }

    /// Remembers whether the region is our home, and tells the server now.
    pub(crate) fn set_home(&self, home: bool) {
        let mut state = self.lock();
        state.home = home;
        derp::put::note_preferred(&mut state.control, home);
        drop(state);
        self.filled.notify_one();
    }

    /// Asks the server for a sign of life, unless the connection needs an address that is not among the machine's.
    /// [`checked`](Self::checked) resolves, so that the reader knows. No addresses mean that they are unknown.
    pub(crate) fn check(&self, addresses: &[IpAddr]) {
        let mut state = self.lock();
        if state.moved.is_none() {
            return;
        }
        let gone = |ip: &IpAddr| !ip.is_loopback() && !addresses.contains(ip);
        state.address_gone = !addresses.is_empty() && state.local.as_ref().is_some_and(gone);
        derp::put::ping(&mut state.control, [0; 8]);
        drop(state);
        self.filled.notify_one();
        self.checked.notify_one();
    }

    /// Resolves when the links of the machine have changed.
    pub(crate) async fn checked(&self) -> Check {
        self.checked.notified().await;
        match self.lock().address_gone {
            true => Check::AddressGone,
            false => Check::Alive,
        }
    }

    /// Puts a batch in; says how many packets were dropped for it.
    pub(crate) fn push(&self, batch: Batch, now: Instant) -> u32 {
        let mut state = self.lock();
        state.bytes += batch.frames.len();
        state.batches.push_back((now, batch));
        let dropped = state.keep_within_bounds();
        drop(state);
        self.filled.notify_one();
        dropped
    }

    pub(crate) fn push_pong(&self, data: [u8; 8]) {
        let mut state = self.lock();
        // A server that asks faster than it reads is not owed all answers.
        if state.control.len() < 1024 {
            derp::put::pong(&mut state.control, data);
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Whether so much waits that new packets should be made later, while the queue still moves: it did within `stall`. If
    /// so, the engine is woken once little waits.
    pub(crate) fn is_congested(&self, now: Instant, stall: Duration) -> bool {
        let mut state = self.lock();
        let moves = state.moved.is_some_and(|at| now.since(at) < stall);
        let congested = moves && state.bytes > HIGH_WATER;
        state.watched |= congested;
        congested
    }

    /// There is a connection. That the one before was to give a sign of life does not matter any more.
    pub(crate) async fn connected(&self, local: Option<IpAddr>) {
        tokio::select! {
            biased;
            () = self.checked.notified() => {}
            () = std::future::ready(()) => {}
        }
        let mut state = self.lock();
        state.moved = Some(rt::now());
        state.local = local;
        state.address_gone = false;
    }

    /// There is no connection. What was meant for its server says nothing to the next.
    pub(crate) fn disconnected(&self) {
        let mut state = self.lock();
        state.control.clear();
        state.moved = None;
        state.codel = Codel::default();
    }

    /// Waits until something waits, and appends to `out` as much as should be written at once.
    pub(crate) async fn take(&self, out: &mut Vec<u8>) -> Taken {
        loop {
            let filled = self.filled.notified();
            if let Some(taken) = self.try_take(out, rt::now()) {
                return taken;
            }
            filled.await;
        }
    }

    pub(crate) fn try_take(&self, out: &mut Vec<u8>, now: Instant) -> Option<Taken> {
        let mut state = self.lock();
        if state.batches.is_empty() && state.control.is_empty() {
            state.codel.handle_empty(now);
            return None;
        }
        state.moved = Some(now);
        out.append(&mut state.control);
        let mut dropped = 0;
        while let Some((_, next)) = state.batches.front() {
            if !out.is_empty() && out.len() + next.frames.len() > BATCH_LEN {
                break;
            }
            let Some((since, mut batch)) = state.batches.pop_front() else {
                break;
            };
            state.bytes -= batch.frames.len();
            let left = state.bytes + batch.frames.len();
            if state.codel.handle_dequeue(since, left, now) {
                dropped += batch.drop_first();
            }
            if out.is_empty() {
                std::mem::swap(out, &mut batch.frames);
            } else {
                out.extend_from_slice(&batch.frames);
            }
        }
        let drained = state.watched && state.bytes <= LOW_WATER;
        if drained {
            state.watched = false;
        }
        Some(Taken { drained, dropped })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
