//! What a handler answers with.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::stream::BoxStream;
use ipn::Notify;
use serde::Serialize;
use tailcfg::go;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::ApiError;

/// A stream of bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An answer. The route decides the status.
pub enum Reply {
    /// It is done.
    Done,
    /// A JSON document.
    Json(Vec<u8>),
    /// Plain text.
    Text(String),
    /// A stream of bus messages. The handler ends it with [`FELL_BEHIND`](crate::FELL_BEHIND) where that is why.
    Notifies(BoxStream<'static, Arc<Notify>>),
    /// A stream of JSON lines, each with its line end.
    Lines(BoxStream<'static, String>),
    /// A connection that was made for the client, and belongs to it from here on.
    Dialed(Box<dyn Duplex>),
    /// The client should dial this address itself: it does not lie in the tailnet.
    DialSelf(SocketAddr),
}

impl Reply {
    /// A document on one line, with a line end.
    ///
    /// # Errors
    /// When the value cannot be encoded.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, ApiError> {
        let text = go::to_string(value).map_err(encoding)?;
        Ok(Self::Json(with_line_end(text)))
    }

    /// A document indented by tabs, with a line end: `status`, `prefs`, `derpmap`.
    ///
    /// # Errors
    /// When the value cannot be encoded.
    pub fn json_tabs<T: Serialize + ?Sized>(value: &T) -> Result<Self, ApiError> {
        let text = go::to_string_indent(value, "\t").map_err(encoding)?;
        Ok(Self::Json(with_line_end(text)))
    }

    /// A document indented by tabs, without a line end: `whois`.
    ///
    /// # Errors
    /// When the value cannot be encoded.
    pub fn json_tabs_bare<T: Serialize + ?Sized>(value: &T) -> Result<Self, ApiError> {
        let text = go::to_string_indent(value, "\t").map_err(encoding)?;
        Ok(Self::Json(text.into_bytes()))
    }
}

fn with_line_end(mut text: String) -> Vec<u8> {
    text.push('\n');
    text.into_bytes()
}

fn encoding(_: serde_json::Error) -> ApiError {
    ApiError::failed("JSON encoding error")
}
