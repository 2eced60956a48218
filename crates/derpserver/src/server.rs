//! Binds the ports and hands connections to their tasks.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keys::{NodePrivate, NodePublic};
use rt::{RateLimit, Task};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::hub::{ConnId, Hub};
use crate::page::HomePage;
use crate::stats::{Snapshot, Stats};
use crate::tls::{Certificate, CertificateError};
use crate::verify::Verify;
use crate::{conn, limits, stun};

/// What to serve. Port 0 takes any free port.
#[derive(Debug)]
pub struct Config {
    /// The relay's identity.
    pub private_key: NodePrivate,
    /// The main port.
    pub listen: SocketAddr,
    /// With a certificate the main port speaks TLS, else plain HTTP.
    pub certificate: Option<Certificate>,
    /// A port beside TLS for captive portal probes and redirects.
    pub plain_http: Option<SocketAddr>,
    /// The STUN port.
    pub stun: Option<SocketAddr>,
    /// Whether to relay at all.
    pub derp: bool,
    /// What to show at `/`.
    pub home: HomePage,
    /// Who may connect.
    pub verify: Verify,
    /// How often at least a client hears from the relay; up to a twelfth is added at random, so that clients do not all
    /// wake at once. Clients give up after 120 s.
    pub keep_alive: Duration,
    /// How long a client's writes may stand still; `None` for ever.
    pub write_timeout: Option<Duration>,
    /// When an idle connection is probed by TCP. Long, because a probe wakes phones; relay keep-alives come more often.
    pub tcp_keepalive: Duration,
    /// When a connection is dropped whose data is not acknowledged (Linux only). Short, because relays are near.
    pub tcp_user_timeout: Duration,
}

impl Config {
    /// A relay with this identity on any free loopback port, without TLS and STUN.
    pub fn new(private_key: NodePrivate) -> Self {
        Self {
            private_key,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            certificate: None,
            plain_http: None,
            stun: None,
            derp: true,
            home: HomePage::Default,
            verify: Verify::Nobody,
            keep_alive: derp::KEEP_ALIVE,
            write_timeout: Some(limits::WRITE),
            tcp_keepalive: limits::TCP_KEEPALIVE,
            tcp_user_timeout: limits::TCP_USER_TIMEOUT,
        }
    }
}

