//! Pings that people ask for.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use packet::PeerId;

/// What a ping exercises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingKind {
    /// The path only, outside of the tunnel.
    Disco,
    /// The tunnel, answered by the peer's engine.
    Tsmp,
    /// The tunnel, answered by the peer's TCP/IP stack.
    Icmp,
}

/// One ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PingRequest {
    /// Whom to ping.
    pub peer: PeerId,
    /// Which address, one that is routed to the peer. Disco pings do not need it.
    pub address: IpAddr,
    /// What to exercise.
    pub kind: PingKind,
    /// Bytes of a disco ping's packet without IP and UDP headers; 0 for the smallest.
    pub size: usize,
}

/// The answer to a ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pong {
    /// Time from question to answer.
    pub latency: Duration,
    /// The relay region that carried a disco ping; 0 if none did.
    pub derp_region: u16,
    /// The direct address that a disco ping went to.
    pub endpoint: Option<SocketAddr>,
    /// Where the peer's PeerAPI listens, if a TSMP answer said so; 0 if not.
    pub peerapi_port: u16,
}

/// Why a ping has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingError {
    /// No such peer is configured.
    NoSuchPeer,
    /// We have no address of the target's family.
    NoSelfAddress,
    /// The peer's key has expired.
    Expired,
    /// The peer speaks no disco.
    NoDisco,
    /// No path to the peer is known, not even a relay.
    NoPath,
    /// The packet would be too large.
    TooBig,
    /// Nothing came back in time: 5 s for disco, 10 s for the others.
    TimedOut,
    /// Too many pings are under way.
    Busy,
    /// The engine is stopped.
    Stopped,
}

impl std::fmt::Display for PingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoSuchPeer => "no matching peer",
            Self::NoSelfAddress => "no self address matching address family",
            Self::Expired => "peer's node key has expired",
            Self::NoDisco => "peer speaks no disco",
            Self::NoPath => "no path to the peer is known",
            Self::TooBig => "ping size too big",
            Self::TimedOut => "no answer in time",
            Self::Busy => "too many pings under way",
            Self::Stopped => "engine is stopped",
        })
    }
}

impl std::error::Error for PingError {}
