//! The connection to the server: its key, the dial, HTTP/2 inside Noise, and dialling again.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use host::Instant;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioIo, TokioTimer};
use keys::{MachinePrivate, MachinePublic};
use tailcfg::{ControlDialPlan, OverTlsPublicKeyResponse};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use transport::client::{OneShot, send};
use transport::tls::{self, Verify};
use transport::upgrade::{UpgradeRequest, upgrade};
use transport::{Dialer, Executor, Stream};
use ts2021::Initiator;

use crate::dial_plan::{self, Candidate};
use crate::{DialPlan, Error, NoiseStream, ServerUrl};

/// The head start of plain HTTP over TLS.
const HEAD_START: Duration = Duration::from_millis(500);
/// After a dial this recent the next starts with TLS: some networks kill connections that were upgraded on port 80.
const RECENT: Duration = Duration::from_secs(120);
const KEY_LEN_MAX: usize = 64 << 10;
/// HTTP/2 windows, in bytes. One stalled stream must not starve the others.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// HTTP/2 pings find a dead path before the map's watchdog does.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Fetches the server's Noise key.
pub async fn fetch_server_key(dialer: &Dialer, url: &ServerUrl) -> Result<MachinePublic, Error> {
    let answer = send(dialer, OneShot::get(url.key_url(), KEY_LEN_MAX))
        .await
        .map_err(Error::Key)?;
    if !answer.status.is_success() {
        return Err(Error::Status {
            what: "fetching the control server's key",
            status: answer.status.as_u16(),
            body: answer.body_text(),
        });
    }
    parse_key(&answer.body)
}

pub(crate) fn parse_key(body: &[u8]) -> Result<MachinePublic, Error> {
    let too_old = || Error::BadKey("control server is too old; no noise key".to_owned());
    let text = body.trim_ascii();
    if text.len() == 64 && text.iter().all(u8::is_ascii_hexdigit) {
        return Err(too_old());
    }
    let keys: OverTlsPublicKeyResponse = serde_json::from_slice(body)
        .map_err(|error| Error::BadKey(format!("the answer is no key: {error}")))?;
    if keys.public_key.is_zero() {
        return Err(too_old());
    }
    Ok(keys.public_key)
}

/// One answer, its body read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The server, reachable by one connection at a time that is dialled when needed.
pub(crate) struct Connector {
    pub(crate) url: ServerUrl,
    machine_key: MachinePrivate,
    dialer: Arc<Dialer>,
    force_443: bool,
    plan: DialPlan,
    server_key: Mutex<Option<MachinePublic>>,
    live: Mutex<Option<Live>>,
    /// When the last dial started, in nanoseconds; 0 is never.
    last_dial: AtomicU64,
}

struct Live {
    sender: SendRequest<Full<Bytes>>,
    _driver: rt::Task,
}

