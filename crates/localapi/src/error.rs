//! Refusals, as the originals spell them.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use tailcfg::go;
use transport::server::{Body, full};

/// A request was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    text: String,
    /// The name under which an object holds the text; `None` is plain text.
    key: Option<&'static str>,
}

impl ApiError {
    /// A status and a text.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
            key: None,
        }
    }

    /// 400: what was asked for makes no sense.
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 404.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// 403.
    pub fn denied(text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, text)
    }

    /// 500: it was tried.
    pub fn failed(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// 500 with an object, as `ping` answers.
    pub fn failed_object(text: impl Into<String>) -> Self {
        Self {
            key: Some("error"),
            ..Self::failed(text)
        }
    }

    /// 400 with an object, as refused prefs are answered.
    pub fn refused_prefs(text: impl Into<String>) -> Self {
        Self {
            key: Some("Error"),
            ..Self::bad_request(text)
        }
    }

    /// 502: `dial` could not.
    pub fn bad_gateway(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, text)
    }

    /// 503: not now.
    pub fn unavailable(text: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// 501: the originals have it, and this program was built without it.
    pub fn not_built(name: &str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, format!("not built: {name}"))
    }

    /// The same with something before its text.
    #[must_use]
    pub fn prefixed(mut self, prefix: &str) -> Self {
        self.text.insert_str(0, prefix);
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let (kind, body) = match self.key {
            None => ("text/plain; charset=utf-8", format!("{}\n", self.text)),
            Some(key) => {
                let object = std::collections::BTreeMap::from([(key, self.text)]);
                let mut body = go::to_string(&object).unwrap_or_default();
                body.push('\n');
                ("application/json", body)
            }
        };
        let mut response = Response::new(full(Bytes::from(body)));
        *response.status_mut() = self.status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}
