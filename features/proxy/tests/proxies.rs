//! Both proxies over real sockets, in front of a node that only knows this machine; by hand and with curl.
#![allow(
    clippy::unwrap_used,
    reason = "a failure here is a failure of the test"
)]

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use host::BoxFuture;
use node::{DatagramFlow, Dial, Stream};
use proxy::{Speaks, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Knows one name, and the loopback addresses.
struct Loopback;

fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let ip = if host == "peer.tailnet" {
        "127.0.0.1"
    } else {
        host
    };
    let ip: std::net::IpAddr = ip
        .parse()
        .map_err(|_| io::Error::other(format!("no such host {host}\r\nX: y")))?;
    assert!(ip.is_loopback());
    Ok((ip, port).into())
}

impl Dial for Loopback {
    fn tcp<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream: Box<dyn Stream> = Box::new(TcpStream::connect(resolve(host, port)?).await?);
            Ok(stream)
        })
    }

    fn udp<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Box<dyn DatagramFlow>>> {
        Box::pin(async move {
            let target = resolve(host, port)?;
            let socket = UdpSocket::bind("127.0.0.1:0").await?;
            socket.connect(target).await?;
            let flow: Box<dyn DatagramFlow> = Box::new(Flow(socket));
            Ok(flow)
        })
    }
}

struct Flow(UdpSocket);

impl DatagramFlow for Flow {
    fn send<'a>(&'a self, datagram: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async { self.0.send(datagram).await.map(drop) })
    }
    fn recv<'a>(&'a self, buf: &'a mut [u8]) -> BoxFuture<'a, io::Result<usize>> {
        Box::pin(self.0.recv(buf))
    }
    fn local_addr(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}

async fn start(speaks: Speaks) -> (SocketAddr, rt::Task) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (
        address,
        rt::Task::spawn(
            "proxy under test",
            serve(listener, speaks, Arc::new(Loopback)),
        ),
    )
}

/// A server that hands each connection to `serve`.
async fn server<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> (SocketAddr, rt::Task) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = rt::Task::spawn("test server", async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            rt::Task::spawn("test connection", serve(stream)).detach();
        }
    });
    (address, task)
}

