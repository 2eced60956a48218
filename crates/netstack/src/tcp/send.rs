//! The sending half of a connection: what is queued, what is under way, what must go again.
//!
//! Loss recovery is RFC 6675 over the scoreboard where the other side reports what it has (SACK), NewReno (RFC 6582)
//! where it does not.

use std::collections::VecDeque;
use std::time::Duration;

use host::Instant;

use super::congestion::Cubic;
use super::ranges::Ranges;
use super::rtt::Rtt;
use super::segment::SackBlocks;

/// Offset of the SYN in either stream. Offsets are sequence numbers that do not wrap; starting high keeps "a bit before"
/// above zero.
pub(crate) const ORIGIN: u64 = 1 << 32;

/// RFC 5681 2: duplicates that mean a loss and not a reordering.
const DUP_THRESHOLD: u32 = 3;
/// Room for unsent data beyond the congestion window, so that the application stays ahead.
const MIN_BUFFER: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct SendHalf {
    iss: u32,
    mss: usize,
    max_buffer: usize,
    /// First offset that is not acknowledged.
    una: u64,
    /// First offset that was never sent.
    nxt: u64,
    /// Bytes from `base` on.
    buffer: VecDeque<u8>,
    base: u64,
    /// The FIN's offset, once there will be no more data.
    fin: Option<u64>,
    /// First offset that the other side has no room for.
    window_edge: u64,
    /// The segment that last set it: sequence and acknowledgement (RFC 9293 3.10.7.4).
    window_from: (u64, u64),
    pub(crate) window_scale: u8,
    pub(crate) sack: bool,
    scoreboard: Ranges,
    dup_acks: u32,
    /// While repairing: what had been sent when the loss was seen.
    recovery: Option<Recovery>,
    /// Everything below that is neither acknowledged nor reported is lost.
    lost_edge: u64,
    /// Everything lost below was sent again.
    resent: u64,
    /// The first repair goes out whatever the window says.
    force: bool,
    /// The segment whose acknowledgement gives the next sample: its end and when it left.
    timed: Option<(u64, Instant)>,
    pub(crate) rtt: Rtt,
    congestion: Cubic,
    timer: Option<Timer>,
    /// Timeouts in a row without progress.
    pub(crate) failures: u32,
    last_sent: Instant,
    pub(crate) retransmits: u64,
}

#[derive(Debug, Clone, Copy)]
struct Recovery {
    until: u64,
    after_timeout: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timer {
    /// Data is under way.
    Retransmit(Instant),
    /// The other side has no room; it is asked now and then.
    Probe(Instant),
}

/// What to put into the next segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) from: u64,
    pub(crate) len: usize,
    pub(crate) fin: bool,
    /// Nothing waits behind it.
    pub(crate) push: bool,
}

impl SendHalf {
    pub(crate) fn new(iss: u32, mss: usize, max_buffer: usize, now: Instant) -> Self {
        Self {
            iss,
            mss,
            max_buffer,
            una: ORIGIN,
            nxt: ORIGIN,
            buffer: VecDeque::new(),
            base: ORIGIN + 1,
            fin: None,
            window_edge: ORIGIN,
            window_from: (0, 0),
            window_scale: 0,
            sack: false,
            scoreboard: Ranges::default(),
            dup_acks: 0,
            recovery: None,
            lost_edge: 0,
            resent: 0,
            force: false,
            timed: None,
            rtt: Rtt::new(),
            congestion: Cubic::new(mss),
            timer: None,
            failures: 0,
            last_sent: now,
            retransmits: 0,
        }
    }

    /// The other side takes at most this much per segment.
    pub(crate) fn set_mss(&mut self, mss: usize) {
        self.mss = mss;
        self.congestion = Cubic::new(mss);
    }

    pub(crate) fn mss(&self) -> usize {
        self.mss
    }

    pub(crate) fn seq(&self, offset: u64) -> u32 {
        self.iss.wrapping_add(offset.wrapping_sub(ORIGIN) as u32)
    }

    /// The offset that an acknowledgement number means.
    pub(crate) fn offset(&self, seq: u32) -> u64 {
        near(self.una, self.seq(self.una), seq)
    }

    pub(crate) fn una(&self) -> u64 {
        self.una
    }

    pub(crate) fn nxt(&self) -> u64 {
        self.nxt
    }

    /// The end of the queued data, which is where a FIN goes.
    fn end(&self) -> u64 {
        self.base + self.buffer.len() as u64
    }

    pub(crate) fn fin_queued(&self) -> bool {
        self.fin.is_some()
    }

