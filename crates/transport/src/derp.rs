//! Reaching a relay: which node, which address, which certificate, and the HTTP upgrade. Frames are the caller's.
//!
//! Source: the originals' `derp/derphttp`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ::derp::{FamilyAddr, Node, NodeCert, Region};
use keys::NodePublic;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cert::relay_key_in;
use crate::proxy::join_host_port;
use crate::tls::{self, Verify};
use crate::upgrade::{UpgradeRequest, send, upgrade};
use crate::{Dialer, Error, Stream};

/// How long all of it may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the TCP connection to one node may take.
const NODE_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long IPv4 waits where IPv6 is known to work.
const V4_DELAY: Duration = Duration::from_millis(200);
/// The port of relays in plain HTTP.
const PLAIN_PORT: u16 = 3340;

/// How to dial relays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DerpDialOptions {
    /// Plain HTTP instead of TLS (`TS_DEBUG_USE_DERP_HTTP`).
    pub plain_http: bool,
    /// Whether IPv6 has been seen to work.
    pub ipv6_works: bool,
}

/// A connection on which DERP frames flow.
#[derive(Debug)]
pub struct DerpStream {
    /// The stream; the server speaks first (`ServerKey`).
    pub stream: Stream,
    /// The server's key, if its certificate told it: then the client need not wait for `ServerKey` before it sends
    /// `ClientInfo`, but will still receive it.
    pub server: Option<NodePublic>,
    /// The name of the node, as in the DERP map.
    pub node: String,
    /// Our own address on the way; unknown behind a proxy.
    pub local: Option<IpAddr>,
}

/// Connects to the first node of `region` that answers, in the map's order.
pub async fn dial(
    dialer: &Dialer,
    region: &Region,
    options: DerpDialOptions,
) -> Result<DerpStream, Error> {
    let what = || {
        format!(
            "connecting to relay region {} (`{}`)",
            region.id, region.code
        )
    };
    match timeout(CONNECT_TIMEOUT, dial_region(dialer, region, options)).await {
        Ok(dialled) => dialled,
        Err(_) => Err(Error::timeout(what())),
    }
}

async fn dial_region(
    dialer: &Dialer,
    region: &Region,
    options: DerpDialOptions,
) -> Result<DerpStream, Error> {
    let mut failed = None;
    for node in region.relays() {
        let (stream, local) = match dial_node(dialer, node, options).await {
            Ok(dialled) => dialled,
            Err(error) => {
                failed = failed.or(Some(error));
                continue;
            }
        };
        let first = region.nodes.first().map(|node| node.name.as_str());
        let ideal = first.filter(|first| *first != node.name);
        let started = start(dialer, node, stream, ideal, options).await?;
        return Ok(DerpStream { local, ..started });
    }
    Err(failed.unwrap_or_else(|| Error::BadRequest {
        what: format!(
            "relay region {} (`{}`) has no node that relays",
            region.id, region.code
        ),
    }))
}

async fn dial_node(
    dialer: &Dialer,
    node: &Node,
    options: DerpDialOptions,
) -> Result<(Stream, Option<IpAddr>), Error> {
    let port = port_of(node, options);
    if dialer.proxy_for(true, &node.host, port).is_some() {
        return Ok((dialer.for_https(&node.host, port).await?, None));
    }
    let target = join_host_port(&node.host, port);
    match timeout(NODE_TIMEOUT, race(dialer, node, port, options)).await {
        Ok(dialled) => {
            let tcp = dialled?;
            let local = tcp.local_addr().ok().map(|addr| addr.ip());
            Ok((Stream::new(tcp), local))
        }
        Err(_) => Err(Error::timeout(format!("connecting to relay `{target}`"))),
    }
}

fn port_of(node: &Node, options: DerpDialOptions) -> u16 {
    if options.plain_http && node.derp_port == Node::DEFAULT_DERP_PORT {
        return PLAIN_PORT;
    }
    node.derp_port
}

async fn race(
    dialer: &Dialer,
    node: &Node,
    port: u16,
    options: DerpDialOptions,
) -> Result<TcpStream, Error> {
    let wants_dns = node.ipv4 == FamilyAddr::Dns || node.ipv6 == FamilyAddr::Dns;
    let fixed = matches!(node.ipv4, FamilyAddr::Ip(_)) || matches!(node.ipv6, FamilyAddr::Ip(_));
    let resolved = match wants_dns {
        false => Vec::new(),
        true => match dialer.resolve(&node.host).await {
            Ok(resolved) => resolved,
            Err(_) if fixed => Vec::new(),
            Err(error) => return Err(error),
        },
    };
    let v4: Vec<SocketAddr> = match node.ipv4 {
        FamilyAddr::Ip(ip) => vec![SocketAddr::new(ip.into(), port)],
        FamilyAddr::Dns => with_port(resolved.iter().filter(|ip| ip.is_ipv4()), port),
        FamilyAddr::None => Vec::new(),
    };
    let v6: Vec<SocketAddr> = match node.ipv6 {
        FamilyAddr::Ip(ip) => vec![SocketAddr::new(ip.into(), port)],
        FamilyAddr::Dns => with_port(resolved.iter().filter(|ip| ip.is_ipv6()), port),
        FamilyAddr::None => Vec::new(),
    };
    let dialled = if options.ipv6_works {
        dialer.race_families(&v6, &v4, V4_DELAY).await
    } else {
        dialer.race_families(&v4, &v6, Duration::ZERO).await
    };
    dialled.map_err(|source| Error::Connect {
        target: join_host_port(&node.host, port),
        source,
    })
}

