//! A session: the keys that a handshake agreed on, and the counters of both directions.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aead::{Key, MAX_PACKETS, Place};
use host::Instant;
use keys::NodePublic;

use crate::activity::Activity;
use crate::handshake::SessionKeys;
use crate::message::{
    DATA_OVERHEAD, HEADER_LEN, MAX_DATAGRAM, Message, TAG_LEN, classify, data_header,
};
use crate::replay::ReplayWindow;

/// One session. Shared by the threads that move packets; nothing here waits but the replay window's lock.
pub struct Session {
    peer: NodePublic,
    local_index: u32,
    remote_index: u32,
    send: Key,
    receive: Key,
    next_counter: AtomicU64,
    replay: Mutex<ReplayWindow>,
    created: Instant,
    initiator: bool,
    /// As responder: whether the first data has proven that the initiator has the keys.
    confirmed: AtomicBool,
    activity: Arc<Activity>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.peer)
            .field("local_index", &self.local_index)
            .field("remote_index", &self.remote_index)
            .finish_non_exhaustive()
    }
}

/// Why a packet could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealError {
    /// The session is too old: ask for a new one.
    Expired,
    /// The session's counters are used up: ask for a new one.
    CountersUsedUp,
    /// The packet would not fit a datagram, or the output not its place.
    Length,
    /// The counter was reserved from another session.
    WrongSession,
}

impl std::fmt::Display for SealError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Expired => "session has expired",
            Self::CountersUsedUp => "session has used up its counters",
            Self::Length => "packet does not fit",
            Self::WrongSession => "counter is another session's",
        })
    }
}

impl std::error::Error for SealError {}

/// Why a datagram gave no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenError {
    /// Not a data message.
    NotData,
    /// For another session.
    WrongSession,
    /// The session is too old.
    Expired,
    /// The counter lies beyond the limit.
    CounterLimit,
    /// Not authentic.
    Forged,
    /// The counter has been seen or is too old.
    Replayed,
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotData => "not a data message",
            Self::WrongSession => "data of another session",
            Self::Expired => "session has expired",
            Self::CounterLimit => "counter beyond the limit",
            Self::Forged => "data is not authentic",
            Self::Replayed => "data is replayed",
        })
    }
}

impl std::error::Error for OpenError {}

/// The right to seal one packet with one counter. It cannot be copied, and sealing consumes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Counter {
    value: u64,
    session: u32,
}

/// A range of counters of one session, for a batch.
#[derive(Debug, PartialEq, Eq)]
pub struct Reserved {
    range: Range<u64>,
    session: u32,
}

impl Iterator for Reserved {
    type Item = Counter;

    fn next(&mut self) -> Option<Counter> {
        Some(Counter {
            value: self.range.next()?,
            session: self.session,
        })
    }
}

/// An authenticated packet whose counter has not been checked against the replay window yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The counter, for [`Session::accept_batch`].
    pub counter: u64,
    /// Which of the datagrams of the batch it is.
    pub index: usize,
    /// Where in the datagram the packet lies, padding included; empty for a keepalive.
    pub plaintext: Range<usize>,
}

impl Session {
    pub(crate) fn new(
        peer: NodePublic,
        local_index: u32,
        keys: &SessionKeys,
        initiator: bool,
        created: Instant,
        activity: Arc<Activity>,
    ) -> Arc<Self> {
        Arc::new(Self {
            peer,
            local_index,
            remote_index: keys.remote_index,
            send: Key::new(&keys.send),
            receive: Key::new(&keys.receive),
            next_counter: AtomicU64::new(0),
            replay: Mutex::default(),
            created,
            initiator,
            confirmed: AtomicBool::new(initiator),
            activity,
        })
    }

    /// Whose session it is.
    pub fn peer(&self) -> NodePublic {
        self.peer
    }

    /// The index in messages to us.
    pub fn local_index(&self) -> u32 {
        self.local_index
    }

    /// The index in messages to the peer.
    pub fn remote_index(&self) -> u32 {
        self.remote_index
    }

    /// The peer's time stamps.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Whether we asked for it.
    pub fn is_initiator(&self) -> bool {
        self.initiator
    }

    /// Whether the session is too old to be used at all.
    pub fn expired(&self, now: Instant) -> bool {
        now.since(self.created) >= REJECT_AFTER_TIME
    }

    /// Whether packets can still be sealed.
    pub fn can_send(&self, now: Instant) -> bool {
        !self.expired(now) && self.next_counter.load(Ordering::Relaxed) < REJECT_AFTER_MESSAGES
    }

    /// How many counters have been handed out.
    pub fn sent(&self) -> u64 {
        self.next_counter.load(Ordering::Relaxed)
    }

    // Sealing.

