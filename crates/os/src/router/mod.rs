//! The machine's routing, for a TUN device.

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
pub use linux::{LinuxRouter, Marked, cleanup, mark};
