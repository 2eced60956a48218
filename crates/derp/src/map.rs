//! The relays that a node may use, validated. The wire form lives in `tailcfg`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A region's number. The wire allows more, but a region must fit in the port of `127.3.3.40:<region>`, the address that
/// stands for it everywhere. 900 to 999 are for people's own relays.
pub type RegionId = u16;

/// The relays of a tailnet, by region.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DerpMap {
    /// Regions by number.
    pub regions: BTreeMap<RegionId, Region>,
    /// Factors on measured latencies when the home is chosen; only positive ones. Below 1 a region looks nearer.
    pub region_score: BTreeMap<RegionId, f64>,
}

impl DerpMap {
    /// The region with this number.
    pub fn region(&self, id: RegionId) -> Option<&Region> {
        self.regions.get(&id)
    }
}

/// A group of relays near each other. Two nodes meet in one region.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Region {
    /// The number; also the key in [`DerpMap::regions`].
    pub id: RegionId,
    /// Short name, such as `fra`.
    pub code: String,
    /// Long name, such as `Frankfurt`.
    pub name: String,
    /// Degrees north; 0 if unknown.
    pub latitude: f64,
    /// Degrees east; 0 if unknown.
    pub longitude: f64,
    /// Not to be measured again unless it is the home (deprecated on the wire).
    pub avoid: bool,
    /// Never measured and never the home; used only to reach peers whose home it is.
    pub no_measure_no_home: bool,
    /// Relays in the order of preference.
    pub nodes: Vec<Node>,
}

impl Region {
    /// Nodes that relay (not only answer STUN), in the order of preference.
    pub fn relays(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| !node.stun_only)
    }
}

/// One relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Unique name among all regions, such as `1a`. Not a host name.
    pub name: String,
    /// Where to connect, and the name in TLS.
    pub host: String,
    /// Which certificate to accept.
    pub cert_name: NodeCert,
    /// Its IPv4 address.
    pub ipv4: FamilyAddr<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: FamilyAddr<Ipv6Addr>,
    /// UDP port of its STUN server; `None` if it has none.
    pub stun_port: Option<u16>,
    /// Overrides where STUN requests go, in tests.
    pub stun_test_ip: Option<IpAddr>,
    /// It answers STUN but does not relay.
    pub stun_only: bool,
    /// TCP port of its TLS server.
    pub derp_port: u16,
    /// Do not verify its certificate.
    pub insecure_for_tests: bool,
    /// It answers plain HTTP on port 80 (captive portal probes).
    pub can_port80: bool,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: String::new(),
            host: String::new(),
            cert_name: NodeCert::HostName,
            ipv4: FamilyAddr::Dns,
            ipv6: FamilyAddr::Dns,
            stun_port: Some(Self::DEFAULT_STUN_PORT),
            stun_test_ip: None,
            stun_only: false,
            derp_port: Self::DEFAULT_DERP_PORT,
            insecure_for_tests: false,
            can_port80: false,
        }
    }
}

impl Node {
    /// What a zero `STUNPort` on the wire means.
    pub const DEFAULT_STUN_PORT: u16 = 3478;
    /// What a zero `DERPPort` on the wire means.
    pub const DEFAULT_DERP_PORT: u16 = 443;

    /// Whether this is a test's node, which is probed even where the interfaces say that its family cannot work.
    pub fn is_test_node(&self) -> bool {
        self.stun_test_ip.is_some() || self.ipv4 == FamilyAddr::Ip(Ipv4Addr::LOCALHOST)
    }

    /// Reads a wire `STUNPort`: 0 is the default, negative or above 65535 is none.
    pub fn stun_port_from_wire(port: i64) -> Option<u16> {
        match port {
            0 => Some(Self::DEFAULT_STUN_PORT),
            port => u16::try_from(port).ok(),
        }
    }

    /// Reads a wire `DERPPort`: 0, and what is no port, is the default.
    pub fn derp_port_from_wire(port: i64) -> u16 {
        match u16::try_from(port) {
            Ok(0) | Err(_) => Self::DEFAULT_DERP_PORT,
            Ok(port) => port,
        }
    }
}

/// How to find a relay's address in one family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum FamilyAddr<A> {
    /// Ask DNS for the host name.
    #[default]
    Dns,
    /// Use this address.
    Ip(A),
    /// Do not use this family.
    None,
}

impl<A: FromStr> FamilyAddr<A> {
    /// Reads a wire `IPv4` or `IPv6`: empty is DNS, an address is itself, anything else (by convention `none`) disables.
    pub fn from_wire(text: &str) -> Self {
        if text.is_empty() {
            return Self::Dns;
        }
        text.parse().map_or(Self::None, Self::Ip)
    }
}

impl<A> FamilyAddr<A> {
    /// Whether the node may have an address in this family.
    pub const fn possible(&self) -> bool {
        !matches!(self, Self::None)
    }
}

/// Which certificate proves that a server is this relay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum NodeCert {
    /// One that is valid for the host name.
    #[default]
    HostName,
    /// One that is valid for this name; the host name is only sent as SNI.
    Name(String),
    /// Exactly the one whose DER has this SHA-256 (`sha256-raw:` and hex on the wire).
    Sha256([u8; 32]),
    /// The wire's pin cannot be read, so no certificate can satisfy it.
    Unsatisfiable,
}

impl NodeCert {
    /// The prefix of a pin on the wire.
    pub const PIN_PREFIX: &'static str = "sha256-raw:";

    /// Reads a wire `CertName`.
    pub fn from_wire(text: &str) -> Self {
        if text.is_empty() {
            return Self::HostName;
        }
        let Some(digits) = text.strip_prefix(Self::PIN_PREFIX) else {
            return Self::Name(text.to_owned());
        };
        let mut pin = [0; 32];
        match keys::decode_hex(digits, &mut pin) {
            Ok(()) => Self::Sha256(pin),
            Err(_) => Self::Unsatisfiable,
        }
    }

    /// The wire form of a pin.
    pub fn pin_text(pin: &[u8; 32]) -> String {
        let mut text = String::from(Self::PIN_PREFIX);
        keys::encode_hex(pin, &mut text);
        text
    }
}