/// The relay cannot start.
#[derive(Debug)]
pub enum StartError {
    /// A port cannot be had.
    Bind(&'static str, SocketAddr, io::Error),
    /// The certificate cannot be used.
    Certificate(CertificateError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(what, addr, error) => write!(f, "cannot listen on {what} {addr}: {error}"),
            Self::Certificate(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) private_key: NodePrivate,
    pub(crate) hub: Hub,
    pub(crate) stats: Stats,
    pub(crate) derp: bool,
    pub(crate) home: HomePage,
    pub(crate) verify: Verify,
    pub(crate) keep_alive: Duration,
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) log_limit: RateLimit,
    last_id: AtomicU64,
}

impl Shared {
    pub(crate) fn next_id(&self) -> ConnId {
        ConnId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// A running relay. It stops when dropped.
#[derive(Debug)]
pub struct Server {
    /// Where the main port is.
    pub addr: SocketAddr,
    /// Where the plain port beside TLS is.
    pub plain_addr: Option<SocketAddr>,
    /// Where STUN is.
    pub stun_addr: Option<SocketAddr>,
    /// The SHA-256 of the certificate; see [`derp::NodeCert::pin_text`].
    pub pin: Option<[u8; 32]>,
    public_key: NodePublic,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    tasks: Vec<Task>,
}

impl Server {
    /// Binds all ports and starts to serve.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let public_key = config.private_key.public();
        let pin = config.certificate.as_ref().map(Certificate::sha256);
        let tls = config
            .certificate
            .map(|cert| cert.acceptor(&public_key, rt::wall()));
        let tls = tls.transpose().map_err(StartError::Certificate)?;
        let (main, addr) = listen("tcp", config.listen).await?;
        let plain = match config.plain_http {
            Some(at) => Some(listen("tcp", at).await?),
            None => None,
        };
        let udp = match config.stun {
            Some(at) => Some(bind_udp(at).await?),
            None => None,
        };
        let tcp = TcpOptions {
            keepalive: config.tcp_keepalive,
            user_timeout: config.tcp_user_timeout,
        };
        let shared = Arc::new(Shared {
            private_key: config.private_key,
            hub: Hub::default(),
            stats: Stats::default(),
            derp: config.derp,
            home: config.home,
            verify: config.verify,
            keep_alive: config.keep_alive,
            write_timeout: config.write_timeout,
            log_limit: RateLimit::new(limits::LOG_BURST, Duration::from_secs(1)),
            last_id: AtomicU64::new(0),
        });
        let (stop, stopped) = watch::channel(false);
        let mut server = Self {
            addr,
            plain_addr: plain.as_ref().map(|(_, addr)| *addr),
            stun_addr: udp.as_ref().map(|(_, addr)| *addr),
            pin,
            public_key,
            shared,
            stop,
            tasks: Vec::new(),
        };
        server.spawn_main(main, tls, tcp, stopped.clone());
        if let Some((listener, _)) = plain {
            server.spawn_plain(listener, tcp, stopped.clone());
        }
        if let Some((socket, _)) = udp {
            server.spawn_stun(socket, stopped);
        }
        Ok(server)
    }

    fn spawn_main(
        &mut self,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        tcp: TcpOptions,
        stopped: watch::Receiver<bool>,
    ) {
        let shared = self.shared.clone();
        let serve = move |stream: TcpStream, addr| {
            let (shared, tls) = (shared.clone(), tls.clone());
            async move {
                match tls {
                    None => conn::serve(&shared, stream, addr).await,
                    Some(tls) => match timeout(limits::HTTP, tls.accept(stream)).await {
                        Ok(Ok(stream)) => conn::serve(&shared, stream, addr).await,
                        Ok(Err(error)) => tracing::debug!("tls: {addr}: {error}"),
                        Err(_) => tracing::debug!("tls: {addr}: handshake timed out"),
                    },
                }
            }
        };
        self.tasks.push(Task::spawn(
            "derp-accept",
            accept(listener, tcp, stopped, serve),
        ));
    }

    fn spawn_plain(
        &mut self,
        listener: TcpListener,
        tcp: TcpOptions,
        stopped: watch::Receiver<bool>,
    ) {
        let serve = |stream, _| conn::serve_plain(stream);
        self.tasks.push(Task::spawn(
            "derp-plain-http",
            accept(listener, tcp, stopped, serve),
        ));
    }

    fn spawn_stun(&mut self, socket: UdpSocket, mut stopped: watch::Receiver<bool>) {
        let shared = self.shared.clone();
        self.tasks.push(Task::spawn("derp-stun", async move {
            tokio::select! {
                never = stun::serve(shared, socket) => match never {},
                _ = stopped.changed() => {}
            }
        }));
    }

    /// The relay's public key.
    pub fn public_key(&self) -> NodePublic {
        self.public_key
    }

    /// The counters.
    pub fn stats(&self) -> Snapshot {
        self.shared.stats.snapshot(self.shared.hub.connections())
    }

    /// Closes all connections and ports, and waits until that is done.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        for task in self.tasks.drain(..) {
            task.join().await;
        }
    }
}

async fn listen(
    what: &'static str,
    at: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Bind(what, at, error);
    let listener = TcpListener::bind(at).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    Ok((listener, addr))
}

async fn bind_udp(at: SocketAddr) -> Result<(UdpSocket, SocketAddr), StartError> {
    let failed = |error| StartError::Bind("udp", at, error);
    let socket = UdpSocket::bind(at).await.map_err(failed)?;
    let addr = socket.local_addr().map_err(failed)?;
    Ok((socket, addr))
}

#[derive(Debug, Clone, Copy)]
struct TcpOptions {
    keepalive: Duration,
    user_timeout: Duration,
}

impl TcpOptions {
    /// Failures are no reason to refuse a client: the options only decide how soon a dead one is noticed.
    fn apply(self, stream: &TcpStream) {
        let _ = stream.set_nodelay(true);
        let socket = SockRef::from(stream);
        let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(self.keepalive));
        #[cfg(target_os = "linux")]
        let _ = socket.set_tcp_user_timeout(Some(self.user_timeout));
        #[cfg(not(target_os = "linux"))]
        let _ = self.user_timeout;
    }
}

/// Gives each connection a task. When stopped or aborted, the tasks end with it.
async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    tcp: TcpOptions,
    mut stopped: watch::Receiver<bool>,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) {
    let mut connections: Vec<Task> = Vec::new();
    let mut sweep_at = 64;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        match accepted {
            Ok((stream, addr)) => {
                tcp.apply(&stream);
                let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
                connections.push(Task::spawn("derp-connection", serve(stream, addr)));
            }
            Err(error) => {
                // Out of files, usually; connections that end will free some.
                tracing::warn!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        if connections.len() >= sweep_at {
            connections.retain(|task| !task.is_finished());
            sweep_at = 64.max(2 * connections.len());
        }
    }
}
