//! A request that turns the connection into a byte stream.

use std::fmt::Write as _;

use tokio::io::AsyncWriteExt as _;

use crate::head::{body_start, read_head};
use crate::{Error, Stream};

/// What to ask.
#[derive(Debug, Clone)]
pub struct UpgradeRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The request target: a path, or an absolute URL through a proxy.
    pub target: &'a str,
    /// The `Host` field.
    pub host: &'a str,
    /// The `Upgrade` field, which the answer must repeat.
    pub protocol: &'a str,
    /// Further fields.
    pub headers: &'a [(&'a str, &'a str)],
}

impl UpgradeRequest<'_> {
    /// The request's bytes. A line break in a field is an error: it would start another field.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut text = String::new();
        let fixed = [("Upgrade", self.protocol), ("Connection", "upgrade")];
        let fields = fixed.iter().chain(self.headers);
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            self.method, self.target, self.host
        );
        for (name, value) in fields.clone() {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        text.push_str("\r\n");
        let lines = fields.count() + 3;
        if text.matches("\r\n").count() != lines
            || text.chars().filter(|c| c.is_control()).count() != 2 * lines
        {
            return Err(Error::BadRequest {
                what: format!(
                    "request for `{}` has a control character",
                    self.host.escape_debug()
                ),
            });
        }
        Ok(text.into_bytes())
    }
}

/// Sends the request and, after `101` with the right protocol, hands over the stream.
pub async fn upgrade(mut stream: Stream, request: &UpgradeRequest<'_>) -> Result<Stream, Error> {
    let what = format!("upgrading to `{}` at `{}`", request.protocol, request.host);
    send(&mut stream, &request.encode()?, &what).await?;
    let (head, mut stream) = read_head(stream, &what).await?;
    let malformed = |error| Error::protocol(format!("{what}: {error}"));
    let status = head.status().map_err(malformed)?;
    if status != 101 {
        let body = body_start(&head, &mut stream, 1024).await;
        return Err(Error::Status { what, status, body });
    }
    match head.header("upgrade") {
        Some(protocol) if protocol.eq_ignore_ascii_case(request.protocol) => Ok(stream),
        _ => Err(Error::protocol(format!(
            "{what}: the server switched to another protocol"
        ))),
    }
}

pub(crate) async fn send(stream: &mut Stream, bytes: &[u8], what: &str) -> Result<(), Error> {
    let sent = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| Error::io(what, error))
}
