//! Node, machine, disco and lock keys, with their text forms.
//!
//! Every key is 32 bytes (the lock private key is an Ed25519 seed with its public half). Private keys are zeroised on
//! drop, compare in constant time, and their `Debug` shows nothing. Public keys are plain values.
//!
//! Text forms are those of the originals (`types/key`): a prefix and lower-case hex. The all-zero key is a legal value
//! which means "none".
//!
//! The one invariant: the only ways to see a private key's bytes are the functions whose names say so
//! (`expose_bytes`, `expose_text`, and serde, which only the state writer uses).

mod hex;
mod lock;
pub mod nacl;
mod private;
mod public;
mod x25519;

pub use hex::{decode_hex, encode_hex};
pub use lock::{LockPrivate, LockPublic};
pub use private::{ChallengePrivate, DiscoPrivate, MachinePrivate, MeshKey, NodePrivate};
pub use public::{ChallengePublic, DiscoPublic, MachinePublic, NodePublic};
pub use x25519::{public_key, shared_secret};

/// A key's text form could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseKeyError {
    /// The text does not start with the prefix of this kind of key.
    WrongPrefix {
        /// The prefix that was wanted.
        want: &'static str,
    },
    /// After the prefix there must be exactly this many hex digits.
    WrongLength {
        /// How many hex digits were wanted.
        want: usize,
    },
    /// A character that is no hex digit.
    NotHex,
}

impl std::fmt::Display for ParseKeyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WrongPrefix { want } => write!(f, "key text must start with `{want}`"),
            Self::WrongLength { want } => write!(f, "key text must have {want} hex digits"),
            Self::NotHex => f.write_str("key text has a character that is not a hex digit"),
        }
    }
}

impl std::error::Error for ParseKeyError {}

#[cfg(test)]
mod tests;
