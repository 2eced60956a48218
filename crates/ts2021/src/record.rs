//! Transport records: type 4, length u16 BE, ciphertext with its tag.

use std::fmt;

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};

use crate::HandshakeError;
use crate::symmetric::{TAG_LEN, cipher};

pub(crate) const HEADER_LEN: usize = 3;
pub(crate) const ERROR_TYPE: u8 = 3;
const RECORD_TYPE: u8 = 4;
/// The largest frame with its header, in bytes.
pub const FRAME_LEN_MAX: usize = 4096;
/// The most plaintext that one record carries, in bytes.
pub const PLAINTEXT_LEN_MAX: usize = FRAME_LEN_MAX - HEADER_LEN - TAG_LEN;

/// Why a direction is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordError {
    /// A frame of another type than record.
    UnexpectedType(u8),
    /// A record longer than [`FRAME_LEN_MAX`] allows.
    TooLong(u16),
    /// A record shorter than its tag.
    TooShort(u16),
    /// A record that was altered, reordered or not made by the peer.
    NotAuthentic,
    /// All nonces are used up.
    Exhausted,
    /// This direction failed before.
    Dead,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnexpectedType(kind) => write!(f, "noise stream: unexpected frame type {kind}"),
            Self::TooLong(len) => write!(f, "noise stream: record of {len} bytes is too long"),
            Self::TooShort(len) => write!(f, "noise stream: record of {len} bytes is too short"),
            Self::NotAuthentic => f.write_str("noise stream: decrypting a record failed"),
            Self::Exhausted => f.write_str("noise stream: all nonces are used up"),
            Self::Dead => f.write_str("noise stream: the connection failed before"),
        }
    }
}

impl std::error::Error for RecordError {}

/// Four zero bytes and a big-endian counter (Noise itself says little-endian). 2^64-1 is never used.
#[derive(Debug)]
struct Counter(u64);

impl Counter {
    fn next(&mut self) -> Result<Nonce, RecordError> {
        if self.0 == u64::MAX {
            return Err(RecordError::Exhausted);
        }
        let mut bytes = [0; 12];
        bytes[4..].copy_from_slice(&self.0.to_be_bytes());
        self.0 += 1;
        Ok(Nonce::assume_unique_for_key(bytes))
    }
}

/// Turns plaintext into records.
pub struct Sealer {
    key: LessSafeKey,
    counter: Counter,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    pub(crate) fn new(key: &[u8; 32]) -> Result<Self, HandshakeError> {
        Ok(Self {
            key: cipher(key).ok_or(HandshakeError::Crypto)?,
            counter: Counter(0),
        })
    }

    /// Appends to `out` as many records as `plaintext` takes.
    pub fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        for piece in plaintext.chunks(PLAINTEXT_LEN_MAX) {
            self.seal_record(piece, out)?;
        }
        Ok(())
    }

    /// Appends one record; `plaintext` must fit.
    pub(crate) fn seal_record(
        &mut self,
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        let nonce = self.counter.next()?;
        let sealed_len = plaintext.len() + TAG_LEN;
        let wire_len = u16::try_from(sealed_len).map_err(|_| RecordError::TooLong(u16::MAX))?;
        out.reserve(HEADER_LEN + sealed_len);
        out.push(RECORD_TYPE);
        out.extend_from_slice(&wire_len.to_be_bytes());
        let start = out.len();
        out.extend_from_slice(plaintext);
        let body = out.get_mut(start..).unwrap_or_default();
        match self
            .key
            .seal_in_place_separate_tag(nonce, Aad::empty(), body)
        {
            Ok(tag) => {
                out.extend_from_slice(tag.as_ref());
                Ok(())
            }
            Err(_) => {
                // Plaintext must not reach the wire.
                out.truncate(start - HEADER_LEN);
                Err(RecordError::Exhausted)
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn skip_to(&mut self, counter: u64) {
        self.counter.0 = counter;
    }
}

/// Turns records, in whatever pieces they arrive, into plaintext.
pub struct Opener {
    key: LessSafeKey,
    counter: Counter,
    /// The start of a frame whose end has not arrived.
    partial: Vec<u8>,
    dead: bool,
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

impl Opener {
    pub(crate) fn new(key: &[u8; 32]) -> Result<Self, HandshakeError> {
        Ok(Self {
            key: cipher(key).ok_or(HandshakeError::Crypto)?,
            counter: Counter(0),
            partial: Vec::new(),
            dead: false,
        })
    }

    /// Takes the next bytes of the connection and appends the plaintext of each record that they complete. Plaintext of
    /// records before a bad one has been appended when the error is returned.
    pub fn handle_input(
        &mut self,
        mut input: &[u8],
        plaintext: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        if self.dead {
            return Err(RecordError::Dead);
        }
        while !input.is_empty() {
            if let Err(error) = self.take_piece(&mut input, plaintext) {
                self.dead = true;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether the connection stands between two records: an end of stream here cuts nothing.
    pub fn is_at_boundary(&self) -> bool {
        self.partial.is_empty()
    }

    fn take_piece(
        &mut self,
        input: &mut &[u8],
        plaintext: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        if self.partial.is_empty()
            && let Some(len) = frame_len(input)?
            && let Some((frame, rest)) = input.split_at_checked(len)
        {
            *input = rest;
            return self.open_frame(frame, plaintext);
        }
        let want = frame_len(&self.partial)?.unwrap_or(HEADER_LEN);
        let missing = want.saturating_sub(self.partial.len());
        let (head, rest) = input.split_at(missing.min(input.len()));
        self.partial.extend_from_slice(head);
        *input = rest;
        if frame_len(&self.partial)? == Some(self.partial.len()) {
            let frame = std::mem::take(&mut self.partial);
            self.open_frame(&frame, plaintext)?;
            self.partial = frame;
            self.partial.clear();
        }
        Ok(())
    }

    fn open_frame(&mut self, frame: &[u8], plaintext: &mut Vec<u8>) -> Result<(), RecordError> {
        let nonce = self.counter.next()?;
        let start = plaintext.len();
        plaintext.extend_from_slice(frame.get(HEADER_LEN..).unwrap_or_default());
        let body = plaintext.get_mut(start..).unwrap_or_default();
        let opened = self.key.open_in_place(nonce, Aad::empty(), body);
        let len = opened.map(|opened| opened.len());
        plaintext.truncate(start + len.unwrap_or(0));
        len.map(drop).map_err(|_| RecordError::NotAuthentic)
    }
}

/// The whole length of the frame that starts here; `None` while its header is incomplete.
fn frame_len(start: &[u8]) -> Result<Option<usize>, RecordError> {
    let Some((&[kind, high, low], _)) = start.split_first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    if kind != RECORD_TYPE {
        return Err(RecordError::UnexpectedType(kind));
    }
    let len = u16::from_be_bytes([high, low]);
    let whole = HEADER_LEN + usize::from(len);
    if whole > FRAME_LEN_MAX {
        return Err(RecordError::TooLong(len));
    }
    if usize::from(len) < TAG_LEN {
        return Err(RecordError::TooShort(len));
    }
    Ok(Some(whole))
}

/// An error frame, with which a server refuses a handshake: type 3, length u16 BE, UTF-8 text (cut to what fits).
pub fn error_frame(text: &str) -> Vec<u8> {
    let text = text.as_bytes();
    let text = text.get(..FRAME_LEN_MAX - HEADER_LEN).unwrap_or(text);
    let mut frame = vec![ERROR_TYPE];
    frame.extend_from_slice(&(u16::try_from(text.len()).unwrap_or(0)).to_be_bytes());
    frame.extend_from_slice(text);
    frame
}
