//! A control server that lets everybody in, and whose map streams say what a test wants before they are good again.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use control::NoiseStream;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use keys::{ChallengePublic, MachinePrivate, MachinePublic, NodePrivate};
use serde_json::{Value, json};
use tailcfg::DerpMap;
use tokio::io::AsyncWriteExt as _;
use transport::Stream;
use transport::server::{Body, BoxError, Limits, Listener, Server, empty, full, text};
use ts2021::Responder;

use crate::ours::{Node, until};

/// What one long poll is answered with. The stream ends after it.
#[derive(Debug, Clone)]
pub(crate) enum Turn {
    /// These bytes.
    Say(Vec<u8>),
    /// A good map, then these bytes.
    GoodThen(Vec<u8>),
    /// A good map, byte by byte.
    GoodInPieces,
    /// Another status than 200.
    Status(u16, &'static str),
    /// Nothing: the connection breaks.
    Cut,
    /// No answer for a while, and then a good map.
    Late(Duration),
}

#[derive(Debug)]
enum Message {
    Bytes(Vec<u8>),
    Good,
}

#[derive(Default)]
struct Script {
    turns: VecDeque<Turn>,
    /// What follows on good streams.
    messages: VecDeque<Message>,
    /// How many good maps have been sent; each says its number.
    good: u64,
    /// How many until the last turn ended.
    good_before: u64,
    /// Who logged in with what.
    registered: Vec<(MachinePublic, Value)>,
    polled_by: Vec<(MachinePublic, Value)>,
    connections: Vec<rt::Task>,
}

#[derive(Clone)]
struct Shared {
    key: MachinePrivate,
    derp_map: Value,
    script: Arc<Mutex<Script>>,
}

pub(crate) struct ScriptedControl {
    address: SocketAddr,
    shared: Shared,
    _server: Server,
}

impl ScriptedControl {
    pub(crate) async fn start(derp_map: &DerpMap) -> Self {
        let shared = Shared {
            key: MachinePrivate::generate(&mut rt::OsRng),
            derp_map: serde_json::to_value(derp_map).unwrap(),
            script: Arc::default(),
        };
        let listener = Listener::bind_tcp((Ipv4Addr::LOCALHOST, 0).into())
            .await
            .unwrap();
        let answering = shared.clone();
        let server = Server::start(listener, None, Limits::default(), move |_, request| {
            upgrade(answering.clone(), request)
        });
        Self {
            address: server.local_addr().unwrap(),
            shared,
            _server: server,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.shared.script.lock().unwrap()
    }

    /// Breaks the current stream, goes through `turns`, and then waits until the node has taken the good map after them.
    pub(crate) async fn play(&self, node: &Node, turns: impl IntoIterator<Item = Turn>) {
        self.script().turns.extend(turns);
        self.cut();
        self.until_good(node).await;
    }

    /// Sends messages on the current stream, and on the next one whenever the node breaks it; then the same.
    pub(crate) async fn play_messages(
        &self,
        node: &Node,
        messages: impl IntoIterator<Item = Vec<u8>>,
    ) {
        let messages = messages.into_iter().map(Message::Bytes);
        self.script()
            .messages
            .extend(messages.chain([Message::Good]));
        self.until_good(node).await;
    }

    async fn until_good(&self, node: &Node) {
        let is_over = async || {
            let script = self.script();
            script.turns.is_empty()
                && script.messages.is_empty()
                && script.good > script.good_before
        };
        until("the script's end", is_over).await;
        let taken =
            async || node.state().await == "Running" && node.name().await == self.good_name();
        until("the last good map", taken).await;
    }

    fn cut(&self) {
        let connections = std::mem::take(&mut self.script().connections);
        drop(connections);
    }

    pub(crate) fn good_name(&self) -> String {
        name(self.script().good)
    }

    /// A good map for the node that polled last.
    pub(crate) fn good_map(&self) -> Value {
        let script = self.script();
        let (_, request) = script.polled_by.last().unwrap();
        map(&self.shared, script.good, request)
    }

    /// Whether all who logged in and polled were one machine with one node key.
    pub(crate) fn saw_one_identity(&self) -> bool {
        let script = self.script();
        let seen = || {
            script
                .registered
                .iter()
                .chain(&script.polled_by)
                .map(|(machine, json)| (*machine, &json["NodeKey"]))
        };
        let first = seen().next();
        seen().all(|one| Some(one) == first)
    }

    pub(crate) fn logins(&self) -> usize {
        self.script().registered.len()
    }
}

fn name(good: u64) -> String {
    format!("me-{good}.tailnet.test.")
}

/// A message as it stands in the stream: its length, and zstd.
pub(crate) fn message(json: &Value) -> Vec<u8> {
    frame(&zstd::encode_all(json.to_string().as_bytes(), 1).unwrap())
}

pub(crate) fn frame(content: &[u8]) -> Vec<u8> {
    let mut out = ts2021::map_frame_header(u32::try_from(content.len()).unwrap()).to_vec();
    out.extend_from_slice(content);
    out
}

fn map(shared: &Shared, good: u64, request: &Value) -> Value {
    let peer = NodePrivate::from_bytes([7; 32]).public().to_string();
    json!({
        "Node": {
            "ID": 1, "StableID": "n1", "Name": name(good), "User": 5, "Key": request["NodeKey"],
            "KeyExpiry": "2100-01-01T00:00:00Z", "DiscoKey": request["DiscoKey"], "MachineAuthorized": true,
            "Addresses": ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"], "AllowedIPs": ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"],
            "Endpoints": ["192.0.2.1:41641"], "HomeDERP": 900, "Hostinfo": request["Hostinfo"],
            "Created": "2026-01-01T00:00:00Z", "Capabilities": ["https://tailscale.com/cap/x"], "CapMap": {"x": null, "y": [1]},
        },
        "DERPMap": shared.derp_map,
        "Peers": [{
            "ID": 2, "StableID": "n2", "Name": "peer.tailnet.test.", "User": 5, "Key": peer, "MachineAuthorized": true,
            "Addresses": ["100.64.0.2/32"], "AllowedIPs": ["100.64.0.2/32"], "HomeDERP": 900, "Online": true,
            "Hostinfo": {"OS": "linux", "Hostname": "peer", "Services": [{"Proto": "tcp", "Port": 80}]},
        }],
        "DNSConfig": {"Proxied": true, "Domains": ["tailnet.test"], "Resolvers": [{"Addr": "192.0.2.53"}], "Routes": {"x.test": []}},
        "Domain": "tailnet.test",
        "CollectServices": true,
        "PacketFilters": {"base": [{"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}]}]},
        "UserProfiles": [{"ID": 5, "LoginName": "user@tailnet.test", "DisplayName": "User"}],
        "Health": [],
        "ControlTime": "2026-01-01T00:00:00Z",
    })
}

fn upgrade(shared: Shared, request: Request<Incoming>) -> BoxFuture<'static, Response<Body>> {
    Box::pin(async move {
        if request.uri().path() == "/key" {
            return Response::new(full(
                json!({ "publicKey": shared.key.public() }).to_string(),
            ));
        }
        let initiation = request
            .headers()
            .get(ts2021::HANDSHAKE_HEADER)
            .map(|text| STANDARD.decode(text).unwrap());
        let Some(responder) =
            initiation.and_then(|message| Responder::open(&shared.key, &message).ok())
        else {
            return text(StatusCode::BAD_REQUEST, "not for me");
        };
        let script = Arc::clone(&shared.script);
        let task = rt::Task::spawn("scripted connection", async move {
            let machine = responder.client();
            let mut stream = Stream::from(hyper::upgrade::on(request).await.unwrap());
            let (session, response) = responder.respond(&mut rt::OsRng).unwrap();
            stream.write_all(&response).await.unwrap();
            let mut stream = NoiseStream::new(stream, session);
            stream
                .write_all(&ts2021::encode_early(&ChallengePublic::from_bytes([8; 32])))
                .await
                .unwrap();
            let service = service_fn(|request| answer(shared.clone(), machine, request));
            // Ends when the test breaks it or the daemon does.
            let _ = hyper::server::conn::http2::Builder::new(Exec)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        script.lock().unwrap().connections.push(task);
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("Upgrade", ts2021::UPGRADE_PROTOCOL)
            .header("Connection", "upgrade")
            .body(empty())
            .unwrap()
    })
}

#[derive(Clone)]
struct Exec;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Exec {
    fn execute(&self, future: F) {
        rt::Task::spawn("scripted stream", future).detach();
    }
}

async fn answer(
    shared: Shared,
    machine: MachinePublic,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    Ok(match parts.uri.path() {
        "/machine/register" => {
            shared
                .script
                .lock()
                .unwrap()
                .registered
                .push((machine, json));
            Response::new(full(
                r#"{"User":{"ID":5},"Login":{"ID":5,"LoginName":"user@tailnet.test"},"MachineAuthorized":true}"#,
            ))
        }
        "/machine/map" if json["Stream"] == true => poll(&shared, machine, json).await,
        "/machine/map" => Response::new(empty()),
        _ => text(StatusCode::NOT_FOUND, "not here"),
    })
}

async fn poll(shared: &Shared, machine: MachinePublic, request: Value) -> Response<Body> {
    let turn = {
        let mut script = shared.script.lock().unwrap();
        script.polled_by.push((machine, request.clone()));
        let turn = script.turns.pop_front();
        let is_good = matches!(
            turn,
            Some(Turn::GoodThen(_) | Turn::GoodInPieces | Turn::Late(_))
        );
        if turn.is_some() {
            script.good_before = script.good + u64::from(is_good);
        }
        turn
    };
    match turn {
        None => one_by_one(shared.clone(), request),
        Some(Turn::Say(bytes)) => stream(vec![bytes]),
        Some(Turn::GoodThen(bytes)) => stream(vec![good(shared, &request), bytes]),
        Some(Turn::GoodInPieces) => stream(
            good(shared, &request)
                .chunks(1)
                .map(<[u8]>::to_vec)
                .collect(),
        ),
        Some(Turn::Status(status, words)) => text(StatusCode::from_u16(status).unwrap(), words),
        Some(Turn::Late(pause)) => {
            tokio::time::sleep(pause).await;
            stream(vec![good(shared, &request)])
        }
        Some(Turn::Cut) => {
            let connections = std::mem::take(&mut shared.script.lock().unwrap().connections);
            drop(connections);
            std::future::pending().await
        }
    }
}

/// Another good map, as a message.
fn good(shared: &Shared, request: &Value) -> Vec<u8> {
    let mut script = shared.script.lock().unwrap();
    script.good += 1;
    message(&map(shared, script.good, request))
}

/// A good map and then the script's messages. Stays open.
fn one_by_one(shared: Shared, request: Value) -> Response<Body> {
    let first = good(&shared, &request);
    let rest = futures_util::stream::unfold((shared, request), |(shared, request)| async {
        let message = loop {
            // Time for the node to break the stream before the next message is lost on it.
            tokio::time::sleep(Duration::from_millis(10)).await;
            let next = shared.script.lock().unwrap().messages.pop_front();
            match next {
                Some(Message::Bytes(bytes)) => break bytes,
                Some(Message::Good) => break good(&shared, &request),
                None => {}
            }
        };
        Some((message, (shared, request)))
    });
    let messages = futures_util::stream::iter([first]).chain(rest);
    let frames = messages.map(|message| Ok::<_, BoxError>(Frame::data(Bytes::from(message))));
    Response::new(StreamBody::new(frames).boxed_unsync())
}

fn stream(parts: Vec<Vec<u8>>) -> Response<Body> {
    let frames = parts
        .into_iter()
        .map(|part| Ok::<_, BoxError>(Frame::data(Bytes::from(part))));
    Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync())
}
