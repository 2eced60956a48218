//! Watches the machine's links: addresses, default route, sleep.
//!
//! [`state`] decides, from lists of interfaces, what path choice must know and whether a change matters; [`monitor`] has the
//! lists and the clock.

mod alarm;
mod monitor;
mod pace;
mod state;

pub use monitor::Monitor;
pub use state::{Interface, Machine};
