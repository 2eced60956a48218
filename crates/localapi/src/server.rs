//! The server's side: who is there, what they may do, and their answers.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt as _};
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, REFERER};
use http::{Method, Request as HttpRequest, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tailcfg::go;
use transport::server::{Body, Limits, Listener, Peer, Server, empty, full};

use crate::request::{Parts, decode};
use crate::routes::{self, Action, Found};
use crate::{Actor, ApiError, Duplex, LOCAL_CAP, Reply, Request};

/// Does what clients want.
pub trait Handler: Send + Sync + 'static {
    /// The user who may change things besides root and the daemon's own (`Prefs.OperatorUser`).
    fn operator_uid(&self) -> Option<u32>;

    /// Does one thing. Dropped when the client hangs up.
    fn call(&self, actor: Actor, request: Request) -> BoxFuture<'_, Result<Reply, ApiError>>;
}

/// Listens on a unix socket that everybody may connect to. A missing directory is made, a dead socket is replaced.
///
/// # Errors
/// When somebody listens there, or the system refuses.
#[cfg(unix)]
pub fn bind(path: &Path) -> io::Result<Listener> {
    use std::os::unix::fs::PermissionsExt as _;
    if let Some(dir) = path.parent()
        && !dir.as_os_str().is_empty()
        && !dir.exists()
    {
        std::fs::create_dir_all(dir)?;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
    }
    Listener::bind_unix(path, 0o666).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let text = format!("{}: address already in use", path.display());
            io::Error::new(error.kind(), text)
        }
        kind => io::Error::new(kind, format!("listen on {}: {error}", path.display())),
    })
}

/// Answers until the server is stopped or dropped.
pub fn serve(listener: Listener, handler: Arc<dyn Handler>) -> Server {
    let own_uid = own_uid();
    let limits = Limits {
        connections: 512,
        connections_per_user: 384,
        headers: 64,
        head_len: 64 << 10,
        ..Limits::default()
    };
    Server::start(listener, None, limits, move |peer: Arc<Peer>, request| {
        let handler = Arc::clone(&handler);
        async move { answer(handler, &peer, own_uid, request).await }
    })
}

#[cfg(unix)]
fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) const PREFIX: &str = "/localapi/v0/";

async fn answer(
    handler: Arc<dyn Handler>,
    peer: &Peer,
    own_uid: u32,
    request: HttpRequest<Incoming>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if request.method() == Method::CONNECT {
        let text = "bad method for platform";
        return ApiError::new(StatusCode::METHOD_NOT_ALLOWED, text).into_response();
    }
    if request.method() == Method::GET && path == "/server-status" {
        return json(StatusCode::OK, Bytes::from_static(b"{}\n"));
    }
    if !path.starts_with("/localapi/") {
        return outside(&path);
    }
    if request.headers().get_all(HOST).iter().nth(1).is_some() {
        return ApiError::bad_request("too many Host headers").into_response();
    }
    if !is_local(&request) {
        return ApiError::denied("invalid localapi request").into_response();
    }
    let actor = Actor::new(peer.credentials, own_uid, handler.operator_uid());
    let mut response = dispatch(handler, actor, &path, request)
        .await
        .unwrap_or_else(ApiError::into_response);
    add_headers(response.headers_mut());
    response
}

/// What is not the local API: a page that says what this is.
fn outside(path: &str) -> Response<Body> {
    if path != "/" {
        return not_found().into_response();
    }
    let mut page = Response::new(full(
        "<html><title>Tailscale</title><body><h1>Tailscale</h1>This is the local Tailscale daemon.\n",
    ));
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    page.headers_mut().insert(CONTENT_TYPE, kind);
    page
}

fn not_found() -> ApiError {
    ApiError::not_found("404 page not found")
}

/// Whether a local program sent this. A browser that was lured here names a host, an origin or a page.
fn is_local<B>(request: &HttpRequest<B>) -> bool {
    let headers = request.headers();
    let host = match request.uri().authority() {
        // A whole URL in the request line counts more than the header (RFC 9112 3.2.2).
        Some(authority) => authority.as_str().as_bytes(),
        None => headers.get(HOST).map_or(&b""[..], HeaderValue::as_bytes),
    };
    let names_page = [ORIGIN, REFERER]
        .into_iter()
        .any(|name| headers.get(name).is_some_and(|value| !value.is_empty()));
    !names_page && (host.is_empty() || host == crate::HOST.as_bytes())
}

const HEADERS: [(HeaderName, &str); 4] = [
    (
        HeaderName::from_static("content-security-policy"),
        "default-src 'none'; frame-ancestors 'none'; script-src 'none'; script-src-elem 'none'; script-src-attr 'none'",
    ),
    (
        HeaderName::from_static("tailscale-version"),
        ipn::version::LONG,
    ),
    (HeaderName::from_static("x-frame-options"), "DENY"),
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
];

