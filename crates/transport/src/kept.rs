//! Connections to servers that are asked again and again: they are kept for a while, and closed when nobody asks any more.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use host::{BoxFuture, Instant};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::server::BoxError;
use crate::tls::{self, Roots, Verify};
use crate::{Error, Executor, Stream};

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(10);
/// Connections to one server that are kept for those who speak HTTP/1, one request at a time.
const MAX_HTTP1: usize = 8;

/// Opens the way to a server, TLS excepted.
pub type Open<'a> = BoxFuture<'a, io::Result<Stream>>;

/// See the module.
#[derive(Default)]
pub struct Kept(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    servers: BTreeMap<String, Vec<Idle>>,
    /// Whether somebody will close what is used no more.
    is_swept: bool,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// Ends with the last of its handles.
#[derive(Clone)]
enum Sender {
    Http2(http2::SendRequest<Full<Bytes>>),
    Http1(Arc<tokio::sync::Mutex<http1::SendRequest<Full<Bytes>>>>),
}

#[derive(Clone)]
struct Connection {
    sender: Sender,
    _driver: Arc<rt::Task>,
}

impl Kept {
    /// Sends a request for the path in its URI to the server called `host`, by HTTPS if there are `roots`, and reads its answer of at most `max`
    /// bytes; `open` is used where no connection is kept. A connection that was found dead is replaced once.
    pub async fn send(
        &self,
        host: &str,
        roots: Option<&Arc<Roots>>,
        request: Request<Full<Bytes>>,
        max: usize,
        open: impl FnOnce() -> Open<'static>,
    ) -> Result<(StatusCode, Bytes), Error> {
        if let Some(connection) = self.take(host)
            && let Ok(answer) = self.ask(host, connection, request.clone(), max).await
        {
            return Ok(answer);
        }
        let opened = open().await.map_err(|error| Error::io(host, error))?;
        let connection = connect(host, roots, opened).await?;
        let asked = self.ask(host, connection, request, max).await;
        asked.map_err(|error| Error::io(host, io::Error::other(error)))
    }

    async fn ask(
        &self,
        host: &str,
        connection: Connection,
        request: Request<Full<Bytes>>,
        max: usize,
    ) -> Result<(StatusCode, Bytes), BoxError> {
        match connection.sender.clone() {
            Sender::Http2(mut sender) => {
                // Many may ask at once; this one's handle outlives what is kept.
                self.keep(host, connection.clone());
                let answer = read(sender.send_request(request).await?, max).await;
                drop(connection);
                answer
            }
            Sender::Http1(sender) => {
                let response = sender.lock().await.send_request(request).await?;
                let answer = read(response, max).await?;
                self.keep(host, connection);
                Ok(answer)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    fn take(&self, host: &str) -> Option<Connection> {
        let mut state = self.state();
        let idle = state.servers.get_mut(host)?;
        loop {
            let connection = idle.pop()?.connection;
            let is_alive = match &connection.sender {
                Sender::Http2(sender) => sender.is_ready(),
                Sender::Http1(sender) => sender.try_lock().is_ok_and(|sender| sender.is_ready()),
            };
            if is_alive {
                return Some(connection);
            }
        }
    }

    fn keep(&self, host: &str, connection: Connection) {
        let mut state = self.state();
        let max = match connection.sender {
            Sender::Http2(_) => 1,
            Sender::Http1(_) => MAX_HTTP1,
        };
        let idle = state.servers.entry(host.to_owned()).or_default();
        if idle.len() >= max {
            return;
        }
        idle.push(Idle {
            connection,
            since: rt::now(),
        });
        if !std::mem::replace(&mut state.is_swept, true) {
            rt::Task::spawn("idle connections", sweep(Arc::downgrade(&self.0))).detach();
        }
    }
}

async fn read(response: Response<Incoming>, max: usize) -> Result<(StatusCode, Bytes), BoxError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), max).collect().await?;
    Ok((status, body.to_bytes()))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Closes what is not used, until nothing is left.
async fn sweep(state: std::sync::Weak<Mutex<State>>) {
    loop {
        tokio::time::sleep(IDLE).await;
        let Some(state) = state.upgrade() else { return };
        let mut state = lock(&state);
        let now = rt::now();
        for idle in state.servers.values_mut() {
            idle.retain(|idle| now.since(idle.since) < IDLE);
        }
        state.servers.retain(|_, idle| !idle.is_empty());
        if state.servers.is_empty() {
            state.is_swept = false;
            return;
        }
    }
}

async fn connect(
    host: &str,
    roots: Option<&Arc<Roots>>,
    opened: Stream,
) -> Result<Connection, Error> {
    let broken = |error: hyper::Error| Error::io(host, io::Error::other(error));
    let (stream, speaks_http2) = match roots {
        Some(roots) => tls::connect_http(opened, host, Verify::Host, roots).await?,
        None => (opened, false),
    };
    let stream = TokioIo::new(stream);
    let (sender, driver) = if speaks_http2 {
        let mut builder = http2::Builder::new(Executor);
        let handshake = builder.timer(TokioTimer::new()).handshake(stream);
        let (sender, connection) = handshake.await.map_err(broken)?;
        (Sender::Http2(sender), drive(connection))
    } else {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(crate::head::HEAD_LEN_MAX);
        let (sender, connection) = builder.handshake(stream).await.map_err(broken)?;
        let sender = Arc::new(tokio::sync::Mutex::new(sender));
        (Sender::Http1(sender), drive(connection))
    };
    Ok(Connection {
        sender,
        _driver: Arc::new(driver),
    })
}

fn drive(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) -> rt::Task {
    rt::Task::spawn("kept http connection", async move {
        if let Err(error) = connection.await {
            tracing::trace!("http connection: {error}");
        }
    })
}