    /// Takes `count` counters at once. All or none, so that a batch is never cut in two.
    pub fn reserve(&self, now: Instant, count: u32) -> Result<Reserved, SealError> {
        if self.expired(now) {
            return Err(SealError::Expired);
        }
        let start = self
            .next_counter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                next.checked_add(u64::from(count))
                    .filter(|end| *end <= REJECT_AFTER_MESSAGES)
            })
            .map_err(|_| SealError::CountersUsedUp)?;
        Ok(Reserved {
            range: start..start + u64::from(count),
            session: self.local_index,
        })
    }

    /// Seals `packet`, padded with zeroes to `padded` bytes (see [`padded_len`]), into `out`, which must be exactly
    /// [`sealed_len`]`(padded)` long. Where more than one packet is to be sealed, [`Unsealed`] is much faster.
    pub fn seal_at(
        &self,
        counter: Counter,
        packet: &[u8],
        padded: usize,
        out: &mut [u8],
    ) -> Result<(), SealError> {
        let place = self.lay_out(counter, packet, padded, out)?;
        let sealed = self.send.seal(out, &[place]);
        sealed.map_err(|_| SealError::Length)
    }

    /// Writes the header and the padded packet; what is left to do is to seal the place.
    fn lay_out(
        &self,
        counter: Counter,
        packet: &[u8],
        padded: usize,
        out: &mut [u8],
    ) -> Result<Place, SealError> {
        if counter.session != self.local_index {
            return Err(SealError::WrongSession);
        }
        if padded < packet.len() || out.len() != sealed_len(padded) || out.len() > MAX_DATAGRAM {
            return Err(SealError::Length);
        }
        let (header, body) = out.split_at_mut(HEADER_LEN);
        header.copy_from_slice(&data_header(self.remote_index, counter.value));
        let (text, rest) = body.split_at_mut(packet.len());
        text.copy_from_slice(packet);
        if padded > packet.len() {
            rest.fill(0);
        }
        Ok(Place {
            counter: counter.value,
            range: HEADER_LEN..HEADER_LEN + padded + TAG_LEN,
        })
    }

    /// Seals one packet into a datagram that is appended to `out`, and notes that it was sent. An empty packet is a
    /// keepalive. Returns whether the peer's owner must look at its timers (see [`note_sent`](Self::note_sent)).
    pub fn seal(
        &self,
        now: Instant,
        packet: &[u8],
        mtu: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool, SealError> {
        let padded = padded_len(packet.len(), mtu);
        if sealed_len(padded) > MAX_DATAGRAM {
            return Err(SealError::Length);
        }
        let mut reserved = self.reserve(now, 1)?;
        let counter = reserved.next().ok_or(SealError::CountersUsedUp)?;
        let start = out.len();
        out.resize(start + sealed_len(padded), 0);
        let place = out.get_mut(start..).ok_or(SealError::Length)?;
        self.seal_at(counter, packet, padded, place)?;
        Ok(self.note_sent(now, !packet.is_empty()))
    }

    /// Notes once per batch that it was sent; `data` says whether it was more than keepalives. Returns whether the
    /// peer's owner must call [`Peer::handle_activity`](crate::Peer::handle_activity) and look at its timers again.
    pub fn note_sent(&self, now: Instant, data: bool) -> bool {
        self.activity.note_sent(now, data) | self.wants_rekey_on_send(now)
    }

    // Opening.

    /// Authenticates and decrypts a datagram in place. Its counter has still to be accepted by
    /// [`accept_batch`](Self::accept_batch) before the packet may be used.
    pub fn open_in_place(&self, now: Instant, datagram: &mut [u8]) -> Result<Opening, OpenError> {
        let place = self.place_of(now, datagram, 0..datagram.len())?;
        let counter = place.counter;
        let plaintext = plaintext_of(&place);
        match self.receive.open(datagram, &[place]) {
            Ok(1) => Ok(Opening {
                counter,
                index: 0,
                plaintext,
            }),
            _ => Err(OpenError::Forged),
        }
    }

    /// Authenticates and decrypts datagrams where they lie in a buffer, without overlap, and adds those that are good to
    /// `opened`, in order. Their counters have still to be accepted by [`accept_batch`](Self::accept_batch). Gives the last reason
    /// why one was not good.
    pub fn open_batch(
        &self,
        now: Instant,
        buffer: &mut [u8],
        datagrams: &[Range<usize>],
        opened: &mut Vec<Opening>,
    ) -> Result<(), OpenError> {
        let mut outcome = Ok(());
        let mut places = Vec::with_capacity(datagrams.len().min(MAX_PACKETS));
        let mut indices = [0; MAX_PACKETS];
        let mut datagrams = datagrams.iter().enumerate();
        loop {
            places.clear();
            for (index, datagram) in datagrams.by_ref() {
                match self.place_of(now, buffer, datagram.clone()) {
                    Ok(place) => {
                        indices[places.len()] = index;
                        places.push(place);
                    }
                    Err(error) => outcome = Err(error),
                }
                if places.len() == MAX_PACKETS {
                    break;
                }
            }
            if places.is_empty() {
                return outcome;
            }
            let authentic = self.receive.open(buffer, &places).unwrap_or_default();
            for (at, (place, index)) in places.iter().zip(indices).enumerate() {
                if authentic >> at & 1 == 0 {
                    outcome = Err(OpenError::Forged);
                    continue;
                }
                opened.push(Opening {
                    counter: place.counter,
                    index,
                    plaintext: plaintext_of(place),
                });
            }
        }
    }

    /// What is to be opened of a datagram that may be this session's.
    fn place_of(
        &self,
        now: Instant,
        buffer: &[u8],
        datagram: Range<usize>,
    ) -> Result<Place, OpenError> {
        let bytes = buffer.get(datagram.clone()).unwrap_or_default();
        let Ok(Message::Data { receiver, counter }) = classify(bytes) else {
            return Err(OpenError::NotData);
        };
        if receiver != self.local_index {
            return Err(OpenError::WrongSession);
        }
        if self.expired(now) {
            return Err(OpenError::Expired);
        }
        if counter >= REJECT_AFTER_MESSAGES {
            return Err(OpenError::CounterLimit);
        }
        Ok(Place {
            counter,
            range: datagram.start + HEADER_LEN..datagram.end,
        })
    }

    /// Checks the counters of a batch of authenticated packets with one access to the window; drops from `batch` the
    /// replayed ones and returns how many they were.
    pub fn accept_batch(&self, batch: &mut Vec<Opening>) -> usize {
        let before = batch.len();
        let mut window = self.window();
        batch.retain(|opening| window.accept(opening.counter));
        before - batch.len()
    }

    /// Opens one datagram, with the replay check, and notes that it was received. Returns the packet (padding included,
    /// empty for a keepalive) and whether the peer's owner must be told (see [`note_received`](Self::note_received)).
    pub fn open<'a>(
        &self,
        now: Instant,
        datagram: &'a mut [u8],
    ) -> Result<(&'a mut [u8], bool), OpenError> {
        let opening = self.open_in_place(now, datagram)?;
        if !self.window().accept(opening.counter) {
            return Err(OpenError::Replayed);
        }
        let tell = self.note_received(now, !opening.plaintext.is_empty());
        let packet = datagram
            .get_mut(opening.plaintext)
            .ok_or(OpenError::NotData)?;
        Ok((packet, tell))
    }

    /// Whether the peer is known to have the keys.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Relaxed)
    }

    /// Notes once per batch that authenticated messages were received; `data` says whether any was more than a
    /// keepalive. Returns whether the peer's owner must call
    /// [`Peer::handle_received`](crate::Peer::handle_received) and look at its timers again.
    pub fn note_received(&self, now: Instant, data: bool) -> bool {
        let first = !self.confirmed.load(Ordering::Relaxed)
            && !self.confirmed.swap(true, Ordering::Relaxed);
        self.activity.note_received(now, data) | first | self.wants_rekey_on_receive(now)
    }

    /// Whether sending on this session should start the next handshake.
    pub fn wants_rekey_on_send(&self, now: Instant) -> bool {
        self.sent() > REKEY_AFTER_MESSAGES
            || (self.initiator && now.since(self.created) > REKEY_AFTER_TIME)
    }

    /// Whether receiving on this session should start the next handshake: shortly before it expires, in case that we
    /// send nothing ourselves.
    pub fn wants_rekey_on_receive(&self, now: Instant) -> bool {
        self.initiator && now.since(self.created) > LAST_MINUTE
    }

    fn window(&self) -> MutexGuard<'_, ReplayWindow> {
        // Nothing panics while it is held; were it otherwise, the window itself is still whole.
        self.replay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn set_next_counter(&self, value: u64) {
        self.next_counter.store(value, Ordering::Relaxed);
    }
}

/// How long a packet of `len` bytes is once padded to a multiple of 16, but not beyond the tunnel's MTU, so that padding
/// never makes a packet that fits not fit. An MTU of 0 means no limit. Packets longer than the MTU are not padded beyond
/// what their last MTU-sized part would be.
pub fn padded_len(len: usize, mtu: usize) -> usize {
    let (whole, last) = match mtu {
        0 => (0, len),
        mtu if len > mtu => (len - len % mtu, len % mtu),
        _ => (0, len),
    };
    let padded = last.next_multiple_of(PADDING);
    let padded = if mtu == 0 { padded } else { padded.min(mtu) };
    whole + padded
}

/// How long the data message is that carries a packet of `padded` bytes.
pub const fn sealed_len(padded: usize) -> usize {
    padded + DATA_OVERHEAD
}

fn plaintext_of(place: &Place) -> Range<usize> {
    place.range.start..place.range.end.saturating_sub(TAG_LEN)
}

const PADDING: usize = 16;

pub(crate) const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
pub(crate) const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
pub(crate) const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
pub(crate) const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
const LAST_MINUTE: Duration = Duration::from_secs(180 - 10 - 5);

mod unsealed;
pub use unsealed::Unsealed;

#[cfg(test)]
mod tests;
