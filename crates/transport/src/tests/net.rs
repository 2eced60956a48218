//! Real sockets on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::derp::{FamilyAddr, Node, NodeCert, Region};
use http::StatusCode;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::cert::{ServerCert, derp_meta_cert};
use crate::client::{OneShot, send};
use crate::derp::{DerpDialOptions, dial};
use crate::proxy::Proxy;
use crate::server::{Limits, Listener, Server, text};
use crate::tls::{Roots, Verify, connect, pin_of};
use crate::{DialConfig, Dialer, Error, ProxyConfig, Stream};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn dialer() -> Dialer {
    Dialer::new(DialConfig::default())
}

async fn echo_server(tls: Option<tokio_rustls::TlsAcceptor>) -> Server {
    let listener = Listener::bind_tcp(ANY).await.unwrap();
    Server::start(listener, tls, Limits::default(), |_, request| async move {
        if request.uri().path() == "/upgrade" {
            rt::Task::spawn("test upgrade", async move {
                let upgraded = hyper::upgrade::on(request).await.unwrap();
                let mut stream = Stream::from(upgraded);
                let mut line = [0; 5];
                stream.read_exact(&mut line).await.unwrap();
                stream.write_all(&line).await.unwrap();
            })
            .detach();
            return http::Response::builder()
                .status(101)
                .header("Upgrade", "echo")
                .header("Connection", "upgrade")
                .body(crate::server::empty())
                .unwrap();
        }
        text(
            StatusCode::OK,
            format!("{} {}", request.method(), request.uri()),
        )
    })
}

#[tokio::test]
async fn get_and_body_cap() {
    let server = echo_server(None).await;
    let url = format!("http://{}/a?b=c", server.local_addr().unwrap());
    let answer = send(&dialer(), OneShot::get(&url, 100)).await.unwrap();
    assert_eq!(answer.body_text(), "GET /a?b=c");
    let error = send(&dialer(), OneShot::get(&url, 3)).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
    assert!(
        !error.to_string().contains("b=c"),
        "queries may hold secrets"
    );
    server.stop(Duration::from_secs(5)).await;
    assert!(matches!(
        send(&dialer(), OneShot::get(&url, 3)).await,
        Err(Error::Connect { .. })
    ));
}

#[tokio::test]
async fn upgrade_keeps_early_bytes() {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    let _server = rt::Task::spawn("test server", async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        assert_ne!(stream.read(&mut request).await.unwrap(), 0);
        let answer = b"HTTP/1.1 101 x\r\nUpgrade: TEST\r\n\r\nearly";
        stream.write_all(answer).await.unwrap();
        stream.write_all(b" late").await.unwrap();
    });
    let request = crate::upgrade::UpgradeRequest {
        method: "GET",
        target: "/",
        host: "h",
        protocol: "test",
        headers: &[],
    };
    let stream = Stream::new(dialer().connect(address).await.unwrap());
    let mut stream = crate::upgrade::upgrade(stream, &request).await.unwrap();
    let mut got = String::new();
    stream.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "early late");
}

#[tokio::test]
async fn upgrade_through_our_server_and_refusal() {
    let server = echo_server(None).await;
    let address = server.local_addr().unwrap();
    let request = |target| crate::upgrade::UpgradeRequest {
        method: "POST",
        target,
        host: "h",
        protocol: "echo",
        headers: &[("Content-Length", "0")],
    };
    let stream = Stream::new(dialer().connect(address).await.unwrap());
    let mut stream = crate::upgrade::upgrade(stream, &request("/upgrade"))
        .await
        .unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut got = [0; 5];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hello");

    let stream = Stream::new(dialer().connect(address).await.unwrap());
    let error = crate::upgrade::upgrade(stream, &request("/no"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Status { status: 200, body, .. } if body == "POST /no"),
        "{error}"
    );
}

