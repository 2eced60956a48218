//! One port for HTTP/1 and HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use crate::server::{Limits, Peer, serve_either, text};
use crate::{Executor, Stream};

/// A server that takes either version, and the other end of one connection with it.
fn either() -> (tokio::io::DuplexStream, watch::Sender<bool>, rt::Task) {
    let (ours, theirs) = tokio::io::duplex(4096);
    let (stop, stopped) = watch::channel(false);
    let limits = Limits {
        head_timeout: Duration::from_secs(5),
        ..Limits::default()
    };
    let serve = async move {
        let handler = |_, request: Request<Incoming>| async move {
            let version = format!("{:?}", request.version());
            let body = request.into_body().collect().await.unwrap().to_bytes();
            text(StatusCode::OK, [version.as_bytes(), &body].concat())
        };
        let peer = Peer::default();
        serve_either(Stream::new(ours), peer, &limits, stopped, &handler).await;
    };
    (theirs, stop, rt::Task::spawn("either", serve))
}

#[tokio::test]
async fn either_version_is_served_on_one_port() {
    let request = || Request::post("http://node/").body(Full::new("!".into()));
    let said = async |response: Response<Incoming>| {
        let body = response.into_body().collect().await.unwrap();
        String::from_utf8(body.to_bytes().to_vec()).unwrap()
    };
    let (theirs, _stop, server) = either();
    let (mut sender, connection) =
        http2::handshake::<_, _, Full<Bytes>>(Executor, TokioIo::new(theirs))
            .await
            .unwrap();
    let driver = rt::Task::spawn("client", async {
        connection.await.unwrap();
    });
    for _ in 0..3 {
        let answer = sender.send_request(request().unwrap()).await.unwrap();
        assert_eq!(said(answer).await, "HTTP/2.0!");
    }
    drop(sender);
    driver.join().await;
    server.join().await;

    let (theirs, stop, server) = either();
    let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(theirs))
        .await
        .unwrap();
    rt::Task::spawn("client", async {
        let _ = connection.await;
    })
    .detach();
    let answer = sender.send_request(request().unwrap()).await.unwrap();
    assert_eq!(said(answer).await, "HTTP/1.1!");
    // Nobody has to hang up first.
    stop.send_replace(true);
    server.join().await;
}

#[tokio::test]
async fn what_only_begins_like_http2_is_http1() {
    for (sent, answer) in [
        ("PRI / HTTP/1.0\r\n\r\n", "HTTP/1.0 200"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r!", "HTTP/1.1 400"),
        ("GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200"),
        ("P", ""),
        ("", ""),
    ] {
        let (mut theirs, _stop, server) = either();
        for byte in sent.as_bytes() {
            // What a server has had enough of, it does not read to the end.
            let _ = theirs.write_all(&[*byte]).await;
            tokio::task::yield_now().await;
        }
        let _ = theirs.shutdown().await;
        let mut got = Vec::new();
        let _ = theirs.read_to_end(&mut got).await;
        assert!(
            String::from_utf8_lossy(&got).starts_with(answer)
                && (got.is_empty() == answer.is_empty()),
            "{sent:?} is answered with {:?}",
            String::from_utf8_lossy(&got)
        );
        server.join().await;
    }
}

#[tokio::test]
async fn curl_speaks_http2_without_tls_with_us() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (_stop, stopped) = watch::channel(false);
        let handler = |_, request: Request<Incoming>| async move {
            text(
                StatusCode::OK,
                format!("{:?} {}", request.version(), request.uri().path()),
            )
        };
        let (peer, limits) = (Peer::default(), Limits::default());
        serve_either(Stream::new(stream), peer, &limits, stopped, &handler).await;
    };
    let server = rt::Task::spawn("server", serve);
    let asked = tokio::process::Command::new("curl")
        .args(["--silent", "--noproxy", "*", "--http2-prior-knowledge"])
        .arg(format!("http://{address}/v0/x"))
        .output()
        .await;
    let Ok(asked) = asked else {
        return testkit::originals::skip("transport", "curl is not installed");
    };
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "HTTP/2.0 /v0/x");
    server.join().await;
}
