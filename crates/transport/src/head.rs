//! HTTP/1 message heads, for the exchanges that end in a byte stream and that a full HTTP library cannot express.

use std::fmt;

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

use crate::{Error, Stream};

/// The longest head that is read, in bytes.
pub const HEAD_LEN_MAX: usize = 16 << 10;
/// The most header fields that are read.
pub const HEADERS_MAX: usize = 64;

/// Why bytes are no message head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadError {
    /// Longer than [`HEAD_LEN_MAX`] or more fields than [`HEADERS_MAX`].
    TooLong,
    /// Not HTTP/1.
    Malformed,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "http head is too long",
            Self::Malformed => "http head is malformed",
        })
    }
}

impl std::error::Error for HeadError {}

/// The head of a request or of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The first line's three parts: method, target, version; or version, status, reason.
    pub start: [String; 3],
    /// The fields in their order.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// Reads a head from the start of `input`; `None` while it is incomplete. The number is its length in bytes.
    pub fn parse(input: &[u8]) -> Result<Option<(Self, usize)>, HeadError> {
        let window = input.get(..HEAD_LEN_MAX).unwrap_or(input);
        let Some(end) = window.windows(4).position(|four| four == b"\r\n\r\n") else {
            return match input.len() {
                len if len >= HEAD_LEN_MAX => Err(HeadError::TooLong),
                _ => Ok(None),
            };
        };
        let text = window.get(..end).unwrap_or_default();
        let text = std::str::from_utf8(text).map_err(|_| HeadError::Malformed)?;
        let mut lines = text.split("\r\n");
        let mut start = lines.next().unwrap_or_default().splitn(3, ' ');
        let mut part = || start.next().map(str::to_owned);
        let (Some(first), Some(second)) = (part(), part()) else {
            return Err(HeadError::Malformed);
        };
        let start = [first, second, part().unwrap_or_default()];
        let mut headers = Vec::new();
        for line in lines {
            if headers.len() == HEADERS_MAX {
                return Err(HeadError::TooLong);
            }
            let (name, value) = line.split_once(':').ok_or(HeadError::Malformed)?;
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(HeadError::Malformed);
            }
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(Some((Self { start, headers }, end + 4)))
    }

    /// The first value of a field.
    pub fn header(&self, name: &str) -> Option<&str> {
        let field = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_str())
    }

    /// The status of a response.
    pub fn status(&self) -> Result<u16, HeadError> {
        let [version, status, _] = &self.start;
        if !version.starts_with("HTTP/1.") || status.len() != 3 {
            return Err(HeadError::Malformed);
        }
        status.parse().map_err(|_| HeadError::Malformed)
    }
}

/// Reads a head; what was read beyond it stands in front of the stream again.
pub async fn read_head(mut stream: Stream, what: &str) -> Result<(Head, Stream), Error> {
    let mut buffer = Vec::new();
    loop {
        match Head::parse(&buffer) {
            Ok(Some((head, used))) => {
                let rest = Bytes::copy_from_slice(buffer.get(used..).unwrap_or_default());
                return Ok((head, stream.unread(rest)));
            }
            Ok(None) => {}
            Err(error) => return Err(Error::protocol(format!("{what}: {error}"))),
        }
        let read = stream.read_buf(&mut buffer).await;
        if read.map_err(|error| Error::io(what, error))? == 0 {
            let error = std::io::ErrorKind::UnexpectedEof.into();
            return Err(Error::io(what, error));
        }
    }
}

/// Reads at most `max` bytes of a body for an error text: what comes within a second or before the end.
pub(crate) async fn body_start(head: &Head, stream: &mut Stream, max: usize) -> String {
    let declared = head
        .header("content-length")
        .and_then(|len| len.parse().ok());
    let want = declared.unwrap_or(max).min(max);
    let mut body = Vec::new();
    let read = async {
        while body.len() < want {
            match stream.read_buf(&mut body).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    };
    // Whatever has come when the time is up is better than nothing.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), read).await;
    body.truncate(want);
    readable(&body)
}

/// Text from the network for a log line.
pub(crate) fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let clean: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect();
    clean
}
