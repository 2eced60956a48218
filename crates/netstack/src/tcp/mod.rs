//! One TCP connection as a machine (RFC 9293): segments in, segments out.
//!
//! It has no "closed" or "listen" state: a connection exists from its SYN on, and what must be remembered after its end is
//! left to the stack. The state diagram, with the FINs kept by the halves that they belong to:
//!
//! ```text
//!   SynSent ──SYN,ACK──► Open ──both FINs acknowledged──► gone (or remembered for a while, if ours went first)
//!      └────SYN────► SynReceived ──ACK──►┘
//! ```

mod congestion;
mod ranges;
mod recv;
mod rtt;
pub(crate) mod segment;
mod send;

use std::time::Duration;

use host::Instant;

use crate::Closed;
pub(crate) use recv::RecvHalf;
use segment::{ACK, FIN, Options, PSH, RST, SYN, Segment};
pub(crate) use send::Chunk;
use send::SendHalf;

/// RFC 9293 3.7.1.
const DEFAULT_MSS: usize = 536;
/// A smaller announcement would turn a transfer into a storm of tiny segments.
const MIN_MSS: usize = 64;
/// RFC 9293 3.8.6.3 allows half a second; this is what kernels do.
const ACK_DELAY: Duration = Duration::from_millis(40);
/// RFC 5961 10 wants a limit; per connection.
const CHALLENGE_EVERY: Duration = Duration::from_millis(500);
const SYN_RETRIES: u32 = 6;
const RETRIES: u32 = 15;
/// For a connection that no application waits for any more.
const ORPHAN_RETRIES: u32 = 8;
const KEEP_ALIVE_PROBES: u32 = 9;
/// How long the other side may stand still after the application has let go.
const ORPHAN_WAIT: Duration = Duration::from_secs(60);
/// Buffers of a connection that has been quiet for this long are given back.
const TRIM_AFTER: Duration = Duration::from_secs(5);

/// The numbers of [`crate::Config`] that a connection needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// The largest payload that fits into our packets.
    pub(crate) mss: usize,
    pub(crate) keep_alive_idle: Duration,
    pub(crate) keep_alive_interval: Duration,
    pub(crate) max_receive_buffer: usize,
    pub(crate) max_send_buffer: usize,
}

#[derive(Debug)]
pub(crate) struct Conn {
    state: State,
    settings: Settings,
    send: SendHalf,
    recv: RecvHalf,
    ack: AckDue,
    /// Segments since the last acknowledgement that left.
    unacked: u32,
    last_heard: Instant,
    probes: u32,
    probe_due: bool,
    challenge_after: Instant,
    /// The other side ended its stream before we did.
    passive_close: bool,
    /// The application has let go; if the other side has not moved by then, it is cut off.
    orphan_until: Option<Instant>,
    orphan_una: u64,
    trim_at: Option<Instant>,
    room_wanted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    SynSent,
    SynReceived,
    Open,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AckDue {
    No,
    At(Instant),
    Now,
}

/// What a call has led to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Signals {
    pub(crate) connected: bool,
    pub(crate) progress: bool,
    pub(crate) closed: Option<Closed>,
    /// Sent as it is, beside the connection.
    pub(crate) reply: Option<Segment<'static>>,
}

impl Signals {
    fn closed(reason: Closed) -> Self {
        Self {
            closed: Some(reason),
            ..Self::default()
        }
    }

    fn reply(segment: Option<Segment<'static>>) -> Self {
        Self {
            reply: segment,
            ..Self::default()
        }
    }
}

/// What answers for a connection that is gone (TIME-WAIT).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remains {
    pub(crate) seq: u32,
    pub(crate) ack: u32,
}

impl Conn {
    /// A connection that we open.
    pub(crate) fn connect(settings: Settings, iss: u32, now: Instant) -> Self {
        Self::new(State::SynSent, settings, iss, 0, now)
    }

    /// A connection that `syn` opens.
    pub(crate) fn accept(settings: Settings, syn: &Segment<'_>, iss: u32, now: Instant) -> Self {
        let mut conn = Self::new(State::SynReceived, settings, iss, syn.seq, now);
        conn.negotiate(syn);
        conn
    }

    fn new(state: State, settings: Settings, iss: u32, irs: u32, now: Instant) -> Self {
        Self {
            state,
            settings,
            send: SendHalf::new(iss, settings.mss, settings.max_send_buffer, now),
            recv: RecvHalf::new(irs, settings.max_receive_buffer),
            ack: AckDue::No,
            unacked: 0,
            last_heard: now,
            probes: 0,
            probe_due: false,
            challenge_after: Instant::ZERO,
            passive_close: false,
            orphan_until: None,
            orphan_una: 0,
            trim_at: None,
            room_wanted: false,
        }
    }