impl Connector {
    pub(crate) fn new(
        url: ServerUrl,
        machine_key: MachinePrivate,
        dialer: Arc<Dialer>,
        force_443: bool,
        plan: DialPlan,
    ) -> Self {
        Self {
            url,
            machine_key,
            dialer,
            force_443,
            plan,
            server_key: Mutex::default(),
            live: Mutex::default(),
            last_dial: AtomicU64::new(0),
        }
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Closes the connection.
    pub(crate) async fn close(&self) {
        *self.live.lock().await = None;
    }

    /// Sends a request; the body of the answer is still to come.
    pub(crate) async fn send(
        &self,
        what: &'static str,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Error> {
        self.send_to(what, method, &self.url.machine_url(path), headers, body)
            .await
    }

    async fn send_to(
        &self,
        what: &'static str,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .body(Full::new(body))
            .map_err(|_| Error::Url(format!("`{url}` is no url")))?;
        *request.headers_mut() = headers;
        let broken = |source| Error::Connection { what, source };
        let mut failed = match self.sender().await?.try_send_request(request).await {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        // The connection was found dead before anything was sent, so that sending again cannot ask twice.
        let Some(request) = failed.take_message() else {
            return Err(broken(failed.into_error()));
        };
        self.sender()
            .await?
            .send_request(request)
            .await
            .map_err(broken)
    }

    /// Sends a request and reads its answer, of at most `max` bytes.
    pub(crate) async fn exchange(
        &self,
        what: &'static str,
        request: (Method, &str, HeaderMap, Bytes),
        max: usize,
    ) -> Result<Answer, Error> {
        let (method, path, headers, body) = request;
        let response = self.send(what, method, path, headers, body).await?;
        read_answer(what, response, max).await
    }

    /// As [`exchange`](Self::exchange), for a path that the server named itself, base path included.
    pub(crate) async fn exchange_at_root(
        &self,
        what: &'static str,
        request: (Method, &str, HeaderMap, Bytes),
        max: usize,
    ) -> Result<Answer, Error> {
        let (method, path, headers, body) = request;
        let url = format!("https://{}{path}", self.url.authority());
        let response = self.send_to(what, method, &url, headers, body).await?;
        read_answer(what, response, max).await
    }

    /// A sender on the live connection, or on a fresh one.
    async fn sender(&self) -> Result<SendRequest<Full<Bytes>>, Error> {
        let mut live = self.live.lock().await;
        if let Some(alive) = live.as_mut()
            && !alive.sender.is_closed()
            && alive.sender.ready().await.is_ok()
        {
            return Ok(alive.sender.clone());
        }
        *live = None;
        let ways = self.plan.load(&self.url);
        let fresh = match timeout(dial_plan::total(&ways), self.dial(&ways)).await {
            Ok(dialled) => dialled?,
            Err(_) => return Err(Error::Timeout("connecting to the control server")),
        };
        let sender = fresh.sender.clone();
        *live = Some(fresh);
        Ok(sender)
    }

    async fn server_key(&self) -> Result<MachinePublic, Error> {
        let mut known = self.server_key.lock().await;
        if let Some(key) = *known {
            return Ok(key);
        }
        let key = fetch_server_key(&self.dialer, &self.url).await?;
        *known = Some(key);
        Ok(key)
    }

    async fn dial(&self, ways: &[Candidate]) -> Result<Live, Error> {
        let key = self.server_key().await?;
        let stream = match self.race_all(ways, &key).await {
            Ok(stream) => stream,
            Err(error) => {
                // The server may have been set up anew and have another key.
                *self.server_key.lock().await = None;
                return Err(error);
            }
        };
        let handshake = hyper::client::conn::http2::Builder::new(Executor)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = handshake.map_err(|source| Error::Connection {
            what: "starting http/2 with the control server",
            source,
        })?;
        let driver = rt::Task::spawn("control connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!("control connection: {error}");
            }
        });
        Ok(Live {
            sender,
            _driver: driver,
        })
    }

    /// Takes the server's last plan into account. What does not work by it may still work by name.
    pub(crate) fn store_plan(&self, plan: &ControlDialPlan) {
        self.plan.store(&self.url, plan);
    }

    /// The ways that the server named against each other, then its name. Through a proxy only names lead anywhere.
    async fn race_all(
        &self,
        ways: &[Candidate],
        key: &MachinePublic,
    ) -> Result<NoiseStream, Error> {
        let ports = self.url.ports();
        let host = self.url.host();
        let has_proxy = self
            .dialer
            .proxy_for(false, host, ports.http.unwrap_or(80))
            .is_some()
            || ports
                .https
                .is_some_and(|port| self.dialer.proxy_for(true, host, port).is_some());
        if !has_proxy {
            let mut tries: FuturesUnordered<_> = ways
                .iter()
                .map(|way| async {
                    sleep(way.after).await;
                    match timeout(way.limit, self.race(Some(way.ip), key)).await {
                        Ok(raced) => raced,
                        Err(_) => Err(Error::Timeout("connecting to the control server")),
                    }
                })
                .collect();
            while let Some(tried) = tries.next().await {
                match tried {
                    Ok(stream) => return Ok(stream),
                    Err(error) => tracing::debug!("control dial plan: {error}"),
                }
            }
        }
        self.race(None, key).await
    }

    /// Plain HTTP against TLS; the first finished handshake wins. `at` is the server's address, if it need not be looked up.
    async fn race(&self, at: Option<IpAddr>, key: &MachinePublic) -> Result<NoiseStream, Error> {
        let ports = self.url.ports();
        let http = ports.http.unwrap_or(80);
        let Some(https) = ports.https else {
            return self
                .over_http(at, http, key)
                .await
                .map_err(|error| Error::Dial(vec![error]));
        };
        let now = rt::now();
        let last = self.last_dial.swap(now.as_nanos(), Ordering::Relaxed);
        if self.force_443 || last != 0 && now.since(Instant::from_nanos(last)) < RECENT {
            return self.tls_first(at, https, http, key).await;
        }
        let plain = pin!(self.over_http(at, http, key));
        let tls = pin!(async {
            sleep(HEAD_START).await;
            self.over_tls(at, https, key).await
        });
        let (first, second) = match select(plain, tls).await {
            Either::Left((Ok(stream), _)) | Either::Right((Ok(stream), _)) => return Ok(stream),
            // The head start has no sense any more once plain HTTP has failed.
            Either::Left((Err(error), _)) => (error, self.over_tls(at, https, key).await),
            Either::Right((Err(error), plain)) => (error, plain.await),
        };
        second.map_err(|error| Error::Dial(vec![first, error]))
    }

