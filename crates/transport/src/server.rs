//! The one HTTP server loop: for unix and TCP listeners, with or without TLS, bounded in every direction.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::Map;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::Stream;
use crate::executor::Executor;

/// The error of a streaming body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// What handlers answer with.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body of known bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// No body.
pub fn empty() -> Body {
    Empty::new()
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// A plain-text answer.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// Text that stays text in HTML.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// What one connection may cost us.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; further ones are closed at once.
    pub connections: usize,
    /// Of these, how many one local user may have, so that nobody shuts out the others. Counts on unix sockets only.
    pub connections_per_user: usize,
    /// Header fields of a request.
    pub headers: usize,
    /// Bytes of a request's head.
    pub head_len: usize,
    /// How long a client may take for TLS, and for each request's head (idle time included).
    pub head_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_per_user: usize::MAX,
            headers: 64,
            head_len: 64 << 10,
            head_timeout: Duration::from_secs(30),
        }
    }
}

/// Who is on the other end.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Its address, over TCP.
    pub address: Option<SocketAddr>,
    /// Ours, over TCP.
    pub local: Option<SocketAddr>,
    /// Who it is on this machine, over a unix socket.
    pub credentials: Option<Credentials>,
}

/// The process behind a unix socket, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id, where the system tells.
    pub pid: Option<i32>,
}

/// Where connections come from.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Listener {
    /// Listens on TCP.
    pub async fn bind_tcp(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self::Tcp)
    }

    /// Listens on a unix socket. A socket file that nobody listens on is replaced; a live one is an error.
    #[cfg(unix)]
    pub fn bind_unix(path: &std::path::Path, mode: u32) -> io::Result<Self> {
        use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "the path exists and is no socket",
                ));
            }
            Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?
                }
                Ok(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::AddrInUse,
                        "another process listens there",
                    ));
                }
                Err(error) => return Err(error),
            },
            Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        Ok(Self::Unix(listener))
    }

    /// The TCP address that is listened on.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let peer = Peer {
                    address: Some(address),
                    local: stream.local_addr().ok(),
                    credentials: None,
                };
                Ok((Stream::new(stream), peer))
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let credentials = stream.peer_cred().ok().map(|cred| Credentials {
                    uid: cred.uid(),
                    gid: cred.gid(),
                    pid: cred.pid(),
                });
                let peer = Peer {
                    credentials,
                    ..Peer::default()
                };
                Ok((Stream::new(stream), peer))
            }
        }
    }
}

/// A running server. Dropping it closes everything at once; [`stop`](Self::stop) lets requests finish.
#[derive(Debug)]
pub struct Server {
    local_addr: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    task: rt::Task,
}

impl Server {
    /// Serves `handler` on `listener`. Handlers that upgrade (`hyper::upgrade::on`) own the stream from then on.
    pub fn start<H, F>(
        listener: Listener,
        tls: Option<TlsAcceptor>,
        limits: Limits,
        handler: H,
    ) -> Self
    where
        H: Fn(Arc<Peer>, Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let local_addr = listener.local_addr();
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            tls,
            limits,
            handler,
        });
        let task = rt::Task::spawn("http server", accept_loop(listener, shared, stopped));
        Self {
            local_addr,
            stop,
            task,
        }
    }

    /// The TCP address that is listened on.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// Takes no more connections, lets requests in progress finish for at most `grace`, then closes the rest.
    pub async fn stop(self, grace: Duration) {
        self.stop.send_replace(true);
        // What is left after the grace period dies with the task.
        let _ = timeout(grace, self.task.join()).await;
    }
}

struct Shared<H> {
    tls: Option<TlsAcceptor>,
    limits: Limits,
    handler: H,
}

async fn accept_loop<H, F>(
    listener: Listener,
    shared: Arc<Shared<H>>,
    mut stopped: watch::Receiver<bool>,
) where
    H: Fn(Arc<Peer>, Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut connections: Vec<(Option<u32>, rt::Task)> = Vec::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop_wanted(&mut stopped) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, usually: they come back only with time.
                tracing::warn!("accepting a connection: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        connections.retain(|(_, task)| !task.is_finished());
        let user = peer.credentials.map(|peer| peer.uid);
        let same = |(other, _): &&(Option<u32>, rt::Task)| user.is_some() && *other == user;
        let of_user = connections.iter().filter(same).count();
        if connections.len() >= shared.limits.connections
            || of_user >= shared.limits.connections_per_user
        {
            tracing::debug!("closing a connection: {} are open", connections.len());
            continue;
        }
        let serve = serve_one(stream, peer, Arc::clone(&shared), stopped.clone());
        connections.push((user, rt::Task::spawn("http connection", serve)));
    }
    drop(listener);
    for (_, connection) in connections {
        connection.join().await;
    }
}

