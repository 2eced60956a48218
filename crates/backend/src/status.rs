//! Reads over the snapshot: `status`, whois, names.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use filter::{Filter, Flows, LocalSet, Rules};
use host::Wall;
use ipn::{
    ExitNodeStatus, PeerStatus, State, Status, TaildropTarget, TailnetStatus, WhoIsResponse,
};
use keys::NodePublic;
use netmap::{NetMap, Peer};
use tailcfg::go::GoTime;
use tailcfg::{CapMap, Hostinfo, UserProfile, cap};

use crate::{Snapshot, derive};

/// What the packet engine knows.
#[derive(Debug, Clone, Default)]
pub struct EngineFacts {
    /// Whether packets go through a network device of the OS.
    pub tun: bool,
    /// Every peer that the engine has dealt with.
    pub peers: BTreeMap<NodePublic, PeerFacts>,
}

/// What the packet engine knows of one peer.
#[derive(Debug, Clone, Copy, Default)]
pub struct PeerFacts {
    /// Bytes received from it.
    pub rx_bytes: u64,
    /// Bytes sent to it.
    pub tx_bytes: u64,
    /// When the last handshake succeeded.
    pub last_handshake: Option<Wall>,
    /// When we last sent to it.
    pub last_write: Option<Wall>,
    /// The direct address in use.
    pub cur_addr: Option<SocketAddr>,
    /// Whether there was traffic of late.
    pub active: bool,
    /// Whether WireGuard knows it.
    pub in_engine: bool,
}

/// The first of our own capabilities in the retired list tells where to look instead.
const CAPABILITIES_NOTICE: &str = "HTTPS://TAILSCALE.COM/s/DEPRECATED-NODE-CAPS#see-https://github.com/tailscale/tailscale/issues/11508";

/// `status`, with or without peers.
pub fn compose(snapshot: &Snapshot, engine: &EngineFacts, with_peers: bool) -> Status {
    let mut status = Status {
        version: ipn::version::LONG.to_owned(),
        tun: engine.tun,
        backend_state: snapshot.state.name().to_owned(),
        have_node_key: snapshot.node_key.is_some(),
        auth_url: snapshot.auth_url.clone(),
        health: Some(snapshot.health_texts.to_vec()),
        client_version: snapshot.client_version.clone(),
        ..Status::default()
    };
    let Some(map) = &snapshot.netmap else {
        status.self_status = Some(Box::new(anonymous_self(snapshot)));
        return status;
    };
    let own = own_status(snapshot, map);
    status.tailscale_ips.clone_from(&own.tailscale_ips);
    status.self_status = Some(Box::new(own));
    status.magic_dns_suffix = map.suffix().to_owned();
    status.current_tailnet = Some(TailnetStatus {
        name: map.domain.to_string(),
        magic_dns_suffix: map.suffix().to_owned(),
        magic_dns_enabled: map.dns.proxied,
    });
    let domains = &map.dns.cert_domains;
    status.cert_domains = (!domains.is_empty()).then(|| domains.clone());
    let records = &map.dns.extra_records;
    status.extra_records = (!records.is_empty()).then(|| records.clone());
    status.exit_node_status = exit_node_status(snapshot, map);
    if with_peers {
        let mut users: BTreeMap<_, _> = map
            .users
            .iter()
            .map(|(id, user)| (*id, UserProfile::clone(user)))
            .collect();
        users.entry(map.self_node.user).or_default();
        status.user = Some(users);
        let peers: BTreeMap<_, _> = map
            .peers
            .iter()
            .map(|peer| (peer.key, peer_status(snapshot, map, peer, engine)))
            .collect();
        status.peer = (!peers.is_empty()).then_some(peers);
    }
    status
}

/// Ourselves before anybody told us who we are.
fn anonymous_self(snapshot: &Snapshot) -> PeerStatus {
    PeerStatus {
        public_key: snapshot.node_key.unwrap_or(NodePublic::ZERO),
        host_name: snapshot.hostinfo.hostname.clone(),
        os: snapshot.hostinfo.os.clone(),
        addrs: Some(Vec::new()),
        ..PeerStatus::default()
    }
}

