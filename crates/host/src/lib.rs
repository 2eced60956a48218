//! What we need from the machine we run on: the traits at the seams, clocks, and the plain config structs.
//!
//! The engines and the node see the machine only through these traits; `os` implements them, tests fake them. Nothing
//! here does IO. The one invariant: a trait's signature names no operating system.

mod clock;
mod config;
mod io;
mod state;

pub use clock::{Clock, Instant, Wall};
pub use config::{
    Applied, CgnatGuard, Difference, DnsConfig, DnsConfigurator, Egress, FirewallConfig,
    FirewallKind, Lan, LinkDelta, LinkMonitor, LinkState, Masquerade, NetfilterMode, PeerConfig,
    Router, RouterConfig, SystemDns, os_socket,
};
pub use io::{
    Avoid, Batch, Csum, DropCounts, Ecn, Gso, GsoKind, Limits, Offload, Sent, SocketId, Tun,
    TunQueue, TunRx, TunTx, UdpBinder, UdpRx, UdpSocket, UdpTx, Until, Waker,
};
pub use state::{StateStore, StoreError};

use std::future::Future;
use std::pin::Pin;

/// A boxed future, for the traits that must be objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