    pub(crate) fn fin_sent(&self) -> bool {
        self.fin.is_some_and(|fin| self.nxt > fin)
    }

    pub(crate) fn fin_acked(&self) -> bool {
        self.fin.is_some_and(|fin| self.una > fin)
    }

    /// How much [`push`](Self::push) would take.
    pub(crate) fn room(&self) -> usize {
        if self.fin.is_some() {
            return 0;
        }
        let limit = (self.congestion.window() * 2).max(MIN_BUFFER);
        limit.min(self.max_buffer).saturating_sub(self.buffer.len())
    }

    pub(crate) fn push(&mut self, data: &[u8]) -> usize {
        let taken = data.get(..self.room()).unwrap_or(data);
        self.buffer.extend(taken);
        taken.len()
    }

    pub(crate) fn finish(&mut self) {
        if self.fin.is_none() {
            self.fin = Some(self.end());
        }
    }

    /// Gives back memory that an idle connection does not need.
    pub(crate) fn trim(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = VecDeque::new();
        }
    }

    pub(crate) fn holds_memory(&self) -> bool {
        self.buffer.is_empty() && self.buffer.capacity() > 0
    }

    // What came in.

    /// Takes the window of a segment with sequence offset `from` that acknowledges `ack`. True if it moved the edge.
    pub(crate) fn handle_window(&mut self, from: u64, ack: u64, window: u64, now: Instant) -> bool {
        if (from, ack) < self.window_from && ack <= self.window_from.1 {
            return false;
        }
        self.window_from = (from, ack);
        let edge = ack + window;
        let moved = edge != self.window_edge;
        self.window_edge = edge;
        if matches!(self.timer, Some(Timer::Probe(_))) {
            // Whoever answers is alive, with or without room.
            self.failures = 0;
            if edge > self.nxt {
                self.timer = None;
                self.rtt.progress();
            }
        }
        self.update_timer(now);
        moved
    }

    /// Takes an acknowledgement, which the caller has checked to be in `una..=nxt`. `plain` says that the segment carried
    /// nothing else, not even a new window, which is what makes it a duplicate (RFC 5681 2).
    pub(crate) fn handle_ack(&mut self, ack: u64, sack: &SackBlocks, plain: bool, now: Instant) {
        let news = self.handle_sack(ack, sack);
        if ack > self.una {
            self.advance(ack, now);
        } else if self.nxt > self.una && (news || (plain && !self.sack)) {
            self.dup_acks = self.dup_acks.saturating_add(1);
        }
        self.detect_loss();
    }

    fn handle_sack(&mut self, ack: u64, sack: &SackBlocks) -> bool {
        if !self.sack {
            return false;
        }
        let mut news = false;
        for (from, to) in sack.as_slice() {
            let (from, to) = (self.offset(*from), self.offset(*to));
            // What is not under way cannot have arrived; below `ack` it is a report of a duplicate (RFC 2883).
            if from >= ack && from < to && to <= self.nxt {
                news |= self.scoreboard.insert(from, to);
            }
        }
        news
    }

    fn advance(&mut self, ack: u64, now: Instant) {
        let acked = ack - self.una;
        let in_flight = self.nxt - self.una;
        let rtt = self.sample(ack, now);
        self.una = ack;
        let data = ack.min(self.end()).saturating_sub(self.base);
        self.buffer.drain(..usize::try_from(data).unwrap_or(0));
        self.base += data;
        self.scoreboard.forget_below(ack);
        self.failures = 0;
        self.rtt.progress();
        match self.recovery {
            Some(recovery) if ack >= recovery.until => self.end_recovery(),
            Some(_) if !self.sack => self.repair_next(ack),
            Some(_) | None => self.dup_acks = 0,
        }
        let growing = self.recovery.is_none_or(|recovery| recovery.after_timeout);
        // A window that was not used says nothing about the network (RFC 9438 5.8).
        if growing && in_flight * 2 >= self.congestion.window() as u64 {
            self.congestion.on_ack(acked as usize, rtt, now);
        }
        self.timer = None;
        self.update_timer(now);
    }

    fn sample(&mut self, ack: u64, now: Instant) -> Duration {
        if let Some((end, sent)) = self.timed
            && ack >= end
        {
            self.rtt.sample(now.since(sent));
            self.timed = None;
        }
        self.rtt.smoothed().unwrap_or_default()
    }

    fn end_recovery(&mut self) {
        self.recovery = None;
        self.dup_acks = 0;
        self.force = false;
        self.lost_edge = 0;
        self.resent = 0;
    }

    /// RFC 6582: an acknowledgement of a part means that the segment behind it is lost too.
    fn repair_next(&mut self, ack: u64) {
        self.dup_acks = 0;
        self.lost_edge = self.lost_edge.max(ack + self.mss as u64);
        self.resent = ack;
        self.force = true;
    }

    fn detect_loss(&mut self) {
        let edge = if self.sack {
            let bytes = u64::from(DUP_THRESHOLD - 1) * self.mss as u64;
            let by_bytes = self.scoreboard.edge_below(bytes);
            // Short segments: count reports instead of bytes.
            by_bytes.or_else(|| {
                self.scoreboard
                    .highest()
                    .filter(|_| self.dup_acks >= DUP_THRESHOLD)
            })
        } else {
            (self.dup_acks >= DUP_THRESHOLD).then(|| self.una + self.mss as u64)
        };
        let Some(edge) = edge else { return };
        if self.recovery.is_none() {
            if edge <= self.una {
                return;
            }
            self.congestion.on_loss((self.nxt - self.una) as usize);
            self.recovery = Some(Recovery {
                until: self.nxt,
                after_timeout: false,
            });
            self.resent = self.una;
            self.lost_edge = self.una;
            self.force = true;
        }
        self.lost_edge = self.lost_edge.max(edge.min(self.nxt));
    }

    // Time.

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timer.map(|timer| match timer {
            Timer::Retransmit(at) | Timer::Probe(at) => at,
        })
    }

    /// True if a window probe is wanted.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> bool {
        match self.timer {
            Some(Timer::Retransmit(at)) if at <= now => {
                self.on_retransmit_timeout(now);
                false
            }
            Some(Timer::Probe(at)) if at <= now => {
                self.failures += 1;
                self.rtt.back_off();
                self.timer = Some(Timer::Probe(now + self.rtt.timeout()));
                true
            }
            _ => false,
        }
    }

    fn on_retransmit_timeout(&mut self, now: Instant) {
        self.failures += 1;
        // The second timeout in a row: the receiver may have dropped what it had reported (RFC 2018 8).
        if self.failures > 1 {
            self.scoreboard.clear();
        }
        if self.failures == 1 {
            self.congestion.on_timeout((self.nxt - self.una) as usize);
        }
        self.rtt.back_off();
        self.timed = None;
        self.recovery = Some(Recovery {
            until: self.nxt,
            after_timeout: true,
        });
        self.dup_acks = 0;
        self.lost_edge = self.nxt;
        self.resent = self.una;
        self.force = true;
        self.timer = Some(Timer::Retransmit(now + self.rtt.timeout()));
    }

    /// Starts or stops the timer that the present state needs.
    fn update_timer(&mut self, now: Instant) {
        let waiting = self.end() > self.nxt || self.fin.is_some_and(|fin| fin >= self.nxt);
        self.timer = match self.timer {
            Some(Timer::Retransmit(at)) if self.nxt > self.una => Some(Timer::Retransmit(at)),
            _ if self.nxt > self.una => Some(Timer::Retransmit(now + self.rtt.timeout())),
            Some(Timer::Probe(at)) if waiting => Some(Timer::Probe(at)),
            _ if waiting && self.window_edge <= self.nxt && self.una > ORIGIN => {
                Some(Timer::Probe(now + self.rtt.timeout()))
            }
            _ => None,
        };
    }

    // What goes out.

    /// The SYN has left (again).
    pub(crate) fn syn_sent(&mut self, now: Instant) {
        if self.nxt == ORIGIN {
            self.nxt = ORIGIN + 1;
            self.timed = Some((self.nxt, now));
        } else {
            self.timed = None;
            self.retransmits += 1;
        }
        self.force = false;
        self.resent = self.nxt;
        self.last_sent = now;
        self.update_timer(now);
    }

    /// Whether the SYN is to go out: for the first time, or after a timeout.
    pub(crate) fn wants_syn(&self) -> bool {
        self.una == ORIGIN && (self.nxt == ORIGIN || self.force)
    }

    /// What may be sent at this moment, lost things first. [`mark_sent`](Self::mark_sent) must follow. New data may be `most`
    /// whole segments at once.
    pub(crate) fn next_chunk(&mut self, most: usize, now: Instant) -> Option<Chunk> {
        if self.una == ORIGIN {
            return None;
        }
        if self.nxt == self.una && now.since(self.last_sent) > self.rtt.timeout() {
            self.congestion.on_idle();
        }
        let open = self.pipe() < self.congestion.window() as u64;
        let chunk = self
            .next_lost(open)
            .or_else(|| if open { self.next_new(most) } else { None });
        if chunk.is_none() {
            self.update_timer(now);
        }
        chunk
    }

    fn next_lost(&self, open: bool) -> Option<Chunk> {
        self.recovery?;
        if !open && !self.force {
            return None;
        }
        let (from, to) = self
            .scoreboard
            .hole(self.resent.max(self.una), self.lost_edge.min(self.nxt))?;
        Some(self.chunk(from, to))
    }

    fn next_new(&self, most: usize) -> Option<Chunk> {
        let end = self.end();
        let limit = end.min(self.window_edge);
        let fin = self.fin.is_some_and(|fin| fin >= self.nxt) && self.window_edge > end;
        if self.nxt >= limit && !fin {
            return None;
        }
        let to = if fin { end + 1 } else { limit };
        if let Some(many) = self.many(to, most) {
            return Some(many);
        }
        let chunk = self.chunk(self.nxt, to);
        // Sender's side of silly windows (RFC 9293 3.8.6.2.1): a short segment goes only if it holds all there is, or if
        // nothing is under way that would open the window further.
        let short = chunk.len < self.mss && chunk.from + chunk.len as u64 != end;
        (!short || self.nxt == self.una).then_some(chunk)
    }

    /// As many whole segments as the window lets go, if that is more than one.
    fn many(&self, to: u64, most: usize) -> Option<Chunk> {
        let mss = self.mss as u64;
        let free = (self.congestion.window() as u64).saturating_sub(self.pipe());
        let data = to.min(self.end()).saturating_sub(self.nxt);
        // The last segment may go beyond the congestion window, as when they go one by one.
        let segments = (data / mss).min(free.div_ceil(mss)).min(most as u64);
        (segments > 1).then(|| Chunk {
            from: self.nxt,
            len: (segments * mss) as usize,
            fin: false,
            push: self.nxt + segments * mss == self.end(),
        })
    }

    /// At most one segment of `from..to`, where `to` may include the FIN.
    fn chunk(&self, from: u64, to: u64) -> Chunk {
        let end = self.end();
        let len = (to.min(end).saturating_sub(from)).min(self.mss as u64);
        let stop = from + len;
        Chunk {
            from,
            len: len as usize,
            fin: self.fin == Some(stop) && to > stop,
            push: stop == end,
        }
    }

    /// `chunk` has left.
    pub(crate) fn mark_sent(&mut self, chunk: Chunk, now: Instant) {
        let stop = chunk.from + chunk.len as u64 + u64::from(chunk.fin);
        if chunk.from < self.nxt {
            self.retransmits += 1;
            self.resent = stop;
            self.force = false;
            // Its acknowledgement would not tell which of the two it is for (Karn).
            self.timed = None;
        } else if self.timed.is_none() && self.recovery.is_none() {
            self.timed = Some((stop, now));
        }
        self.nxt = self.nxt.max(stop);
        self.last_sent = now;
        self.update_timer(now);
    }

    /// Appends the bytes of `chunk`.
    pub(crate) fn copy(&self, chunk: Chunk, out: &mut Vec<u8>) {
        let start = usize::try_from(chunk.from.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let stop = start.saturating_add(chunk.len).min(self.buffer.len());
        let start = start.min(stop);
        let (front, back) = self.buffer.as_slices();
        let split = front.len();
        out.extend_from_slice(
            front
                .get(start.min(split)..stop.min(split))
                .unwrap_or_default(),
        );
        out.extend_from_slice(
            back.get(start.saturating_sub(split)..stop.saturating_sub(split))
                .unwrap_or_default(),
        );
    }

    /// Bytes that are thought to be in the network (RFC 6675 4).
    fn pipe(&self) -> u64 {
        let out = self.nxt - self.una;
        let arrived = if self.sack {
            self.scoreboard.total()
        } else {
            u64::from(self.dup_acks) * self.mss as u64
        };
        let lost = match self.recovery {
            Some(_) => self
                .scoreboard
                .missing(self.resent.max(self.una), self.lost_edge.min(self.nxt)),
            None => 0,
        };
        out.saturating_sub(arrived).saturating_sub(lost)
    }

    pub(crate) fn room_is_ample(&self) -> bool {
        self.room() >= MIN_BUFFER / 4
    }
}

/// The offset whose sequence number is `seq`, next to `offset`, whose sequence number is `at`.
pub(crate) fn near(offset: u64, at: u32, seq: u32) -> u64 {
    offset.wrapping_add_signed(i64::from(seq.wrapping_sub(at).cast_signed()))
}
