//! Public keys: plain 32-byte values with a text form.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ParseKeyError;
use crate::hex::{encode_hex, parse_prefixed};

macro_rules! public_key {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The text form's prefix.
            pub const PREFIX: &'static str = $prefix;
            /// The zero key, which means "none".
            pub const ZERO: Self = Self([0; 32]);

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

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = String::with_capacity($prefix.len() + 64);
                text.push_str($prefix);
                encode_hex(&self.0, &mut text);
                f.write_str(&text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseKeyError;

            fn from_str(text: &str) -> Result<Self, ParseKeyError> {
                parse_prefixed(text, $prefix).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        /// `null` and the empty text are the zero key, as Go's decoder leaves it.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match Option::<String>::deserialize(deserializer)? {
                    None => Ok(Self::ZERO),
                    Some(text) => text.parse().map_err(serde::de::Error::custom),
                }
            }
        }
    };
}

public_key!(
    /// A node's WireGuard public key: the identity of a device in a tailnet. `nodekey:`
    NodePublic, "nodekey:"
);
public_key!(
    /// A machine's public key, also the control server's Noise public key. `mkey:`
    MachinePublic, "mkey:"
);
public_key!(
    /// A disco public key: the identity of one running daemon for path discovery. `discokey:`
    DiscoPublic, "discokey:"
);
public_key!(
    /// The challenge key in the control server's early payload. `chalpub:`
    ChallengePublic, "chalpub:"
);

impl NodePublic {
    /// The short form in logs: `[` and the first five characters of the base64 and `]`; empty for the zero key.
    pub fn short(&self) -> String {
        if self.is_zero() {
            return String::new();
        }
        format!("[{}]", &STANDARD.encode(self.0)[..5])
    }
}

impl DiscoPublic {
    /// The short form in logs: `d:` and sixteen hex digits; empty for the zero key.
    pub fn short(&self) -> String {
        if self.is_zero() {
            return String::new();
        }
        let mut text = String::from("d:");
        encode_hex(&self.0[..8], &mut text);
        text
    }
}