async fn echo_server() -> (SocketAddr, rt::Task) {
    server(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
    .await
}

/// Answers each request with its head and body, as they arrived.
async fn mirror_server() -> (SocketAddr, rt::Task) {
    server(|mut stream| async move {
        let mut seen = Vec::new();
        let body_len = |seen: &[u8]| {
            let text = String::from_utf8_lossy(seen).to_lowercase();
            let (head, _) = text.split_once("\r\n\r\n")?;
            let len = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            Some(head.len() + 4 + len.map_or(0, |len| len.parse::<usize>().unwrap()))
        };
        while body_len(&seen).is_none_or(|whole| seen.len() < whole) {
            if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\nContent-Length: {}\r\n\r\n", seen.len());
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&seen).await;
    })
    .await
}

async fn exchange(stream: &mut TcpStream, send: &[u8], expect: usize) -> Vec<u8> {
    stream.write_all(send).await.unwrap();
    let mut got = vec![0; expect];
    stream.read_exact(&mut got).await.unwrap();
    got
}

fn socks_request(command: u8, name: &str, port: u16) -> Vec<u8> {
    let mut request = vec![5, command, 0, 3, name.len() as u8];
    request.extend_from_slice(name.as_bytes());
    request.extend_from_slice(&port.to_be_bytes());
    request
}

#[tokio::test]
async fn socks_connects_to_names_and_passes_ends_on() {
    for speaks in [Speaks::Socks, Speaks::Both] {
        let (proxy, _proxy) = start(speaks).await;
        let (target, _target) = echo_server().await;
        let mut client = TcpStream::connect(proxy).await.unwrap();
        assert_eq!(exchange(&mut client, &[5, 2, 0, 2], 2).await, [5, 0]);
        let answer = exchange(
            &mut client,
            &socks_request(1, "peer.tailnet", target.port()),
            10,
        )
        .await;
        assert_eq!(answer[..8], [5, 0, 0, 1, 127, 0, 0, 1]);
        assert_ne!(answer[8..], [0, 0], "the port of our end");
        let big: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
        let (mut read, mut write) = client.split();
        let send = async {
            write.write_all(&big).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let receive = async { read.read_to_end(&mut got).await.unwrap() };
        tokio::join!(send, receive);
        assert!(got == big);
    }
}

#[tokio::test]
async fn socks_failures_have_the_originals_codes() {
    let (proxy, _proxy) = start(Speaks::Socks).await;
    let failure = [5, 1, 0, 1, 0, 0, 0, 0, 0, 0];
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    for (request, answer) in [
        (socks_request(1, "127.0.0.1", closed.port()), failure),
        (socks_request(1, "no.such.name", 80), failure),
        (
            socks_request(2, "peer.tailnet", 80),
            [5, 7, 0, 1, 0, 0, 0, 0, 0, 0],
        ),
        (vec![5, 1, 0, 9], failure),
    ] {
        let mut client = TcpStream::connect(proxy).await.unwrap();
        assert_eq!(exchange(&mut client, &[5, 1, 0], 2).await, [5, 0]);
        assert_eq!(exchange(&mut client, &request, 10).await, answer);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "closed");
    }
    for greeting in [&[5, 1, 2][..], &[4, 1]] {
        let mut client = TcpStream::connect(proxy).await.unwrap();
        assert_eq!(exchange(&mut client, greeting, 2).await, [5, 255]);
    }
}

#[tokio::test]
async fn socks_carries_datagrams_while_the_connection_lives() {
    let (proxy, _proxy) = start(Speaks::Socks).await;
    let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = target.local_addr().unwrap();
    let mut control = TcpStream::connect(proxy).await.unwrap();
    exchange(&mut control, &[5, 1, 0], 2).await;
    let answer = exchange(&mut control, &[5, 3, 0, 1, 0, 0, 0, 0, 0, 0], 10).await;
    assert_eq!(answer[..8], [5, 0, 0, 1, 127, 0, 0, 1]);
    let relay = SocketAddr::from(([127, 0, 0, 1], u16::from_be_bytes([answer[8], answer[9]])));

    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut envelope = vec![0, 0, 0, 3, 12];
    envelope.extend_from_slice(b"peer.tailnet");
    envelope.extend_from_slice(&to.port().to_be_bytes());
    let head = envelope.clone();
    envelope.extend_from_slice(b"question");
    client.send_to(&[1, 0, 0, 1], relay).await.unwrap();
    client.send_to(&envelope, relay).await.unwrap();
    let mut buffer = [0; 100];
    let (n, from) = target.recv_from(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..n], b"question");
    target.send_to(b"answer", from).await.unwrap();
    let (n, _) = client.recv_from(&mut buffer).await.unwrap();
    assert_eq!(buffer[..n], [&head[..], b"answer"].concat());

    drop(control);
    // The relay's socket goes with the connection.
    for _ in 0..200 {
        if UdpSocket::bind(relay).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the association outlives its connection");
}

#[tokio::test]
async fn http_connect_answers_exactly_one_line() {
    for speaks in [Speaks::Http, Speaks::Both] {
        let (proxy, _proxy) = start(speaks).await;
        let (target, _target) = echo_server().await;
        let mut client = TcpStream::connect(proxy).await.unwrap();
        // A failure first: the connection can be used again.
        client
            .write_all(b"CONNECT no.such.name:80 HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"\n")
            || !got.windows(4).any(|w| w == b"\r\n\r\n")
            || got.ends_with(b"\r\n")
        {
            client.read_buf(&mut got).await.unwrap();
        }
        let got = String::from_utf8(got).unwrap();
        assert!(
            got.starts_with("HTTP/1.1 500 Internal Server Error\r\n"),
            "{got}"
        );
        assert!(
            got.contains("\r\nTailscale-Connect-Error: no such host no.such.name??X: y\r\n"),
            "{got}"
        );
        // What follows the head at once belongs to the tunnel.
        let request = format!(
            "CONNECT peer.tailnet:{} HTTP/1.1\r\nHost: x\r\n\r\nearly",
            target.port()
        );
        let expected = b"HTTP/1.1 200 OK\r\n\r\nearly";
        assert_eq!(
            exchange(&mut client, request.as_bytes(), expected.len()).await,
            expected
        );
        assert_eq!(exchange(&mut client, b"late", 4).await, b"late");
        client.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn http_requests_are_passed_on_without_what_concerns_the_hop() {
    let (proxy, _proxy) = start(Speaks::Both).await;
    let (target, _target) = mirror_server().await;
    let mut client = TcpStream::connect(proxy).await.unwrap();
    let request = format!(
        "POST http://user@peer.tailnet:{}/path?q=1 HTTP/1.1\r\nHost: other\r\nConnection: X-Mine, close\r\nX-Mine: 1\r\n\
         Proxy-Connection: keep-alive\r\nTE: trailers, deflate\r\nX-Forwarded-For: 9.9.9.9\r\nX-Kept: 2\r\n\
         Content-Length: 4\r\n\r\nbody",
        target.port()
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let mut got = String::new();
    client.read_to_string(&mut got).await.unwrap();
    let (head, seen) = got.split_once("\r\n\r\n").unwrap();
    let (head, seen) = (head.to_lowercase(), seen.to_lowercase());
    assert!(
        head.starts_with("http/1.1 200 ok") && head.contains("x-end: 2") && !head.contains("x-hop"),
        "{head}"
    );
    assert!(seen.starts_with("post /path?q=1 http/1.1\r\n"), "{seen}");
    assert!(
        seen.contains(&format!("\r\nhost: peer.tailnet:{}\r\n", target.port())),
        "{seen}"
    );
    for kept in [
        "\r\nte: trailers\r\n",
        "\r\nx-forwarded-for: 9.9.9.9, 127.0.0.1\r\n",
        "\r\nx-kept: 2\r\n",
    ] {
        assert!(seen.contains(kept), "{kept} not in {seen}");
    }
    for gone in [
        "x-mine",
        "proxy-connection",
        "deflate",
        "connection: ",
        "user-agent",
    ] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
    assert!(seen.ends_with("\r\n\r\nbody"), "{seen}");
}

#[tokio::test]
async fn http_refusals() {
    let (proxy, _proxy) = start(Speaks::Http).await;
    for (request, status, body) in [
        (
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "400",
            "bogus RequestURI; must be absolute URL or CONNECT\n",
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
            "400",
            "bogus RequestURI; must be absolute URL or CONNECT\n",
        ),
        (
            "GET http://no.such.name/ HTTP/1.1\r\nHost: x\r\n\r\n",
            "502",
            "",
        ),
    ] {
        let mut client = TcpStream::connect(proxy).await.unwrap();
        let request = request.replace("Host: x", "Host: x\r\nConnection: close");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut got = String::new();
        client.read_to_string(&mut got).await.unwrap();
        let (head, rest) = got.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{got}");
        assert_eq!(rest, body);
    }
}

#[tokio::test]
async fn http_upgrades_become_tunnels() {
    let (proxy, _proxy) = start(Speaks::Http).await;
    let (target, _target) = server(|mut stream| async move {
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut seen).await.unwrap();
        }
        let seen = String::from_utf8(seen).unwrap().to_lowercase();
        assert!(
            seen.contains("upgrade: chat") && seen.contains("connection: upgrade"),
            "{seen}"
        );
        stream
            .write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n",
            )
            .await
            .unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let mut client = TcpStream::connect(proxy).await.unwrap();
    let request = format!(
        "GET http://127.0.0.1:{}/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n",
        target.port()
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).await.unwrap();
        head.push(byte[0]);
    }
    assert!(
        head.starts_with(b"HTTP/1.1 101 "),
        "{}",
        String::from_utf8_lossy(&head)
    );
    assert_eq!(exchange(&mut client, b"hello", 5).await, b"hello");
}

#[tokio::test]
async fn junk_does_no_harm() {
    let (proxy, _proxy) = start(Speaks::Both).await;
    for junk in [
        &[0; 100][..],
        b"\x16\x03\x01\x02\x00",
        b"CONNECT \xff\xff HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
        b"5",
    ] {
        let mut client = TcpStream::connect(proxy).await.unwrap();
        client.write_all(junk).await.unwrap();
        let _ = client.shutdown().await;
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
    }
    let mut client = TcpStream::connect(proxy).await.unwrap();
    assert_eq!(exchange(&mut client, &[5, 1, 0], 2).await, [5, 0]);
}

/// Runs curl; `None` if there is none.
async fn curl(arguments: &[String]) -> Option<(i32, Vec<u8>)> {
    let mut command = tokio::process::Command::new("curl");
    command
        .args(["-sS", "--max-time", "30", "--noproxy", ""])
        .args(arguments);
    // The machine's own proxy settings are none of this test's business.
    for name in [
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
    ] {
        command.env_remove(name);
    }
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .ok()?;
    Some((output.status.code().unwrap_or(-1), output.stdout))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_through_in_every_way() {
    let (proxy, _proxy) = start(Speaks::Both).await;
    let body: Arc<Vec<u8>> = Arc::new((0..5_000_000u32).map(|i| (i / 3) as u8).collect());
    let sent = body.clone();
    let (target, _target) = server(move |mut stream| {
        let body = sent.clone();
        async move {
            let mut seen = Vec::new();
            while !seen.windows(4).any(|w| w == b"\r\n\r\n") {
                stream.read_buf(&mut seen).await.unwrap();
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body).await.unwrap();
        }
    })
    .await;
    let url = format!("http://peer.tailnet:{}/file", target.port());
    for way in [
        vec!["--socks5-hostname".to_owned(), proxy.to_string()],
        vec!["-x".to_owned(), format!("http://{proxy}")],
        vec![
            "-x".to_owned(),
            format!("http://{proxy}"),
            "--proxytunnel".to_owned(),
        ],
    ] {
        let arguments = [&way[..], std::slice::from_ref(&url)].concat();
        let Some((code, got)) = curl(&arguments).await else {
            testkit::originals::skip(
                "curl_gets_through_in_every_way",
                "no curl; install the package `curl`",
            );
            return;
        };
        assert_eq!(code, 0, "{way:?}");
        assert!(got == *body, "{way:?}: {} bytes", got.len());
    }
    let dead = "http://no.such.name/".to_owned();
    let refused = curl(&["--socks5-hostname".into(), proxy.to_string(), dead.clone()])
        .await
        .unwrap();
    assert_eq!(
        refused.0, 97,
        "curl's code for a refusal by the SOCKS server"
    );
    let refused = curl(&[
        "-x".into(),
        format!("http://{proxy}"),
        "--proxytunnel".into(),
        dead,
    ])
    .await
    .unwrap();
    assert!(
        [7, 56].contains(&refused.0),
        "curl's codes for a failed CONNECT: {}",
        refused.0
    );
}
