//! Puts one node together and runs it, given the host traits.
//!
//! [`run`] wires the brain (`backend`) to the engines: a loop feeds it events and carries out its effects. LocalAPI
//! requests are answered from the published snapshot, asked of the engine that knows, or handed to the brain as
//! commands. Optional features register themselves through [`Registry`].
//!
//! The one invariant: this crate never names an operating system; what it needs of the machine comes in [`HostParts`].

mod api;
mod brain;
mod bus;
mod c2n;
mod control_runner;
mod dial;
mod dns_runner;
mod engine_runner;
mod feature;
mod http_dns;
mod incoming;
mod init;
mod links;
mod log;
mod magic_dns;
mod peer_api;
mod run;
mod status;
mod userdial;

pub use dial::{DatagramFlow, Dial, Stream};
pub use feature::{Feature, FeatureHost, Registry, StatusSource};
pub use init::TellInit;
pub use log::{LogEntry, LogSubscription, LogTap};
pub use run::{Config, Error, ForwardingProblem, HostParts, UidOf, run};
