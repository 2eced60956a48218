//! What clients are told, and the difference between two moments.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use netmap::ChunkMap;
use tailcfg::go::{GoTime, RawJson};
use tailcfg::{
    CapMap, Debug, DerpMap, DnsConfig, FilterRule, HostinfoText, MapResponse, NodeId, PeerChange,
    UserId, UserProfile, cap,
};

use super::Presence;
use super::node::Node;

/// One node as others see it, and what only it sees.
#[derive(Debug)]
pub(crate) struct NodeView {
    pub(crate) node: tailcfg::Node,
    attributes: CapMap,
    /// The node in JSON, made when it is first asked for: with ten thousand nodes every first map would make it anew.
    json: OnceLock<Box<str>>,
}

impl PartialEq for NodeView {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node && self.attributes == other.attributes
    }
}

impl NodeView {
    pub(super) fn new(node: &Node, domain: &str) -> Self {
        let addresses = node.addresses();
        let routed = node.routed();
        let allowed = addresses.iter().chain(&routed).copied().collect();
        Self {
            attributes: node.attributes.clone(),
            json: OnceLock::new(),
            node: tailcfg::Node {
                id: node.id,
                stable_id: node.stable_id.clone(),
                name: node.fqdn(domain),
                user: node.owner(),
                key: node.key,
                key_expiry: node.key_expiry,
                machine: node.machine,
                disco_key: node.disco,
                allowed_ips: Some(allowed),
                primary_routes: routed,
                addresses,
                endpoints: node.endpoints.clone(),
                home_derp: node.home_derp,
                hostinfo: HostinfoText::from(&node.hostinfo),
                created: node.created,
                cap: node.cap,
                tags: node.tags.clone(),
                last_seen: node.last_seen.filter(|_| !node.online),
                online: Some(node.online),
                machine_authorized: node.approved,
                is_jailed: node.jailed,
                ..tailcfg::Node::default()
            },
        }
    }

    fn json(&self) -> serde_json::Result<&str> {
        if let Some(json) = self.json.get() {
            return Ok(json);
        }
        let json = tailcfg::go::to_string(&self.node)?.into_boxed_str();
        Ok(self.json.get_or_init(|| json))
    }

    /// The node as it sees itself.
    fn to_self(&self) -> tailcfg::Node {
        let mut node = self.node.clone();
        // The client is connected, whatever the others have been told yet.
        node.online = Some(true);
        node.last_seen = None;
        node.is_jailed = false;
        node.cap_map.clone_from(&self.attributes);
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
    pub(super) presence: Presence,
    pub(super) dns: Arc<DnsConfig>,
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

    /// All that a client must know at first, a `MapResponse` in JSON. `None` if it is not in the tailnet.
    pub(crate) fn full_json(&self, id: NodeId, now: GoTime) -> Option<serde_json::Result<Vec<u8>>> {
        let head = self.head(self.nodes.get(&id)?, now);
        Some(self.with_peers(&head, id))
    }

    /// The first response but for the peers.
    fn head(&self, view: &NodeView, now: GoTime) -> MapResponse {
        MapResponse {
            node: Some(Box::new(view.to_self())),
            derp_map: Some(Box::new((*self.derp_map).clone())),
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
        }
    }

    /// Puts the peers, which are in JSON already, at the end of the object.
    fn with_peers(&self, head: &MapResponse, id: NodeId) -> serde_json::Result<Vec<u8>> {
        let mut json = tailcfg::go::to_vec(head)?;
        json.pop();
        json.extend_from_slice(b",\"Peers\":[");
        for (number, peer) in self.peers(id).enumerate() {
            if number > 0 {
                json.push(b',');
            }
            json.extend_from_slice(peer.json()?.as_bytes());
        }
        json.extend_from_slice(b"]}");
        Ok(json)
    }

    /// The same as a client understands it.
    #[cfg(test)]
    pub(crate) fn full(&self, id: NodeId, now: GoTime) -> Option<MapResponse> {
        let json = self.full_json(id, now)?.unwrap();
        Some(serde_json::from_slice(&json).unwrap())
    }

    /// Whether the node may take part: otherwise it sees no peers, and no peer sees it.
    fn takes_part(&self, id: NodeId) -> bool {
        let view = self.nodes.get(&id);
        view.is_some_and(|view| view.node.machine_authorized)
    }

    /// The peers that the node sees.
    fn peers(&self, id: NodeId) -> impl Iterator<Item = &Arc<NodeView>> {
        let takes_part = self.takes_part(id);
        let others = self.nodes.values().filter(move |peer| peer.node.id != id);
        others.filter(move |peer| takes_part && peer.node.machine_authorized)
    }

    /// What a client that knows `old` must be told. `None` if there is nothing.
    pub(crate) fn delta(&self, old: &Self, id: NodeId) -> Option<MapResponse> {
        let mut out = MapResponse::default();
        let (own, known) = (self.nodes.get(&id)?, old.nodes.get(&id));
        if known.is_none_or(|known| !Arc::ptr_eq(known, own)) {
            let node = own.to_self();
            if known.is_none_or(|known| known.to_self() != node) {
                out.node = Some(Box::new(node));
            }
        }
        match (old.takes_part(id), self.takes_part(id)) {
            (true, true) => self.peer_changes(old, id, &mut out),
            (true, false) => out.peers_removed = old.peers(id).map(|peer| peer.node.id).collect(),
            (false, true) => {
                out.peers_changed = self.peers(id).map(|peer| peer.node.clone()).collect();
            }
            (false, false) => {}
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
        if !Arc::ptr_eq(&self.dns, &old.dns) {
            out.dns_config = Some(Box::new(self.dns_config()));
        }
        (out != MapResponse::default()).then_some(out)
    }

    fn peer_changes(&self, old: &Self, id: NodeId, out: &mut MapResponse) {
        for (peer, known, view) in self.nodes.since(&old.nodes) {
            let seen = |view: &&Arc<NodeView>| view.node.machine_authorized;
            let (known, view) = (known.filter(seen), view.filter(seen));
            if *peer == id {
                continue;
            }
            match (known, view) {
                (None, None) => {}
                (Some(_), None) => out.peers_removed.push(*peer),
                (Some(known), Some(view)) if known.node == view.node => {}
                (Some(known), Some(view)) => match patch(&known.node, &view.node) {
                    Some(change) => self.note_patch(change, out),
                    None => out.peers_changed.push(view.node.clone()),
                },
                (None, Some(view)) => out.peers_changed.push(view.node.clone()),
            }
        }
    }

    fn note_patch(&self, mut change: PeerChange, out: &mut MapResponse) {
        if self.presence == Presence::Maps {
            let id = change.node_id;
            if let Some(online) = change.online.take() {
                out.online_change.insert(id, online);
            }
            // The client takes its own time for the peer's.
            if change.last_seen.take().is_some() {
                out.peer_seen_change.insert(id, true);
            }
            let nothing = PeerChange {
                node_id: id,
                ..PeerChange::default()
            };
            if change == nothing {
                return;
            }
        }
        out.peers_changed_patch.push(change);
    }

    fn packet_filters(&self) -> BTreeMap<String, Option<Vec<FilterRule>>> {
        BTreeMap::from([("base".to_owned(), Some((*self.filter).clone()))])
    }

    /// The names of nodes are answered by the clients themselves; the rest is the administrator's.
    fn dns_config(&self) -> DnsConfig {
        let mut config = (*self.dns).clone();
        config.proxied = true;
        config.domains.insert(0, self.domain.clone());
        config.routes.insert(self.domain.clone(), Some(Vec::new()));
        config
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