async fn serve_one<H, F>(
    stream: Stream,
    peer: Peer,
    shared: Arc<Shared<H>>,
    stopped: watch::Receiver<bool>,
) where
    H: Fn(Arc<Peer>, Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let stream = match &shared.tls {
        None => stream,
        Some(acceptor) => {
            match timeout(shared.limits.head_timeout, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => Stream::new(stream),
                Ok(Err(error)) => {
                    tracing::debug!("tls handshake with {:?}: {error}", peer.address);
                    return;
                }
                Err(_) => return,
            }
        }
    };
    serve_connection(stream, peer, &shared.limits, stopped, &shared.handler).await;
}

/// Serves one connection until it ends or `stopped` turns true and the request in progress is done.
pub async fn serve_connection<H, F>(
    stream: Stream,
    peer: Peer,
    limits: &Limits,
    stopped: watch::Receiver<bool>,
    handler: &H,
) where
    H: Fn(Arc<Peer>, Request<Incoming>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let address = peer.address;
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_headers(limits.headers)
        // The library refuses to work with less.
        .max_buf_size(limits.head_len.max(8192))
        .serve_connection(TokioIo::new(stream), service(peer, handler))
        .with_upgrades();
    run(connection, address, stopped, |connection| {
        connection.graceful_shutdown();
    })
    .await;
}

/// As [`serve_connection`], but a client that begins with HTTP/2's preface (RFC 9113, 3.4) is served in that.
pub async fn serve_either<H, F>(
    mut stream: Stream,
    peer: Peer,
    limits: &Limits,
    mut stopped: watch::Receiver<bool>,
    handler: &H,
) where
    H: Fn(Arc<Peer>, Request<Incoming>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let begun = tokio::select! {
        begun = timeout(limits.head_timeout, read_preface(&mut stream)) => begun,
        () = stop_wanted(&mut stopped) => return,
    };
    let Ok(Ok(begun)) = begun else {
        tracing::debug!("http connection from {:?}: nothing came", peer.address);
        return;
    };
    let is_http2 = begun.as_ref() == PREFACE;
    let stream = stream.unread(begun);
    if !is_http2 {
        return serve_connection(stream, peer, limits, stopped, handler).await;
    }
    let address = peer.address;
    let connection = hyper::server::conn::http2::Builder::new(Executor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(limits.head_len).unwrap_or(u32::MAX))
        // A client that has gone without a word is found out.
        .keep_alive_interval(limits.head_timeout)
        .serve_connection(TokioIo::new(stream), service(peer, handler));
    run(connection, address, stopped, |connection| {
        connection.graceful_shutdown();
    })
    .await;
}

/// What a client of HTTP/2 sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Requests at once on one connection of HTTP/2.
const MAX_STREAMS: u32 = 32;

/// Reads until it is clear whether that is HTTP/2's preface.
async fn read_preface(stream: &mut Stream) -> io::Result<Bytes> {
    let mut begun = Vec::with_capacity(PREFACE.len());
    while begun.len() < PREFACE.len() && PREFACE.starts_with(&begun) {
        let left = u64::try_from(PREFACE.len() - begun.len()).unwrap_or_default();
        if stream.take(left).read_buf(&mut begun).await? == 0 {
            break;
        }
    }
    Ok(begun.into())
}

/// A handler as the library calls it.
fn service<H, F>(
    peer: Peer,
    handler: &H,
) -> impl hyper::service::HttpService<Incoming, ResBody = Body, Error = Infallible, Future = Answered<F>>
where
    H: Fn(Arc<Peer>, Request<Incoming>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let peer = Arc::new(peer);
    service_fn(move |request| {
        let answer = handler(Arc::clone(&peer), request);
        answer.map(Ok as fn(Response<Body>) -> Result<Response<Body>, Infallible>)
    })
}

/// An answer as the library takes it: this one type has no lifetime of the handler's, as tasks of HTTP/2 need.
type Answered<F> = Map<F, fn(Response<Body>) -> Result<Response<Body>, Infallible>>;

/// Drives a connection to its end; when the server is to stop, it ends after what is in progress.
async fn run<C>(
    connection: C,
    address: Option<SocketAddr>,
    mut stopped: watch::Receiver<bool>,
    finish: impl FnOnce(Pin<&mut C>),
) where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop_wanted(&mut stopped) => {
            finish(connection.as_mut());
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("http connection from {address:?}: {error}");
    }
}

/// Resolves when the server is to stop or is gone.
async fn stop_wanted(stopped: &mut watch::Receiver<bool>) {
    // An error means that the server has been dropped.
    let _ = stopped.wait_for(|stop| *stop).await;
}