#[tokio::test]
async fn pins() {
    let cert = ServerCert::self_signed("127.0.0.1", rt::wall()).unwrap();
    let meta = derp_meta_cert(&keys::NodePublic::from_bytes([7; 32]), 2, rt::wall()).unwrap();
    let server = echo_server(Some(cert.acceptor(&[meta]).unwrap())).await;
    let address = server.local_addr().unwrap();
    let roots = Arc::new(Roots::default());
    let check = async |host: &str, verify: Verify| {
        let stream = Stream::new(dialer().connect(address).await.unwrap());
        connect(stream, host, verify, &roots).await.map(drop)
    };
    let pin = pin_of(&cert.chain[0]);
    check("127.0.0.1", Verify::Pin(pin)).await.unwrap();
    check("127.0.0.1", Verify::Nothing).await.unwrap();
    check("127.0.0.1", Verify::LogOnly).await.unwrap();
    let error = check("127.0.0.1", Verify::Pin([0; 32])).await.unwrap_err();
    assert!(error.to_string().contains("expected hash"), "{error}");
    check("other.example", Verify::Pin(pin)).await.unwrap_err();
    check("127.0.0.1", Verify::Host).await.unwrap_err();
    let trusting = Arc::new(Roots::with_extra(vec![cert.chain[0].clone()]));
    let stream = Stream::new(dialer().connect(address).await.unwrap());
    connect(stream, "127.0.0.1", Verify::Host, &trusting)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_expired_pin_is_refused() {
    let long_ago = host::Wall::from_unix_secs(1_000_000_000);
    let cert = ServerCert::self_signed("127.0.0.1", long_ago).unwrap();
    let server = echo_server(Some(cert.acceptor(&[]).unwrap())).await;
    let stream = dialer()
        .connect(server.local_addr().unwrap())
        .await
        .unwrap();
    let verify = Verify::Pin(pin_of(&cert.chain[0]));
    let error = connect(Stream::new(stream), "127.0.0.1", verify, &Arc::default())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Expired"), "{error}");
}

/// A CONNECT proxy that wants credentials, and says what it was asked.
async fn connect_proxy() -> (
    SocketAddr,
    tokio::sync::mpsc::UnboundedReceiver<String>,
    rt::Task,
) {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tx, rx) = tokio::sync::mpsc::unbounded_channel();
    let task = rt::Task::spawn("test proxy", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (head, mut stream) = crate::head::read_head(Stream::new(stream), "test")
                .await
                .unwrap();
            tx.send(head.start[..2].join(" ")).unwrap();
            if head.header("proxy-authorization") != Some("Basic dTpw") {
                let refusal = b"HTTP/1.1 407 no\r\nContent-Length: 4\r\n\r\nwho?";
                stream.write_all(refusal).await.unwrap();
                continue;
            }
            if head.start[0] != "CONNECT" {
                let answer =
                    b"HTTP/1.1 200 ok\r\nContent-Length: 5\r\nConnection: close\r\n\r\nplain";
                stream.write_all(answer).await.unwrap();
                continue;
            }
            // Whatever the name, the way leads to this machine.
            let port: u16 = head.start[1].rsplit(':').next().unwrap().parse().unwrap();
            let mut target = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .unwrap();
            stream.write_all(b"HTTP/1.1 200 ok\r\n\r\n").await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut target).await;
        }
    });
    (address, rx, task)
}

#[tokio::test]
async fn proxies_both_ways() {
    let (address, mut asked, _proxy_task) = connect_proxy().await;
    let server = echo_server(None).await;
    let port = server.local_addr().unwrap().port();
    let with_user = |user: &str| {
        let proxy = Proxy::parse(&format!("http://{user}{address}")).unwrap();
        let proxy = ProxyConfig {
            http: Some(proxy.clone()),
            https: Some(proxy),
            ..ProxyConfig::default()
        };
        Dialer::new(DialConfig {
            proxy,
            egress: None,
        })
    };
    let dialer = with_user("u:p@");
    let mut stream = dialer.for_https("control.test", port).await.unwrap();
    assert_eq!(
        asked.recv().await.unwrap(),
        format!("CONNECT control.test:{port}")
    );
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut got = String::new();
    stream.read_to_string(&mut got).await.unwrap();
    assert!(got.starts_with("HTTP/1.0 200"), "{got}");
    drop(stream);

    let answer = send(&dialer, OneShot::get("http://control.test/key?v=1", 100))
        .await
        .unwrap();
    assert_eq!(answer.body_text(), "plain");
    assert_eq!(
        asked.recv().await.unwrap(),
        "GET http://control.test/key?v=1"
    );

    let error = with_user("")
        .for_https("control.test", port)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("407: who?"), "{error}");

    dialer.set_own_proxies(vec![address]);
    assert!(dialer.proxy_for(true, "control.test", 443).is_none());
}

#[tokio::test]
async fn happy_eyeballs_skip_what_does_not_answer() {
    let server = echo_server(None).await;
    let good = server.local_addr().unwrap();
    let closed = SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), testkit::free_port());
    dialer().race(&[closed, good]).await.unwrap();
    dialer().race(&[good, closed]).await.unwrap();
    assert!(dialer().race(&[closed]).await.is_err());
    assert!(dialer().race(&[]).await.is_err());
    let stream = dialer().tcp("localhost", good.port()).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), good);
}

