//! Opening connections.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{Either, select};
use host::{Egress, Instant};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::head::{body_start, read_head};
use crate::proxy::{Proxy, ProxyConfig, join_host_port};
use crate::tls::{Roots, Verify};
use crate::upgrade::send;
use crate::{Error, Stream, tls};

/// How long the other family waits for the first.
const STAGGER: Duration = Duration::from_millis(300);
/// How long one address may take when there are more to try.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole dial may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a resolved name stays good.
const NAME_TTL: Duration = Duration::from_secs(600);
/// How long a look-up may take, without and with an older answer at hand.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
const LOOKUP_TIMEOUT_KNOWN: Duration = Duration::from_secs(3);
/// Names that are remembered.
const NAMES_MAX: usize = 64;

/// What a [`Dialer`] is made of.
#[derive(Clone, Default)]
pub struct DialConfig {
    /// Keeps our sockets out of our own tunnel.
    pub egress: Option<Arc<dyn Egress>>,
    /// Proxies.
    pub proxy: ProxyConfig,
}

impl std::fmt::Debug for DialConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DialConfig")
            .field("proxy", &self.proxy)
            .finish_non_exhaustive()
    }
}

/// Opens connections for control, relays and logs.
#[derive(Debug)]
pub struct Dialer {
    config: DialConfig,
    names: Mutex<BTreeMap<String, Known>>,
    own_proxies: Mutex<Vec<SocketAddr>>,
    roots: Arc<Roots>,
}

#[derive(Debug, Clone)]
struct Known {
    addresses: Vec<IpAddr>,
    at: Instant,
}

/// A connection on which a plain HTTP request can be sent.
#[derive(Debug)]
pub struct HttpRoute {
    /// The connection, to the server or to a proxy.
    pub stream: Stream,
    /// What goes in front of the path in the request line: empty, or `http://host:port` through a proxy.
    pub target_prefix: String,
    /// The `Proxy-Authorization` field to send.
    pub proxy_authorization: Option<String>,
}

impl Dialer {
    /// A dialer that trusts the system's roots.
    pub fn new(config: DialConfig) -> Self {
        Self::with_roots(config, Roots::default())
    }

    /// A dialer that trusts these roots.
    pub fn with_roots(config: DialConfig, roots: Roots) -> Self {
        Self {
            config,
            names: Mutex::default(),
            own_proxies: Mutex::default(),
            roots: Arc::new(roots),
        }
    }

    /// The roots that servers are verified against; loaded when first needed.
    pub fn roots(&self) -> &Arc<Roots> {
        &self.roots
    }

    /// Our own proxy listeners: a configured proxy that is one of them is ignored, or our traffic would run in a circle.
    pub fn set_own_proxies(&self, addresses: Vec<SocketAddr>) {
        if let Ok(mut own) = self.own_proxies.lock() {
            *own = addresses;
        }
    }

    /// The proxy for this target, if it goes through one.
    pub fn proxy_for(&self, https: bool, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = self.config.proxy.for_target(https, host, port)?;
        let own = self
            .own_proxies
            .lock()
            .map(|own| own.clone())
            .unwrap_or_default();
        let proxy_ip = match proxy.host.as_str() {
            "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
            host => host.parse::<IpAddr>().ok(),
        };
        let is_own = own.iter().any(|own| {
            own.port() == proxy.port
                && (Some(own.ip()) == proxy_ip
                    || own.ip().is_unspecified() && proxy_ip.is_some_and(|ip| ip.is_loopback()))
        });
        (!is_own).then_some(proxy)
    }

    /// A TCP connection without any proxy.
    pub async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, Error> {
        let target = join_host_port(host, port);
        let dial = async {
            let addresses = self.resolve(host).await?;
            let addresses: Vec<_> = addresses
                .into_iter()
                .map(|ip| SocketAddr::new(ip, port))
                .collect();
            self.race(&addresses)
                .await
                .map_err(|source| Error::Connect {
                    target: target.clone(),
                    source,
                })
        };
        let dialled = timeout(DIAL_TIMEOUT, dial).await;
        dialled.unwrap_or_else(|_| Err(Error::timeout(format!("connecting to `{target}`"))))
    }

