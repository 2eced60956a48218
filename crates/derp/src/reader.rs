//! Cuts a byte stream into frames.

use crate::{FrameError, FrameType, HEADER_LEN};

/// What to do with a frame, decided from its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Wait for the whole body; an error if it is longer than `max`.
    Whole {
        /// Largest body accepted, in bytes.
        max: u32,
    },
    /// Report only the first `prefix` bytes and drop the rest unread; an error if the body is longer than `max`.
    Prefix {
        /// How much of the body is kept at most.
        prefix: u32,
        /// Largest body accepted, in bytes.
        max: u32,
    },
}

/// A frame as it is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawFrame<'a> {
    /// Its type.
    pub kind: FrameType,
    /// The length in the header; `body` is shorter if only a prefix was kept.
    pub len: u32,
    /// The body.
    pub body: &'a [u8],
}

/// Buffers received bytes and gives out frames.
///
/// The buffer grows while reads fill it and falls back to [`FrameReader::IDLE`] bytes when traffic is low, so that idle
/// connections cost little and busy ones read many frames at once.
#[derive(Debug, Clone, Default)]
pub struct FrameReader {
    buf: Vec<u8>,
    /// Unread bytes are `buf[start..end]`.
    start: usize,
    end: usize,
    /// Bytes of a dropped body that are still to come.
    skip: u64,
    /// What `room` offers at least.
    want: usize,
}

impl FrameReader {
    /// Bytes of buffer of an idle connection.
    pub const IDLE: usize = 2 << 10;
    /// The most that one read may take.
    pub const BUSY: usize = 256 << 10;

    /// An empty reader.
    pub const fn new() -> Self {
        Self {
            buf: Vec::new(),
            start: 0,
            end: 0,
            skip: 0,
            want: Self::IDLE,
        }
    }

    /// Space for the next read; report what was read with [`filled`](Self::filled). Never empty.
    pub fn room(&mut self) -> &mut [u8] {
        self.compact();
        let want = self.want.max(Self::IDLE);
        if self.end == 0 && self.buf.len() > 4 * want {
            self.buf = Vec::new();
        }
        if self.buf.len() < self.end + want {
            self.buf.resize(self.end + want, 0);
        }
        &mut self.buf[self.end..]
    }

    /// Takes the first `n` bytes of the last [`room`](Self::room) as received.
    pub fn filled(&mut self, n: usize) {
        let room = self.buf.len() - self.end;
        let n = n.min(room);
        if n == room {
            self.want = (self.want.max(Self::IDLE) * 2).min(Self::BUSY);
        } else if n < self.want / 16 {
            self.want /= 2;
        }
        self.end += n;
        self.drop_skipped();
    }

    /// Takes received bytes by copy.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.room();
            let n = room.len().min(bytes.len());
            room[..n].copy_from_slice(&bytes[..n]);
            self.filled(n);
            bytes = &bytes[n..];
        }
    }

    /// Whether bytes wait that are no whole frame yet or were not asked for.
    pub fn has_buffered(&self) -> bool {
        self.start < self.end || self.skip > 0
    }

    /// The next frame, if it has come whole. `keep` decides per header.
    pub fn poll(
        &mut self,
        keep: impl FnOnce(FrameType) -> Keep,
    ) -> Result<Option<RawFrame<'_>>, FrameError> {
        self.drop_skipped();
        let Some((kind, len)) = self.header() else {
            return Ok(None);
        };
        let (max, kept) = match keep(kind) {
            Keep::Whole { max } => (max, len),
            Keep::Prefix { prefix, max } => (max, len.min(prefix)),
        };
        if len > max {
            return Err(FrameError::TooLong {
                frame: kind,
                len,
                max,
            });
        }
        let body = self.start + HEADER_LEN;
        let end = body + kept as usize;
        if self.end < end {
            // A body larger than the usual read must still fit.
            self.want = self.want.max((end - self.end).min(Self::BUSY));
            return Ok(None);
        }
        self.start = end;
        self.skip = u64::from(len - kept);
        Ok(Some(RawFrame {
            kind,
            len,
            body: &self.buf[body..end],
        }))
    }

    fn header(&self) -> Option<(FrameType, u32)> {
        let waiting = self.buf.get(self.start..self.end)?;
        let (header, _) = waiting.split_first_chunk::<HEADER_LEN>()?;
        let [kind, a, b, c, d] = *header;
        Some((FrameType(kind), u32::from_be_bytes([a, b, c, d])))
    }

    fn drop_skipped(&mut self) {
        let waiting = (self.end - self.start) as u64;
        let gone = waiting.min(self.skip);
        self.skip -= gone;
        self.start += gone as usize;
    }

    fn compact(&mut self) {
        if self.start == 0 {
            return;
        }
        self.buf.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }
}
