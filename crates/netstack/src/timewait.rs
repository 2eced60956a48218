//! Connections that have ended, remembered for a while so that late segments find an answer (TIME-WAIT).
//!
//! Compat: the reference remembers for 60 seconds. Both the time and the number are smaller here: nothing but a
//! retransmitted FIN is expected, and a tunnel delays no packet for so long.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use host::Instant;

use crate::flows::Key;
use crate::tcp::Remains;
use crate::tcp::segment::{ACK, FIN, Options, RST, SYN, Segment};

const KEPT_FOR: Duration = Duration::from_secs(10);
const MAX: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct TimeWait {
    by_key: HashMap<Key, (Remains, Instant)>,
    /// By end of life, which is the order of arrival.
    queue: VecDeque<(Instant, Key)>,
}

/// What to do with a segment for a connection that has ended.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Nobody remembers it.
    Unknown,
    /// Answer this.
    Answer(Segment<'static>),
    /// Nothing.
    Ignore,
}

impl TimeWait {
    pub(crate) fn insert(&mut self, key: Key, remains: Remains, now: Instant) {
        if self.queue.len() >= MAX {
            self.forget_oldest();
        }
        let until = now + KEPT_FOR;
        self.by_key.insert(key, (remains, until));
        self.queue.push_back((until, key));
    }

    fn forget_oldest(&mut self) {
        if let Some((until, key)) = self.queue.pop_front()
            && self.by_key.get(&key).is_some_and(|(_, at)| *at == until)
        {
            self.by_key.remove(&key);
        }
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        while self.queue.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.queue.front().map(|(until, _)| *until)
    }

    pub(crate) fn holds(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }

    pub(crate) fn handle(&mut self, key: &Key, segment: &Segment<'_>) -> Verdict {
        let Some((remains, _)) = self.by_key.get(key) else {
            return Verdict::Unknown;
        };
        let from = segment.seq.wrapping_sub(remains.ack).cast_signed();
        if segment.has(RST) {
            if from == 0 {
                self.by_key.remove(key);
            }
            return Verdict::Ignore;
        }
        // RFC 6191: a new connection that cannot be mistaken for the old one.
        if segment.has(SYN) && !segment.has(ACK) && from > 0 {
            self.by_key.remove(key);
            return Verdict::Unknown;
        }
        if segment.payload.is_empty() && !segment.has(SYN) && !segment.has(FIN) {
            return Verdict::Ignore;
        }
        Verdict::Answer(Segment {
            seq: remains.seq,
            ack: remains.ack,
            flags: ACK,
            window: u16::MAX,
            options: Options::default(),
            payload: &[],
        })
    }
}
