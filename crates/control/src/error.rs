//! What can go wrong with the control server.

use std::fmt;
use std::time::Duration;

use crate::DecodeError;

/// Why a request or a stream failed.
#[derive(Debug)]
pub enum Error {
    /// The server's URL cannot be used.
    Url(String),
    /// The server's key could not be fetched.
    Key(transport::Error),
    /// The server's answer about its key makes no sense.
    BadKey(String),
    /// No connection could be made; one text per way that was tried.
    Dial(Vec<String>),
    /// The connection broke.
    Connection {
        /// What was attempted.
        what: &'static str,
        /// Why.
        source: hyper::Error,
    },
    /// The server refused with an HTTP status.
    Status {
        /// What was attempted.
        what: &'static str,
        /// The status.
        status: u16,
        /// The start of the body.
        body: String,
    },
    /// The server wants us to wait.
    RateLimited {
        /// How long.
        after: Duration,
        /// Its words.
        text: String,
    },
    /// An answer that is too long or not the JSON that it should be.
    Answer {
        /// What was attempted.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A map message that cannot be read.
    Message(DecodeError),
    /// The map stream cannot be split into messages.
    Frame(ts2021::MapFrameError),
    /// A map message that makes no sense.
    Map(netmap::MapError),
    /// Nothing came for too long.
    Silent(Duration),
    /// The server ended the stream.
    Ended,
    /// The server refused the registration, in its own words for the user.
    Refused(String),
    /// The registration needs something that we do not have.
    Unable(&'static str),
    /// It took too long.
    Timeout(&'static str),
}

impl Error {
    /// Whether the text is the server's, meant for the user.
    pub fn is_for_user(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::RateLimited { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(what) => write!(f, "control server url: {what}"),
            Self::Key(error) => write!(f, "fetching the control server's key: {error}"),
            Self::BadKey(what) => write!(f, "fetching the control server's key: {what}"),
            Self::Dial(ways) => write!(f, "connecting to the control server: {}", ways.join("; ")),
            Self::Connection { what, source } => {
                write!(f, "{what}: {source}")?;
                let mut cause = std::error::Error::source(source);
                while let Some(error) = cause {
                    write!(f, ": {error}")?;
                    cause = error.source();
                }
                Ok(())
            }
            Self::Status { what, status, body } if body.is_empty() => {
                write!(f, "{what}: http status {status}")
            }
            Self::Status { what, status, body } => {
                write!(f, "{what}: http status {status}: {body}")
            }
            Self::RateLimited { after, text } => {
                write!(
                    f,
                    "the control server asks to wait {} s: {text}",
                    after.as_secs()
                )
            }
            Self::Answer { what, problem } => write!(f, "{what}: {problem}"),
            Self::Message(error) => write!(f, "map stream: {error}"),
            Self::Frame(error) => write!(f, "map stream: {error}"),
            Self::Map(error) => write!(f, "map stream: {error}"),
            Self::Silent(limit) => {
                write!(f, "map stream: nothing came for {} s", limit.as_secs())
            }
            Self::Ended => f.write_str("map stream: the control server ended it"),
            Self::Refused(text) => f.write_str(text),
            Self::Unable(what) => write!(f, "register: {what}"),
            Self::Timeout(what) => write!(f, "{what}: timed out"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Key(error) => Some(error),
            Self::Connection { source, .. } => Some(source),
            Self::Message(error) => Some(error),
            Self::Frame(error) => Some(error),
            Self::Map(error) => Some(error),
            _ => None,
        }
    }
}
