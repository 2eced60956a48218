//! The merge of one map stream.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use host::Wall;
use packet::PeerId;
use tailcfg::go::GoTime;
use tailcfg::{CapMap, FilterRule, MapResponse, PeerChange, TkaInfo, UserProfile};

use crate::derp_map::{derp_map_from_wire, merge};
use crate::messages::Messages;
use crate::{ClockOffset, NetMap, NetMapChange, Parts, Patch, Peer, Peers};

/// Why a response cannot be used. The stream is of no use after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapError {
    /// The first response of a stream that is not a keep-alive must say who we are.
    NoSelfNode,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSelfNode => f.write_str("the first map response has no node for ourselves"),
        }
    }
}

impl std::error::Error for MapError {}

/// One map stream, from its first response on. Each new stream starts with a new session: the server sends all again.
#[derive(Debug, Default)]
pub struct MapSession {
    /// The last published map; `None` before the first response.
    map: Option<Arc<NetMap>>,
    /// The peers as the server describes them. Published ones differ while expired or locked.
    peers: Peers,
    filters: BTreeMap<String, Vec<FilterRule>>,
    messages: Messages,
    lock: Option<TkaInfo>,
    clock_offset: ClockOffset,
    /// The capabilities of the peer before: most peers have the same.
    common_caps: Arc<CapMap>,
}

/// What happened to the peers while one response was applied.
#[derive(Debug, Default)]
struct Touched {
    /// Replaced as a whole.
    all: bool,
    /// New, changed or removed.
    ids: BTreeSet<PeerId>,
}

impl MapSession {
    /// A session that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The last published map.
    #[must_use]
    pub fn map(&self) -> Option<&Arc<NetMap>> {
        self.map.as_ref()
    }

    /// Takes the next response. `None` means that nothing changed.
    ///
    /// Pings, dial plans, browser pages, client versions and debug orders are not the map's business and are left to the
    /// caller.
    ///
    /// # Errors
    /// [`MapError`]; then nothing was taken.
    pub fn apply(
        &mut self,
        response: MapResponse,
        now: Wall,
    ) -> Result<Option<NetMapChange>, MapError> {
        if self.map.is_none() && !response.keep_alive && response.node.is_none() {
            return Err(MapError::NoSelfNode);
        }
        if let Some(time) = response.control_time.filter(|time| !time.is_zero()) {
            self.clock_offset = ClockOffset::learn(time, now);
        }
        if response.keep_alive {
            return Ok(self.publish(Touched::default(), Parts::default(), None, now));
        }
        let mut response = response;
        let touched = self.take_peers(&mut response, now);
        let mut parts = Parts::default();
        let next = self.take_parts(response, &mut parts);
        Ok(self.publish(touched, parts, next, now))
    }

    /// Takes a change that a peer told us itself, through the tunnel.
    pub fn apply_learned(&mut self, change: PeerChange, now: Wall) -> Option<NetMapChange> {
        let mut touched = Touched::default();
        self.patch_peer(change, true, &mut touched);
        self.publish(touched, Parts::default(), None, now)
    }

    fn take_peers(&mut self, response: &mut MapResponse, now: Wall) -> Touched {
        let mut touched = Touched::default();
        if !response.peers.is_empty() {
            let old = std::mem::take(&mut self.peers);
            for node in std::mem::take(&mut response.peers) {
                let peer = keep_newer_disco(self.read_peer(node), &old);
                self.peers.insert(Arc::new(peer));
            }
            touched.all = true;
            return touched;
        }
        for id in response.peers_removed.drain(..).map(PeerId) {
            if self.peers.remove(id).is_some() {
                touched.ids.insert(id);
            }
        }
        for node in std::mem::take(&mut response.peers_changed) {
            let peer = self.read_peer(node);
            touched.ids.insert(peer.id);
            self.peers.insert(Arc::new(peer));
        }
        for (id, seen) in std::mem::take(&mut response.peer_seen_change) {
            let at = seen.then(|| GoTime::from_unix_nanos(now.as_unix_nanos()));
            self.edit_peer(PeerId(id), &mut touched, |peer| peer.last_seen = at);
        }
        for (id, online) in std::mem::take(&mut response.online_change) {
            self.edit_peer(PeerId(id), &mut touched, |peer| peer.online = Some(online));
        }
        for change in std::mem::take(&mut response.peers_changed_patch) {
            self.patch_peer(change, false, &mut touched);
        }
        touched
    }

