//! The sending limit that a server may ask for.

use std::time::Duration;

use crate::{HEADER_LEN, KEY_LEN, ServerInfo};

/// A token bucket in bytes.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    bytes_per_second: u64,
    burst: u64,
    /// Tokens in billionths of a byte.
    nano_tokens: u128,
    refilled: Duration,
}

const NANO: u128 = 1_000_000_000;

impl TokenBucket {
    /// The limit that `info` asks for, full at `now`; `None` if it asks for none. Time is since any fixed point.
    pub fn from_info(info: &ServerInfo, now: Duration) -> Option<Self> {
        (info.bytes_per_second > 0).then(|| Self::new(info.bytes_per_second, info.burst, now))
    }

    /// A full bucket of `burst` bytes that gains `bytes_per_second`.
    pub fn new(bytes_per_second: u64, burst: u64, now: Duration) -> Self {
        Self {
            bytes_per_second,
            burst,
            nano_tokens: u128::from(burst) * NANO,
            refilled: now,
        }
    }

    /// Whether a packet of `len` bytes may be sent; the frame around it counts too. What may not is dropped silently, as
    /// the originals do: the limit stands for a network that drops.
    pub fn allow_packet(&mut self, len: usize, now: Duration) -> bool {
        self.allow((HEADER_LEN + KEY_LEN + len) as u64, now)
    }

    /// Whether `bytes` may pass; takes them if so.
    pub fn allow(&mut self, bytes: u64, now: Duration) -> bool {
        self.refill(now);
        let cost = u128::from(bytes) * NANO;
        if self.nano_tokens < cost {
            return false;
        }
        self.nano_tokens -= cost;
        true
    }

    fn refill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.refilled);
        if elapsed.is_zero() {
            return;
        }
        self.refilled = now;
        let gained = elapsed.as_nanos() * u128::from(self.bytes_per_second);
        self.nano_tokens = (self.nano_tokens + gained).min(u128::from(self.burst) * NANO);
    }
}
