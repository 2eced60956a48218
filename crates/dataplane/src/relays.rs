//! How relays are reached: the engine's view of the platform's dialer.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use derp::Region;
use host::BoxFuture;
use keys::NodePublic;
use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream to a relay.
pub trait RelayIo: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> RelayIo for T {}

/// A connection on which the relay protocol can start.
pub struct RelayStream {
    /// The stream, past TLS and the HTTP upgrade.
    pub io: Box<dyn RelayIo>,
    /// The server's key, if its certificate told it: then the client speaks first (fast start).
    pub server_key: Option<NodePublic>,
    /// Bytes of the relay protocol that came together with the HTTP answer.
    pub early: Vec<u8>,
}

/// Reaches relays, avoiding our own tunnel. The real one is built on `transport`, tests have one in memory.
pub trait Relays: Send + Sync {
    /// Connects to a region: its first node that answers. Gives up by itself after some seconds.
    fn dial(&self, region: Region) -> BoxFuture<'_, io::Result<RelayStream>>;

    /// Times one HTTPS request to a region, from request to answer, and says which address answered.
    fn latency(&self, region: Region) -> BoxFuture<'_, io::Result<(Duration, IpAddr)>>;

    /// Looks up one address of a relay's name.
    fn resolve(&self, host: String, v6: bool) -> BoxFuture<'_, Option<IpAddr>>;
}
