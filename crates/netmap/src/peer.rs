//! A node of the tailnet, validated.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use keys::{DiscoPublic, MachinePublic, NodePublic};
use packet::PeerId;
use packet::addr::DERP_MAGIC;
use tailcfg::go::{Bytes, GoTime};
use tailcfg::{CapMap, Hostinfo, HostinfoText, Resolver, UserId};

/// The first bytes of an expired peer's key, which keep it from ever finishing a handshake. Such keys show as `[bad01]`.
const BAD_KEY_PREFIX: [u8; 6] = [0x6d, 0xa7, 0x74, 0xd5, 0xd7, 0x74];

/// A node of the tailnet: a peer or ourselves. Small, because a tailnet may have thousands.
#[derive(Debug, Clone, PartialEq)]
#[doc(alias = "NodeView")]
pub struct Peer {
    /// Which node.
    pub id: PeerId,
    /// Text that stays the same through re-registration.
    pub stable_id: Box<str>,
    /// Full name, usually with a dot at the end; may be empty.
    pub name: Box<str>,
    /// Who made it.
    pub user: UserId,
    /// Who shared it, or 0.
    pub sharer: UserId,
    /// WireGuard key.
    pub key: NodePublic,
    /// When the key runs out; `None` is never.
    pub key_expiry: Option<GoTime>,
    /// Disco key; zero if it speaks no disco.
    pub disco: DiscoPublic,
    /// Machine key; zero if we may not know.
    pub machine: MachinePublic,
    /// Its own addresses.
    pub addresses: Arc<[IpNet]>,
    /// What is routed to it, its own addresses included.
    pub allowed_ips: Arc<[IpNet]>,
    /// Where it may be reached directly.
    pub endpoints: Box<[SocketAddr]>,
    /// Home relay region; 0 if unknown.
    pub home_derp: u16,
    /// Its capability version; 0 if unknown.
    pub cap: i32,
    /// What it says about itself.
    pub hostinfo: HostinfoText,
    /// When it was made.
    pub created: GoTime,
    /// Tags.
    pub tags: Box<[String]>,
    /// Subnets that it is the one to route.
    pub primary_routes: Box<[IpNet]>,
    /// When it was last connected to the control server.
    pub last_seen: Option<GoTime>,
    /// Whether it is connected to the control server; `None` if we may not know.
    pub online: Option<bool>,
    /// Whether an administrator approved it.
    pub machine_authorized: bool,
    /// Not covered by tailnet lock, so it may use nothing but the peer API.
    pub unsigned_peer_api_only: bool,
    /// Whether its key has run out. It then has no endpoints, no home and a key that cannot work.
    pub expired: bool,
    /// Speaks plain WireGuard only.
    pub is_wireguard_only: bool,
    /// May answer us but not start anything.
    pub is_jailed: bool,
    /// Capabilities and their arguments.
    pub cap_map: Arc<CapMap>,
    /// What few nodes have.
    pub rare: Option<Box<Rare>>,
}

/// What few nodes have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rare {
    /// Tailnet lock signature of the key.
    pub key_signature: Bytes,
    /// The IPv4 address that it knows us by, if not our own.
    pub masquerade_v4: Option<IpAddr>,
    /// The IPv6 address that it knows us by, if not our own.
    pub masquerade_v6: Option<IpAddr>,
    /// Servers to ask while it is our exit node.
    pub exit_node_dns: Vec<Resolver>,
    /// Where it logs flows.
    pub audit_log_id: String,
    /// Capabilities in the retired form.
    pub capabilities: Vec<String>,
}

