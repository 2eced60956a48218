//! The control protocol's JSON exactly as on the wire, and nothing else.
//!
//! One struct per Go struct of the original's package `tailcfg`, with Go's JSON rules ([`go`]) and names in snake case.
//! What a field means for the tailnet is the business of `netmap` and above. The one invariant: nothing here judges;
//! what Go's decoder accepts is accepted, and unknown fields are ignored.

pub mod go;

mod c2n;
pub mod cap;
mod derp;
mod dns;
mod filter;
mod hostinfo;
mod map;
mod node;
mod noise;
mod ping;
mod register;
mod user;

pub use c2n::{
    C2nAppConnectorRoutes, C2nDebugNetmapRequest, C2nPostureIdentity, C2nTlsCertInfo,
    C2nUpdateResponse, C2nVipServices,
};
pub use derp::{DerpHomeParams, DerpMap, DerpNode, DerpRegion};
pub use dns::{DnsConfig, DnsRecord, Resolver};
pub use filter::{CapGrant, FilterRule, NetPortRange, PortRange};
pub use hostinfo::{Hostinfo, HostinfoText, Location, NetInfo, Service};
pub use map::{
    ClientVersion, ControlDialPlan, ControlIpCandidate, Debug, DisplayMessage,
    DisplayMessageAction, EndpointType, MapRequest, MapResponse, PeerChange, TkaInfo,
};
pub use node::{CapMap, Node};
pub use noise::{EarlyNoise, OverTlsPublicKeyResponse};
pub use ping::{PingRequest, PingResponse};
pub use register::{RegisterAuth, RegisterRequest, RegisterResponse};
pub use user::{Login, User, UserProfile, WhoIsResponse};

#[doc(hidden)]
pub use serde as __serde;

/// A node's number in its tailnet (`tailcfg.NodeID`).
pub type NodeId = i64;
/// A user's number (`tailcfg.UserID`).
pub type UserId = i64;
/// A relay region's number (`tailcfg.DERPRegionID`).
pub type RegionId = i32;

/// The capability version that we advertise: in `/key?v=`, in the Noise prologue, in every request.
///
/// A server may use every behaviour up to this number. It is the lowest that servers in use admit; `docs/parity.md`
/// says, milestone by milestone, what is kept of it.
pub const CAP: u16 = 113;

#[cfg(test)]
mod tests;
