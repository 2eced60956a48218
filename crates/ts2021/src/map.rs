//! The body of a map response: messages, each behind its length as u32 little-endian.

use std::fmt;

/// The longest message that a client reads, in bytes as on the wire. Far above any real tailnet.
pub const MAP_FRAME_LEN_MAX: usize = 256 << 20;

const HEADER_LEN: usize = 4;

/// Why the stream cannot be split any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapFrameError {
    /// The message claims to be longer than the limit.
    TooLong {
        /// What it claims, in bytes.
        len: u32,
        /// The limit, in bytes.
        max: usize,
    },
}

impl fmt::Display for MapFrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len, max } => {
                write!(f, "map message of {len} bytes is longer than {max}")
            }
        }
    }
}

impl std::error::Error for MapFrameError {}

/// Splits the body into messages. Memory grows with what has arrived, not with what a length claims.
#[derive(Debug)]
pub struct MapFrames {
    max: usize,
    header: Vec<u8>,
    body: Vec<u8>,
}

impl MapFrames {
    /// A splitter that refuses messages longer than `max` bytes.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            header: Vec::with_capacity(HEADER_LEN),
            body: Vec::new(),
        }
    }

    /// Consumes from the front of `input` until a message is complete or `input` is empty. Call again while it yields.
    pub fn next_frame(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, MapFrameError> {
        take(&mut self.header, HEADER_LEN, input);
        let Some(header) = self.header.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let claimed = u32::from_le_bytes(*header);
        let len = usize::try_from(claimed).unwrap_or(usize::MAX);
        if len > self.max {
            return Err(MapFrameError::TooLong {
                len: claimed,
                max: self.max,
            });
        }
        take(&mut self.body, len, input);
        if self.body.len() < len {
            return Ok(None);
        }
        self.header.clear();
        Ok(Some(std::mem::take(&mut self.body)))
    }

    /// Whether the stream stands between two messages: an end of stream here cuts nothing.
    pub fn is_at_boundary(&self) -> bool {
        self.header.is_empty()
    }
}

/// What a server writes before a message of `len` bytes.
pub fn map_frame_header(len: u32) -> [u8; HEADER_LEN] {
    len.to_le_bytes()
}

/// Moves bytes from `input` until `buffer` has `len`.
fn take(buffer: &mut Vec<u8>, len: usize, input: &mut &[u8]) {
    let missing = len.saturating_sub(buffer.len()).min(input.len());
    let (head, rest) = input.split_at(missing);
    buffer.extend_from_slice(head);
    *input = rest;
}