impl Peer {
    /// Reads a node as it came, with what old servers and short forms leave to us filled in.
    #[must_use]
    pub fn from_wire(node: tailcfg::Node) -> Self {
        let home_derp = home_derp(&node);
        let addresses: Arc<[IpNet]> = node.addresses.into();
        let allowed_ips = match node.allowed_ips {
            // Advertised routes of a node outside tailnet lock would let the server add a router on its own.
            Some(nets) if !node.unsigned_peer_api_only && *nets != *addresses => nets.into(),
            _ => Arc::clone(&addresses),
        };
        let rare = Rare {
            key_signature: node.key_signature,
            masquerade_v4: node.self_node_v4_masq_addr_for_this_peer,
            masquerade_v6: node.self_node_v6_masq_addr_for_this_peer,
            exit_node_dns: node.exit_node_dns_resolvers,
            audit_log_id: node.data_plane_audit_log_id,
            capabilities: node.capabilities,
        };
        Self {
            id: PeerId(node.id),
            stable_id: node.stable_id.into(),
            name: node.name.into(),
            user: node.user,
            sharer: node.sharer,
            key: node.key,
            key_expiry: node.key_expiry.some(),
            disco: node.disco_key,
            machine: node.machine,
            addresses,
            allowed_ips,
            endpoints: node.endpoints.into(),
            home_derp,
            cap: node.cap,
            hostinfo: node.hostinfo,
            created: node.created,
            tags: node.tags.into(),
            primary_routes: node.primary_routes.into(),
            last_seen: node.last_seen,
            online: node.online,
            machine_authorized: node.machine_authorized,
            unsigned_peer_api_only: node.unsigned_peer_api_only,
            expired: node.expired,
            is_wireguard_only: node.is_wireguard_only,
            is_jailed: node.is_jailed,
            cap_map: Arc::new(node.cap_map),
            rare: (rare != Rare::default()).then(|| Box::new(rare)),
        }
    }

    /// The node as our clients see it (`whois`, `SelfChange`). `suffix` is the tailnet's own, for the computed names.
    #[must_use]
    pub fn to_wire(&self, suffix: &str) -> tailcfg::Node {
        let rare = self.rare.as_deref().cloned().unwrap_or_default();
        let (computed_name, computed_name_with_host) = self.display_names(suffix);
        tailcfg::Node {
            id: self.id.0,
            stable_id: self.stable_id.to_string(),
            name: self.name.to_string(),
            user: self.user,
            sharer: self.sharer,
            key: self.key,
            key_expiry: self.key_expiry.unwrap_or_default(),
            key_signature: rare.key_signature,
            machine: self.machine,
            disco_key: self.disco,
            addresses: self.addresses.to_vec(),
            allowed_ips: Some(self.allowed_ips.to_vec()),
            endpoints: self.endpoints.to_vec(),
            legacy_derp: String::new(),
            home_derp: i32::from(self.home_derp),
            hostinfo: self.hostinfo.clone(),
            created: self.created,
            cap: self.cap,
            tags: self.tags.to_vec(),
            primary_routes: self.primary_routes.to_vec(),
            last_seen: self.last_seen,
            online: self.online,
            machine_authorized: self.machine_authorized,
            capabilities: rare.capabilities,
            cap_map: (*self.cap_map).clone(),
            unsigned_peer_api_only: self.unsigned_peer_api_only,
            computed_name,
            computed_name_with_host,
            data_plane_audit_log_id: rare.audit_log_id,
            expired: self.expired,
            self_node_v4_masq_addr_for_this_peer: rare.masquerade_v4,
            self_node_v6_masq_addr_for_this_peer: rare.masquerade_v6,
            is_wireguard_only: self.is_wireguard_only,
            is_jailed: self.is_jailed,
            exit_node_dns_resolvers: rare.exit_node_dns,
        }
    }

    /// What it says about itself. Decodes each time; meant for what people ask for, not for packets.
    #[must_use]
    pub fn hostinfo(&self) -> Hostinfo {
        self.hostinfo.parse()
    }

