//! Disco: how nodes find paths to each other (the originals' `disco` package).
//!
//! ```text
//! 0   6  magic: 54 53 f0 9f 92 ac
//! 6  32  the sender's disco key
//! 38 24  nonce
//! 62  n  NaCl box: tag, then ciphertext of a message
//! ```

mod message;

use keys::nacl::{self, SharedKey};
use keys::{DiscoPrivate, DiscoPublic};

pub use message::{Allocate, Message, ParseError, Ping, Pong, RelayCommon, RelayEndpoint, TxId};

/// The first bytes of every disco datagram.
pub const MAGIC: [u8; 6] = [0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac];
/// How much longer the datagram is than the message inside.
pub const OVERHEAD: usize = HEADER + nacl::OVERHEAD;
const HEADER: usize = MAGIC.len() + 32;

/// Whether a datagram goes to disco rather than WireGuard: magic and a whole key.
pub fn looks_like(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER && datagram.starts_with(&MAGIC)
}

/// A received datagram, still sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Who claims to have sent it. Believe it only once it has opened.
    pub sender: DiscoPublic,
    sealed: &'a [u8],
}

/// Why an envelope gave no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenError {
    /// Not sealed by the holder of the sender's key, for us.
    Seal,
    /// Authentic, but not a message that we understand: ignore it, it may be from the future.
    Message(ParseError),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Seal => f.write_str("disco envelope does not open"),
            Self::Message(error) => write!(f, "read disco message: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl<'a> Envelope<'a> {
    /// Splits a datagram; `None` if it is not disco or too short to hold a box.
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let rest = datagram.strip_prefix(&MAGIC)?;
        let (sender, sealed) = rest.split_first_chunk::<32>()?;
        (sealed.len() >= nacl::OVERHEAD).then_some(Self {
            sender: DiscoPublic::from_bytes(*sender),
            sealed,
        })
    }

    /// Opens it with the key shared with [`sender`](Self::sender) (see [`shared_key`]).
    pub fn open(&self, key: &SharedKey) -> Result<Message, OpenError> {
        let plain = key.open(self.sealed).ok_or(OpenError::Seal)?;
        Message::parse(&plain).map_err(OpenError::Message)
    }
}

/// The key between our disco key and a peer's, to be kept per peer. `None` if the peer's key is unusable.
pub fn shared_key(ours: &DiscoPrivate, theirs: &DiscoPublic) -> Option<SharedKey> {
    SharedKey::new(ours.expose_bytes(), theirs.as_bytes())
}

/// The datagram with `message` from `ours`.
pub fn seal(
    message: &Message,
    ours: &DiscoPublic,
    key: &SharedKey,
    rng: &mut dyn rand_core::CryptoRng,
) -> Vec<u8> {
    let mut plain = Vec::with_capacity(64);
    message.encode(&mut plain);
    let sealed = key.seal(rng, &plain);
    let mut out = Vec::with_capacity(HEADER + sealed.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(ours.as_bytes());
    out.extend_from_slice(&sealed);
    out
}

#[cfg(test)]
mod tests;
