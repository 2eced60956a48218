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
use crate::{
    AdminClient, AdminError, Approval, AskError, C2nQuestion, Config, Error, NewAuthKey,
    PingQuestion, Server, Settings,
};

#[derive(Clone)]
struct Client {
    sender: SendRequest<Full<Bytes>>,
    node: NodePublic,
    _connection: std::sync::Arc<rt::Task>,
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
            _connection: connection.into(),
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

/// Asks for the page, or sends its form.
async fn page(server: &Server, url: &str, form: Option<&str>) -> String {
    let path = url.strip_prefix(&server.url()).unwrap();
    let request = match form {
        None => format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        Some(form) => format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{form}",
            form.len()
        ),
    };
    raw(server, &request).await
}

impl Client {
    /// Registers without a key.
    async fn ask(&self, followup: &str) -> RegisterResponse {
        let body = json!({"Version": 113, "NodeKey": self.node, "Followup": followup,
            "Hostinfo": {"Hostname": "<i>host", "OS": "linux"}});
        let response = self.post("/machine/register", body).await;
        assert_eq!(response.status(), StatusCode::OK);
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }
}

#[tokio::test]
async fn people_let_machines_in_at_a_page() {
    let server = server().await;
    let admin = server.admin();
    let one = Client::connect(&server, &MachinePrivate::generate(&mut rt::OsRng)).await;
    let url = one.ask("").await.auth_url;
    assert!(url.starts_with(&server.url()));
    let html = page(&server, &url, None).await;
    assert!(html.contains("&lt;i&gt;host") && html.contains(&one.node.to_string()));
    assert!(!html.contains("<form"), "only the administrator decides");
    let approve = "user=ann%40x.y&decision=approve";
    assert!(page(&server, &url, Some(approve)).await.contains(" 403 "));
    assert!(
        page(&server, &format!("{}/register/x", server.url()), None)
            .await
            .contains(" 404 ")
    );

    admin
        .set_settings(Settings {
            open_logins: true,
            ..Settings::default()
        })
        .await;
    assert!(page(&server, &url, None).await.contains("<form"));
    for bad in ["", "user=x", "decision=%zz", &"x".repeat(5000)] {
        assert!(
            page(&server, &url, Some(bad)).await.contains(" 400 "),
            "{bad}"
        );
    }
    // The node is held until somebody decides, whatever else happens.
    let held = {
        let one = one.clone();
        let url = url.clone();
        tokio::time::timeout(Duration::from_secs(20), async move { one.ask(&url).await })
    };
    let deciding = async {
        admin.set_filter(vec![]).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        page(&server, &url, Some(approve)).await
    };
    let (response, answer) = tokio::join!(held, deciding);
    assert!(answer.contains("Decided"), "{answer}");
    let response = response.unwrap();
    assert_eq!(
        (
            response.auth_url.as_str(),
            response.login.login_name.as_str()
        ),
        ("", "ann@x.y")
    );
    assert_eq!(admin.nodes()[0].user, "ann@x.y");
    assert!(page(&server, &url, None).await.contains(" 404 "));

    // One that is refused, and one that comes back from a page that nobody knows.
    let two = Client::connect(&server, &MachinePrivate::generate(&mut rt::OsRng)).await;
    let stale = two
        .ask(&format!("{}/register/00", server.url()))
        .await
        .auth_url;
    assert!(!stale.is_empty() && stale != url);
    let id = admin.logins()[0].id.clone();
    admin.refuse_login(&id).await.unwrap();
    assert!(page(&server, &stale, None).await.contains("Decided"));
    assert!(two.ask(&stale).await.error.contains("refused"));
    server.stop().await;
}