    /// Its own single addresses, IPv4 first.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        let singles = || {
            self.addresses
                .iter()
                .filter(|net| net.prefix_len() == net.max_prefix_len())
                .map(IpNet::addr)
        };
        singles()
            .filter(IpAddr::is_ipv4)
            .chain(singles().filter(IpAddr::is_ipv6))
    }

    /// Whether it has a node capability.
    #[must_use]
    pub fn has_cap(&self, cap: &str) -> bool {
        self.cap_map.contains_key(cap)
            || self
                .rare
                .as_ref()
                .is_some_and(|rare| rare.capabilities.iter().any(|known| known == cap))
    }

    /// The full name in lower case and without the dot at the end.
    #[must_use]
    pub fn fqdn(&self) -> String {
        self.name.trim_end_matches('.').to_ascii_lowercase()
    }

    /// What is wanted of the name by people: without the tailnet's suffix, and once more with the host's own name in
    /// parentheses if that differs.
    #[must_use]
    pub fn display_names(&self, suffix: &str) -> (String, String) {
        let mut name = without_suffix(&self.name, suffix).to_owned();
        let mut host = sanitize_hostname(&self.hostinfo().hostname);
        if name.eq_ignore_ascii_case(&host) {
            host.clear();
        }
        if name.is_empty() {
            name = match host.is_empty() {
                true => self.key.to_string(),
                false => std::mem::take(&mut host),
            };
        }
        let with_host = match host.is_empty() {
            true => name.clone(),
            false => format!("{name} ({host})"),
        };
        (name, with_host)
    }

    /// The peer after its key ran out: nowhere to be found, and with a key that cannot work.
    #[must_use]
    pub fn into_expired(mut self) -> Self {
        let mut key = *self.key.as_bytes();
        key[..BAD_KEY_PREFIX.len()].copy_from_slice(&BAD_KEY_PREFIX);
        self.key = NodePublic::from_bytes(key);
        self.expired = true;
        self.endpoints = Box::default();
        self.home_derp = 0;
        self
    }
}

/// The home relay: the modern field, else the port of the retired `127.3.3.40:N`. A region must fit 16 bits.
fn home_derp(node: &tailcfg::Node) -> u16 {
    if node.home_derp != 0 {
        return u16::try_from(node.home_derp).unwrap_or(0);
    }
    let Some((host, region)) = node.legacy_derp.rsplit_once(':') else {
        return 0;
    };
    match host.parse::<IpAddr>() {
        Ok(ip) if DERP_MAGIC == ip => region.parse().unwrap_or(0),
        _ => 0,
    }
}

/// A name without its dot at the end and without the suffix, if it has it.
fn without_suffix<'a>(name: &'a str, suffix: &str) -> &'a str {
    let name = name.trim_end_matches('.');
    let suffix = suffix.trim_matches('.');
    if suffix.is_empty() {
        return name;
    }
    name.len()
        .checked_sub(suffix.len() + 1)
        .and_then(|at| Some((name.get(..at)?, name.get(at..)?)))
        .filter(|(_, end)| {
            end.strip_prefix('.')
                .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        })
        .map_or(name, |(base, _)| base)
}

/// A machine's name as it can stand in DNS: endings of home networks gone, from the first letter or digit to the last
/// within 63 bytes, separators as dashes, the rest left out (the originals' `dnsname.SanitizeHostname`).
#[must_use]
pub fn sanitize_hostname(hostname: &str) -> String {
    let base = [".local", ".localdomain", ".lan"]
        .iter()
        .fold(hostname, |name, end| name.strip_suffix(end).unwrap_or(name));
    let bytes = base.as_bytes();
    let bytes = bytes.get(..MAX_LABEL).unwrap_or(bytes);
    let Some(start) = bytes.iter().position(u8::is_ascii_alphanumeric) else {
        return String::new();
    };
    let end = bytes.iter().rposition(u8::is_ascii_alphanumeric);
    bytes[start..=end.unwrap_or(start)]
        .iter()
        .filter_map(|byte| match byte {
            b' ' | b'.' | b'@' | b'_' | b'-' => Some('-'),
            byte if byte.is_ascii_alphanumeric() => Some(char::from(byte.to_ascii_lowercase())),
            _ => None,
        })
        .collect()
}

/// The longest label that DNS allows.
const MAX_LABEL: usize = 63;

#[cfg(test)]
mod tests;
