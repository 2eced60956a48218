//! What can go wrong on the way to a peer.

use std::{fmt, io};

/// Why a connection or an exchange failed.
#[derive(Debug)]
pub enum Error {
    /// The name has no usable address.
    Resolve {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// No TCP connection.
    Connect {
        /// Host and port.
        target: String,
        /// The last attempt's error.
        source: io::Error,
    },
    /// The TLS handshake failed; the certificate's faults are in `source`.
    Tls {
        /// The name in the handshake.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The proxy is not usable or refused.
    Proxy {
        /// The proxy's host and port.
        proxy: String,
        /// Why.
        what: String,
    },
    /// The server answered with another status than wanted.
    Status {
        /// What was asked, without secrets.
        what: String,
        /// The status code.
        status: u16,
        /// The start of the body.
        body: String,
    },
    /// The peer does not speak HTTP as it should, or says more than we take.
    Protocol {
        /// What was asked and what is wrong.
        what: String,
    },
    /// It took too long.
    Timeout {
        /// What was attempted.
        what: String,
    },
    /// The connection broke.
    Io {
        /// What was attempted.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// We asked for something that cannot be.
    BadRequest {
        /// What is wrong.
        what: String,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }

    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol { what: what.into() }
    }

    pub(crate) fn timeout(what: impl Into<String>) -> Self {
        Self::Timeout { what: what.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { host, source } => write!(f, "looking up `{host}`: {source}"),
            Self::Connect { target, source } => write!(f, "connecting to `{target}`: {source}"),
            Self::Tls { host, source } => write!(f, "tls handshake with `{host}`: {source}"),
            Self::Proxy { proxy, what } => write!(f, "proxy `{proxy}`: {what}"),
            Self::Status { what, status, body } if body.is_empty() => {
                write!(f, "{what}: http status {status}")
            }
            Self::Status { what, status, body } => {
                write!(f, "{what}: http status {status}: {body}")
            }
            Self::Protocol { what } | Self::BadRequest { what } => f.write_str(what),
            Self::Timeout { what } => write!(f, "{what}: timed out"),
            Self::Io { what, source } => write!(f, "{what}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Resolve { source, .. }
            | Self::Connect { source, .. }
            | Self::Tls { source, .. }
            | Self::Io { source, .. } => Some(source),
            Self::Proxy { .. }
            | Self::Status { .. }
            | Self::Protocol { .. }
            | Self::Timeout { .. }
            | Self::BadRequest { .. } => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Resolve { source, .. }
            | Error::Connect { source, .. }
            | Error::Tls { source, .. }
            | Error::Io { source, .. } => source.kind(),
            Error::Timeout { .. } => io::ErrorKind::TimedOut,
            Error::Proxy { .. } | Error::Status { .. } => io::ErrorKind::ConnectionRefused,
            Error::Protocol { .. } => io::ErrorKind::InvalidData,
            Error::BadRequest { .. } => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}
