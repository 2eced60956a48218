//! A control server that says whatever a test wants.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use keys::{ChallengePublic, DiscoPublic, MachinePrivate, NodePublic};
use tailcfg::Hostinfo;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Mutex, mpsc};
use transport::cert::ServerCert;
use transport::server::{Body, Limits, Listener, Server, empty, full};
use transport::tls::Roots;
use transport::{DialConfig, Dialer, Stream};
use ts2021::Responder;

use crate::{
    C2nRouter, Client, ClientConfig, DialPlan, Event, LoginRequest, MapParams, NoiseStream,
};

/// A request that came through Noise.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) hints: Vec<String>,
    pub(super) body: Bytes,
    answer: tokio::sync::oneshot::Sender<Response<Body>>,
}

impl Asked {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn is_update(&self) -> bool {
        self.path == "/machine/map" && self.json().get("Stream").is_none()
    }

    pub(super) fn answer(self, status: u16, body: impl Into<Bytes>) {
        let response = Response::builder().status(status).body(full(body)).unwrap();
        let _ = self.answer.send(response);
    }

    /// Opens a stream; what is sent goes out byte for byte.
    pub(super) fn stream(self) -> mpsc::UnboundedSender<Bytes> {
        let (tx, rx) = mpsc::unbounded_channel::<Bytes>();
        let frames = futures_util::stream::unfold(rx, |mut rx| async {
            let data = rx.recv().await?;
            Some((
                Ok::<_, transport::server::BoxError>(hyper::body::Frame::data(data)),
                rx,
            ))
        });
        let body = http_body_util::StreamBody::new(frames).boxed_unsync();
        let _ = self.answer.send(Response::new(body));
        tx
    }
}

/// A map message as it stands in the stream.
pub(super) fn message(json: &str) -> Bytes {
    let frame = zstd::encode_all(json.as_bytes(), 1).unwrap();
    let mut out = ts2021::map_frame_header(u32::try_from(frame.len()).unwrap()).to_vec();
    out.extend(frame);
    out.into()
}

pub(super) const SELF_NODE: &str = r#"{"Node":{"ID":1,"StableID":"n1","Name":"me.tailnet.test.","Key":"nodekey:0101010101010101010101010101010101010101010101010101010101010101","Addresses":["100.64.0.1/32"],"AllowedIPs":["100.64.0.1/32"]}}"#;

#[derive(Clone)]
struct Exec;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Exec {
    fn execute(&self, future: F) {
        rt::Task::spawn("test stream", future).detach();
    }
}

pub(super) struct Fake {
    address: SocketAddr,
    _server: Server,
    asked: Mutex<mpsc::UnboundedReceiver<Asked>>,
    connections: Arc<std::sync::Mutex<Vec<rt::Task>>>,
    key: Arc<std::sync::Mutex<MachinePrivate>>,
    cert: Option<ServerCert>,
}

impl Fake {
    pub(super) async fn start() -> Self {
        Self::start_with(None).await
    }

    pub(super) async fn start_tls() -> Self {
        let cert = ServerCert::self_signed("127.0.0.1", rt::wall()).unwrap();
        Self::start_with(Some(cert)).await
    }

    async fn start_with(cert: Option<ServerCert>) -> Self {
        let tls = cert.as_ref().map(|cert| cert.acceptor(&[]).unwrap());
        let key = Arc::new(std::sync::Mutex::new(MachinePrivate::generate(
            &mut rt::OsRng,
        )));
        let key_now = Arc::clone(&key);
        let listener = Listener::bind_tcp((Ipv4Addr::LOCALHOST, 0).into())
            .await
            .unwrap();
        let (tx, asked) = mpsc::unbounded_channel();
        let connections = Arc::<std::sync::Mutex<Vec<rt::Task>>>::default();
        let kept = Arc::clone(&connections);
        let server = Server::start(listener, tls, Limits::default(), move |_, request| {
            answer(
                key_now.lock().unwrap().clone(),
                tx.clone(),
                Arc::clone(&kept),
                request,
            )
        });
        Self {
            address: server.local_addr().unwrap(),
            _server: server,
            asked: Mutex::new(asked),
            connections,
            key,
            cert,
        }
    }

    /// Becomes another server at the same address.
    pub(super) fn change_key(&self) {
        *self.key.lock().unwrap() = MachinePrivate::generate(&mut rt::OsRng);
        self.cut();
    }

    pub(super) async fn asked(&self) -> Asked {
        let next = tokio::time::timeout(Duration::from_secs(30), async {
            self.asked.lock().await.recv().await
        });
        next.await.expect("a request must come").unwrap()
    }

    /// The next request that is no update; updates on the way are answered.
    pub(super) async fn asked_in_earnest(&self) -> Asked {
        loop {
            let asked = self.asked().await;
            match asked.is_update() {
                true => asked.answer(200, ""),
                false => return asked,
            }
        }
    }

