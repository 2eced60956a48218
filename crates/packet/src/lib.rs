//! IP at the byte level: checked header views, checksums, ICMP and TSMP, disco and Geneve envelopes, prefix tables, and
//! the tailnet address plan.
//!
//! Not here: who a packet belongs to, whether it may pass, or any key of ours. This crate reads bytes and makes bytes.
//!
//! [`IpView::parse`] is the only way in for an IP packet. What it returns has been checked once, so that none of its
//! users has to check lengths again. The one invariant: no byte sequence makes anything in this crate panic.

pub mod addr;
pub mod checksum;
pub mod disco;
pub mod ecn;
pub mod geneve;
pub mod icmp;
mod ip;
pub mod mss;
pub mod nat;
pub mod offload;
mod prefix;
pub mod tsmp;
mod write;

pub use ip::{Fragment, IpView, Proto, TcpFlags, Unparsed};
pub use prefix::PrefixMap;
pub use write::ip_packet;

/// A peer, by the number that the control server gave it (`tailcfg.NodeID`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub i64);
