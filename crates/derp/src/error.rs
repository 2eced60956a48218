//! What can be wrong with a stream of frames.

use std::fmt;

use crate::FrameType;

/// The stream cannot be followed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// A frame is longer than its type may be.
    TooLong {
        /// The frame's type.
        frame: FrameType,
        /// The length that its header announces.
        len: u32,
        /// The largest length accepted.
        max: u32,
    },
    /// A frame has not the length that its type needs.
    WrongLength {
        /// The frame's type.
        frame: FrameType,
        /// Its length.
        len: usize,
    },
    /// The server's info does not open with our key and its key, or is no JSON.
    BadServerInfo,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { frame, len, max } => write!(
                f,
                "frame of type 0x{:02x} announces {len} bytes, more than {max}",
                frame.0
            ),
            Self::WrongLength { frame, len } => {
                write!(f, "frame of type 0x{:02x} has {len} bytes", frame.0)
            }
            Self::BadServerInfo => f.write_str("server info cannot be opened or read"),
        }
    }
}

impl std::error::Error for FrameError {}

/// The other side's first frame is not what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeError {
    /// The bytes are no frames.
    Frame(FrameError),
    /// The first frame has another type.
    UnexpectedFrame {
        /// The type that came.
        got: FrameType,
        /// The type that must come.
        want: FrameType,
    },
    /// The server's greeting is too short or lacks the magic.
    BadGreeting,
    /// The other side's public key is of low order.
    BadKey,
    /// The client's box does not open with the key that it claims.
    BadBox,
    /// The client's box holds no readable JSON.
    BadInfo,
}

impl From<FrameError> for HandshakeError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::UnexpectedFrame { got, want } => write!(
                f,
                "first frame has type 0x{:02x}, want 0x{:02x}",
                got.0, want.0
            ),
            Self::BadGreeting => f.write_str("server greeting is malformed"),
            Self::BadKey => f.write_str("public key of the other side is of low order"),
            Self::BadBox => f.write_str("client info does not open with the claimed key"),
            Self::BadInfo => f.write_str("client info is not the JSON it should be"),
        }
    }
}

impl std::error::Error for HandshakeError {}