#[tokio::test]
async fn nodes_are_asked_and_answer() {
    let server = server().await;
    let admin = server.admin();
    let key = auth_key(&server).await;
    let one = Client::connect(&server, &MachinePrivate::generate(&mut rt::OsRng)).await;
    one.register(&key).await;
    let nothing = PingQuestion::default();
    assert_eq!(
        admin.ping(1, nothing.clone()).await,
        Err(AskError::NotConnected)
    );
    assert_eq!(
        admin.ping(9, nothing.clone()).await,
        Err(AskError::NoSuchNode)
    );
    let mut map = one.stream("zstd").await;
    map.next().await.unwrap();

    let other = Client::connect(&server, &MachinePrivate::generate(&mut rt::OsRng)).await;
    let question = |path: &'static str| {
        let admin = admin.clone();
        async move {
            let question = C2nQuestion {
                path: path.into(),
                ..C2nQuestion::default()
            };
            admin.c2n(1, &question).await
        }
    };
    let answering = async |map: &mut MapStream, answer: &'static str| {
        let ping = map.news().await.unwrap().ping_request.unwrap();
        let path = ping.url.strip_prefix("https://control").unwrap().to_owned();
        let wrong = other
            .send(Method::POST, &path, "HTTP/1.1 200 OK\r\n\r\nlie")
            .await;
        assert_eq!(
            wrong.status(),
            StatusCode::NOT_FOUND,
            "another machine's answer"
        );
        let done = one.send(Method::POST, &path, answer).await;
        assert_eq!(done.status(), StatusCode::NO_CONTENT);
        let again = one.send(Method::POST, &path, answer).await;
        assert_eq!(again.status(), StatusCode::NOT_FOUND);
        ping
    };
    let (got, ping) = tokio::join!(
        question("/echo"),
        answering(&mut map, "HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello")
    );
    assert_eq!((ping.types.as_str(), ping.url_is_noise), ("c2n", true));
    assert!(ping.payload.0.starts_with(b"GET /echo HTTP/1.1\r\n"));
    assert_eq!(got.unwrap().body, "hello");
    let (got, _) = tokio::join!(question("/echo"), answering(&mut map, "junk"));
    assert!(matches!(got, Err(AskError::Invalid(_))));

    // Messages of the administrator go through as they are.
    admin
        .inject(1, Bytes::from(r#"{"Health":["x"],"Unknown":1}"#))
        .unwrap();
    assert_eq!(map.news().await.unwrap().health.unwrap(), ["x"]);
    for bad in ["", "[]", "{", "1"] {
        assert!(
            matches!(admin.inject(1, Bytes::from(bad)), Err(AskError::Invalid(_))),
            "{bad}"
        );
    }
    admin.disconnect(1).unwrap();
    assert!(map.news().await.is_none());
    assert_eq!(admin.disconnect(1), Err(AskError::NotConnected));
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_harms_only_itself() {
    let server = server().await;
    let admin = server.admin();
    let key = auth_key(&server).await;
    let one = Client::connect(&server, &MachinePrivate::generate(&mut rt::OsRng)).await;
    one.register(&key).await;
    let _stalled = one.stream("").await;
    let two = Client::connect(&server, &MachinePrivate::generate(&mut rt::OsRng)).await;
    two.register(&key).await;
    let mut map = two.stream("").await;
    map.next().await.unwrap();
    let big = Bytes::from(format!(r#"{{"Domain":"{}"}}"#, "x".repeat(1 << 20)));
    let refused = (0..1000).find_map(|_| admin.inject(1, big.clone()).err());
    assert_eq!(
        refused,
        Some(AskError::Behind),
        "what it is sent is bounded"
    );
    admin.set_filter(vec![]).await;
    assert!(map.news().await.unwrap().packet_filters.is_some());
    assert_eq!(two.update(json!({})).await, StatusCode::OK);
    server.stop().await;
}

#[tokio::test]
async fn the_admin_socket_has_all_orders() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        admin_socket: Some(dir.path().join("admin.sock")),
        ..Config::default()
    };
    let server = Server::start(config).await.unwrap();
    let admin = AdminClient::new(dir.path().join("admin.sock"));
    let client = Client::connect(&server, &MachinePrivate::generate(&mut rt::OsRng)).await;
    client.ask("").await;
    let login = admin.logins().await.unwrap().remove(0);
    let approval = Approval {
        user: "ann".into(),
        tags: None,
    };
    admin.approve_login(&login.id, &approval).await.unwrap();
    assert!(admin.refuse_login(&login.id).await.is_err());
    client.ask("").await;
    let ids = admin.add_nodes(3).await.unwrap();
    assert_eq!(ids, [2, 3, 4]);
    admin.set_online(2, false).await.unwrap();
    admin.set_name(1, "prod").await.unwrap();
    admin.set_tags(1, &["tag:a".into()]).await.unwrap();
    admin
        .set_routes(1, &["10.0.0.0/8".parse().unwrap()])
        .await
        .unwrap();
    admin
        .set_attributes(1, &[("funnel".to_owned(), None)].into())
        .await
        .unwrap();
    admin.set_approved(3, false).await.unwrap();
    admin.set_jailed(2, true).await.unwrap();
    let expiry = tailcfg::go::GoTime::from_unix_secs(4_000_000_000);
    admin.set_key_expiry(1, expiry).await.unwrap();
    let nodes = admin.nodes().await.unwrap();
    assert_eq!(
        (nodes[0].name.as_str(), nodes[0].key_expiry),
        ("prod.tailnet.test", expiry)
    );
    assert_eq!(nodes[0].tags, ["tag:a"]);
    assert!(!nodes[1].online && nodes[2].online && !nodes[2].approved);
    let mut map = client.stream("").await;
    let first = map.next().await.unwrap();
    assert!(first.node.unwrap().cap_map.contains_key("funnel"));
    let jailed = first.peers.iter().filter(|peer| peer.is_jailed);
    assert_eq!(jailed.map(|peer| peer.id).collect::<Vec<_>>(), [2]);
    assert_eq!(first.peers.len(), 2);

    let dns = tailcfg::DnsConfig {
        domains: vec!["x.y".into()],
        ..Default::default()
    };
    admin.set_dns(&dns).await.unwrap();
    assert_eq!(admin.dns().await.unwrap(), dns);
    let told = map.news().await.unwrap().dns_config.unwrap();
    assert_eq!(
        (told.domains, told.proxied),
        (vec!["tailnet.test".into(), "x.y".into()], true)
    );
    let settings = Settings {
        device_approval: true,
        ..Settings::default()
    };
    admin.set_settings(&settings).await.unwrap();
    assert_eq!(admin.settings().await.unwrap(), settings);
    assert_eq!(admin.filter().await.unwrap().len(), 1);
    assert!(admin.derp_map().await.unwrap().omit_default_regions);
    admin.inject(1, &json!({"Health": []})).await.unwrap();
    assert_eq!(map.news().await.unwrap().health, Some(vec![]));
    admin.disconnect(1).await.unwrap();
    assert!(map.news().await.is_none());
    let refused = admin.ping(1, &PingQuestion::default()).await.unwrap_err();
    assert!(matches!(refused, AdminError::Refused(409, _)), "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn what_a_node_told_is_on_disk_when_it_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.json");
    let config = Config {
        state: Some(file.clone()),
        ..Config::default()
    };
    let server = Server::start(config).await.unwrap();
    let key = auth_key(&server).await;
    let one = Client::connect(&server, &MachinePrivate::generate(&mut rt::OsRng)).await;
    one.register(&key).await;
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .contains(&one.node.to_string())
    );
    let told = json!({"Endpoints": ["10.9.8.7:6"], "Hostinfo": {"Hostname": "told"}});
    assert_eq!(one.update(told).await, StatusCode::OK);
    let saved = std::fs::read_to_string(&file).unwrap();
    assert!(saved.contains("10.9.8.7:6") && saved.contains("told"));
    let disco = DiscoPublic::from_bytes([9; 32]);
    let body = json!({"Version": 113, "NodeKey": one.node, "Stream": true, "DiscoKey": disco});
    assert_eq!(
        one.post("/machine/map", body).await.status(),
        StatusCode::OK
    );
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .contains(&disco.to_string())
    );
    server.stop().await;
}
