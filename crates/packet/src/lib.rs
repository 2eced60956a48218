//! IP at the byte level: checked header views, checksums, TSMP and disco envelopes, prefix tables, the tailnet address
//! plan.

/// A peer, by the number that the control server gave it (`tailcfg.NodeID`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub i64);
