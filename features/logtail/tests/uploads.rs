//! The uploader against a real HTTP server on loopback.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use transport::server::{Limits, Listener, Server, empty};

#[tokio::test]
async fn entries_arrive_at_the_target_as_one_array() {
    let (bodies, mut received) = mpsc::unbounded_channel();
    let listener = Listener::bind_tcp(([127, 0, 0, 1], 0).into())
        .await
        .unwrap();
    let server = Server::start(listener, None, Limits::default(), move |_peer, request| {
        let bodies = bodies.clone();
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            bodies.send((path, body)).unwrap();
            http::Response::new(empty())
        }
    });
    let tap = node::LogTap::default();
    let feature = logtail::feature(logtail::Config {
        target: format!("http://{}", server.local_addr().unwrap()),
        private_id: "ab".repeat(32),
        log: tap.subscribe(),
    });
    tap.publish(0, || "logged before anything ran".into());
    let mut registry = node::Registry::default();
    feature.register(&mut registry).unwrap();
    let _tasks = registry.start(&support::host(&tap));
    tap.publish(1, || "second".into());
    let (path, body) = tokio::time::timeout(Duration::from_secs(30), received.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        path,
        format!("/c/tailnode.log.tailscale.io/{}", "ab".repeat(32))
    );
    let entries: Vec<serde_json::Value> = serde_json::from_slice(&body).unwrap();
    assert_eq!(entries[0]["text"], "logged before anything ran\n");
    assert_eq!(
        (&entries[1]["text"], &entries[1]["v"]),
        (&"second\n".into(), &1.into())
    );
    drop(Arc::new(server));
}

mod support {
    use std::io;
    use std::sync::Arc;

    use host::BoxFuture;
    use node::{DatagramFlow, Dial, FeatureHost, LogTap, StatusSource, Stream};

    /// A node that is not asked for anything.
    struct Nothing;

    impl Dial for Nothing {
        fn tcp<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
            Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
        }
        fn udp<'a>(
            &'a self,
            _: &'a str,
            _: u16,
        ) -> BoxFuture<'a, io::Result<Box<dyn DatagramFlow>>> {
            Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
        }
    }

    impl StatusSource for Nothing {
        fn status_json(&self) -> BoxFuture<'_, String> {
            Box::pin(async { "{}".into() })
        }
    }

    pub(crate) fn host(tap: &LogTap) -> FeatureHost {
        FeatureHost {
            dial: Arc::new(Nothing),
            status: Arc::new(Nothing),
            metrics: Arc::default(),
            log: tap.clone(),
        }
    }
}
