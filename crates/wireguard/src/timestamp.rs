//! TAI64N timestamps, by which a responder tells a new initiation from a replayed one.

use std::sync::atomic::{AtomicU64, Ordering};

use host::Wall;

/// Seconds since 1970 TAI, biased by 2^62, then nanoseconds; big-endian, so that bytes compare like times.
pub(crate) type Timestamp = [u8; 12];

/// TAI was ten seconds ahead of UTC in 1970; leap seconds do not matter, as only the order counts.
const BASE: u64 = 0x4000_0000_0000_000a;
/// The low bits of the nanoseconds are dropped, so that the exact clock is not told to strangers.
const WHITENER: u64 = (1 << 24) - 1;

/// Makes timestamps that strictly increase, also when the clock does not.
///
/// One for all peers: a peer that is forgotten and made again must not fall behind what its other side has seen.
#[derive(Debug, Default)]
pub(crate) struct Stamper {
    last_nanos: AtomicU64,
}

impl Stamper {
    pub(crate) fn stamp(&self, wall: Wall) -> Timestamp {
        let now = u64::try_from(wall.as_unix_nanos()).unwrap_or(0);
        let (secs, nanos) = (now / NANOS, now % NANOS);
        let whitened = secs.saturating_mul(NANOS).saturating_add(nanos & !WHITENER);
        let mut stamped = whitened;
        let _ = self
            .last_nanos
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                stamped = whitened.max(last.saturating_add(1));
                Some(stamped)
            });
        encode(stamped)
    }
}

fn encode(unix_nanos: u64) -> Timestamp {
    let mut out = [0; 12];
    out[..8].copy_from_slice(&(BASE + unix_nanos / NANOS).to_be_bytes());
    out[8..].copy_from_slice(&((unix_nanos % NANOS) as u32).to_be_bytes());
    out
}

const NANOS: u64 = 1_000_000_000;
