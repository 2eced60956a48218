//! Types whose JSON is one token, or raw.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use keys::{
    ChallengePublic, DiscoPublic, LockPrivate, LockPublic, MachinePrivate, MachinePublic,
    NodePrivate, NodePublic,
};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Wire, Zero};

macro_rules! leaf {
    ($($ty:ty: |$value:ident| $zero:expr;)*) => {$(
        impl Wire for $ty {
            fn de<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
                <$ty as Deserialize>::deserialize(deserializer).map(Some)
            }
        }
        impl Zero for $ty {
            fn is_zero(&self) -> bool {
                let $value = self;
                $zero
            }
        }
    )*};
}

leaf! {
    bool: |v| !*v;
    u8: |v| *v == 0;
    u16: |v| *v == 0;
    u32: |v| *v == 0;
    u64: |v| *v == 0;
    i32: |v| *v == 0;
    i64: |v| *v == 0;
    f64: |v| *v == 0.0;
    String: |v| v.is_empty();
    NodePublic: |v| v.is_zero();
    MachinePublic: |v| v.is_zero();
    DiscoPublic: |v| v.is_zero();
    ChallengePublic: |v| v.is_zero();
    LockPublic: |v| v.is_zero();
    NodePrivate: |v| v.is_zero();
    MachinePrivate: |v| v.is_zero();
    LockPrivate: |v| v.is_zero();
}

/// Texts of `net/netip`: the empty text is the zero value. A zone (`%eth0`) names an interface of another machine, so
/// such an address counts as nothing.
macro_rules! address {
    ($($ty:ty),*) => {$(
        impl Wire for $ty {
            fn de<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
                let text = String::deserialize(deserializer)?;
                if text.is_empty() || text.contains('%') {
                    return Ok(None);
                }
                text.parse().map(Some).map_err(|_| {
                    serde::de::Error::custom(format_args!("parse `{text}` as {}", stringify!($ty)))
                })
            }
        }
    )*};
}
address!(IpAddr, SocketAddr, IpNet);

/// An address that may be absent, and then is the empty text (`netip.Addr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct OptAddr(pub Option<IpAddr>);

impl Serialize for OptAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(addr) => serializer.collect_str(&addr),
            None => serializer.serialize_str(""),
        }
    }
}

impl<'de> Deserialize<'de> for OptAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::Maybe::<IpAddr>::deserialize(deserializer).map(|addr| Self(addr.0))
    }
}

impl Wire for OptAddr {
    fn de<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        IpAddr::de(deserializer).map(|addr| Some(Self(addr)))
    }
}

impl Zero for OptAddr {
    fn is_zero(&self) -> bool {
        self.0.is_none()
    }
}

/// Go's `[]byte`: base64 with padding; empty is `null`.
#[derive(Clone, PartialEq, Eq, Default, Hash)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_empty() {
            return serializer.serialize_none();
        }
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::Maybe::<Self>::deserialize(deserializer).map(|bytes| bytes.0.unwrap_or_default())
    }
}

impl Wire for Bytes {
    fn de<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Go skips line breaks inside base64.
        let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        match STANDARD.decode(&text) {
            Ok(bytes) => Ok(Some(Self(bytes))),
            Err(error) => Err(serde::de::Error::custom(format_args!(
                "decode base64: {error}"
            ))),
        }
    }
}

impl Zero for Bytes {
    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

/// A text that must not show up in logs, such as an auth key.
#[derive(Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Wire for Secret {
    fn de<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        String::deserialize(deserializer).map(|text| Some(Self(text)))
    }
}

impl Zero for Secret {
    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

/// Any JSON, kept as it came (Go's `RawMessage`). The default is `null`.
#[derive(Clone)]
pub struct RawJson(Box<RawValue>);

impl RawJson {
    /// The JSON of a value. A value that cannot be encoded becomes `null`.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        super::to_string(value)
            .and_then(RawValue::from_string)
            .map(Self)
            .unwrap_or_default()
    }

    /// The JSON text.
    #[must_use]
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// Decodes it.
    ///
    /// # Errors
    /// When the JSON does not fit the type.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.get())
    }
}

impl Default for RawJson {
    fn default() -> Self {
        Self(RawValue::NULL.to_owned())
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for RawJson {}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get())
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self)
    }
}

impl Wire for RawJson {
    fn de<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        Self::deserialize(deserializer).map(Some)
    }
    fn from_null() -> Option<Self> {
        Some(Self::default())
    }
}

/// Writes a map with integer keys in Go's order, which is that of the keys' texts (`10` before `9`).
///
/// # Errors
/// Those of the serializer.
pub fn int_keys<K: ToString, T: Serialize, S: Serializer>(
    map: &BTreeMap<K, T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let sorted: BTreeMap<String, &T> = map.iter().map(|(k, v)| (k.to_string(), v)).collect();
    let mut out = serializer.serialize_map(Some(sorted.len()))?;
    for (key, value) in sorted {
        out.serialize_entry(&key, value)?;
    }
    out.end()
}