fn add_headers(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("tailscale-cap", HeaderValue::from(LOCAL_CAP));
}

async fn dispatch(
    handler: Arc<dyn Handler>,
    actor: Actor,
    path: &str,
    mut request: HttpRequest<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let name = path.strip_prefix(PREFIX).ok_or_else(not_found)?;
    let found = routes::find(name, request.method()).ok_or_else(not_found)?;
    let route = found.route;
    if actor.right < route.right {
        return Err(ApiError::denied(route.denied));
    }
    if !found.takes_method {
        let (status, text) = route.wrong_method;
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::METHOD_NOT_ALLOWED);
        return Err(ApiError::new(status, text));
    }
    let read = match route.action {
        Action::Read(read) => read,
        Action::Fixed { document, etag } => return Ok(fixed(document, etag)),
        Action::Absent => {
            return Err(ApiError::not_built(route.name.trim_end_matches('/')));
        }
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        tracing::info!("[{}] {PREFIX}{}", request.method(), route.name);
    }
    let body = read_body(&mut request, route.body_max).await?;
    let typed = read(&parts(&found, &request, body)?)?;
    let reply = handler.call(actor, typed).await?;
    let success = StatusCode::from_u16(route.success).unwrap_or(StatusCode::OK);
    Ok(respond(reply, success, &mut request))
}

fn parts<'a>(
    found: &Found<'_>,
    request: &'a HttpRequest<Incoming>,
    body: Bytes,
) -> Result<Parts<'a>, ApiError> {
    Ok(Parts {
        rest: decode(found.rest, false).ok_or_else(|| ApiError::bad_request("bad path"))?,
        query: request.uri().query().unwrap_or_default(),
        headers: request.headers(),
        body,
    })
}

async fn read_body(request: &mut HttpRequest<Incoming>, max: usize) -> Result<Bytes, ApiError> {
    if max == 0 {
        return Ok(Bytes::new());
    }
    let body = Limited::new(request.body_mut(), max).collect();
    match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("request body is longer than {max} bytes"),
        )),
        Ok(Err(_)) => Err(ApiError::bad_request("read request body")),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "request body did not come in time",
        )),
    }
}

fn respond(
    reply: Reply,
    success: StatusCode,
    request: &mut HttpRequest<Incoming>,
) -> Response<Body> {
    match reply {
        Reply::Done => {
            let mut response = Response::new(empty());
            *response.status_mut() = success;
            response
        }
        Reply::Json(document) => json(success, document.into()),
        Reply::Text(text) => transport::server::text(success, text),
        Reply::Notifies(messages) => stream(messages.filter_map(|message| async move {
            let mut line = go::to_string(&*message).ok()?;
            line.push('\n');
            Some(line)
        })),
        Reply::Lines(lines) => stream(lines),
        Reply::Dialed(connection) => upgrade(connection, request),
        Reply::DialSelf(addr) => {
            let mut response = Response::new(empty());
            let headers = response.headers_mut();
            headers.insert("dial-self", HeaderValue::from_static("true"));
            if let Ok(addr) = HeaderValue::from_str(&addr.to_string()) {
                headers.insert("dial-addr", addr);
            }
            response
        }
    }
}

fn json(status: StatusCode, document: Bytes) -> Response<Body> {
    let mut response = Response::new(full(document));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn fixed(document: &'static str, etag: &'static str) -> Response<Body> {
    let mut response = json(StatusCode::OK, Bytes::from_static(document.as_bytes()));
    let tag = HeaderValue::from_static(etag);
    response.headers_mut().insert("etag", tag);
    response
}

/// One frame per line, so that each is flushed.
fn stream(lines: impl Stream<Item = String> + Send + 'static) -> Response<Body> {
    let frames = lines.map(|line| Ok::<_, Infallible>(Frame::data(Bytes::from(line))));
    let body = StreamBody::new(frames).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Turns the request's connection into a pipe to `connection`. The first side to close ends both, as the originals do.
fn upgrade(mut connection: Box<dyn Duplex>, request: &mut HttpRequest<Incoming>) -> Response<Body> {
    let upgraded = hyper::upgrade::on(request);
    rt::Task::spawn("localapi dial", async move {
        match upgraded.await {
            Ok(client) => {
                let (mut from_client, mut to_client) = tokio::io::split(TokioIo::new(client));
                let (mut from_peer, mut to_peer) = tokio::io::split(&mut connection);
                // Either end may go away at any time: that is how a connection ends.
                tokio::select! {
                    _ = tokio::io::copy(&mut from_client, &mut to_peer) => {}
                    _ = tokio::io::copy(&mut from_peer, &mut to_client) => {}
                }
            }
            Err(error) => tracing::debug!("take over a dialing client's connection: {error}"),
        }
    })
    .detach();
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert("upgrade", HeaderValue::from_static("ts-dial"));
    headers.insert("connection", HeaderValue::from_static("upgrade"));
    response
}
