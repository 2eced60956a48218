//! Tailnet lock keys: Ed25519. The private text form holds the seed and the public key.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use rand_core::CryptoRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::ParseKeyError;
use crate::hex::{encode_hex, parse_prefixed};

const PREFIX_PRIVATE: &str = "nlpriv:";
const PREFIX_PUBLIC: &str = "nlpub:";
const PREFIX_PUBLIC_CLI: &str = "tlpub:";

/// A tailnet lock private key: 32 bytes of seed, 32 bytes of public key.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct LockPrivate([u8; 64]);

impl Default for LockPrivate {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl LockPrivate {
    /// A fresh key.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut bytes = [0; 64];
        rng.fill_bytes(&mut bytes[..32]);
        // Only a seed of another length is refused.
        if let Ok(pair) = Ed25519KeyPair::from_seed_unchecked(&bytes[..32]) {
            bytes[32..].copy_from_slice(pair.public_key().as_ref());
        }
        Self(bytes)
    }

    /// Whether this is the zero key, which means "none".
    pub fn is_zero(&self) -> bool {
        bool::from(self.0.ct_eq(&[0; 64]))
    }

    /// The public half.
    pub fn public(&self) -> LockPublic {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(&self.0[32..]);
        LockPublic(bytes)
    }

    /// The text form for the state file.
    pub fn expose_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(PREFIX_PRIVATE.len() + 128));
        text.push_str(PREFIX_PRIVATE);
        encode_hex(&self.0, &mut text);
        text
    }
}

impl FromStr for LockPrivate {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        parse_prefixed(text, PREFIX_PRIVATE).map(Self)
    }
}

impl PartialEq for LockPrivate {
    fn eq(&self, other: &Self) -> bool {
        bool::from(self.0.ct_eq(&other.0))
    }
}

impl Eq for LockPrivate {}

impl fmt::Debug for LockPrivate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockPrivate(..)")
    }
}

impl Serialize for LockPrivate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.expose_text())
    }
}

/// `null` is the zero key, as Go's decoder leaves it.
impl<'de> Deserialize<'de> for LockPrivate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<Zeroizing<String>>::deserialize(deserializer)? {
            None => Ok(Self::default()),
            Some(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

/// A tailnet lock public key. `nlpub:`, or `tlpub:` where people type it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockPublic([u8; 32]);

impl LockPublic {
    /// Wraps raw bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether this is the zero key.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 32]
    }
}

impl fmt::Display for LockPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::from(PREFIX_PUBLIC);
        encode_hex(&self.0, &mut text);
        f.write_str(&text)
    }
}

impl fmt::Debug for LockPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LockPublic {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        if text.starts_with(PREFIX_PUBLIC_CLI) {
            return parse_prefixed(text, PREFIX_PUBLIC_CLI).map(Self);
        }
        parse_prefixed(text, PREFIX_PUBLIC).map(Self)
    }
}

impl Serialize for LockPublic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `null` is the zero key, as Go's decoder leaves it.
impl<'de> Deserialize<'de> for LockPublic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<String>::deserialize(deserializer)? {
            None => Ok(Self::default()),
            Some(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}
