//! The tailnet at one moment, and how it differs from the moment before.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use derp::DerpMap;
use host::Wall;
use keys::NodePublic;
use packet::PeerId;
use tailcfg::go::RawJson;
use tailcfg::{DisplayMessage, DnsConfig, FilterRule, UserId, UserProfile, cap};

use crate::{ChunkMap, ClockOffset, Peer, Peers};

/// The tailnet at one moment. Cloning costs a few reference counts.
#[derive(Debug, Clone, PartialEq)]
pub struct NetMap {
    /// Ourselves.
    pub self_node: Arc<Peer>,
    /// The peers that we may talk to. None while [`NetMap::locked`].
    pub peers: Peers,
    /// What is known of people.
    pub users: ChunkMap<UserId, Arc<UserProfile>>,
    /// Name of the tailnet.
    pub domain: Arc<str>,
    /// Name resolution.
    pub dns: Arc<DnsConfig>,
    /// Relays.
    pub derp_map: Arc<DerpMap>,
    /// Relays as they came, for those who ask for the original; `None` before the first.
    pub derp_map_wire: Option<Arc<tailcfg::DerpMap>>,
    /// Filter rules, in the order in which they count.
    pub filter_rules: Arc<[FilterRule]>,
    /// What the control server wants the user to know, by name.
    pub messages: Arc<BTreeMap<String, DisplayMessage>>,
    /// Who may use SSH here.
    pub ssh_policy: Option<Arc<RawJson>>,
    /// Whether to report open ports.
    pub collect_services: bool,
    /// Where the tailnet logs flows.
    pub audit_log_id: Arc<str>,
    /// The tailnet is locked and we cannot verify signatures, so no peer is trusted.
    pub locked: bool,
    /// How far the control server's clock is ahead.
    pub clock_offset: ClockOffset,
}

/// What one response changed.
#[derive(Debug, Clone)]
pub enum NetMapChange {
    /// All may have changed: the first response of a stream, or a new list of all peers.
    Full(Arc<NetMap>),
    /// Only what is named has changed.
    Patch(Patch),
}

impl NetMapChange {
    /// The tailnet after the change.
    #[must_use]
    pub fn map(&self) -> &Arc<NetMap> {
        match self {
            Self::Full(map) => map,
            Self::Patch(patch) => &patch.map,
        }
    }
}

/// A change of parts.
#[derive(Debug, Clone)]
pub struct Patch {
    /// The tailnet after the change.
    pub map: Arc<NetMap>,
    /// Peers that are new or changed, as they are after it, in the order of their numbers.
    pub changed: Vec<Arc<Peer>>,
    /// Peers that are gone, in the order of their numbers.
    pub removed: Vec<PeerId>,
    /// What else has changed.
    pub parts: Parts,
}

/// Parts of a [`NetMap`] other than its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts {
    /// [`NetMap::self_node`].
    pub self_node: bool,
    /// [`NetMap::users`].
    pub users: bool,
    /// [`NetMap::domain`] and [`NetMap::audit_log_id`].
    pub domain: bool,
    /// [`NetMap::dns`].
    pub dns: bool,
    /// [`NetMap::derp_map`].
    pub derp_map: bool,
    /// [`NetMap::filter_rules`].
    pub filter: bool,
    /// [`NetMap::messages`].
    pub messages: bool,
    /// [`NetMap::ssh_policy`].
    pub ssh_policy: bool,
    /// [`NetMap::collect_services`].
    pub collect_services: bool,
    /// [`NetMap::clock_offset`].
    pub clock: bool,
}

impl Parts {
    /// Whether nothing has changed.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl NetMap {
    /// A tailnet of one node, which talks to nobody.
    #[must_use]
    pub fn new(self_node: Arc<Peer>) -> Self {
        Self {
            self_node,
            peers: Peers::default(),
            users: ChunkMap::default(),
            domain: "".into(),
            dns: Arc::default(),
            derp_map: Arc::default(),
            derp_map_wire: None,
            filter_rules: Arc::from([]),
            messages: Arc::default(),
            ssh_policy: None,
            collect_services: false,
            audit_log_id: "".into(),
            locked: false,
            clock_offset: ClockOffset::default(),
        }
    }

    /// Our WireGuard key, by which the control server knows this tailnet's view.
    #[must_use]
    pub fn node_key(&self) -> NodePublic {
        self.self_node.key
    }