fn with_port<'a>(addresses: impl Iterator<Item = &'a IpAddr>, port: u16) -> Vec<SocketAddr> {
    addresses.map(|ip| SocketAddr::new(*ip, port)).collect()
}

/// Times one HTTPS request to a region's first relay, from request to answer, and says which address answered; behind a proxy
/// that is not known, and the unspecified one stands for it.
pub async fn latency(dialer: &Dialer, region: &Region) -> Result<(Duration, IpAddr), Error> {
    let what = || format!("timing relay region {} (`{}`)", region.id, region.code);
    let node = region.relays().next().ok_or_else(|| Error::BadRequest {
        what: format!("{}: it has no node that relays", what()),
    })?;
    let verify = verify_for(node)?;
    let port = node.derp_port;
    let (mut stream, ip) = if dialer.proxy_for(true, &node.host, port).is_some() {
        let stream = dialer.tls(&node.host, port, verify).await?;
        (stream, Ipv4Addr::UNSPECIFIED.into())
    } else {
        let tcp = race(dialer, node, port, DerpDialOptions::default()).await?;
        let ip = tcp.peer_addr().map_err(|e| Error::io(what(), e))?.ip();
        let tls = tls::connect(Stream::new(tcp), &node.host, verify, dialer.roots()).await?;
        (Stream::new(tls), ip)
    };
    let request = format!(
        "GET /derp/latency-check HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        node.host
    );
    let started = rt::now();
    let mut status = [0; 12];
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        stream.read_exact(&mut status).await
    };
    exchange.await.map_err(|e| Error::io(what(), e))?;
    let latency = rt::now().since(started);
    if !status.starts_with(b"HTTP/1.") || status.get(9) != Some(&b'2') {
        return Err(Error::protocol(format!(
            "{}: the relay refused the latency check",
            what()
        )));
    }
    Ok((latency, ip))
}

/// Which certificate this node must show.
pub fn verify_for(node: &Node) -> Result<Verify, Error> {
    match &node.cert_name {
        NodeCert::Sha256(pin) => Ok(Verify::Pin(*pin)),
        _ if node.insecure_for_tests => Ok(Verify::Nothing),
        NodeCert::HostName => Ok(Verify::Host),
        NodeCert::Name(name) => Ok(Verify::Name(name.clone())),
        NodeCert::Unsatisfiable => Err(Error::BadRequest {
            what: format!(
                "relay `{}`: the pin in the map is not 64 hex digits",
                node.name
            ),
        }),
    }
}

/// TLS and the HTTP upgrade. Where the server's certificate tells its key, its HTTP answer is not waited for (fast start).
async fn start(
    dialer: &Dialer,
    node: &Node,
    stream: Stream,
    ideal: Option<&str>,
    options: DerpDialOptions,
) -> Result<DerpStream, Error> {
    let mut headers = Vec::new();
    if let Some(ideal) = ideal {
        headers.push(("Ideal-Node", ideal));
    }
    let request = |headers| UpgradeRequest {
        method: "GET",
        target: "/derp",
        host: &node.host,
        protocol: "DERP",
        headers,
    };
    let name = node.name.clone();
    if options.plain_http {
        let stream = upgrade(stream, &request(&headers)).await?;
        return Ok(DerpStream {
            stream,
            server: None,
            node: name,
            local: None,
        });
    }
    let connected = tls::connect(stream, &node.host, verify_for(node)?, dialer.roots()).await?;
    let (_, session) = connected.get_ref();
    let tls13 = session.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
    let server = session
        .peer_certificates()
        .filter(|_| tls13)
        .and_then(relay_key_in);
    let mut stream = Stream::new(connected);
    if server.is_some() {
        headers.push(("Derp-Fast-Start", "1"));
        let what = format!("greeting relay `{name}`");
        send(&mut stream, &request(&headers).encode()?, &what).await?;
    } else {
        stream = upgrade(stream, &request(&headers)).await?;
    }
    Ok(DerpStream {
        stream,
        server,
        node: name,
        local: None,
    })
}
