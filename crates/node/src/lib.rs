//! Puts one node together and runs it, given the host traits.
//!
//! [`run`] wires the brain (`backend`) to the engines: a loop feeds it events and carries out its effects. LocalAPI
//! requests are answered from the published snapshot, asked of the engine that knows, or handed to the brain as
//! commands. Optional features register themselves through [`Registry`].
//!
//! The one invariant: this crate never names an operating system; what it needs of the machine comes in [`HostParts`].

mod dial;
mod feature;
mod log;

pub use dial::{DatagramFlow, Dial, Stream};
pub use feature::{Feature, FeatureHost, Registry, StatusSource};
pub use log::{LogEntry, LogSubscription, LogTap};
