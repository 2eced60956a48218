//! Control to node: HTTP requests that come inside the map stream, and who answers them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use host::BoxFuture;
use transport::head::Head;
use transport::proxy::percent_decode;

/// How long a handler may take unless the request says otherwise.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(60);
const TIMEOUT_HEADER: &str = "C2n-Handler-Timeout";

/// A request of the control server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct C2nRequest {
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// What follows the `?`.
    pub query: String,
    /// The fields in their order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl C2nRequest {
    /// The first value of a field.
    pub fn header(&self, name: &str) -> Option<&str> {
        let field = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_str())
    }

    /// A value of the form in the body, else of the query.
    pub fn value(&self, name: &str) -> Option<String> {
        let is_form = self
            .header("Content-Type")
            .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        let body = String::from_utf8_lossy(&self.body);
        let body = if is_form { &*body } else { "" };
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            String::from_utf8_lossy(&percent_decode(&spaced)).into_owned()
        };
        body.split('&')
            .chain(self.query.split('&'))
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find(|(key, _)| decode(key) == name)
            .map(|(_, value)| decode(value))
    }

    /// How long the handler may take.
    pub fn timeout(&self) -> Duration {
        let wanted = self.header(TIMEOUT_HEADER).and_then(go_duration);
        wanted
            .filter(|wanted| !wanted.is_zero())
            .unwrap_or(HANDLER_TIMEOUT)
    }
}

/// An answer for the control server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct C2nResponse {
    /// The status.
    pub status: u16,
    /// `Content-Type`; empty is none.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

impl C2nResponse {
    /// Plain text; the originals end errors with a line break.
    pub fn text(status: u16, text: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: Bytes::from(format!("{text}\n")),
        }
    }

    /// JSON.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self {
            status: 200,
            content_type: "application/json",
            body: body.into(),
        }
    }

    /// The answer as HTTP/1.1 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let status = http::StatusCode::from_u16(self.status).unwrap_or_default();
        let reason = status.canonical_reason().unwrap_or_default();
        let mut out = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16());
        if !self.content_type.is_empty() {
            out.push_str(&format!("Content-Type: {}\r\n", self.content_type));
        }
        out.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        let mut out = out.into_bytes();
        out.extend_from_slice(&self.body);
        out
    }
}

type Handler = Arc<dyn Fn(C2nRequest) -> BoxFuture<'static, C2nResponse> + Send + Sync>;

/// Who answers what. The most exact match counts: method and path, path, prefix.
#[derive(Clone, Default)]
pub struct C2nRouter {
    /// By path; an empty method is any.
    exact: BTreeMap<String, BTreeMap<String, Handler>>,
    prefixes: BTreeMap<String, Handler>,
}

impl std::fmt::Debug for C2nRouter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.exact.keys())
            .entries(self.prefixes.keys())
            .finish()
    }
}

impl C2nRouter {
    /// A router that knows `/echo`, by which servers see whether a node is there.
    pub fn new() -> Self {
        let mut this = Self::default();
        this.route("", "/echo", |request| async move {
            C2nResponse {
                status: 200,
                content_type: "",
                body: request.body,
            }
        });
        this
    }

    /// Adds a handler for a path; an empty method is any.
    pub fn route<F>(
        &mut self,
        method: &str,
        path: &str,
        handler: impl Fn(C2nRequest) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = C2nResponse> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        let methods = self.exact.entry(path.to_owned()).or_default();
        methods.insert(method.to_owned(), handler);
    }

    /// Adds a handler for every path that starts with `prefix`.
    pub fn route_prefix<F>(
        &mut self,
        prefix: &str,
        handler: impl Fn(C2nRequest) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = C2nResponse> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        self.prefixes.insert(prefix.to_owned(), handler);
    }

    fn find(&self, request: &C2nRequest) -> Result<&Handler, C2nResponse> {
        if let Some(methods) = self.exact.get(&request.path) {
            let handler = methods.get(&request.method).or_else(|| methods.get(""));
            return handler.ok_or_else(|| C2nResponse::text(405, "bad method"));
        }
        let longest_first = self.prefixes.iter().rev();
        let mut matching =
            longest_first.filter(|(prefix, _)| request.path.starts_with(prefix.as_str()));
        let handler = matching.next().map(|(_, handler)| handler);
        handler.ok_or_else(|| C2nResponse::text(400, "unknown c2n path"))
    }

    /// Answers a request, within its time.
    pub async fn answer(&self, request: C2nRequest) -> C2nResponse {
        let limit = request.timeout();
        let handler = match self.find(&request) {
            Ok(handler) => handler,
            Err(response) => return response,
        };
        let answered = tokio::time::timeout(limit, handler(request)).await;
        answered.unwrap_or_else(|_| C2nResponse::text(503, "the handler took too long"))
    }
}

/// Reads a request: head and a body of known length.
pub fn parse_request(bytes: &[u8]) -> Result<C2nRequest, String> {
    let (head, used) = match Head::parse(bytes) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return Err("the request has no end of head".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    if head.header("transfer-encoding").is_some() {
        return Err("transfer encodings are not supported".to_owned());
    }
    let rest = bytes.get(used..).unwrap_or_default();
    let len = match head.header("content-length") {
        None => 0,
        Some(len) => len
            .parse()
            .map_err(|_| "the content length is no number".to_owned())?,
    };
    let body = rest.get(..len).ok_or("the body is shorter than it says")?;
    let body = Bytes::copy_from_slice(body);
    let [method, target, version] = head.start;
    if !version.starts_with("HTTP/1.") {
        return Err("not HTTP/1".to_owned());
    }
    // A server may send an absolute target.
    let target = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => &target,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(C2nRequest {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers: head.headers,
        body,
    })
}

/// Go's duration text, such as `1m30s` or `1.5s`.
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(unit_at);
        let unit_len = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    if text.is_empty() {
        return None;
    }
    Duration::try_from_secs_f64(total).ok()
}