    fn read_peer(&mut self, node: tailcfg::Node) -> Peer {
        let mut peer = Peer::from_wire(node);
        if peer.cap_map == self.common_caps {
            peer.cap_map = Arc::clone(&self.common_caps);
        } else {
            self.common_caps = Arc::clone(&peer.cap_map);
        }
        peer
    }

    fn edit_peer(&mut self, id: PeerId, touched: &mut Touched, edit: impl FnOnce(&mut Peer)) {
        let Some(old) = self.peers.get(id) else {
            return;
        };
        let mut peer = Peer::clone(old);
        edit(&mut peer);
        self.peers.insert(Arc::new(peer));
        touched.ids.insert(id);
    }

    fn patch_peer(&mut self, change: PeerChange, from_peer: bool, touched: &mut Touched) {
        let id = PeerId(change.node_id);
        let Some(old) = self.peers.get(id) else {
            return;
        };
        if disco_is_current(old, &change, from_peer) {
            self.edit_peer(id, touched, |peer| patch(peer, change));
        }
    }

    /// Takes all but the peers. `None` means that the published map stays as it is but for the peers.
    fn take_parts(&mut self, response: MapResponse, parts: &mut Parts) -> Option<NetMap> {
        let mut map = match (&self.map, response.node) {
            (Some(map), None) => NetMap::clone(map),
            (Some(map), Some(node)) => {
                let mut map = NetMap::clone(map);
                set(
                    &mut map.self_node,
                    Arc::new(Peer::from_wire(*node)),
                    &mut parts.self_node,
                );
                map
            }
            (None, Some(node)) => NetMap::new(Arc::new(Peer::from_wire(*node))),
            (None, None) => return None,
        };
        for user in response.user_profiles {
            parts.users |= upsert_user(&mut map, user);
        }
        if !response.domain.is_empty() {
            set(&mut map.domain, response.domain.into(), &mut parts.domain);
        }
        if !response.domain_data_plane_audit_log_id.is_empty() {
            let id = response.domain_data_plane_audit_log_id.into();
            set(&mut map.audit_log_id, id, &mut parts.domain);
        }
        if let Some(dns) = response.dns_config {
            set(&mut map.dns, dns.into(), &mut parts.dns);
        }
        if let Some(update) = response.derp_map {
            let wire = merge(map.derp_map_wire.as_deref(), *update);
            if map.derp_map_wire.as_deref() != Some(&wire) {
                map.derp_map = Arc::new(derp_map_from_wire(&wire));
                map.derp_map_wire = Some(Arc::new(wire));
                parts.derp_map = true;
            }
        }
        if let Some(policy) = response.ssh_policy {
            set(
                &mut map.ssh_policy,
                Some(Arc::new(policy)),
                &mut parts.ssh_policy,
            );
        }
        if let Some(collect) = response.collect_services {
            set(
                &mut map.collect_services,
                collect,
                &mut parts.collect_services,
            );
        }
        if self.take_filters(response.packet_filter, response.packet_filters) {
            let rules = self.filters.values().flatten().cloned().collect();
            set(&mut map.filter_rules, rules, &mut parts.filter);
        }
        if let Some(lock) = response.tka_info {
            self.lock = Some(lock);
        }
        map.locked = self.is_locked();
        self.messages
            .apply(response.health, response.display_messages);
        let messages = self.messages.current(map.locked);
        if *map.messages != messages {
            map.messages = Arc::new(messages);
            parts.messages = true;
        }
        Some(map)
    }

    fn take_filters(
        &mut self,
        base: Option<Vec<FilterRule>>,
        named: Option<BTreeMap<String, Option<Vec<FilterRule>>>>,
    ) -> bool {
        let any = base.is_some() || named.is_some();
        if let Some(base) = base {
            self.filters.insert("base".into(), base);
        }
        let named = named.unwrap_or_default();
        if named.get("*") == Some(&None) {
            self.filters.clear();
        }
        for (name, rules) in named {
            match rules {
                _ if name == "*" => {}
                Some(rules) => {
                    self.filters.insert(name, rules);
                }
                None => {
                    self.filters.remove(&name);
                }
            }
        }
        any
    }

