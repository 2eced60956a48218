//! What clients are told, and the difference between two moments.

use std::collections::BTreeMap;
use std::sync::Arc;

use netmap::ChunkMap;
use tailcfg::go::{GoTime, RawJson};
use tailcfg::{
    Debug, DerpMap, DnsConfig, FilterRule, HostinfoText, MapResponse, NodeId, PeerChange, UserId,
    UserProfile, cap,
};

use super::node::Node;

/// One node as others see it.
#[derive(Debug, PartialEq)]
pub(crate) struct NodeView {
    pub(crate) node: tailcfg::Node,
}

impl NodeView {
    pub(super) fn new(node: &Node, domain: &str) -> Self {
        let addresses = node.addresses();
        Self {
            node: tailcfg::Node {
                id: node.id,
                stable_id: node.stable_id.clone(),
                name: node.fqdn(domain),
                user: node.owner(),
                key: node.key,
                key_expiry: node.key_expiry,
                machine: node.machine,
                disco_key: node.disco,
                allowed_ips: Some(addresses.clone()),
                addresses,
                endpoints: node.endpoints.clone(),
                home_derp: node.home_derp,
                hostinfo: HostinfoText::from(&node.hostinfo),
                created: node.created,
                cap: node.cap,
                tags: node.tags.clone(),
                last_seen: node.last_seen.filter(|_| !node.online),
                online: Some(node.online),
                machine_authorized: true,
                ..tailcfg::Node::default()
            },
        }
    }

    /// The node as it sees itself.
    fn to_self(&self) -> tailcfg::Node {
        let mut node = self.node.clone();
        // The client is connected, whatever the others have been told yet.
        node.online = Some(true);
        node.last_seen = None;
        node.cap_map.insert(
            cap::DEFAULT_AUTO_UPDATE.into(),
            Some(vec![RawJson::of(&false)]),
        );
        node
    }
}

/// The tailnet at one moment. Copies share what they have in common.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(super) domain: String,
    pub(super) nodes: ChunkMap<NodeId, Arc<NodeView>>,
    pub(super) users: Arc<BTreeMap<UserId, UserProfile>>,
    pub(super) derp_map: Arc<DerpMap>,
    pub(super) filter: Arc<Vec<FilterRule>>,
}

impl Snapshot {
    /// Whether the node is in the tailnet.
    pub(crate) fn contains(&self, id: NodeId) -> bool {
        self.nodes.contains_key(&id)
    }

    /// All that a client must know at first. `None` if it is not in the tailnet.
    pub(crate) fn full(&self, id: NodeId, now: GoTime) -> Option<MapResponse> {
        let view = self.nodes.get(&id)?;
        let peers = self.nodes.iter().filter(|(peer, _)| **peer != id);
        Some(MapResponse {
            node: Some(Box::new(view.to_self())),
            derp_map: Some(Box::new((*self.derp_map).clone())),
            peers: peers.map(|(_, peer)| peer.node.clone()).collect(),
            dns_config: Some(Box::new(self.dns_config())),
            domain: self.domain.clone(),
            collect_services: Some(false),
            packet_filters: Some(self.packet_filters()),
            user_profiles: self.users.values().cloned().collect(),
            control_time: Some(now),
            debug: Some(Debug {
                disable_log_tail: true,
                ..Debug::default()
            }),
            ..MapResponse::default()
        })
    }

    /// What a client that knows `old` must be told. `None` if there is nothing.
    pub(crate) fn delta(&self, old: &Self, id: NodeId) -> Option<MapResponse> {
        let mut out = MapResponse::default();
        for (peer, known, view) in self.nodes.since(&old.nodes) {
            let Some(view) = view else {
                out.peers_removed.push(*peer);
                continue;
            };
            if known.is_some_and(|known| Arc::ptr_eq(known, view)) {
                continue;
            }
            if *peer == id {
                let node = view.to_self();
                if known.is_none_or(|known| known.to_self() != node) {
                    out.node = Some(Box::new(node));
                }
                continue;
            }
            match known.and_then(|known| patch(&known.node, &view.node)) {
                Some(change) => out.peers_changed_patch.push(change),
                None => out.peers_changed.push(view.node.clone()),
            }
        }
        if !Arc::ptr_eq(&self.users, &old.users) {
            let users = self.users.iter();
            let new = users.filter(|(id, user)| old.users.get(id) != Some(user));
            out.user_profiles = new.map(|(_, user)| user.clone()).collect();
        }
        if !Arc::ptr_eq(&self.derp_map, &old.derp_map) {
            out.derp_map = Some(Box::new((*self.derp_map).clone()));
        }
        if !Arc::ptr_eq(&self.filter, &old.filter) {
            out.packet_filters = Some(self.packet_filters());
        }
        (out != MapResponse::default()).then_some(out)
    }

    fn packet_filters(&self) -> BTreeMap<String, Option<Vec<FilterRule>>> {
        BTreeMap::from([("base".to_owned(), Some((*self.filter).clone()))])
    }

    fn dns_config(&self) -> DnsConfig {
        DnsConfig {
            proxied: true,
            domains: vec![self.domain.clone()],
            routes: BTreeMap::from([(self.domain.clone(), Some(Vec::new()))]),
            ..DnsConfig::default()
        }
    }
}

/// The change as a patch, if only such fields differ as a patch can name. A patch cannot take away a time.
fn patch(old: &tailcfg::Node, new: &tailcfg::Node) -> Option<PeerChange> {
    let rest_is_equal = {
        let patched = tailcfg::Node {
            home_derp: new.home_derp,
            cap: new.cap,
            endpoints: new.endpoints.clone(),
            key: new.key,
            disco_key: new.disco_key,
            online: new.online,
            last_seen: new.last_seen,
            key_expiry: new.key_expiry,
            ..old.clone()
        };
        patched == *new
    };
    let representable = new.home_derp != 0 || old.home_derp == 0;
    if !rest_is_equal || !representable || (new.cap == 0 && old.cap != 0) {
        return None;
    }
    fn differing<T: PartialEq + Clone>(old: &T, new: &T) -> Option<T> {
        (old != new).then(|| new.clone())
    }
    Some(PeerChange {
        node_id: new.id,
        derp_region: differing(&old.home_derp, &new.home_derp).unwrap_or_default(),
        cap: differing(&old.cap, &new.cap).unwrap_or_default(),
        endpoints: differing(&old.endpoints, &new.endpoints),
        key: differing(&old.key, &new.key),
        disco_key: differing(&old.disco_key, &new.disco_key),
        online: differing(&old.online, &new.online).flatten(),
        last_seen: differing(&old.last_seen, &new.last_seen).flatten(),
        key_expiry: differing(&old.key_expiry, &new.key_expiry),
        ..PeerChange::default()
    })
}
