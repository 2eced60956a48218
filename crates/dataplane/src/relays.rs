//! How relays are reached: the engine's view of the platform's dialer.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use derp::{FamilyAddr, Node, Region};
use host::BoxFuture;
use keys::NodePublic;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use transport::derp::DerpDialOptions;
use transport::{Dialer, Stream};

/// A connection on which the relay protocol can start.
#[derive(Debug)]
pub struct RelayStream {
    /// The stream, past TLS and the HTTP upgrade.
    pub stream: Stream,
    /// The server's key, if its certificate told it: then the client speaks first (fast start).
    pub server_key: Option<NodePublic>,
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

    async fn measure(&self, region: &Region) -> io::Result<(Duration, IpAddr)> {
        let node = region
            .relays()
            .next()
            .ok_or_else(|| io::Error::other("the region has no relay"))?;
        let verify = transport::derp::verify_for(node).map_err(io::Error::other)?;
        let port = node.derp_port;
        let (mut stream, ip) = if self.dialer.proxy_for(true, &node.host, port).is_some() {
            let stream = self.dialer.tls(&node.host, port, verify).await;
            (
                stream.map_err(io::Error::other)?,
                Ipv4Addr::UNSPECIFIED.into(),
            )
        } else {
            let tcp = self.dialer.race(&self.addresses(node).await?).await?;
            let ip = tcp.peer_addr()?.ip();
            let roots = self.dialer.roots();
            let tls = transport::tls::connect(Stream::new(tcp), &node.host, verify, roots).await;
            (Stream::new(tls.map_err(io::Error::other)?), ip)
        };
        let request = format!(
            "GET /derp/latency-check HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            node.host
        );
        let started = rt::now();
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await?;
        let latency = rt::now().since(started);
        if !status.starts_with(b"HTTP/1.") || status.get(9) != Some(&b'2') {
            return Err(io::Error::other("the relay refused the latency check"));
        }
        Ok((latency, ip))
    }

    async fn addresses(&self, node: &Node) -> io::Result<Vec<SocketAddr>> {
        let v4 = match node.ipv4 {
            FamilyAddr::Ip(ip) => Some(IpAddr::V4(ip)),
            FamilyAddr::Dns | FamilyAddr::None => None,
        };
        let v6 = match node.ipv6 {
            FamilyAddr::Ip(ip) => Some(IpAddr::V6(ip)),
            FamilyAddr::Dns | FamilyAddr::None => None,
        };
        let mut ips: Vec<IpAddr> = [v4, v6].into_iter().flatten().collect();
        if ips.is_empty() {
            let found = self.dialer.resolve(&node.host).await;
            ips = found.map_err(io::Error::other)?;
        }
        Ok(ips
            .into_iter()
            .map(|ip| SocketAddr::new(ip, node.derp_port))
            .collect())
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
            })
        })
    }

    fn latency(&self, region: Region) -> BoxFuture<'_, io::Result<(Duration, IpAddr)>> {
        Box::pin(async move { self.measure(&region).await })
    }

    fn resolve(&self, host: String, v6: bool) -> BoxFuture<'_, Option<IpAddr>> {
        Box::pin(async move {
            let found = self.dialer.resolve(&host).await.ok()?;
            found.into_iter().find(|ip| ip.is_ipv6() == v6)
        })
    }
}