#[tokio::test]
async fn server_limits() {
    let listener = Listener::bind_tcp(ANY).await.unwrap();
    let limits = Limits {
        connections: 1,
        headers: 8,
        head_len: 8192,
        head_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let server = Server::start(listener, None, limits, |_, _| async {
        text(StatusCode::OK, "fine")
    });
    let address = server.local_addr().unwrap();
    let ask = async |request: &[u8]| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut got = Vec::new();
        // A reset instead of an orderly end is fine too.
        let _ = stream.read_to_end(&mut got).await;
        String::from_utf8(got).unwrap()
    };
    let eventually_fine = async || {
        for _ in 0..200 {
            if ask(b"GET / HTTP/1.0\r\n\r\n").await.contains("fine") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the server does not recover");
    };
    eventually_fine().await;
    let many = format!("GET / HTTP/1.0\r\n{}\r\n", "a: b\r\n".repeat(9));
    assert!(!ask(many.as_bytes()).await.contains("fine"));
    eventually_fine().await;
    let long = format!("GET / HTTP/1.0\r\na: {}\r\n\r\n", "x".repeat(20_000));
    assert!(!ask(long.as_bytes()).await.contains("fine"));
    eventually_fine().await;

    let mut stalled = TcpStream::connect(address).await.unwrap();
    stalled.write_all(b"GET / HT").await.unwrap();
    // While the one connection that is allowed stalls, others are closed; its time runs out by itself.
    eventually_fine().await;
}

#[cfg(unix)]
#[tokio::test]
async fn unix_sockets_tell_who_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = Listener::bind_unix(&path, 0o600).unwrap();
    let server = Server::start(listener, None, Limits::default(), |peer, _| async move {
        text(
            StatusCode::OK,
            format!("{:?}", peer.credentials.and_then(|c| c.pid)),
        )
    });
    let live = Listener::bind_unix(&path, 0o600).unwrap_err();
    assert_eq!(live.kind(), std::io::ErrorKind::AddrInUse);
    let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let _connection = rt::Task::spawn("test", async {
        let _ = connection.await;
    });
    let answer = sender
        .send_request(http::Request::new(crate::server::empty()))
        .await
        .unwrap();
    let body = http_body_util::BodyExt::collect(answer.into_body())
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(body, format!("{:?}", Some(std::process::id())));
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "precious").unwrap();
    assert!(Listener::bind_unix(&plain, 0o600).is_err());
    assert_eq!(std::fs::read(&plain).unwrap(), b"precious");
    drop(server);
}

#[cfg(unix)]
#[tokio::test]
async fn one_local_user_does_not_get_all_connections() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let listener = Listener::bind_unix(&path, 0o600).unwrap();
    let limits = Limits {
        connections_per_user: 2,
        ..Limits::default()
    };
    let _server = Server::start(listener, None, limits, |_, _| async {
        text(StatusCode::OK, "fine")
    });
    let ask = async || {
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await;
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got).await;
        got.ends_with(b"fine")
    };
    let connect = async || tokio::net::UnixStream::connect(&path).await.unwrap();
    let (first, second) = (connect().await, connect().await);
    assert!(!ask().await, "a third one is closed");
    drop(first);
    while !ask().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(second);
}

fn region(nodes: Vec<Node>) -> Region {
    Region {
        id: 900,
        code: "test".to_owned(),
        nodes,
        ..Region::default()
    }
}

#[tokio::test]
async fn relay_dial_errors_are_clear() {
    let check = async |node: Node, want: &str| {
        let error = dial(&dialer(), &region(vec![node]), DerpDialOptions::default())
            .await
            .unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    };
    check(
        Node {
            stun_only: true,
            ..Node::default()
        },
        "no node that relays",
    )
    .await;
    let node = Node {
        host: "127.0.0.1".to_owned(),
        ipv6: FamilyAddr::None,
        derp_port: testkit::free_port(),
        ..Node::default()
    };
    check(node.clone(), "connecting to `127.0.0.1").await;
    let server = echo_server(None).await;
    let derp_port = server.local_addr().unwrap().port();
    check(
        Node {
            derp_port,
            ..node.clone()
        },
        "tls handshake",
    )
    .await;
    check(
        Node {
            derp_port,
            cert_name: NodeCert::Unsatisfiable,
            ..node
        },
        "64 hex digits",
    )
    .await;
}

#[tokio::test]
async fn the_original_relay_is_reached_by_its_pin() {
    let Some(derper) = testkit::originals::go_derper("the_original_relay_is_reached_by_its_pin")
    else {
        return;
    };
    let node = Node {
        name: "900a".to_owned(),
        host: "127.0.0.1".to_owned(),
        cert_name: NodeCert::from_wire(derper.cert_name()),
        ipv4: FamilyAddr::Ip(Ipv4Addr::LOCALHOST),
        ipv6: FamilyAddr::None,
        derp_port: derper.port(),
        ..Node::default()
    };
    let mut dialled = dial(
        &dialer(),
        &region(vec![node.clone()]),
        DerpDialOptions::default(),
    )
    .await
    .unwrap();
    let server = dialled
        .server
        .expect("the original's certificate tells its key");
    let mut frame = [0; 5 + 8 + 32];
    dialled.stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(&frame[..5], &[1, 0, 0, 0, 40]);
    assert_eq!(&frame[13..], server.as_bytes());

    let wrong = Node {
        cert_name: NodeCert::Sha256([1; 32]),
        ..node
    };
    let error = dial(&dialer(), &region(vec![wrong]), DerpDialOptions::default())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("expected hash"), "{error}");
}
