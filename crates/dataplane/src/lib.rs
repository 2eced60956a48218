//! Moves packets: the path loop, DERP links, netstack driving; offers async streams over it.
//!
//! [`Engine`] is the handle: it takes keys, a [`Network`] and commands, and reports [`EngineEvent`]s. Behind it one
//! dedicated thread owns all that changes: the path machine, the handshakers, the packet filter's flows, the userspace
//! TCP/IP stack. It sleeps until something arrives or a timer is due. Each DERP link is a task of its own with bounded
//! queues; it knows frames, not peers.
//!
//! The one invariant: without a [`Network`] nothing passes. No filter means that every packet is dropped.

mod core;
mod engine;
mod event;
mod link;
mod mailbox;
mod network;
mod ping;
mod probe;
mod relays;
mod shared;
mod sockets;
mod status;
mod streams;
#[cfg(any(test, feature = "trial"))]
pub mod trial;
mod tun;
mod workers;

pub use engine::{Engine, EngineConfig, Events};
pub use event::{EngineEvent, NetInfo};
pub use magicsock::{Endpoint, EndpointKind};
pub use network::{Firewall, Network, NodeCaps};
pub use ping::{PingError, PingKind, PingRequest, Pong};
pub use relays::{RelayDialer, RelayStream, Relays};
pub use status::{DerpLinkStatus, EngineStatus, PeerStatus};
pub use streams::{
    Dialer, FlowHub, Incoming, IncomingFlows, IncomingTcp, IncomingUdp, TcpStream, UdpFlow,
};