    /// TLS, and plain HTTP only where that fails: a server without TLS must stay reachable.
    async fn tls_first(
        &self,
        at: Option<IpAddr>,
        https: u16,
        http: u16,
        key: &MachinePublic,
    ) -> Result<NoiseStream, Error> {
        let first = match self.over_tls(at, https, key).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if self.force_443 {
            return Err(Error::Dial(vec![first]));
        }
        let second = self.over_http(at, http, key).await;
        second.map_err(|error| Error::Dial(vec![first, error]))
    }

    async fn over_http(
        &self,
        at: Option<IpAddr>,
        port: u16,
        key: &MachinePublic,
    ) -> Result<NoiseStream, String> {
        if let Some(ip) = at {
            let stream = self.connect(ip, port).await?;
            return self.noise(stream, ts2021::UPGRADE_PATH, None, key).await;
        }
        let route = self
            .dialer
            .for_http(self.url.host(), port)
            .await
            .map_err(text)?;
        let target = format!("{}{}", route.target_prefix, ts2021::UPGRADE_PATH);
        let authorization = route.proxy_authorization.as_deref();
        self.noise(route.stream, &target, authorization, key).await
    }

    async fn connect(&self, ip: IpAddr, port: u16) -> Result<Stream, String> {
        let stream = self.dialer.connect((ip, port).into()).await;
        stream.map(Stream::new).map_err(text)
    }

    async fn over_tls(
        &self,
        at: Option<IpAddr>,
        port: u16,
        key: &MachinePublic,
    ) -> Result<NoiseStream, String> {
        let host = self.url.host();
        let tcp = match at {
            Some(ip) => self.connect(ip, port).await?,
            None => self.dialer.for_https(host, port).await.map_err(text)?,
        };
        let roots = self.dialer.roots();
        let stream = tls::connect(tcp, host, Verify::LogOnly, roots)
            .await
            .map(Stream::new)
            .map_err(text)?;
        self.noise(stream, ts2021::UPGRADE_PATH, None, key).await
    }

    async fn noise(
        &self,
        stream: Stream,
        target: &str,
        proxy_authorization: Option<&str>,
        key: &MachinePublic,
    ) -> Result<NoiseStream, String> {
        let started = Initiator::new(&self.machine_key, key, tailcfg::CAP, &mut rt::OsRng);
        let (initiator, initiation) = started.map_err(text)?;
        let initiation = STANDARD.encode(initiation);
        let mut headers = vec![
            (ts2021::HANDSHAKE_HEADER, initiation.as_str()),
            ("Content-Length", "0"),
        ];
        if let Some(authorization) = proxy_authorization {
            headers.push(("Proxy-Authorization", authorization));
        }
        let request = UpgradeRequest {
            method: "POST",
            target,
            host: self.url.authority(),
            protocol: ts2021::UPGRADE_PROTOCOL,
            headers: &headers,
        };
        let mut stream = upgrade(stream, &request).await.map_err(text)?;
        stream.flush().await.map_err(text)?;
        finish_handshake(stream, initiator).await
    }
}

/// Reads the server's answer to the initiation; what comes after it belongs to the session.
async fn finish_handshake(mut stream: Stream, initiator: Initiator) -> Result<NoiseStream, String> {
    let mut received = Vec::new();
    let len = loop {
        if let Some(len) = Initiator::answer_len(&received).map_err(text)? {
            break len;
        }
        if stream.read_buf(&mut received).await.map_err(text)? == 0 {
            return Err("noise handshake: the server closed the connection".to_owned());
        }
    };
    let rest = Bytes::from(received.split_off(len));
    let session = initiator.finish(&received).map_err(text)?;
    Ok(NoiseStream::new(stream.unread(rest), session))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Reads the body of an answer, of at most `max` bytes.
pub(crate) async fn read_answer(
    what: &'static str,
    response: Response<Incoming>,
    max: usize,
) -> Result<Answer, Error> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, max)
        .collect()
        .await
        .map_err(|error| Error::Answer {
            what,
            problem: format!("reading the answer: {error}"),
        })?;
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: body.to_bytes(),
    })
}

impl Answer {
    /// The start of the body as text for people.
    pub(crate) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let clean = text
            .trim()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c });
        clean.take(200).collect()
    }

    /// An error unless the status is 200.
    pub(crate) fn expect_ok(&self, what: &'static str) -> Result<(), Error> {
        if self.status == 200 {
            return Ok(());
        }
        Err(Error::Status {
            what,
            status: self.status,
            body: self.text(),
        })
    }
}

/// `Ts-Lb` headers: a hint for load balancers, one per key.
pub(crate) fn routing_hint(keys: &[keys::NodePublic]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for key in keys.iter().filter(|key| !key.is_zero()) {
        if let Ok(value) = key.to_string().parse() {
            headers.append("ts-lb", value);
        }
    }
    headers
}
