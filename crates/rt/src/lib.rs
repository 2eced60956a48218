//! The edge of the async runtime: tasks, the real clock, back-off, randomness, rate-limited logging.
//!
//! This is the only crate that spawns tasks, reads the clocks or asks the OS for randomness.

mod backoff;
mod clock;
mod ratelimit;
mod rng;
mod task;

pub use backoff::Backoff;
pub use clock::{RealClock, now, sleep_until, wall};
pub use ratelimit::RateLimit;
pub use rng::OsRng;
pub use task::Task;