    fn negotiate(&mut self, syn: &Segment<'_>) {
        let theirs = syn
            .options
            .mss
            .map_or(DEFAULT_MSS, usize::from)
            .max(MIN_MSS);
        self.send.set_mss(theirs.min(self.settings.mss));
        self.send.sack = syn.options.sack_permitted;
        match syn.options.window_scale {
            Some(shift) => self.send.window_scale = shift,
            None => self.recv.unscaled(),
        }
    }

    // In.

    /// Takes a segment of this connection.
    pub(crate) fn handle_segment(&mut self, segment: &Segment<'_>, now: Instant) -> Signals {
        match self.state {
            State::SynSent => self.handle_in_syn_sent(segment, now),
            State::SynReceived | State::Open => self.handle_synchronised(segment, now),
        }
    }

    fn handle_in_syn_sent(&mut self, segment: &Segment<'_>, now: Instant) -> Signals {
        let acks_syn = segment.has(ACK) && self.send.offset(segment.ack) == self.send.nxt();
        if segment.has(ACK) && !acks_syn {
            return Signals::reply(segment.reset_for());
        }
        if segment.has(RST) {
            return match acks_syn {
                true => Signals::closed(Closed::Refused),
                false => Signals::default(),
            };
        }
        if !segment.has(SYN) {
            return Signals::default();
        }
        self.heard(now);
        self.recv = RecvHalf::new(segment.seq, self.settings.max_receive_buffer);
        self.negotiate(segment);
        if !acks_syn {
            // Both sides opened at once (RFC 9293 3.5): their SYN is acknowledged by ours, sent again.
            self.state = State::SynReceived;
            self.ack = AckDue::Now;
            return Signals::default();
        }
        self.state = State::Open;
        let ack = self.send.nxt();
        self.send.handle_ack(ack, &segment.options.sack, false, now);
        self.send
            .handle_window(self.recv.nxt(), ack, u64::from(segment.window), now);
        self.ack = AckDue::Now;
        Signals {
            connected: true,
            progress: true,
            ..Signals::default()
        }
    }

    fn handle_synchronised(&mut self, segment: &Segment<'_>, now: Instant) -> Signals {
        let from = self.recv.offset(segment.seq);
        if !self
            .recv
            .acceptable(from, u64::from(segment.sequence_len()))
        {
            return self.handle_unacceptable(segment, now);
        }
        if segment.has(RST) {
            return self.handle_reset(from, now);
        }
        if segment.has(SYN) {
            return self.challenge(now);
        }
        if !segment.has(ACK) {
            return Signals::default();
        }
        self.heard(now);
        let mut signals = Signals::default();
        if self.state == State::SynReceived {
            if self.send.offset(segment.ack) != self.send.nxt() {
                return Signals::reply(segment.reset_for());
            }
            self.state = State::Open;
            signals.connected = true;
        }
        if !self.handle_ack(segment, from, now) {
            return self.challenge(now);
        }
        self.handle_data(segment, from, now, &mut signals);
        if signals.closed.is_none() && self.send.fin_acked() && self.recv.finished() {
            signals.closed = Some(Closed::Finished);
            // Nobody is left to send it later, and the other side waits for it.
            if self.ack != AckDue::No {
                let seq = self.send.seq(self.send.nxt());
                signals.reply = Some(self.segment(seq, ACK));
            }
        }
        if self.room_wanted && self.send.room_is_ample() {
            self.room_wanted = false;
            signals.progress = true;
        }
        signals
    }

    fn handle_unacceptable(&mut self, segment: &Segment<'_>, now: Instant) -> Signals {
        if segment.has(RST) {
            return Signals::default();
        }
        if self.state == State::SynReceived && segment.has(SYN) {
            // Our answer was lost; the retransmission timer would say so too, but later.
            self.ack = AckDue::Now;
            return Signals::default();
        }
        // Data that was here already means that an acknowledgement was lost, a probe wants to know the window: both need
        // an answer each time. The rest is rate-limited, or two confused ends would feed each other.
        if segment.payload.is_empty() && !segment.has(FIN) && !self.is_keep_alive(segment) {
            return self.challenge(now);
        }
        self.heard(now);
        self.ack = AckDue::Now;
        Signals::default()
    }

    fn is_keep_alive(&self, segment: &Segment<'_>) -> bool {
        self.recv.offset(segment.seq) + 1 == self.recv.nxt() && !segment.has(SYN)
    }

    /// RFC 5961 3.2: only a reset that names the very next byte counts.
    fn handle_reset(&mut self, from: u64, now: Instant) -> Signals {
        if from == self.recv.nxt() {
            return Signals::closed(Closed::Reset);
        }
        self.challenge(now)
    }