    /// The suffix of names in this tailnet, without dots around it: our own name without its first label.
    #[must_use]
    #[doc(alias = "MagicDNSSuffix")]
    pub fn suffix(&self) -> &str {
        let name = self.self_node.name.trim_matches('.');
        name.split_once('.').map_or(name, |(_, suffix)| suffix)
    }

    /// Ourselves or the peer that has this address.
    #[must_use]
    pub fn by_ip(&self, ip: IpAddr) -> Option<&Arc<Peer>> {
        if self.self_node.ips().any(|own| own == ip.to_canonical()) {
            return Some(&self.self_node);
        }
        self.peers.by_ip(ip)
    }

    /// Ourselves or the peer that has this name: the full one, or the one without the tailnet's suffix, in any case, with
    /// or without a dot at the end.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Arc<Peer>> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if name.is_empty() {
            return None;
        }
        let full = format!("{name}.{}", self.suffix().to_ascii_lowercase());
        [name, full].iter().find_map(|fqdn| {
            if self.self_node.fqdn() == *fqdn {
                return Some(&self.self_node);
            }
            self.peers.by_fqdn(fqdn)
        })
    }

    /// The addresses that MagicDNS has for a name: those of a node, else of an extra record. `None` if there is no such
    /// name. Short names are found even where MagicDNS is off; the resolver must look at [`DnsConfig::proxied`].
    #[must_use]
    pub fn resolve(&self, name: &str) -> Option<Vec<IpAddr>> {
        if let Some(node) = self.by_name(name) {
            return Some(self.offered_addresses(node));
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let extra: Vec<IpAddr> = self
            .dns
            .extra_records
            .iter()
            .filter(|record| matches!(&*record.kind, "" | "A" | "AAAA"))
            .filter(|record| {
                let known = record.name.strip_suffix('.').unwrap_or(&record.name);
                known.eq_ignore_ascii_case(name)
            })
            .filter_map(|record| record.value.parse().ok())
            .collect();
        (!extra.is_empty()).then_some(extra)
    }

    /// The addresses of a node that we can use: IPv6 only if we have nothing else, or the node has nothing else, or the
    /// control server asks for it.
    fn offered_addresses(&self, node: &Peer) -> Vec<IpAddr> {
        let v6_only = self.self_node.ips().next().is_some_and(|ip| ip.is_ipv6());
        let has_v4 = node.ips().any(|ip| ip.is_ipv4());
        let with_v6 = v6_only || !has_v4 || self.self_node.has_cap(cap::MAGIC_DNS_AAAA);
        node.ips()
            .filter(|ip| if ip.is_ipv4() { !v6_only } else { with_v6 })
            .collect()
    }

    /// When the next key runs out by our clock, our own included. Then call [`NetMap::expire`].
    #[must_use]
    pub fn next_expiry(&self, now: Wall) -> Option<Wall> {
        let control_now = self.clock_offset.control_now(now)?;
        let own = self
            .self_node
            .key_expiry
            .filter(|at| !self.self_node.expired && *at > control_now);
        let peers = self.peers.next_expiry().map(|(at, _)| at);
        let next = own.into_iter().chain(peers).min()?;
        Some(self.clock_offset.local(next))
    }

    /// Whether our own key has run out.
    #[must_use]
    pub fn self_expired(&self, now: Wall) -> bool {
        let control_now = self.clock_offset.control_now(now);
        self.self_node.expired
            || matches!((self.self_node.key_expiry, control_now), (Some(at), Some(now)) if at <= now)
    }

    /// The tailnet with the peers expired whose time has come; `None` if there is none.
    #[must_use]
    pub fn expire(&self, now: Wall) -> Option<Patch> {
        let mut map = self.clone();
        let changed = map.expire_due(now);
        (!changed.is_empty()).then(|| Patch {
            map: Arc::new(map),
            changed,
            removed: Vec::new(),
            parts: Parts::default(),
        })
    }

    /// Expires the peers whose time has come, in place, and returns them.
    pub(crate) fn expire_due(&mut self, now: Wall) -> Vec<Arc<Peer>> {
        let Some(control_now) = self.clock_offset.control_now(now) else {
            return Vec::new();
        };
        let mut changed = Vec::new();
        while let Some((at, id)) = self.peers.next_expiry()
            && at <= control_now
            && let Some(peer) = self.peers.get(id)
        {
            let peer = Arc::new(Peer::clone(peer).into_expired());
            changed.push(Arc::clone(&peer));
            self.peers.insert(peer);
        }
        changed.sort_by_key(|peer| peer.id);
        changed
    }
}