    /// Makes the next map and says how it differs. `next` is the map with all but peers and clock up to date.
    fn publish(
        &mut self,
        touched: Touched,
        mut parts: Parts,
        next: Option<NetMap>,
        now: Wall,
    ) -> Option<NetMapChange> {
        let old = self.map.clone();
        let mut map = next.or_else(|| old.as_deref().cloned())?;
        if !map.clock_offset.is_near(self.clock_offset) {
            map.clock_offset = self.clock_offset;
            parts.clock = true;
        }
        let Some(old) = old else {
            return Some(self.publish_full(map, now));
        };
        if touched.all || map.locked != old.locked {
            return Some(self.publish_full(map, now));
        }
        if !map.locked && parts.clock {
            // Whom the other clock made expire may be back.
            map.peers = self.peers.clone();
        } else if !map.locked {
            self.carry_over(&touched.ids, &mut map.peers);
        }
        map.expire_due(now);
        let (changed, removed) = map.peers.since(&old.peers);
        if changed.is_empty() && removed.is_empty() && parts.is_none() {
            return None;
        }
        let map = Arc::new(map);
        self.map = Some(Arc::clone(&map));
        Some(NetMapChange::Patch(Patch {
            map,
            changed,
            removed,
            parts,
        }))
    }

    fn publish_full(&mut self, mut map: NetMap, now: Wall) -> NetMapChange {
        map.peers = match map.locked {
            true => Peers::default(),
            false => self.peers.clone(),
        };
        map.expire_due(now);
        let map = Arc::new(map);
        self.map = Some(Arc::clone(&map));
        NetMapChange::Full(map)
    }

    /// Copies touched peers into the published table.
    fn carry_over(&self, ids: &BTreeSet<PeerId>, published: &mut Peers) {
        for id in ids {
            match self.peers.get(*id) {
                Some(peer) => drop(published.insert(Arc::clone(peer))),
                None => drop(published.remove(*id)),
            }
        }
    }

    /// Signatures are not verified here, so in a locked tailnet nobody can be trusted. A server that speaks of a lock and
    /// does not say that it is off has one, whatever the head.
    fn is_locked(&self) -> bool {
        self.lock.as_ref().is_some_and(|lock| !lock.disabled)
    }
}

/// Sets a part and notes whether it differs.
fn set<T: PartialEq>(part: &mut T, value: T, changed: &mut bool) {
    if *part != value {
        *part = value;
        *changed = true;
    }
}

fn upsert_user(map: &mut NetMap, user: UserProfile) -> bool {
    if map.users.get(&user.id).is_some_and(|old| **old == user) {
        return false;
    }
    map.users.insert(user.id, Arc::new(user));
    true
}

fn patch(peer: &mut Peer, change: PeerChange) {
    if let Ok(region @ 1..) = u16::try_from(change.derp_region) {
        peer.home_derp = region;
    }
    if change.cap != 0 {
        peer.cap = change.cap;
    }
    if let Some(cap_map) = change.cap_map {
        peer.cap_map = Arc::new(cap_map);
    }
    if let Some(endpoints) = change.endpoints {
        peer.endpoints = endpoints.into();
    }
    if let Some(key) = change.key {
        peer.key = key;
    }
    if !change.key_signature.0.is_empty() {
        peer.rare.get_or_insert_default().key_signature = change.key_signature;
    }
    if let Some(disco) = change.disco_key {
        peer.disco = disco;
    }
    if change.online.is_some() {
        peer.online = change.online;
    }
    if change.last_seen.is_some() {
        peer.last_seen = change.last_seen;
    }
    if let Some(expiry) = change.key_expiry {
        peer.key_expiry = expiry.some();
    }
}

/// Whether a patch may be applied. Peers tell each other new disco keys directly, so what comes through the server may be
/// the older news: a peer that restarts while it cannot reach the server has a key that the server does not know.
fn disco_is_current(old: &Peer, change: &PeerChange, from_peer: bool) -> bool {
    let (Some(disco), Some(online), Some(last_seen)) =
        (change.disco_key, change.online, change.last_seen)
    else {
        return true;
    };
    if from_peer && old.online == Some(true) && old.disco == disco {
        return false;
    }
    online || old.last_seen.is_none_or(|known| last_seen > known)
}

/// The same for a full list: of an offline peer, the disco key that was seen last counts.
fn keep_newer_disco(mut peer: Peer, old: &Peers) -> Peer {
    let Some(known) = old.get(peer.id) else {
        return peer;
    };
    let Some(known_seen) = known.last_seen else {
        return peer;
    };
    let is_news = peer.disco.is_zero()
        || peer.disco == known.disco
        || peer.online == Some(true)
        || peer.last_seen.is_some_and(|seen| seen > known_seen);
    if !is_news {
        peer.disco = known.disco;
        peer.last_seen = known.last_seen;
    }
    peer
}
