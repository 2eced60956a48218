//! Connections that are kept, with servers of each kind.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::cert::ServerCert;
use crate::tls::Roots;
use crate::{Executor, Kept, Open, Stream};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Http1,
    Http2,
}

/// A server that answers with what it was asked, and how many connections it has had. It ends each after `requests`.
async fn server(kind: Kind, cert: &ServerCert, requests: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let mut config = (**cert.acceptor(&[]).unwrap().config()).clone();
    if kind == Kind::Http2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let count = Arc::clone(&connections);
    let serve = async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let acceptor = acceptor.clone();
            let one = async move {
                let stream = match kind {
                    Kind::Plain => Stream::new(stream),
                    Kind::Http1 | Kind::Http2 => {
                        Stream::new(acceptor.accept(stream).await.unwrap())
                    }
                };
                let served = AtomicUsize::new(0);
                let done = tokio::sync::Notify::new();
                let service = service_fn(|request: Request<hyper::body::Incoming>| {
                    if served.fetch_add(1, Ordering::SeqCst) + 1 == requests {
                        done.notify_one();
                    }
                    async {
                        let body = request.into_body().collect().await?.to_bytes();
                        Ok::<_, hyper::Error>(Response::new(Full::new(body)))
                    }
                });
                let stream = TokioIo::new(stream);
                // Who has had enough goes without a word.
                match kind {
                    Kind::Http2 => {
                        let builder = hyper::server::conn::http2::Builder::new(Executor);
                        let mut connection =
                            std::pin::pin!(builder.serve_connection(stream, service));
                        tokio::select! {
                            _ = connection.as_mut() => {}
                            () = done.notified() => {
                                connection.as_mut().graceful_shutdown();
                                let _ = connection.await;
                            }
                        }
                    }
                    Kind::Plain | Kind::Http1 => {
                        let builder = hyper::server::conn::http1::Builder::new();
                        let mut connection =
                            std::pin::pin!(builder.serve_connection(stream, service));
                        tokio::select! {
                            _ = connection.as_mut() => {}
                            () = done.notified() => {
                                connection.as_mut().graceful_shutdown();
                                let _ = connection.await;
                            }
                        }
                    }
                }
            };
            rt::Task::spawn("served", one).detach();
        }
    };
    rt::Task::spawn("server", serve).detach();
    (address, connections)
}

fn to(address: SocketAddr) -> Open<'static> {
    Box::pin(async move { TcpStream::connect(address).await.map(Stream::new) })
}

async fn ask(kept: &Kept, roots: Option<&Arc<Roots>>, address: SocketAddr, text: &str) -> String {
    let uri = match roots {
        Some(_) => "https://localhost/echo",
        None => "/echo",
    };
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes()));
    let request = Request::post(uri)
        .header("host", "localhost")
        .body(body)
        .unwrap();
    let open = || to(address);
    let answer = kept.send("localhost", roots, request, 100, open).await;
    let (status, body) = answer.unwrap();
    assert_eq!(status, StatusCode::OK);
    String::from_utf8_lossy(&body).into_owned()
}

#[tokio::test]
async fn one_connection_serves_many_questions() {
    let cert = ServerCert::self_signed("localhost", rt::wall()).unwrap();
    let roots = Arc::new(Roots::with_extra(vec![cert.chain[0].clone()]));
    for kind in [Kind::Plain, Kind::Http1, Kind::Http2] {
        let (address, connections) = server(kind, &cert, usize::MAX).await;
        let kept = Kept::default();
        let roots = Some(&roots).filter(|_| kind != Kind::Plain);
        for text in ["one", "two", "three"] {
            assert_eq!(ask(&kept, roots, address, text).await, text);
            // Let it come back.
            tokio::task::yield_now().await;
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_connection_that_has_ended_is_replaced() {
    let cert = ServerCert::self_signed("localhost", rt::wall()).unwrap();
    let roots = Arc::new(Roots::with_extra(vec![cert.chain[0].clone()]));
    for kind in [Kind::Plain, Kind::Http1, Kind::Http2] {
        let (address, connections) = server(kind, &cert, 1).await;
        let kept = Kept::default();
        let roots = Some(&roots).filter(|_| kind != Kind::Plain);
        for text in ["one", "two", "three"] {
            assert_eq!(ask(&kept, roots, address, text).await, text);
        }
        assert_eq!(connections.load(Ordering::SeqCst), 3);
    }
}

#[tokio::test]
async fn who_shows_another_certificate_is_not_asked() {
    let [cert, other] = [0, 1].map(|_| ServerCert::self_signed("localhost", rt::wall()).unwrap());
    let roots = Arc::new(Roots::with_extra(vec![other.chain[0].clone()]));
    let (address, _) = server(Kind::Http2, &cert, usize::MAX).await;
    let request = Request::post("https://localhost/")
        .body(Full::default())
        .unwrap();
    let open = || to(address);
    assert!(
        Kept::default()
            .send("localhost", Some(&roots), request, 100, open)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn many_ask_at_once_and_each_has_its_own_answer() {
    let cert = ServerCert::self_signed("localhost", rt::wall()).unwrap();
    let roots = Arc::new(Roots::with_extra(vec![cert.chain[0].clone()]));
    for kind in [Kind::Plain, Kind::Http1, Kind::Http2] {
        let (address, connections) = server(kind, &cert, usize::MAX).await;
        let kept = Kept::default();
        let roots = Some(&roots).filter(|_| kind != Kind::Plain);
        for _ in 0..5 {
            let questions = (0..30).map(|number| {
                let kept = &kept;
                async move {
                    let text = format!("question {number}");
                    assert_eq!(ask(kept, roots, address, &text).await, text);
                }
            });
            futures_util::future::join_all(questions).await;
        }
        let made = connections.load(Ordering::SeqCst);
        assert!(made < 150, "{made} connections for 150 questions");
    }
}
