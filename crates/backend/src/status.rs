//! Reads over the snapshot: `status`, whois, names.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use filter::{Filter, Flows, LocalSet, Rules};
use host::Wall;
use ipn::{ExitNodeStatus, PeerStatus, Status, TailnetStatus, WhoIsResponse};
use ipnet::IpNet;
use keys::NodePublic;
use netmap::{NetMap, Peer};
use packet::addr::is_tailscale_ip;
use tailcfg::go::GoTime;
use tailcfg::{CapMap, Hostinfo, UserId, UserProfile};

use crate::{Snapshot, derive};

/// What the packet engine knows.
#[derive(Debug, Clone, Default)]
pub struct EngineFacts {
    /// Whether packets go through a network device of the OS.
    pub tun: bool,
    /// Where we may be reached.
    pub endpoints: Vec<SocketAddr>,
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
        client_version: snapshot
            .client_version
            .clone()
            .filter(|_| snapshot.prefs.auto_update.check),
        ..Status::default()
    };
    let Some(map) = &snapshot.netmap else {
        status.self_status = Some(Box::new(anonymous_self(snapshot)));
        return status;
    };
    let own = own_status(snapshot, map, engine);
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
    if !snapshot.prefs.route_all && any_routes(map) {
        status
            .health
            .get_or_insert_default()
            .push(ACCEPT_ROUTES_OFF.to_owned());
    }
    let is_shown = |id: &UserId| with_peers || *id == map.self_node.user;
    let users: BTreeMap<_, _> = map
        .users
        .iter()
        .filter(|(id, _)| is_shown(id))
        .map(|(id, user)| (*id, UserProfile::clone(user)))
        .collect();
    status.user = (!users.is_empty()).then_some(users);
    if with_peers {
        let peers: BTreeMap<_, _> = map
            .peers
            .iter()
            .map(|peer| (peer.key, peer_status(snapshot, map, peer, engine)))
            .collect();
        status.peer = (!peers.is_empty()).then_some(peers);
    }
    status
}

/// What users of subnets overlook.
const ACCEPT_ROUTES_OFF: &str = "Some peers are advertising routes but --accept-routes is false";

/// Whether any peer routes for others.
fn any_routes(map: &NetMap) -> bool {
    let mut routes = map.peers.iter().flat_map(|peer| &*peer.primary_routes);
    routes.any(|net| net.prefix_len() != net.max_prefix_len() || !is_tailscale_ip(net.addr()))
}

/// Ourselves before anybody told us who we are.
fn anonymous_self(snapshot: &Snapshot) -> PeerStatus {
    PeerStatus {
        host_name: snapshot.hostinfo.hostname.clone(),
        os: snapshot.hostinfo.os.clone(),
        addrs: Some(Vec::new()),
        ..PeerStatus::default()
    }
}

fn own_status(snapshot: &Snapshot, map: &NetMap, engine: &EngineFacts) -> PeerStatus {
    let node = &map.self_node;
    let mut own = node_status(map, node, &node.hostinfo());
    own.os.clone_from(&snapshot.hostinfo.os);
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
    own.online = snapshot.in_map_poll;
    own.addrs = Some(engine.endpoints.iter().map(ToString::to_string).collect());
    own.peer_api_url = peer_api_urls(node, snapshot.peerapi_ports);
    if !node.cap_map.is_empty() {
        let names = node.cap_map.keys().cloned();
        own.capabilities = std::iter::once(CAPABILITIES_NOTICE.to_owned())
            .chain(names)
            .collect();
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
    let port = |name: &str| {
        let found = hostinfo
            .services
            .iter()
            .find(|service| service.proto == name);
        found.map_or(0, |service| service.port)
    };
    let mut status = PeerStatus {
        relay: region_code(map, peer.home_derp),
        online: peer.online.unwrap_or_default(),
        last_seen: peer.last_seen.unwrap_or_default(),
        exit_node: !peer.stable_id.is_empty() && *peer.stable_id == *snapshot.prefs.exit_node_id,
        peer_api_url: peer_api_urls(peer, (port("peerapi4"), port("peerapi6"))),
        sharee_node: hostinfo.sharee_node,
        in_magic_sock: !peer.expired,
        alt_sharer_user_id: peer.sharer,
        location: hostinfo.location.as_deref().cloned(),
        ..node_status(map, peer, &hostinfo)
    };
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
    let list = |nets: &[IpNet]| (!nets.is_empty()).then(|| nets.to_vec());
    let addresses = derive::peers::addresses(node).into_iter();
    let is_self = Arc::as_ptr(&map.self_node) == std::ptr::from_ref(node);
    PeerStatus {
        id: node.stable_id.to_string(),
        node_id: node.id.0,
        public_key: node.key,
        host_name: hostinfo.hostname.clone(),
        dns_name: node.name.to_string(),
        os: hostinfo.os.clone(),
        user_id: node.user,
        tailscale_ips: Some(
            addresses
                .filter(|ip| is_self || is_tailscale_ip(*ip))
                .collect(),
        ),
        allowed_ips: list(&node.allowed_ips),
        tags: (!node.tags.is_empty()).then(|| node.tags.to_vec()),
        primary_routes: list(&node.primary_routes),
        created: node.created,
        exit_node_option: offers_exit_node(node),
        cap_map: (*node.cap_map).clone(),
        ssh_host_keys: match is_self {
            true => Vec::new(),
            false => hostinfo.ssh_host_keys.clone(),
        },
        in_network_map: true,
        expired: node.expired,
        key_expiry: node.key_expiry.map(rounded),
        ..PeerStatus::default()
    }
}

/// Compat: to the nearest second, as the originals show it.
fn rounded(time: GoTime) -> GoTime {
    const SECOND: i128 = 1_000_000_000;
    GoTime::from_unix_nanos((time.unix_nanos() + SECOND / 2).div_euclid(SECOND) * SECOND)
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

fn peer_api_urls(node: &Peer, ports: (u16, u16)) -> Option<Vec<String>> {
    let urls: Vec<String> = derive::peers::addresses(node)
        .into_iter()
        .filter_map(|ip| {
            let port = if ip.is_ipv4() { ports.0 } else { ports.1 };
            (port != 0).then(|| format!("http://{}", SocketAddr::new(ip, port)))
        })
        .collect();
    (!urls.is_empty()).then_some(urls)
}

fn exit_node_status(snapshot: &Snapshot, map: &NetMap) -> Option<ExitNodeStatus> {
    let id = &snapshot.prefs.exit_node_id;
    let peer = map.peers.by_stable_id(id).filter(|_| !id.is_empty())?;
    Some(ExitNodeStatus {
        id: id.clone(),
        online: peer.online == Some(true),
        tailscale_ips: Some(peer.addresses.to_vec()),
    })
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
    let user = map
        .users
        .get(&node.user)
        .map(|user| UserProfile::clone(user));
    let caps = node.ips().next().map(|src| peer_caps(map, src));
    Some(WhoIsResponse {
        node: Some(Box::new(node.to_wire(map.suffix()))),
        user_profile: Some(user.unwrap_or_default()),
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