    fn challenge(&mut self, now: Instant) -> Signals {
        if now >= self.challenge_after {
            self.challenge_after = now + CHALLENGE_EVERY;
            self.ack = AckDue::Now;
        }
        Signals::default()
    }

    /// False if the segment acknowledges what was never sent.
    fn handle_ack(&mut self, segment: &Segment<'_>, from: u64, now: Instant) -> bool {
        let ack = self.send.offset(segment.ack);
        if ack > self.send.nxt() {
            return false;
        }
        if ack < self.send.una() {
            return true;
        }
        let window = u64::from(segment.window) << self.send.window_scale;
        let moved = self.send.handle_window(from, ack, window, now);
        let plain = segment.payload.is_empty() && !segment.has(FIN) && !moved;
        self.send.handle_ack(ack, &segment.options.sack, plain, now);
        true
    }

    fn handle_data(
        &mut self,
        segment: &Segment<'_>,
        from: u64,
        now: Instant,
        signals: &mut Signals,
    ) {
        if segment.payload.is_empty() && !segment.has(FIN) {
            return;
        }
        let was_finished = self.recv.finished();
        let taken = self
            .recv
            .handle_data(from, segment.payload, segment.has(FIN));
        signals.progress |= taken.progress;
        if self.recv.finished() && !was_finished {
            self.passive_close = !self.send.fin_sent();
        }
        if self.orphan_until.is_some() && taken.progress && !segment.payload.is_empty() {
            // Nobody will read this: say so, instead of letting the other side believe that it was read.
            signals.reply = Some(self.reset());
            signals.closed = Some(Closed::Aborted);
            return;
        }
        // What came as one may have been many.
        self.unacked += if segment.payload.len() > self.settings.mss {
            2
        } else {
            1
        };
        self.ack = match self.ack {
            _ if taken.ack_at_once || self.unacked >= 2 => AckDue::Now,
            AckDue::No => AckDue::At(now + ACK_DELAY),
            due => due,
        };
    }

    fn heard(&mut self, now: Instant) {
        self.last_heard = now;
        self.probes = 0;
    }

    // Time.

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let ack = match self.ack {
            AckDue::At(at) => Some(at),
            AckDue::No | AckDue::Now => None,
        };
        [
            self.send.deadline(),
            ack,
            self.orphan_until,
            self.trim_at,
            self.keep_alive_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn keep_alive_at(&self) -> Option<Instant> {
        let quiet = self.state == State::Open && self.send.una() == self.send.nxt();
        quiet.then(|| {
            self.last_heard
                + self.settings.keep_alive_idle
                + self.settings.keep_alive_interval * self.probes
        })
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Signals {
        if self.send.handle_timeout(now) {
            self.probe_due = true;
        }
        if self.send.failures > self.allowed_failures() {
            return Signals::closed(Closed::TimedOut);
        }
        if let AckDue::At(at) = self.ack
            && at <= now
        {
            self.ack = AckDue::Now;
        }
        if self.orphan_until.is_some_and(|at| at <= now) {
            if self.orphan_una == self.send.una() {
                return Signals {
                    reply: Some(self.reset()),
                    ..Signals::closed(Closed::Aborted)
                };
            }
            self.wait_as_orphan(now);
        }
        if self.trim_at.is_some_and(|at| at <= now) {
            self.trim_at = None;
            self.send.trim();
            self.recv.trim();
        }
        if self.keep_alive_at().is_some_and(|at| at <= now) {
            if self.probes >= KEEP_ALIVE_PROBES {
                return Signals::closed(Closed::TimedOut);
            }
            self.probes += 1;
            self.probe_due = true;
        }
        Signals::default()
    }

    fn allowed_failures(&self) -> u32 {
        match self.state {
            State::SynSent | State::SynReceived => SYN_RETRIES,
            State::Open if self.orphan_until.is_some() => ORPHAN_RETRIES,
            State::Open => RETRIES,
        }
    }

    // Out.

    /// The next segment, and which bytes go into it ([`copy`](Self::copy)).
    pub(crate) fn poll_transmit(
        &mut self,
        most: usize,
        now: Instant,
    ) -> Option<(Segment<'static>, Option<Chunk>)> {
        if self.state != State::Open {
            return self.poll_syn(now);
        }
        let sent = match self.send.next_chunk(most, now) {
            Some(chunk) => {
                self.send.mark_sent(chunk, now);
                let mut flags = ACK;
                if chunk.fin {
                    flags |= FIN;
                }
                if chunk.push && chunk.len > 0 {
                    flags |= PSH;
                }
                let seq = self.send.seq(chunk.from);
                (self.segment(seq, flags), Some(chunk))
            }
            None if self.probe_due => {
                // A byte that was acknowledged already: every stack answers with where it stands.
                let seq = self.send.seq(self.send.una()).wrapping_sub(1);
                (self.segment(seq, ACK), None)
            }
            None if self.ack == AckDue::Now => {
                let mut segment = self.segment(self.send.seq(self.send.nxt()), ACK);
                if self.send.sack && self.recv.has_gaps() {
                    segment.options.sack = self.recv.sack();
                }
                (segment, None)
            }
            None => return None,
        };
        self.probe_due = false;
        // Every segment acknowledges, but gaps are reported by bare ones only.
        if sent.1.is_none() || !self.recv.has_gaps() {
            self.ack = AckDue::No;
            self.unacked = 0;
        }
        self.note_quiet(now);
        Some(sent)
    }

    fn poll_syn(&mut self, now: Instant) -> Option<(Segment<'static>, Option<Chunk>)> {
        let again = self.state == State::SynReceived && self.ack == AckDue::Now;
        if !self.send.wants_syn() && !again {
            return None;
        }
        self.send.syn_sent(now);
        self.ack = AckDue::No;
        let answers = self.state == State::SynReceived;
        let mut segment = self.segment(self.send.seq(send::ORIGIN), SYN);
        segment.window = self.recv.syn_window();
        if answers {
            segment.flags |= ACK;
        } else {
            segment.ack = 0;
        }
        segment.options = Options {
            mss: u16::try_from(self.settings.mss).ok(),
            window_scale: (!answers || self.recv.scale > 0).then_some(recv::WINDOW_SCALE),
            sack_permitted: !answers || self.send.sack,
            ..Options::default()
        };
        Some((segment, None))
    }

    fn segment(&mut self, seq: u32, flags: u8) -> Segment<'static> {
        Segment {
            seq,
            ack: self.recv.seq(self.recv.nxt()),
            flags,
            window: self.recv.advertise(),
            options: Options::default(),
            payload: &[],
        }
    }

    fn note_quiet(&mut self, now: Instant) {
        if self.trim_at.is_none() && (self.send.holds_memory() || self.recv.holds_memory()) {
            self.trim_at = Some(now + TRIM_AFTER);
        }
    }

    /// The payload of a full segment.
    pub(crate) fn mss(&self) -> usize {
        self.send.mss()
    }

    /// Appends the bytes of a chunk.
    pub(crate) fn copy(&self, chunk: Chunk, out: &mut Vec<u8>) {
        self.send.copy(chunk, out);
    }

    /// The reset that tells the other side that this connection ends here.
    pub(crate) fn reset(&self) -> Segment<'static> {
        Segment {
            seq: self.send.seq(self.send.nxt()),
            ack: self.recv.seq(self.recv.nxt()),
            flags: match self.state {
                State::SynSent => RST,
                State::SynReceived | State::Open => RST | ACK,
            },
            window: 0,
            options: Options::default(),
            payload: &[],
        }
    }

