//! The `--debug` HTTP listener: metrics and the node's status, for whoever may reach its address.

use std::net::{SocketAddr, ToSocketAddrs as _};

use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use node::{Feature, FeatureHost, Registry};
use transport::server::{Body, Limits, Listener, Server, full, text};

/// Serves on `address`, `[ip]:port`.
pub fn feature(address: String) -> Box<dyn Feature> {
    Box::new(DebugServer(address))
}

struct DebugServer(String);

impl Feature for DebugServer {
    fn name(&self) -> &'static str {
        "debug server"
    }

    fn register(self: Box<Self>, registry: &mut Registry) -> Result<(), String> {
        let wanted = &self.0;
        let address = resolve(wanted)
            .ok_or_else(|| format!("--debug={wanted}: not an address; write [ip]:port"))?;
        let listener = std::net::TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .and_then(tokio::net::TcpListener::from_std)
            .map_err(|error| format!("--debug={wanted}: cannot listen: {error}"))?;
        if wanted.ends_with(":0")
            && let Ok(bound) = listener.local_addr()
        {
            // Compat: the originals' test harness looks for this line.
            tracing::info!("DEBUG-ADDR={bound}");
        }
        registry.task("debug server", move |host: FeatureHost| async move {
            let _server = Server::start(
                Listener::Tcp(listener),
                None,
                Limits::default(),
                move |_peer, request| {
                    let host = host.clone();
                    async move { answer(&host, request.uri().path(), request.headers()).await }
                },
            );
            std::future::pending::<()>().await;
        });
        Ok(())
    }
}

/// An empty host means all addresses, as in Go.
fn resolve(text: &str) -> Option<SocketAddr> {
    if let Some(port) = text.strip_prefix(':') {
        return Some(([0, 0, 0, 0], port.parse().ok()?).into());
    }
    text.to_socket_addrs().ok()?.next()
}

async fn answer(host: &FeatureHost, path: &str, headers: &HeaderMap) -> Response<Body> {
    match path {
        "/debug/metrics" => text(StatusCode::OK, host.metrics.to_prometheus()),
        "/debug/ipn" if !is_own_host(headers) => text(StatusCode::FORBIDDEN, "invalid Host header"),
        "/debug/ipn" => {
            let status = host.status.status_json().await;
            page(&format!(
                "<h1>tailscaled</h1><pre>{}</pre>",
                escape(&status)
            ))
        }
        path if path.starts_with("/debug/pprof") || path == "/debug/magicsock" => {
            text(StatusCode::NOT_IMPLEMENTED, format!("not built: {path}\n"))
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// Names in the Host field may have been pointed here by somebody else's DNS; addresses cannot.
fn is_own_host(headers: &HeaderMap) -> bool {
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    host.starts_with("localhost:")
        || host.starts_with('[')
        || !host.contains(|c: char| c.is_ascii_alphabetic())
}

fn page(body: &str) -> Response<Body> {
    let mut response = Response::new(full(format!(
        "<!DOCTYPE html><meta charset=utf-8><title>tailscaled</title>{body}\n"
    )));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(
        "content-security-policy",
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    headers.insert("x-frame-options", HeaderValue::from_static("DENY"));
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_gos() {
        assert_eq!(resolve(":80"), Some(([0, 0, 0, 0], 80).into()));
        assert_eq!(resolve("127.0.0.1:0"), Some(([127, 0, 0, 1], 0).into()));
        assert_eq!(resolve("nonsense"), None);
    }

    #[test]
    fn rebound_names_are_refused() {
        let host =
            |text: &'static str| HeaderMap::from_iter([(HOST, HeaderValue::from_static(text))]);
        assert!(is_own_host(&host("127.0.0.1:80")));
        assert!(is_own_host(&host("[::1]:80")));
        assert!(is_own_host(&host("localhost:80")));
        assert!(!is_own_host(&host("evil.example:80")));
    }
}
