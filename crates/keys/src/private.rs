//! Private keys: zeroised, silent, compared in constant time.

use std::fmt;
use std::str::FromStr;

use rand_core::CryptoRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::hex::{encode_hex, parse_prefixed};
use crate::{
    ChallengePublic, DiscoPublic, MachinePublic, NodePublic, ParseKeyError, decode_hex, x25519,
};

/// Fresh Curve25519 scalars are clamped before they are stored, as the originals do.
fn generate_scalar(rng: &mut dyn CryptoRng) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes[0] &= 248;
    bytes[31] = (bytes[31] & 127) | 64;
    bytes
}

macro_rules! private_key {
    ($(#[$doc:meta])* $name:ident => $public:ident) => {
        $(#[$doc])*
        #[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// A fresh key.
            pub fn generate(rng: &mut dyn CryptoRng) -> Self {
                Self(generate_scalar(rng))
            }

            /// Wraps raw bytes as they are.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The secret itself. Whoever calls this owns what happens to it.
            pub const fn expose_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Whether this is the zero key, which means "none".
            pub fn is_zero(&self) -> bool {
                bool::from(self.0.ct_eq(&[0; 32]))
            }

            /// The public half; the zero key's public half is the zero key.
            pub fn public(&self) -> $public {
                if self.is_zero() {
                    return $public::ZERO;
                }
                $public::from_bytes(x25519::public_key(&self.0))
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                bool::from(self.0.ct_eq(&other.0))
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

/// Private keys that are written to the state file as `privkey:` and hex.
macro_rules! stored_key {
    ($name:ident) => {
        impl $name {
            /// The text form for the state file.
            pub fn expose_text(&self) -> Zeroizing<String> {
                let mut text = Zeroizing::new(String::with_capacity(8 + 64));
                text.push_str("privkey:");
                encode_hex(&self.0, &mut text);
                text
            }
        }

        impl FromStr for $name {
            type Err = ParseKeyError;

            fn from_str(text: &str) -> Result<Self, ParseKeyError> {
                parse_prefixed(text, "privkey:").map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.expose_text())
            }
        }

        /// `null` is the zero key, as Go's decoder leaves it.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match Option::<Zeroizing<String>>::deserialize(deserializer)? {
                    None => Ok(Self::default()),
                    Some(text) => text.parse().map_err(serde::de::Error::custom),
                }
            }
        }
    };
}

private_key!(
    /// A node's WireGuard private key.
    NodePrivate => NodePublic
);
stored_key!(NodePrivate);
private_key!(
    /// A machine's private key, which proves to control which machine this is.
    MachinePrivate => MachinePublic
);
stored_key!(MachinePrivate);
private_key!(
    /// A disco private key: fresh at every start, never written anywhere.
    DiscoPrivate => DiscoPublic
);
private_key!(
    /// A control server's challenge key.
    ChallengePrivate => ChallengePublic
);

/// The key that relays of one mesh share: 64 hex digits without a prefix.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MeshKey([u8; 32]);

impl MeshKey {
    /// The secret itself.
    pub const fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for MeshKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let mut bytes = [0; 32];
        decode_hex(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl PartialEq for MeshKey {
    fn eq(&self, other: &Self) -> bool {
        bool::from(self.0.ct_eq(&other.0))
    }
}

impl Eq for MeshKey {}

impl fmt::Debug for MeshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeshKey(..)")
    }
}
