//! The two JSON messages of the handshake.

use std::fmt;

use keys::MeshKey;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::PROTOCOL_VERSION;

/// What a client says about itself, under its own key.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientInfo {
    /// The key that the servers of a region share; only they send it.
    pub mesh_key: Option<MeshKey>,
    /// The protocol version.
    pub version: i64,
    /// Whether the client answers pings.
    pub can_ack_pings: bool,
    /// Whether the client only probes.
    pub is_prober: bool,
    /// A name for the server's statistics; empty on ordinary clients.
    pub app_name: String,
}

impl Default for ClientInfo {
    /// An ordinary client.
    fn default() -> Self {
        Self {
            mesh_key: None,
            version: PROTOCOL_VERSION,
            can_ack_pings: true,
            is_prober: false,
            app_name: String::new(),
        }
    }
}

impl fmt::Debug for ClientInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientInfo")
            .field("meshed", &self.mesh_key.is_some())
            .field("version", &self.version)
            .field("can_ack_pings", &self.can_ack_pings)
            .field("is_prober", &self.is_prober)
            .field("app_name", &self.app_name)
            .finish()
    }
}

impl ClientInfo {
    /// The JSON text, with the names and order of the originals.
    pub fn to_json(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(160));
        text.push('{');
        if let Some(key) = &self.mesh_key {
            text.push_str("\"meshKey\":\"");
            keys::encode_hex(key.expose_bytes(), &mut text);
            text.push_str("\",");
        }
        if self.version != 0 {
            text.push_str(&format!("\"version\":{},", self.version));
        }
        text.push_str(&format!("\"CanAckPings\":{}", self.can_ack_pings));
        if self.is_prober {
            text.push_str(",\"IsProber\":true");
        }
        if !self.app_name.is_empty() {
            text.push_str(&format!(
                ",\"AppName\":{}",
                Value::from(self.app_name.as_str())
            ));
        }
        text.push('}');
        text
    }

    /// Reads the JSON text. `None` where a Go server would refuse the client: no object, a field of another type, a mesh
    /// key that is not 64 hex digits.
    pub fn from_json(text: &[u8]) -> Option<Self> {
        let fields = Fields::parse(text)?;
        let mesh_key = match fields.get("meshkey") {
            None => None,
            Some(value) => Some(value.as_str()?.parse::<MeshKey>().ok()?),
        };
        Some(Self {
            mesh_key: mesh_key.filter(|key| *key.expose_bytes() != [0; 32]),
            version: fields.int("version")?,
            can_ack_pings: fields.flag("canackpings")?,
            is_prober: fields.flag("isprober")?,
            app_name: fields.text("appname")?,
        })
    }
}

/// What a server says after it accepted a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerInfo {
    /// The protocol version. Not to be checked for equality.
    pub version: i64,
    /// How many bytes per second, with framing, the server will take; 0 if it does not say.
    pub bytes_per_second: u64,
    /// How many bytes may come at once.
    pub burst: u64,
}

impl Default for ServerInfo {
    fn default() -> Self {
        Self {
            version: PROTOCOL_VERSION,
            bytes_per_second: 0,
            burst: 0,
        }
    }
}

impl ServerInfo {
    /// The JSON text.
    pub fn to_json(&self) -> String {
        let mut parts = Vec::new();
        for (name, value) in [
            ("version", u64::try_from(self.version).unwrap_or(0)),
            ("TokenBucketBytesPerSecond", self.bytes_per_second),
            ("TokenBucketBytesBurst", self.burst),
        ] {
            if value != 0 {
                parts.push(format!("\"{name}\":{value}"));
            }
        }
        format!("{{{}}}", parts.join(","))
    }

    /// Reads the JSON text; `None` if it is no object or a field has another type. Negative limits are none.
    pub fn from_json(text: &[u8]) -> Option<Self> {
        let fields = Fields::parse(text)?;
        Some(Self {
            version: fields.int("version")?,
            bytes_per_second: u64::try_from(fields.int("tokenbucketbytespersecond")?).unwrap_or(0),
            burst: u64::try_from(fields.int("tokenbucketbytesburst")?).unwrap_or(0),
        })
    }
}

/// An object's fields by lower-case name: Go's decoder matches names without regard to case, and the last one wins.
/// `null` leaves a field as it was, except for keys, which refuse it.
struct Fields(Map<String, Value>);

impl Fields {
    fn parse(text: &[u8]) -> Option<Self> {
        let map = match serde_json::from_slice(text).ok()? {
            Value::Object(map) => map,
            Value::Null => Map::new(),
            _ => return None,
        };
        Some(Self(
            map.into_iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value))
                .collect(),
        ))
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    fn int(&self, name: &str) -> Option<i64> {
        self.get(name)
            .filter(|v| !v.is_null())
            .map_or(Some(0), Value::as_i64)
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.get(name)
            .filter(|v| !v.is_null())
            .map_or(Some(false), Value::as_bool)
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.get(name) {
            None | Some(Value::Null) => Some(String::new()),
            Some(value) => Some(value.as_str()?.to_owned()),
        }
    }
}
