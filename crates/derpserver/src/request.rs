//! HTTP/1.1 as far as a relay needs it: small requests without bodies.
//!
//! A general HTTP server always answers a request, but with fast start the answer must not be sent: the client reads relay
//! frames at once. So the few lines of HTTP are handled here.

use std::fmt::Write as _;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::limits;

/// A request's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    http11: bool,
}

impl Head {
    /// The first header of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut named = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.as_str())
    }

    /// The target without its query.
    pub(crate) fn path(&self) -> &str {
        let end = self.target.find('?').unwrap_or(self.target.len());
        self.target.get(..end).unwrap_or_default()
    }

    pub(crate) fn is_get_or_head(&self) -> bool {
        self.method == "GET" || self.method == "HEAD"
    }

    /// Whether another request may follow on the connection. A body would have to be read first, so it may not then.
    pub(crate) fn may_continue(&self) -> bool {
        let has_body = self.header("transfer-encoding").is_some()
            || self
                .header("content-length")
                .is_some_and(|len| len.trim() != "0");
        let connection = self.header("connection").unwrap_or_default();
        let tokens = || connection.split(',').map(str::trim);
        let keep = if self.http11 {
            !tokens().any(|token| token.eq_ignore_ascii_case("close"))
        } else {
            tokens().any(|token| token.eq_ignore_ascii_case("keep-alive"))
        };
        keep && !has_body
    }

    /// Whether `name` (`derp`, `websocket`) is what the client wants to upgrade to.
    pub(crate) fn upgrade(&self) -> String {
        self.header("upgrade")
            .unwrap_or_default()
            .to_ascii_lowercase()
    }
}

/// Why there is no request.
#[derive(Debug)]
pub(crate) enum HeadError {
    /// The connection broke.
    Broken,
    TooLong,
    Malformed,
}

/// Reads a head, leaving what follows it in `buf`. `None` if the client hung up before a request.
pub(crate) async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    buf: &mut Vec<u8>,
) -> Result<Option<Head>, HeadError> {
    loop {
        if let Some((head, len)) = parse(buf)? {
            buf.drain(..len);
            return Ok(Some(head));
        }
        if buf.len() >= limits::HEAD_LEN {
            return Err(HeadError::TooLong);
        }
        let n = stream.read_buf(buf).await.map_err(|_| HeadError::Broken)?;
        if n == 0 {
            return if buf.is_empty() {
                Ok(None)
            } else {
                Err(HeadError::Malformed)
            };
        }
    }
}

fn parse(buf: &[u8]) -> Result<Option<(Head, usize)>, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; limits::HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(buf) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLong),
        Err(_) => return Err(HeadError::Malformed),
    };
    if len > limits::HEAD_LEN {
        return Err(HeadError::TooLong);
    }
    let headers = request.headers.iter().map(|header| {
        let value = String::from_utf8_lossy(header.value).into_owned();
        (header.name.to_owned(), value)
    });
    let head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        http11: request.version == Some(1),
        headers: headers.collect(),
    };
    Ok(Some((head, len)))
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: (u16, &'static str),
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
    /// The connection ends after it.
    pub(crate) close: bool,
}

impl Response {
    pub(crate) fn new(status: (u16, &'static str)) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: String::new(),
            close: false,
        }
    }

    /// A line of text for a human.
    pub(crate) fn error(status: (u16, &'static str), text: &str) -> Self {
        Self::new(status)
            .with("Content-Type", "text/plain; charset=utf-8")
            .with("X-Content-Type-Options", "nosniff")
            .body(&format!("{text}\n"))
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// The bytes to send; without the body for HEAD.
    pub(crate) fn encode(&self, is_head: bool, close: bool) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status.0, self.status.1);
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        // Of the codes used here only this one must have no length.
        if self.status.0 != 204 {
            let _ = write!(text, "Content-Length: {}\r\n", self.body.len());
        }
        if close {
            text.push_str("Connection: close\r\n");
        }
        text.push_str("\r\n");
        if !is_head {
            text.push_str(&self.body);
        }
        text.into_bytes()
    }
}
