//! The client's side, for the command line and for tests.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use futures_util::stream;
use http::header::HeaderValue;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use ipn::{
    CheckPrefsResponse, ErrorResponse, LoginProfile, MaskedPrefs, Notify, Options, PingResult,
    Prefs, Status, WatchMask, WhoIsResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tailcfg::go;
use tokio::net::UnixStream;

use crate::{DnsAnswer, Duplex, LOCAL_CAP};

/// Why a request came to nothing.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens on the socket.
    ConnectFailed {
        /// What was asked for.
        path: String,
        /// The socket.
        socket: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// 403.
    AccessDenied(String),
    /// 412.
    PreconditionFailed(String),
    /// Another status than the one that says success.
    Status {
        /// The status.
        status: StatusCode,
        /// What the daemon says.
        text: String,
        /// Whether that came as an object, which is then all there is to show.
        from_object: bool,
    },
    /// The connection broke.
    Broken(String),
    /// The answer could not be read.
    Decode {
        /// What it should have been.
        what: &'static str,
        /// Why it was not.
        error: serde_json::Error,
    },
    /// The request itself could not be written.
    Encode(String),
}

impl fmt::Display for ClientError {
    /// In the originals' words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailed {
                path,
                socket,
                error,
            } => write!(
                f,
                "Failed to connect to local Tailscale daemon for {path}; not running? Error: dial unix {}: connect: {}",
                socket.display(),
                system_words(error)
            ),
            Self::AccessDenied(text) => write!(f, "Access denied: {text}"),
            Self::PreconditionFailed(text) => write!(f, "Preconditions failed: {text}"),
            Self::Status {
                text,
                from_object: true,
                ..
            } => f.write_str(text),
            Self::Status { status, text, .. } => write!(f, "{status}: {text}"),
            Self::Broken(text) | Self::Encode(text) => f.write_str(text),
            Self::Decode { what, error } => {
                write!(f, "failed to read the daemon's {what}: {error}")
            }
        }
    }
}

impl std::error::Error for ClientError {}

/// The system's own words, without our library's number behind them.
fn system_words(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    words.to_lowercase()
}

/// A connection that the daemon made for us, or the address that we should connect to ourselves.
pub enum Dialed {
    /// Through the tailnet.
    Connected(Box<dyn Duplex>),
    /// Not in the tailnet.
    DialSelf(SocketAddr),
}

/// An answer as it came.
pub struct RawAnswer {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// The body, piece by piece.
    pub body: Pin<Box<dyn Stream<Item = Result<Bytes, ClientError>> + Send>>,
}

/// Talks to the daemon behind one socket.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    patience: Duration,
    reason: Option<HeaderValue>,
    server_version: OnceLock<String>,
}

/// The longest document that is read: a status with some hundred thousand peers.
const MAX_DOCUMENT: usize = 512 << 20;

impl Client {
    /// A client that waits two seconds for somebody to listen: the daemon may be just starting.
    pub fn new(socket: impl AsRef<Path>) -> Self {
        Self {
            socket: socket.as_ref().to_owned(),
            patience: Duration::from_secs(2),
            reason: None,
            server_version: OnceLock::new(),
        }
    }

    /// A client that waits so long. The originals wait five seconds while they see a daemon's process.
    #[must_use]
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Tells the daemon why the user wants what follows, for policies that ask. Empty is no reason.
    #[must_use]
    pub fn because(mut self, reason: &str) -> Self {
        let encoded = HeaderValue::try_from(BASE64.encode(reason)).ok();
        self.reason = encoded.filter(|_| !reason.is_empty());
        self
    }

    /// The daemon's version, after the first answer.
    pub fn server_version(&self) -> Option<&str> {
        self.server_version.get().map(String::as_str)
    }

