//! The protocol end to end, with a client that can be as odd as we like.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use keys::{DiscoPublic, MachinePrivate, MachinePublic, NodePrivate, NodePublic};
use serde_json::{Value, json};
use tailcfg::{MapResponse, OverTlsPublicKeyResponse, RegisterResponse};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use transport::Stream;
use transport::upgrade::{UpgradeRequest, upgrade};
use ts2021::{EarlyReader, HANDSHAKE_HEADER, Initiator, MapFrames, RESPONSE_LEN, UPGRADE_PROTOCOL};

use crate::noise::NoiseStream;
use crate::{AdminClient, AdminError, Config, Error, NewAuthKey, Server};

struct Client {
    sender: SendRequest<Full<Bytes>>,
    node: NodePublic,
    _connection: rt::Task,
}

async fn server() -> Server {
    let config = Config {
        keep_alive: Duration::from_millis(300),
        ..Config::default()
    };
    Server::start(config).await.unwrap()
}

/// Sends raw bytes and reads what comes until the end.
async fn raw(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn server_key(server: &Server) -> MachinePublic {
    let answer = raw(
        server,
        "GET /key?v=113 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str::<OverTlsPublicKeyResponse>(body)
        .unwrap()
        .public_key
}

async fn upgraded(server: &Server, initiation: &[u8]) -> Stream {
    let stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let header = STANDARD.encode(initiation);
    let request = UpgradeRequest {
        method: "POST",
        target: "/ts2021",
        host: "127.0.0.1",
        protocol: UPGRADE_PROTOCOL,
        headers: &[(HANDSHAKE_HEADER, &header), ("Content-Length", "0")],
    };
    upgrade(Stream::new(stream), &request).await.unwrap()
}

impl Client {
    async fn connect(server: &Server, machine: &MachinePrivate) -> Self {
        let (initiator, initiation) =
            Initiator::new(machine, &server_key(server).await, 113, &mut rt::OsRng).unwrap();
        let mut stream = upgraded(server, &initiation).await;
        let mut answer = [0; RESPONSE_LEN];
        stream.read_exact(&mut answer).await.unwrap();
        let session = initiator.finish(&answer).unwrap();
        let mut noise = NoiseStream::new(stream, session, &[]);
        let (mut early, mut rest) = (EarlyReader::new(), Vec::new());
        while !early.is_done() {
            let byte = noise.read_u8().await.unwrap();
            early.handle_plaintext(&[byte], &mut rest).unwrap();
        }
        assert!(early.challenge().is_some() && rest.is_empty());
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(noise))
                .await
                .unwrap();
        let connection = rt::Task::spawn("test connection", async move {
            let _ = connection.await;
        });
        Self {
            sender,
            node: NodePrivate::generate(&mut rt::OsRng).public(),
            _connection: connection,
        }
    }

    async fn send(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Response<Incoming> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://control{path}"))
            .body(Full::new(body.into()))
            .unwrap();
        self.sender.clone().send_request(request).await.unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> Response<Incoming> {
        self.send(Method::POST, path, body.to_string()).await
    }

    async fn register(&self, key: &str) -> RegisterResponse {
        let body = json!({"Version": 113, "NodeKey": self.node, "Auth": {"AuthKey": key}, "Hostinfo": {"Hostname": "h"}});
        let response = self.post("/machine/register", body).await;
        assert_eq!(response.status(), StatusCode::OK);
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    async fn stream(&self, compress: &str) -> MapStream {
        let body = json!({"Version": 113, "NodeKey": self.node, "Stream": true, "KeepAlive": true, "Compress": compress});
        let response = self.post("/machine/map", body).await;
        assert_eq!(response.status(), StatusCode::OK);
        MapStream {
            body: response.into_body(),
            frames: MapFrames::new(1 << 20),
            zstd: !compress.is_empty(),
        }
    }

    async fn update(&self, more: Value) -> StatusCode {
        let mut body = json!({"Version": 113, "NodeKey": self.node, "OmitPeers": true});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.post("/machine/map", body).await.status()
    }
}

struct MapStream {
    body: Incoming,
    frames: MapFrames,
    zstd: bool,
}

impl MapStream {
    /// The next message; `None` at the end of the stream.
    async fn next(&mut self) -> Option<MapResponse> {
        // Each message comes in frames of its own here, because each is flushed.
        loop {
            let data = self.body.frame().await?.ok()?.into_data().unwrap();
            let mut input = &data[..];
            if let Some(message) = self.frames.next_frame(&mut input).unwrap() {
                assert!(input.is_empty());
                let json = match self.zstd {
                    true => zstd::bulk::decompress(&message, 1 << 20).unwrap(),
                    false => message,
                };
                return Some(serde_json::from_slice(&json).unwrap());
            }
        }
    }

    /// The next message that is more than a sign of life.
    async fn news(&mut self) -> Option<MapResponse> {
        loop {
            match self.next().await? {
                message if message.keep_alive => {}
                message => return Some(message),
            }
        }
    }
}

async fn auth_key(server: &Server) -> String {
    let new = NewAuthKey {
        reusable: true,
        ..NewAuthKey::default()
    };
    server
        .admin()
        .create_auth_key(new)
        .await
        .unwrap()
        .key
        .unwrap()
}

#[tokio::test]
async fn nodes_register_and_follow_each_other() {
    let server = server().await;
    let key = auth_key(&server).await;
    let one = Client::connect(&server, &MachinePrivate::generate(&mut rt::OsRng)).await;
    assert_eq!(one.register(&key).await.login.login_name, "lab");
    let mut map = one.stream("zstd").await;
    let first = map.next().await.unwrap();
    assert_eq!(first.node.as_ref().unwrap().name, "h.tailnet.test.");
    assert!(first.peers.is_empty() && first.derp_map.is_some() && first.dns_config.is_some());
    assert!(map.next().await.unwrap().keep_alive);

    let two = Client::connect(&server, &MachinePrivate::generate(&mut rt::OsRng)).await;
    two.register(&key).await;
    let news = map.news().await.unwrap();
    assert_eq!(news.peers_changed[0].name, "h-1.tailnet.test.");
    let disco = DiscoPublic::from_bytes([7; 32]);
    let told = json!({"DiscoKey": disco, "Endpoints": ["10.0.0.1:1", "[fe80::1]:2", "[fe80::1%eth0]:3", null, "", "0.0.0.0:4"],
        "Hostinfo": {"Hostname": "h", "NetInfo": {"PreferredDERP": 4}, "OS": "linux"}, "Unknown": {}});
    assert_eq!(two.update(told).await, StatusCode::OK);
    let news = map.news().await.unwrap();
    let peer = &news.peers_changed[0];
    assert_eq!((peer.home_derp, peer.disco_key), (4, disco));
    assert_eq!(peer.endpoints, ["10.0.0.1:1".parse().unwrap()]);
    assert_eq!(peer.hostinfo.parse().os, "linux");
    let told = json!({"Endpoints": null, "Hostinfo": null, "DiscoKey": null});
    assert_eq!(two.update(told).await, StatusCode::OK);
    let patch = map.news().await.unwrap().peers_changed_patch.remove(0);
    assert_eq!((patch.endpoints, patch.disco_key), (Some(vec![]), None));

    // Signs of life do not stop, and a newer stream ends the older one.
    let mut newer = one.stream("").await;
    assert_eq!(newer.next().await.unwrap().peers.len(), 1);
    assert!(map.news().await.is_none());
    let mut theirs = two.stream("zstd").await;
    assert_eq!(theirs.next().await.unwrap().peers[0].online, Some(true));
    let patch = newer.news().await.unwrap().peers_changed_patch.remove(0);
    assert_eq!(patch.online, Some(true));
    drop(theirs);
    drop(two);
    let patch = newer.news().await.unwrap().peers_changed_patch.remove(0);
    assert_eq!(patch.online, Some(false));
    assert!(patch.last_seen.is_some());

    server.admin().remove_node(2).await.unwrap();
    assert_eq!(newer.news().await.unwrap().peers_removed, [2]);
    server.admin().remove_node(1).await.unwrap();
    assert!(newer.news().await.is_none());
    assert_eq!(one.update(json!({})).await, StatusCode::NOT_FOUND);
    server.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let server = server().await;
    let key = auth_key(&server).await;
    let one = Client::connect(&server, &MachinePrivate::generate(&mut rt::OsRng)).await;
    one.register(&key).await;
    for (path, body, want) in [
        ("/machine/map", String::new(), 400),
        ("/machine/map", "{".into(), 400),
        ("/machine/map", "[]".into(), 400),
        ("/machine/map", "null".into(), 404),
        ("/machine/map", "{}".into(), 404),
        (
            "/machine/map",
            json!({"NodeKey": NodePublic::from_bytes([1; 32]), "Stream": true}).to_string(),
            404,
        ),
        (
            "/machine/map",
            json!({"NodeKey": one.node, "Stream": true, "Compress": "gzip"}).to_string(),
            400,
        ),
        (
            "/machine/map",
            json!({"NodeKey": "nodekey:xx"}).to_string(),
            400,
        ),
        ("/machine/map", "x".repeat((1 << 20) + 1), 413),
        ("/machine/register", "[".repeat(100_000), 400),
        ("/machine/register", "x".repeat(2 << 20), 413),
        ("/machine/set-dns", "{}".into(), 501),
        ("/machine/../key", String::new(), 501),
        ("/nothing", String::new(), 404),
    ] {
        let response = one.send(Method::POST, path, body).await;
        assert_eq!(response.status().as_u16(), want, "{path}");
    }
    assert_eq!(
        one.send(Method::GET, "/machine/map", "").await.status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
    let response = one
        .post("/machine/register", json!({"NodeKey": null}))
        .await;
    assert_eq!(response.status(), StatusCode::OK, "refusals are answers");

    // Another machine cannot use the node's key.
    let mut other = Client::connect(&server, &MachinePrivate::generate(&mut rt::OsRng)).await;
    other.node = one.node;
    assert_eq!(other.update(json!({})).await, StatusCode::NOT_FOUND);
    assert!(other.register(&key).await.error.contains("another machine"));
    assert_eq!(
        one.update(json!({})).await,
        StatusCode::OK,
        "the node lives"
    );
    // A whole map without a stream.
    let response = one.post("/machine/map", json!({"NodeKey": one.node})).await;
    assert!(
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .len()
            > 100
    );
    server.stop().await;
}

#[tokio::test]
async fn bad_handshakes_harm_nobody() {
    let server = server().await;
    let ask = |headers: &str| {
        format!("POST /ts2021 HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n{headers}\r\n")
    };
    for (headers, want) in [
        ("", "unknown or missing next protocol"),
        ("Upgrade: h2c\r\n", "unknown or missing next protocol"),
        (
            "Upgrade: Tailscale-Control-Protocol\r\n",
            "missing Tailscale handshake header",
        ),
        (
            "Upgrade: tailscale-control-protocol\r\nX-Tailscale-Handshake: *\r\n",
            "invalid Tailscale handshake header",
        ),
    ] {
        let request = ask(headers).replace("Connection: upgrade", "Connection: close, upgrade");
        let answer = raw(&server, &request).await;
        assert!(
            answer.contains("400") && answer.contains(want),
            "{headers}: {answer}"
        );
    }
    assert!(
        raw(
            &server,
            "GET /ts2021 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .await
        .contains("501")
    );
    assert!(raw(&server, "\0\0\0\0\r\n\r\n").await.len() < 1000);

    // An initiation that is too short is told so; one for another server's key is not.
    let mut stream = upgraded(&server, b"short").await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.first(), Some(&3));
    let machine = MachinePrivate::generate(&mut rt::OsRng);
    let wrong = MachinePrivate::generate(&mut rt::OsRng).public();
    let (_, initiation) = Initiator::new(&machine, &wrong, 113, &mut rt::OsRng).unwrap();
    let mut stream = upgraded(&server, &initiation).await;
    answer.clear();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty());

    // Junk after a good handshake ends that connection only.
    let (initiator, initiation) =
        Initiator::new(&machine, &server_key(&server).await, 1, &mut rt::OsRng).unwrap();
    let mut stream = upgraded(&server, &initiation).await;
    let mut response = [0; RESPONSE_LEN];
    stream.read_exact(&mut response).await.unwrap();
    initiator.finish(&response).unwrap();
    stream.write_all(&[4, 255, 255, 0, 0]).await.unwrap();
    let _ = stream.read_to_end(&mut answer).await;
    Client::connect(&server, &machine).await;
    server.stop().await;
}

#[tokio::test]
async fn the_admin_socket_does_what_the_functions_do() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let config = Config {
        admin_socket: Some(socket.clone()),
        state: Some(dir.path().join("state.json")),
        ..Config::default()
    };
    let server = Server::start(config.clone()).await.unwrap();
    let admin = AdminClient::new(socket.clone());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let key = admin.create_auth_key(&NewAuthKey::default()).await.unwrap();
    assert_eq!(admin.auth_keys().await.unwrap()[0].id, key.id);
    admin.expire_auth_key(&key.id).await.unwrap();
    assert!(!admin.auth_keys().await.unwrap()[0].expiry.is_zero());
    let client = Client::connect(&server, &MachinePrivate::generate(&mut rt::OsRng)).await;
    client.register(&auth_key(&server).await).await;
    assert_eq!(admin.nodes().await.unwrap()[0].node_key, client.node);
    admin.set_filter(&[]).await.unwrap();
    admin
        .set_derp_map(&tailcfg::DerpMap::default())
        .await
        .unwrap();
    admin.expire_node(1).await.unwrap();
    let refused = admin.expire_node(9).await.unwrap_err();
    assert!(
        matches!(&refused, AdminError::Refused(404, why) if why == "node not found"),
        "{refused}"
    );
    let bad = NewAuthKey {
        tags: vec!["x".into()],
        ..NewAuthKey::default()
    };
    assert!(matches!(
        admin.create_auth_key(&bad).await,
        Err(AdminError::Refused(400, _))
    ));

    // A second server cannot take the socket; the next one keeps what the first one knew.
    let config = Config {
        state: None,
        ..config
    };
    assert!(matches!(
        Server::start(config.clone()).await,
        Err(Error::AdminSocket(..))
    ));
    let before = (admin.nodes().await.unwrap(), server_key(&server).await);
    server.stop().await;
    let config = Config {
        state: Some(dir.path().join("state.json")),
        ..config
    };
    let server = Server::start(config.clone()).await.unwrap();
    assert_eq!(
        (admin.nodes().await.unwrap(), server_key(&server).await),
        before
    );
    assert!(server.admin().filter().is_empty());
    server.stop().await;
    assert!(matches!(admin.nodes().await, Err(AdminError::Connect(..))));

    // A damaged state file is an error and stays as it is.
    std::fs::write(dir.path().join("state.json"), "{\"version\":1").unwrap();
    assert!(matches!(
        Server::start(config).await,
        Err(Error::StateContent(..))
    ));
    assert_eq!(
        std::fs::read(dir.path().join("state.json")).unwrap(),
        b"{\"version\":1"
    );
    let domain = Config {
        domain: "a..b".into(),
        ..Config::default()
    };
    assert!(matches!(Server::start(domain).await, Err(Error::Domain(_))));
}
