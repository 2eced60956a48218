//! What a server may say inside the records before HTTP/2 starts.

use std::fmt;

use keys::ChallengePublic;
use serde::Deserialize;

/// The first five bytes of an early payload. They cannot start an HTTP/2 frame: none is that long.
pub const EARLY_MAGIC: [u8; 5] = [0xff, 0xff, 0xff, b'T', b'S'];
/// The longest early payload that is read, in bytes.
pub const EARLY_LEN_MAX: usize = 10 << 20;

/// Magic and length u32 BE; also the length of an HTTP/2 frame header, which stands here where there is no payload.
const HEADER_LEN: usize = 9;

/// Why an early payload could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EarlyError {
    /// Longer than [`EARLY_LEN_MAX`].
    TooLong(u32),
    /// Not the JSON object that it should be.
    Malformed(String),
}

impl fmt::Display for EarlyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => write!(f, "early payload of {len} bytes is too long"),
            Self::Malformed(error) => write!(f, "early payload is malformed: {error}"),
        }
    }
}

impl std::error::Error for EarlyError {}

/// `tailcfg.EarlyNoise`.
#[derive(Debug, Default, Deserialize)]
struct EarlyNoise {
    #[serde(rename = "nodeKeyChallenge", default)]
    node_key_challenge: ChallengePublic,
}

/// Takes the early payload out of the plaintext, if there is one.
#[derive(Debug, Default)]
pub struct EarlyReader {
    held: Vec<u8>,
    done: bool,
    challenge: Option<ChallengePublic>,
}

impl EarlyReader {
    /// A reader for one connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next plaintext and appends to `out` what belongs to HTTP/2.
    pub fn handle_plaintext(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), EarlyError> {
        if self.done {
            out.extend_from_slice(chunk);
            return Ok(());
        }
        self.held.extend_from_slice(chunk);
        let Some((header, rest)) = self.held.split_first_chunk::<HEADER_LEN>() else {
            return Ok(());
        };
        let mut used = 0;
        if let [m0, m1, m2, m3, m4, len @ ..] = *header
            && [m0, m1, m2, m3, m4] == EARLY_MAGIC
        {
            let len = u32::from_be_bytes(len);
            let whole = usize::try_from(len).unwrap_or(usize::MAX);
            if whole > EARLY_LEN_MAX {
                return Err(EarlyError::TooLong(len));
            }
            let Some(json) = rest.get(..whole) else {
                return Ok(());
            };
            let early: Option<EarlyNoise> = serde_json::from_slice(json)
                .map_err(|error| EarlyError::Malformed(error.to_string()))?;
            self.challenge = Some(early.unwrap_or_default().node_key_challenge);
            used = HEADER_LEN + whole;
        }
        self.done = true;
        let held = std::mem::take(&mut self.held);
        out.extend_from_slice(held.get(used..).unwrap_or_default());
        Ok(())
    }

    /// Whether it is settled what the server said early.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The challenge of the early payload, if there was one.
    pub fn challenge(&self) -> Option<ChallengePublic> {
        self.challenge
    }
}

/// A server's early payload: magic, length u32 BE, JSON.
pub fn encode_early(challenge: &ChallengePublic) -> Vec<u8> {
    let json = format!(r#"{{"nodeKeyChallenge":"{challenge}"}}"#);
    let mut out = EARLY_MAGIC.to_vec();
    out.extend_from_slice(&u32::try_from(json.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(json.as_bytes());
    out
}