    /// `status`.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("status", "status").await
    }

    /// `status?peers=false`.
    pub async fn status_without_peers(&self) -> Result<Status, ClientError> {
        self.get("status?peers=false", "status").await
    }

    /// The prefs.
    pub async fn prefs(&self) -> Result<Prefs, ClientError> {
        self.get("prefs", "prefs").await
    }

    /// Changes prefs, and gives the new ones.
    pub async fn patch_prefs(&self, edit: &MaskedPrefs) -> Result<Prefs, ClientError> {
        let body = self
            .send(Method::PATCH, "prefs", 200, encode(edit)?)
            .await?;
        decode(&body, "prefs")
    }

    /// Whether these prefs would do; `Some` says why not.
    pub async fn check_prefs(&self, prefs: &Prefs) -> Result<Option<String>, ClientError> {
        let body = self
            .send(Method::POST, "check-prefs", 200, encode(prefs)?)
            .await?;
        let answer: CheckPrefsResponse = decode(&body, "verdict on prefs")?;
        Ok(Some(answer.error).filter(|error| !error.is_empty()))
    }

    /// Starts anew.
    pub async fn start(&self, options: &Options) -> Result<(), ClientError> {
        self.send(Method::POST, "start", 204, encode(options)?)
            .await
            .map(drop)
    }

    /// Starts a login with somebody at hand; the page comes on the bus.
    pub async fn login_interactive(&self) -> Result<(), ClientError> {
        self.send(Method::POST, "login-interactive", 204, Bytes::new())
            .await
            .map(drop)
    }

    /// Logs out.
    pub async fn logout(&self) -> Result<(), ClientError> {
        self.send(Method::POST, "logout", 204, Bytes::new())
            .await
            .map(drop)
    }

    /// Stops the daemon.
    pub async fn shutdown(&self) -> Result<(), ClientError> {
        self.send(Method::POST, "shutdown", 200, Bytes::new())
            .await
            .map(drop)
    }

    /// Who is behind an address, an address with a port, or a node key; `None` if nobody is known.
    pub async fn whois(
        &self,
        proto: &str,
        addr: &str,
    ) -> Result<Option<WhoIsResponse>, ClientError> {
        let path = format!("whois?proto={}&addr={}", escape(proto), escape(addr));
        match self.get(&path, "whois").await {
            Ok(answer) => Ok(Some(answer)),
            Err(ClientError::Status {
                status: StatusCode::NOT_FOUND,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks the daemon's resolver.
    pub async fn dns_query(&self, name: &str, kind: &str) -> Result<DnsAnswer, ClientError> {
        let path = format!("dns-query?name={}&type={}", escape(name), escape(kind));
        self.get(&path, "DNS answer").await
    }

    /// Pings a peer.
    pub async fn ping(
        &self,
        ip: IpAddr,
        kind: &str,
        size: usize,
    ) -> Result<PingResult, ClientError> {
        let ip = ip.to_string();
        let path = format!("ping?ip={}&size={size}&type={}", escape(&ip), escape(kind));
        let body = self.send(Method::POST, &path, 200, Bytes::new()).await?;
        decode(&body, "ping result")
    }

    /// All logins.
    pub async fn profiles(&self) -> Result<Vec<LoginProfile>, ClientError> {
        let all: Option<Vec<LoginProfile>> = self.get("profiles/", "profiles").await?;
        Ok(all.unwrap_or_default())
    }

    /// The current login.
    pub async fn current_profile(&self) -> Result<LoginProfile, ClientError> {
        self.get("profiles/current", "profile").await
    }

    /// Turns to a new, empty login.
    pub async fn new_profile(&self) -> Result<(), ClientError> {
        self.send(Method::PUT, "profiles/", 201, Bytes::new())
            .await
            .map(drop)
    }

    /// Turns to another login.
    pub async fn switch_profile(&self, id: &str) -> Result<(), ClientError> {
        let path = format!("profiles/{}", escape(id));
        self.send(Method::POST, &path, 204, Bytes::new())
            .await
            .map(drop)
    }

    /// Forgets a login.
    pub async fn delete_profile(&self, id: &str) -> Result<(), ClientError> {
        let path = format!("profiles/{}", escape(id));
        self.send(Method::DELETE, &path, 204, Bytes::new())
            .await
            .map(drop)
    }

    /// The relays; `None` while none are known.
    pub async fn derp_map(&self) -> Result<Option<tailcfg::DerpMap>, ClientError> {
        self.get("derpmap", "DERP map").await
    }

    /// Follows the bus. The stream ends with the connection.
    pub async fn watch(
        &self,
        mask: WatchMask,
    ) -> Result<impl Stream<Item = Result<Notify, ClientError>> + Send + Unpin + use<>, ClientError>
    {
        let lines = self
            .lines(&format!("watch-ipn-bus?mask={}", mask.0))
            .await?;
        Ok(Box::pin(stream::unfold(lines, |mut lines| async move {
            let line = match lines.next().await? {
                Ok(line) => line,
                Err(error) => return Some((Err(error), lines)),
            };
            Some((decode(&line, "notification"), lines))
        })))
    }

    /// Follows the bus, each message as the daemon wrote it.
    pub async fn watch_text(
        &self,
        mask: WatchMask,
    ) -> Result<impl Stream<Item = Result<Bytes, ClientError>> + Send + Unpin + use<>, ClientError>
    {
        let path = format!("watch-ipn-bus?mask={}", mask.0);
        Ok(self.lines(&path).await?.into_stream())
    }

    /// Follows the daemon's log, line by line.
    pub async fn log_tap(
        &self,
    ) -> Result<impl Stream<Item = Result<Bytes, ClientError>> + Send + Unpin + use<>, ClientError>
    {
        Ok(self.lines("logtap").await?.into_stream())
    }

    /// Has the daemon connect somewhere.
    pub async fn dial(&self, network: &str, host: &str, port: u16) -> Result<Dialed, ClientError> {
        let mut request = self.request(Method::POST, "dial", Bytes::new())?;
        let headers = request.headers_mut();
        headers.insert("upgrade", HeaderValue::from_static("ts-dial"));
        headers.insert("connection", HeaderValue::from_static("upgrade"));
        headers.insert("dial-port", HeaderValue::from(port));
        headers.insert("dial-network", header(network)?);
        headers.insert("dial-host", header(host)?);
        let response = self.exchange(request).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgraded = hyper::upgrade::on(response).await.map_err(broken)?;
            return Ok(Dialed::Connected(Box::new(TokioIo::new(upgraded))));
        }
        if let Some(addr) = dial_self(&response) {
            return Ok(Dialed::DialSelf(addr));
        }
        let status = response.status();
        Err(refusal(status, &collect(response).await?))
    }

    /// Any other document, raw: `path` is what follows `/localapi/v0/`.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        want: u16,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let response = self.exchange(self.request(method, path, body)?).await?;
        let status = response.status();
        let body = collect(response).await?;
        if status.as_u16() == want {
            Ok(body)
        } else {
            Err(refusal(status, &body))
        }
    }

    /// Any request, whatever the status of its answer; `path` is the whole path.
    pub async fn open(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<RawAnswer, ClientError> {
        let mut request = self.request(method, "", body)?;
        *request.uri_mut() = path
            .parse()
            .map_err(|_| ClientError::Encode(format!("`{path}` is no path")))?;
        let (head, body) = self.exchange(request).await?.into_parts();
        let pieces = stream::unfold(body, |mut body| async move {
            loop {
                let piece = match body.frame().await? {
                    Ok(frame) => frame.into_data().ok().map(Ok),
                    Err(error) => Some(Err(broken(error))),
                };
                if let Some(piece) = piece {
                    return Some((piece, body));
                }
            }
        });
        Ok(RawAnswer {
            status: head.status,
            headers: head.headers,
            body: Box::pin(pieces),
        })
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        what: &'static str,
    ) -> Result<T, ClientError> {
        decode(
            &self.send(Method::GET, path, 200, Bytes::new()).await?,
            what,
        )
    }

    async fn lines(&self, path: &str) -> Result<Lines, ClientError> {
        let response = self
            .exchange(self.request(Method::GET, path, Bytes::new())?)
            .await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(refusal(status, &collect(response).await?));
        }
        Ok(Lines {
            body: response.into_body(),
            buffer: BytesMut::new(),
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/localapi/v0/{path}"))
            .header("host", crate::HOST)
            .header("tailscale-cap", LOCAL_CAP)
            .body(Full::new(body))
            .map_err(|error| {
                ClientError::Encode(format!("write a request for `{path}`: {error}"))
            })?;
        if let Some(reason) = &self.reason {
            request
                .headers_mut()
                .insert("x-tailscale-reason", reason.clone());
        }
        Ok(request)
    }

    /// One connection per request: the daemon is on this machine, and streams keep theirs.
    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = self.connect(request.uri().path()).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        rt::Task::spawn("localapi client", async move {
            // What went wrong is told to whoever waits for the answer.
            let _ = connection.with_upgrades().await;
        })
        .detach();
        let response = sender.send_request(request).await.map_err(broken)?;
        if let Some(version) = header_text(response.headers(), "tailscale-version") {
            // The first answer counts.
            let _ = self.server_version.set(version.to_owned());
        }
        Ok(response)
    }

    async fn connect(&self, path: &str) -> Result<UnixStream, ClientError> {
        let start = rt::now();
        let deadline = start + self.patience;
        let busy_deadline = start + self.patience.max(BUSY_PATIENCE);
        loop {
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => return Ok(stream),
                Err(error) if is_not_there(&error) && rt::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                // The daemon is there, but more clients wait than the system queues.
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && rt::now() < busy_deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => {
                    return Err(ClientError::ConnectFailed {
                        path: path.to_owned(),
                        socket: self.socket.clone(),
                        error,
                    });
                }
            }
        }
    }
}

/// How long a daemon with a full queue of connections is tried.
const BUSY_PATIENCE: Duration = Duration::from_secs(5);

fn is_not_there(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

fn broken(error: hyper::Error) -> ClientError {
    ClientError::Broken(format!("talk to the local daemon: {error}"))
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = http_body_util::Limited::new(response.into_body(), MAX_DOCUMENT);
    match body.collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(ClientError::Broken(format!(
            "read the local daemon's answer: {error}"
        ))),
    }
}

fn dial_self(response: &Response<Incoming>) -> Option<SocketAddr> {
    let is_so = header_text(response.headers(), "dial-self") == Some("true");
    let addr = header_text(response.headers(), "dial-addr")?;
    (is_so && response.status() == StatusCode::OK).then(|| addr.parse().ok())?
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn header(text: &str) -> Result<HeaderValue, ClientError> {
    HeaderValue::from_str(text)
        .map_err(|_| ClientError::Encode(format!("`{text}` cannot stand in a request")))
}

fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    let object = serde_json::from_slice(body).map(|object: ErrorResponse| object.error);
    let object = object.ok().filter(|text| !text.is_empty());
    let from_object = object.is_some();
    let text = object.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    match status {
        StatusCode::FORBIDDEN => ClientError::AccessDenied(text),
        StatusCode::PRECONDITION_FAILED => ClientError::PreconditionFailed(text),
        status => ClientError::Status {
            status,
            text,
            from_object,
        },
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes, ClientError> {
    go::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| ClientError::Encode(format!("write a request: {error}")))
}

fn decode<T: DeserializeOwned>(body: &[u8], what: &'static str) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| ClientError::Decode { what, error })
}

/// Percent encoding of everything but letters, digits and a few marks.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A body, line by line.
struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    fn into_stream(self) -> Pin<Box<dyn Stream<Item = Result<Bytes, ClientError>> + Send>> {
        Box::pin(stream::unfold(self, |mut lines| async move {
            let line = lines.next().await?;
            Some((line, lines))
        }))
    }

    /// The next line, without its end; `None` at the end of the body.
    async fn next(&mut self) -> Option<Result<Bytes, ClientError>> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(at + 1);
                line.truncate(at);
                return Some(Ok(line.freeze()));
            }
            if self.buffer.len() > MAX_DOCUMENT {
                let text = "a line of the local daemon's answer is too long";
                return Some(Err(ClientError::Broken(text.to_owned())));
            }
            match self.body.frame().await? {
                Ok(frame) => self.buffer.extend(frame.into_data().ok()),
                Err(error) => return Some(Err(broken(error))),
            }
        }
    }
}