    /// Waits until all connections have ended, each by the client's doing.
    pub(super) async fn is_alone(&self) {
        let ended = async {
            while !self
                .connections
                .lock()
                .unwrap()
                .iter()
                .all(rt::Task::is_finished)
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let patience = Duration::from_secs(30);
        tokio::time::timeout(patience, ended)
            .await
            .expect("all connections end");
    }

    /// Breaks all connections.
    pub(super) fn cut(&self) {
        self.connections.lock().unwrap().clear();
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn client(&self, silence_max: Duration) -> (Client, mpsc::Receiver<Event>) {
        let trusted = self
            .cert
            .iter()
            .flat_map(|cert| cert.chain.clone())
            .collect();
        let scheme = if self.cert.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/base", self.address);
        let dialer = Dialer::with_roots(DialConfig::default(), Roots::with_extra(trusted));
        client_with(url, dialer, silence_max)
    }
}

pub(super) fn client_with(
    server_url: String,
    dialer: Dialer,
    silence_max: Duration,
) -> (Client, mpsc::Receiver<Event>) {
    let config = ClientConfig {
        server_url,
        machine_key: MachinePrivate::from_bytes([3; 32]),
        dialer: Arc::new(dialer),
        paused: false,
        force_443: false,
        disco_key: DiscoPublic::from_bytes([5; 32]),
        c2n: C2nRouter::new(),
        dial_plan: DialPlan::default(),
    };
    Client::start_with(config, silence_max).unwrap()
}

fn answer(
    key: MachinePrivate,
    asked: mpsc::UnboundedSender<Asked>,
    connections: Arc<std::sync::Mutex<Vec<rt::Task>>>,
    request: Request<Incoming>,
) -> BoxFuture<'static, Response<Body>> {
    Box::pin(async move {
        if request.uri().path() == "/base/key" {
            return Response::new(full(format!(r#"{{"publicKey":"{}"}}"#, key.public())));
        }
        assert_eq!(request.uri().path(), "/ts2021");
        let initiation = request.headers()[ts2021::HANDSHAKE_HEADER]
            .to_str()
            .unwrap();
        let Ok(responder) = Responder::open(&key, &STANDARD.decode(initiation).unwrap()) else {
            return transport::server::text(http::StatusCode::BAD_REQUEST, "not for me");
        };
        let task = rt::Task::spawn("test connection", async move {
            let upgraded = hyper::upgrade::on(request).await.unwrap();
            let (session, response) = responder.respond(&mut rt::OsRng).unwrap();
            let mut stream = Stream::from(upgraded);
            stream.write_all(&response).await.unwrap();
            let mut stream = NoiseStream::new(stream, session);
            let early = ts2021::encode_early(&ChallengePublic::from_bytes([8; 32]));
            stream.write_all(&early).await.unwrap();
            let service = service_fn(|request| hand_over(asked.clone(), request));
            let _ = hyper::server::conn::http2::Builder::new(Exec)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        connections.lock().unwrap().push(task);
        Response::builder()
            .status(101)
            .header("Upgrade", ts2021::UPGRADE_PROTOCOL)
            .header("Connection", "upgrade")
            .body(empty())
            .unwrap()
    })
}

async fn hand_over(
    asked: mpsc::UnboundedSender<Asked>,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let (parts, body) = request.into_parts();
    let (answer, answered) = tokio::sync::oneshot::channel();
    let hints = parts.headers.get_all("ts-lb").iter();
    let path = parts.uri.path();
    let _ = asked.send(Asked {
        method: parts.method.to_string(),
        path: path.strip_prefix("/base").unwrap_or(path).to_owned(),
        hints: hints
            .map(|hint| hint.to_str().unwrap().to_owned())
            .collect(),
        body: body
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default(),
        answer,
    });
    match answered.await {
        Ok(response) => Ok(response),
        Err(_) => std::future::pending().await,
    }
}

pub(super) fn key(byte: u8) -> NodePublic {
    NodePublic::from_bytes([byte; 32])
}

pub(super) fn hostinfo() -> Arc<Hostinfo> {
    Arc::new(Hostinfo {
        backend_log_id: "00".repeat(32),
        hostname: "me".to_owned(),
        ..Hostinfo::default()
    })
}

pub(super) fn login(byte: u8) -> LoginRequest {
    LoginRequest {
        node_key: key(byte),
        hostinfo: hostinfo(),
        ..LoginRequest::default()
    }
}

pub(super) fn map(byte: u8) -> MapParams {
    MapParams {
        node_key: key(byte),
        hostinfo: hostinfo(),
    }
}

pub(super) async fn next(events: &mut mpsc::Receiver<Event>) -> Event {
    let next = tokio::time::timeout(Duration::from_secs(30), events.recv());
    next.await.expect("an event must come").unwrap()
}
