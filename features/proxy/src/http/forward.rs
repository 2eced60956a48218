//! Requests for absolute URLs, passed on as a reverse proxy does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use node::{Dial, Stream as NodeStream};
use transport::Stream;
use transport::server::{Body, Peer, empty, text};

use crate::relay::relay;

/// Fields that concern one connection and not the message (RFC 2616 13.5.1, and one that clients invented).
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Answers one request.
pub(super) async fn handle(
    peer: Arc<Peer>,
    request: Request<Incoming>,
    dial: Arc<dyn Dial>,
) -> Response<Body> {
    if request.method() == Method::CONNECT {
        return connect(request, &*dial).await;
    }
    if request.uri().authority().is_none() {
        return error(
            StatusCode::BAD_REQUEST,
            "bogus RequestURI; must be absolute URL or CONNECT",
        );
    }
    match forward(peer.address, request, &*dial).await {
        Ok(response) => response,
        Err(error) => {
            tracing::debug!("http proxy: {error}");
            status(StatusCode::BAD_GATEWAY)
        }
    }
}

/// A CONNECT that follows another request on the same connection.
async fn connect(request: Request<Incoming>, dial: &dyn Dial) -> Response<Body> {
    let target = request.uri().to_string();
    match super::dial_target(&target, dial).await {
        Ok(stream) => {
            switch(hyper::upgrade::on(request), stream);
            status(StatusCode::OK)
        }
        Err(why) => {
            let why = super::one_line(&why.to_string());
            let mut response = error(StatusCode::INTERNAL_SERVER_ERROR, &why);
            if let Ok(value) = HeaderValue::from_str(&why) {
                let name = HeaderName::from_static("tailscale-connect-error");
                response.headers_mut().insert(name, value);
            }
            response
        }
    }
}

/// Joins the client's side, once it has switched protocols, with `stream`.
fn switch(
    client: hyper::upgrade::OnUpgrade,
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) {
    rt::Task::spawn("proxy tunnel", async move {
        match client.await {
            Ok(client) => {
                if let Err(error) = relay(Stream::from(client), stream).await {
                    tracing::debug!("http proxy tunnel: {error}");
                }
            }
            Err(error) => tracing::debug!("http proxy: switching protocols: {error}"),
        }
    })
    .detach();
}

async fn forward(
    client: Option<SocketAddr>,
    mut request: Request<Incoming>,
    dial: &dyn Dial,
) -> io::Result<Response<Body>> {
    let authority = request
        .uri()
        .authority()
        .cloned()
        .ok_or(io::ErrorKind::InvalidInput)?;
    let stream = dial_url(request.uri(), &authority, dial).await?;
    let client_upgrade = hyper::upgrade::on(&mut request);
    let wants = upgrade_of(request.headers());
    rewrite(&mut request, &authority, client, wants.as_ref())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    rt::Task::spawn("proxy upstream", async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!("http proxy upstream: {error}");
        }
    })
    .detach();
    let mut response = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let upstream = hyper::upgrade::on(&mut response);
        let (parts, _) = response.into_parts();
        rt::Task::spawn("proxy upgrade", async move {
            match upstream.await {
                Ok(upstream) => switch(client_upgrade, Stream::from(upstream)),
                Err(error) => tracing::debug!("http proxy upstream: switching protocols: {error}"),
            }
        })
        .detach();
        return Ok(Response::from_parts(parts, empty()));
    }
    strip(response.headers_mut());
    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
}

async fn dial_url(
    uri: &Uri,
    authority: &Authority,
    dial: &dyn Dial,
) -> io::Result<Box<dyn NodeStream>> {
    if uri.scheme() != Some(&Scheme::HTTP) {
        return Err(io::Error::other(
            "only http URLs are passed on; https takes CONNECT",
        ));
    }
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    dial.tcp(host, authority.port_u16().unwrap_or(80)).await
}

/// Turns the request to a proxy into one to the server itself.
fn rewrite(
    request: &mut Request<Incoming>,
    authority: &Authority,
    client: Option<SocketAddr>,
    upgrade: Option<&HeaderValue>,
) -> io::Result<()> {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(io::Error::other)?;
    *request.version_mut() = http::Version::HTTP_11;
    let headers = request.headers_mut();
    let trailers = has_token(headers, &header::TE, "trailers");
    strip(headers);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, upgrade.clone());
    }
    // What the URL says counts, whatever the Host field says (RFC 9112 3.2.2); credentials are not part of it.
    let text = authority.as_str();
    let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
    headers.insert(
        header::HOST,
        HeaderValue::from_str(host).map_err(io::Error::other)?,
    );
    if let Some(client) = client {
        append_forwarded(headers, client);
    }
    Ok(())
}

fn append_forwarded(headers: &mut HeaderMap, client: SocketAddr) {
    let mut chain: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .collect();
    let client = client.ip().to_canonical().to_string();
    chain.push(&client);
    if let Ok(value) = HeaderValue::from_str(&chain.join(", ")) {
        headers.insert(FORWARDED_FOR, value);
    }
}

/// The protocol that a message wants to switch to.
fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = has_token(headers, &header::CONNECTION, "upgrade");
    headers.get(header::UPGRADE).filter(|_| wanted).cloned()
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Removes what concerns one connection only, also what the message itself calls so.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, &header::CONNECTION)
        .filter_map(|name| name.parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

/// An error as Go's library writes it.
fn error(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = text(status, format!("{message}\n"));
    let nosniff = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}
