//! How relays are reached: the engine's view of the platform's dialer.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use derp::Region;
use host::BoxFuture;
use keys::NodePublic;
use transport::derp::DerpDialOptions;
use transport::{Dialer, Stream};

/// A connection on which the relay protocol can start.
#[derive(Debug)]
pub struct RelayStream {
    /// The stream, past TLS and the HTTP upgrade.
    pub stream: Stream,
    /// The server's key, if its certificate told it: then the client speaks first (fast start).
    pub server_key: Option<NodePublic>,
    /// Our own address on the way, where it is known. Once the machine has it no more, the connection is dead.
    pub local: Option<IpAddr>,
}

/// Reaches relays, avoiding our own tunnel: [`RelayDialer`], and one in memory for tests.
pub trait Relays: Send + Sync {
    /// Connects to a region: its first node that answers. Gives up by itself after some seconds.
    fn dial(&self, region: Region) -> BoxFuture<'_, io::Result<RelayStream>>;

    /// Times one HTTPS request to a region, from request to answer, and says which address answered.
    fn latency(&self, region: Region) -> BoxFuture<'_, io::Result<(Duration, IpAddr)>>;

    /// Looks up one address of a relay's name.
    fn resolve(&self, host: String, v6: bool) -> BoxFuture<'_, Option<IpAddr>>;
}

/// Reaches relays by TCP and TLS.
#[derive(Debug)]
pub struct RelayDialer {
    dialer: Arc<Dialer>,
    options: DerpDialOptions,
}

impl RelayDialer {
    /// Takes what opens the connections.
    pub fn new(dialer: Arc<Dialer>, options: DerpDialOptions) -> Self {
        Self { dialer, options }
    }
}

impl Relays for RelayDialer {
    fn dial(&self, region: Region) -> BoxFuture<'_, io::Result<RelayStream>> {
        Box::pin(async move {
            let dialled = transport::derp::dial(&self.dialer, &region, self.options).await;
            let dialled = dialled.map_err(io::Error::other)?;
            Ok(RelayStream {
                stream: dialled.stream,
                server_key: dialled.server,
                local: dialled.local,
            })
        })
    }

    fn latency(&self, region: Region) -> BoxFuture<'_, io::Result<(Duration, IpAddr)>> {
        Box::pin(async move {
            let measured = transport::derp::latency(&self.dialer, &region).await;
            measured.map_err(io::Error::other)
        })
    }

    fn resolve(&self, host: String, v6: bool) -> BoxFuture<'_, Option<IpAddr>> {
        Box::pin(async move {
            let found = self.dialer.resolve(&host).await.ok()?;
            found.into_iter().find(|ip| ip.is_ipv6() == v6)
        })
    }
}