    /// A connection to be used for `https`: through the proxy's `CONNECT` if there is one. TLS is the caller's.
    pub async fn for_https(&self, host: &str, port: u16) -> Result<Stream, Error> {
        let Some(proxy) = self.proxy_for(true, host, port) else {
            return self.tcp(host, port).await.map(Stream::new);
        };
        let stream = self.to_proxy(proxy).await?;
        connect_through(stream, proxy, &join_host_port(host, port)).await
    }

    /// A connection to be used for one plain `http` request, through the proxy if there is one.
    pub async fn for_http(&self, host: &str, port: u16) -> Result<HttpRoute, Error> {
        let Some(proxy) = self.proxy_for(false, host, port) else {
            let stream = self.tcp(host, port).await.map(Stream::new)?;
            return Ok(HttpRoute {
                stream,
                target_prefix: String::new(),
                proxy_authorization: None,
            });
        };
        let authority = match port {
            80 if host.contains(':') => format!("[{host}]"),
            80 => host.to_owned(),
            port => join_host_port(host, port),
        };
        Ok(HttpRoute {
            stream: self.to_proxy(proxy).await?,
            target_prefix: format!("http://{authority}"),
            proxy_authorization: proxy.authorization.clone(),
        })
    }

    /// `https` to a server that is verified as usual.
    pub async fn tls(&self, host: &str, port: u16, verify: Verify) -> Result<Stream, Error> {
        let stream = self.for_https(host, port).await?;
        let connected = tls::connect(stream, host, verify, &self.roots).await?;
        Ok(Stream::new(connected))
    }

    async fn to_proxy(&self, proxy: &Proxy) -> Result<Stream, Error> {
        let failed = |error: Error| Error::Proxy {
            proxy: proxy.to_string(),
            what: error.to_string(),
        };
        let stream = self
            .tcp(&proxy.host, proxy.port)
            .await
            .map(Stream::new)
            .map_err(failed)?;
        if !proxy.tls {
            return Ok(stream);
        }
        let connected = tls::connect(stream, &proxy.host, Verify::Host, &self.roots).await;
        connected.map(Stream::new).map_err(failed)
    }

