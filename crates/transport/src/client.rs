//! Small requests: one connection, one answer, a cap on its body.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::tls::Verify;
use crate::{Dialer, Error};

/// A request.
#[derive(Debug, Clone)]
pub struct OneShot {
    /// The method.
    pub method: Method,
    /// An absolute `http` or `https` URL.
    pub url: String,
    /// Further fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The longest answer that is read, in bytes.
    pub body_len_max: usize,
    /// How long all of it may take.
    pub timeout: Duration,
    /// Which certificate is accepted for `https`.
    pub verify: Verify,
}

impl OneShot {
    /// A `GET` with a ten seconds limit.
    pub fn get(url: impl Into<String>, body_len_max: usize) -> Self {
        Self {
            method: Method::GET,
            url: url.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            body_len_max,
            timeout: Duration::from_secs(10),
            verify: Verify::Host,
        }
    }
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The start of the body as text for an error.
    pub fn body_text(&self) -> String {
        crate::head::readable(&self.body)
    }
}

/// Host, port and whether it is `https`, of an absolute URL.
pub fn target_of(url: &str) -> Result<(bool, String, u16), Error> {
    let bad = |what: &str| Error::BadRequest {
        what: format!("url `{}`: {what}", url.escape_debug()),
    };
    let uri: Uri = url.parse().map_err(|_| bad("not a url"))?;
    let https = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(bad("the scheme must be http or https")),
    };
    let host = uri
        .host()
        .map(|host| host.trim_start_matches('[').trim_end_matches(']'))
        .filter(|host| !host.is_empty())
        .ok_or_else(|| bad("no host"))?
        .to_owned();
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    Ok((https, host, port))
}

/// Sends the request on a fresh connection. Redirects are not followed.
pub async fn send(dialer: &Dialer, request: OneShot) -> Result<Answer, Error> {
    let what = format!("{} `{}`", request.method, without_query(&request.url));
    match timeout(request.timeout, exchange(dialer, request, &what)).await {
        Ok(done) => done,
        Err(_) => Err(Error::timeout(what)),
    }
}

/// Queries may hold secrets.
fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

async fn exchange(dialer: &Dialer, request: OneShot, what: &str) -> Result<Answer, Error> {
    let (https, host, port) = target_of(&request.url)?;
    let uri: Uri = request.url.parse().map_err(|_| Error::BadRequest {
        what: what.to_owned(),
    })?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri
        .authority()
        .map(|authority| authority.as_str())
        .unwrap_or_default();
    let authority = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let mut builder = Request::builder()
        .method(request.method)
        .header(http::header::HOST, authority)
        .header(http::header::CONNECTION, "close");
    let (stream, target) = if https {
        (
            dialer.tls(&host, port, request.verify).await?,
            path.to_owned(),
        )
    } else {
        let route = dialer.for_http(&host, port).await?;
        if let Some(authorization) = route.proxy_authorization {
            builder = builder.header(http::header::PROXY_AUTHORIZATION, authorization);
        }
        (route.stream, format!("{}{path}", route.target_prefix))
    };
    let mut message = builder
        .uri(target)
        .body(Full::new(request.body))
        .map_err(|error| Error::BadRequest {
            what: format!("{what}: {error}"),
        })?;
    message.headers_mut().extend(request.headers);

    let broken = |error: hyper::Error| Error::io(what, std::io::Error::other(error));
    let handshake = hyper::client::conn::http1::Builder::new()
        .max_buf_size(crate::head::HEAD_LEN_MAX)
        .handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(broken)?;
    let _connection = rt::Task::spawn("http client", async move {
        if let Err(error) = connection.await {
            tracing::trace!("http connection: {error}");
        }
    });
    let (parts, body) = sender
        .send_request(message)
        .await
        .map_err(broken)?
        .into_parts();
    let body = Limited::new(body, request.body_len_max).collect().await;
    let body =
        body.map_err(|error| Error::protocol(format!("{what}: reading the body: {error}")))?;
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.to_bytes(),
    })
}