fn own_status(snapshot: &Snapshot, map: &NetMap) -> PeerStatus {
    let node = &map.self_node;
    let mut own = node_status(map, node, &snapshot.hostinfo);
    let region = snapshot
        .hostinfo
        .net_info
        .as_ref()
        .map(|info| info.preferred_derp);
    own.relay = region_code(
        map,
        region
            .and_then(|region| u16::try_from(region).ok())
            .unwrap_or(0),
    );
    own.in_network_map = true;
    own.online = node.online.unwrap_or_default();
    own.addrs = Some(node.endpoints.iter().map(ToString::to_string).collect());
    own.peer_api_url = peer_api_urls(node, snapshot.peerapi_ports.0, snapshot.peerapi_ports.1);
    let names = node.cap_map.keys().cloned();
    own.capabilities = std::iter::once(CAPABILITIES_NOTICE.to_owned())
        .chain(names)
        .collect();
    own.cap_map = (*node.cap_map).clone();
    if snapshot.state != State::Running {
        own.online = false;
    }
    own
}

fn peer_status(
    snapshot: &Snapshot,
    map: &NetMap,
    peer: &Arc<Peer>,
    engine: &EngineFacts,
) -> PeerStatus {
    let hostinfo = peer.hostinfo();
    let mut status = node_status(map, peer, &hostinfo);
    status.relay = region_code(map, peer.home_derp);
    status.addrs = Some(Vec::new());
    status.exit_node =
        !snapshot.prefs.exit_node_id.is_empty() && *peer.stable_id == *snapshot.prefs.exit_node_id;
    status.exit_node_option = offers_exit_node(peer);
    let port = |name: &str| {
        let found = hostinfo
            .services
            .iter()
            .find(|service| service.proto == name);
        found.map_or(0, |service| service.port)
    };
    status.peer_api_url = peer_api_urls(peer, port("peerapi4"), port("peerapi6"));
    status.taildrop_target = taildrop_target(snapshot, map, peer, &hostinfo);
    status.sharee_node = hostinfo.sharee_node;
    status.in_network_map = true;
    status.in_magic_sock = !peer.expired;
    if let Some(facts) = engine.peers.get(&peer.key) {
        add_facts(&mut status, facts);
    }
    status
}

fn add_facts(status: &mut PeerStatus, facts: &PeerFacts) {
    let bytes = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let time = |at: Option<Wall>| {
        at.map(|at| GoTime::from_unix_nanos(at.as_unix_nanos()))
            .unwrap_or_default()
    };
    status.rx_bytes = bytes(facts.rx_bytes);
    status.tx_bytes = bytes(facts.tx_bytes);
    status.last_handshake = time(facts.last_handshake);
    status.last_write = time(facts.last_write);
    status.cur_addr = facts
        .cur_addr
        .map(|addr| addr.to_string())
        .unwrap_or_default();
    status.active = facts.active;
    status.in_engine = facts.in_engine;
}

/// What ourselves and peers have in common.
fn node_status(map: &NetMap, node: &Peer, hostinfo: &Hostinfo) -> PeerStatus {
    let list = |nets: &[ipnet::IpNet]| (!nets.is_empty()).then(|| nets.to_vec());
    let is_offline = node.online == Some(false);
    let host_name = match hostinfo.hostname.is_empty() {
        true => ipn::dns::trim_suffix(&node.name, map.suffix()).to_owned(),
        false => hostinfo.hostname.clone(),
    };
    PeerStatus {
        id: node.stable_id.to_string(),
        node_id: node.id.0,
        public_key: node.key,
        host_name,
        dns_name: node.name.to_string(),
        os: hostinfo.os.clone(),
        user_id: node.user,
        alt_sharer_user_id: node.sharer,
        tailscale_ips: Some(derive::peers::addresses(node)),
        allowed_ips: Some(node.allowed_ips.to_vec()),
        tags: (!node.tags.is_empty()).then(|| node.tags.to_vec()),
        primary_routes: list(&node.primary_routes),
        created: node.created,
        last_seen: node.last_seen.filter(|_| is_offline).unwrap_or_default(),
        online: node.online.unwrap_or_default(),
        cap_map: BTreeMap::new(),
        ssh_host_keys: hostinfo.ssh_host_keys.clone(),
        expired: node.expired,
        key_expiry: node.key_expiry,
        location: hostinfo.location.as_deref().cloned(),
        ..PeerStatus::default()
    }
}