    // The application.

    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    pub(crate) fn push(&mut self, data: &[u8]) -> usize {
        let taken = self.send.push(data);
        self.room_wanted |= taken < data.len() && !self.send.fin_queued();
        taken
    }

    pub(crate) fn room(&self) -> usize {
        self.send.room()
    }

    pub(crate) fn finish(&mut self) {
        self.send.finish();
    }

    /// Lets `take` read; `None` at the end of the stream.
    pub(crate) fn read(&mut self, take: impl FnOnce(&mut RecvHalf) -> usize) -> Option<usize> {
        if self.recv.readable() == 0 && self.recv.finished() {
            return None;
        }
        let n = take(&mut self.recv);
        if self.state == State::Open && self.recv.window_update_due() {
            self.ack = AckDue::Now;
        }
        Some(n)
    }

    /// How much could be read at once.
    pub(crate) fn readable(&self) -> usize {
        self.recv.readable()
    }

    /// Whether the other side is to hear something at once.
    pub(crate) fn has_news(&self) -> bool {
        self.ack == AckDue::Now
    }

    /// The application lets go. False if the connection has to be reset because it leaves bytes unread.
    pub(crate) fn release(&mut self, now: Instant) -> bool {
        if self.recv.readable() > 0 {
            return false;
        }
        self.send.finish();
        self.recv.discard();
        self.wait_as_orphan(now);
        true
    }

    fn wait_as_orphan(&mut self, now: Instant) {
        self.orphan_until = Some(now + ORPHAN_WAIT);
        self.orphan_una = self.send.una();
    }

    pub(crate) fn retransmits(&self) -> u64 {
        self.send.retransmits
    }

    /// What must be remembered when both directions have ended: nothing if the other side, which went first, does it.
    pub(crate) fn remains(&self) -> Option<Remains> {
        (!self.passive_close).then(|| Remains {
            seq: self.send.seq(self.send.nxt()),
            ack: self.recv.seq(self.recv.nxt()),
        })
    }
}

#[cfg(test)]
mod tests;
