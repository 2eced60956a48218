//! From the bytes of a map message to the message.

use std::fmt;
use std::io::Read as _;

use tailcfg::MapResponse;

/// The longest message after decompression, in bytes. Far above any real tailnet.
pub const MESSAGE_LEN_MAX: usize = 256 << 20;

/// Why a message cannot be read.
#[derive(Debug)]
pub enum DecodeError {
    /// Not what zstd makes.
    Compression(std::io::Error),
    /// Longer than allowed after decompression.
    TooLong(usize),
    /// Not the JSON that it should be.
    Json(serde_json::Error),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compression(error) => write!(f, "decompressing a message: {error}"),
            Self::TooLong(max) => write!(f, "a message is longer than {max} bytes"),
            Self::Json(error) => write!(f, "reading a message: {error}"),
        }
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Compression(error) => Some(error),
            Self::Json(error) => Some(error),
            Self::TooLong(_) => None,
        }
    }
}

/// Decompresses (zstd) and reads one message; `max` limits its length in between. `null` is an empty message, as for Go.
pub fn decode_message(frame: &[u8], max: usize) -> Result<MapResponse, DecodeError> {
    let mut json = Vec::new();
    let decoder =
        zstd::stream::read::Decoder::with_buffer(frame).map_err(DecodeError::Compression)?;
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    decoder
        .take(limit)
        .read_to_end(&mut json)
        .map_err(DecodeError::Compression)?;
    if json.len() > max {
        return Err(DecodeError::TooLong(max));
    }
    let message: Option<MapResponse> = serde_json::from_slice(&json).map_err(DecodeError::Json)?;
    Ok(message.unwrap_or_default())
}