fn region_code(map: &NetMap, region: u16) -> String {
    let region = map.derp_map.regions.get(&region);
    region.map(|region| region.code.clone()).unwrap_or_default()
}

fn offers_exit_node(peer: &Peer) -> bool {
    let default = |v4| {
        let mut nets = peer.allowed_ips.iter();
        nets.any(|net| net.prefix_len() == 0 && net.addr().is_ipv4() == v4)
    };
    default(true) && default(false)
}

fn peer_api_urls(node: &Peer, port_v4: u16, port_v6: u16) -> Option<Vec<String>> {
    let urls = derive::peers::addresses(node).into_iter().filter_map(|ip| {
        let port = if ip.is_ipv4() { port_v4 } else { port_v6 };
        (port != 0).then(|| format!("http://{}", SocketAddr::new(ip, port)))
    });
    Some(urls.collect())
}

fn exit_node_status(snapshot: &Snapshot, map: &NetMap) -> Option<ExitNodeStatus> {
    let id = &snapshot.prefs.exit_node_id;
    if id.is_empty() {
        return None;
    }
    let peer = map.peers.by_stable_id(id);
    Some(ExitNodeStatus {
        id: id.clone(),
        online: peer.is_some_and(|peer| peer.online == Some(true)),
        tailscale_ips: peer.map(|peer| peer.addresses.to_vec()),
    })
}

/// Whether files could be sent to it, by the originals' order of questions.
fn taildrop_target(
    snapshot: &Snapshot,
    map: &NetMap,
    peer: &Peer,
    hostinfo: &Hostinfo,
) -> TaildropTarget {
    let port = hostinfo
        .services
        .iter()
        .any(|service| service.proto.starts_with("peerapi"));
    if snapshot.state != State::Running {
        TaildropTarget::NOT_RUNNING
    } else if !map.self_node.has_cap(cap::FILE_SHARING) {
        TaildropTarget::MISSING_CAP
    } else if peer.online != Some(true) {
        TaildropTarget::OFFLINE
    } else if peer.user != map.self_node.user {
        TaildropTarget::OWNED_BY_OTHER_USER
    } else if hostinfo.os == "tvOS" {
        TaildropTarget::UNSUPPORTED_OS
    } else if !port {
        TaildropTarget::NO_PEER_API
    } else {
        TaildropTarget::AVAILABLE
    }
}

/// Who has this address: ourselves or a peer.
pub fn whois(snapshot: &Snapshot, ip: IpAddr) -> Option<WhoIsResponse> {
    let map = snapshot.netmap.as_ref()?;
    who(map, map.by_ip(ip)?)
}

/// Who has this key: ourselves or a peer.
pub fn whois_key(snapshot: &Snapshot, key: &NodePublic) -> Option<WhoIsResponse> {
    let map = snapshot.netmap.as_ref()?;
    if map.self_node.key == *key {
        return who(map, &map.self_node);
    }
    who(map, map.peers.by_key(key)?)
}

fn who(map: &NetMap, node: &Peer) -> Option<WhoIsResponse> {
    let user = map.users.get(&node.user)?;
    let caps = node.ips().next().map(|src| peer_caps(map, src));
    Some(WhoIsResponse {
        node: Some(Box::new(node.to_wire(map.suffix()))),
        user_profile: Some(UserProfile::clone(user)),
        cap_map: caps.filter(|caps| !caps.is_empty()),
    })
}

/// What the tailnet's rules grant who has this address, here.
fn peer_caps(map: &NetMap, src: IpAddr) -> CapMap {
    let own = map.self_node.ips().find(|ip| ip.is_ipv4() == src.is_ipv4());
    let Some(own) = own else {
        return CapMap::new();
    };
    let (rules, _) = Rules::parse(&map.filter_rules);
    let local = LocalSet::new(map.self_node.addresses.iter().copied());
    Filter::new(rules, local, Arc::new(Flows::new())).caps_of(src, own)
}

/// The addresses that a MagicDNS name stands for.
pub fn resolve(snapshot: &Snapshot, name: &str) -> Option<Vec<IpAddr>> {
    snapshot.netmap.as_ref()?.resolve(name)
}