    /// The addresses of a name, from the system's resolver; the last good answer serves while that fails.
    pub async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, Error> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        let known = self
            .names
            .lock()
            .ok()
            .and_then(|names| names.get(host).cloned());
        if let Some(known) = &known
            && rt::now().since(known.at) < NAME_TTL
        {
            return Ok(known.addresses.clone());
        }
        let limit = if known.is_some() {
            LOOKUP_TIMEOUT_KNOWN
        } else {
            LOOKUP_TIMEOUT
        };
        let failed = match timeout(limit, tokio::net::lookup_host((host, 0))).await {
            Ok(Ok(found)) => {
                let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
                if !addresses.is_empty() {
                    self.remember(host, &addresses);
                    return Ok(addresses);
                }
                io::Error::other("the name has no address")
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        match known {
            Some(known) => Ok(known.addresses),
            None => Err(Error::Resolve {
                host: host.to_owned(),
                source: failed,
            }),
        }
    }

    /// Private addresses are not remembered: they mean different machines on different networks.
    fn remember(&self, host: &str, addresses: &[IpAddr]) {
        let private = addresses
            .iter()
            .any(|address| match address.to_canonical() {
                IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
                IpAddr::V6(v6) => {
                    v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local()
                }
            });
        let Ok(mut names) = self.names.lock() else {
            return;
        };
        if private || names.len() >= NAMES_MAX && !names.contains_key(host) {
            return;
        }
        let known = Known {
            addresses: addresses.to_vec(),
            at: rt::now(),
        };
        names.insert(host.to_owned(), known);
    }

    /// Happy eyeballs: the first address's family starts, the other follows when it fails or is slow.
    pub async fn race(&self, addresses: &[SocketAddr]) -> io::Result<TcpStream> {
        let v6_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
        let (first, second): (Vec<_>, Vec<_>) = addresses
            .iter()
            .copied()
            .partition(|address| address.is_ipv6() == v6_first);
        self.race_families(&first, &second, STAGGER).await
    }

    pub(crate) async fn race_families(
        &self,
        first: &[SocketAddr],
        second: &[SocketAddr],
        stagger: Duration,
    ) -> io::Result<TcpStream> {
        if second.is_empty() {
            return self.one_by_one(first).await;
        }
        if first.is_empty() {
            return self.one_by_one(second).await;
        }
        let mut leader = pin!(self.one_by_one(first));
        match select(&mut leader, pin!(sleep(stagger))).await {
            Either::Left((Ok(stream), _)) => return Ok(stream),
            Either::Left((Err(error), _)) => {
                return self.one_by_one(second).await.map_err(|_| error);
            }
            Either::Right(_) => {}
        }
        let follower = pin!(self.one_by_one(second));
        match select(leader, follower).await {
            Either::Left((Ok(stream), _)) | Either::Right((Ok(stream), _)) => Ok(stream),
            Either::Left((Err(error), other)) => other.await.map_err(|_| error),
            Either::Right((Err(_), other)) => other.await,
        }
    }

    async fn one_by_one(&self, addresses: &[SocketAddr]) -> io::Result<TcpStream> {
        let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address");
        for (index, address) in addresses.iter().enumerate() {
            let last = index + 1 == addresses.len();
            let limit = if last { DIAL_TIMEOUT } else { ADDRESS_TIMEOUT };
            match timeout(limit, self.connect(*address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failed = error,
                Err(_) => failed = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(failed)
    }

    /// One TCP connection to one address.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(egress) = &self.config.egress {
            mark(egress.as_ref(), &socket, address)?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        keep_unsent_short(&stream);
        Ok(stream)
    }
}

/// What waits is better kept where it can still be overtaken or dropped than in the kernel.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn keep_unsent_short(stream: &TcpStream) {
    const UNSENT_MAX: u32 = 128 << 10;
    // Without it, relayed packets wait longer.
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_MAX);
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn keep_unsent_short(_stream: &TcpStream) {}

#[cfg(unix)]
fn mark(egress: &dyn Egress, socket: &TcpSocket, to: SocketAddr) -> io::Result<()> {
    use std::os::fd::AsFd as _;
    egress.mark(&socket.as_fd(), to)
}

#[cfg(windows)]
fn mark(egress: &dyn Egress, socket: &TcpSocket, to: SocketAddr) -> io::Result<()> {
    use std::os::windows::io::AsSocket as _;
    egress.mark(&socket.as_socket(), to)
}

/// Opens a tunnel through an HTTP proxy.
async fn connect_through(mut stream: Stream, proxy: &Proxy, target: &str) -> Result<Stream, Error> {
    let what = format!("connecting to `{target}` through proxy `{proxy}`");
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(authorization) = &proxy.authorization {
        request.push_str("Proxy-Authorization: ");
        request.push_str(authorization);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    send(&mut stream, request.as_bytes(), &what).await?;
    let (head, mut stream) = match timeout(DIAL_TIMEOUT, read_head(stream, &what)).await {
        Ok(read) => read?,
        Err(_) => return Err(Error::timeout(what)),
    };
    match head.status() {
        Ok(200) => Ok(stream),
        Ok(status) => Err(Error::Proxy {
            proxy: proxy.to_string(),
            what: format!(
                "connecting to `{target}`: http status {status}: {}",
                body_start(&head, &mut stream, 200).await
            ),
        }),
        Err(error) => Err(Error::protocol(format!("{what}: {error}"))),
    }
}
