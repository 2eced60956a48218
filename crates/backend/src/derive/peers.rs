//! Which packets go to and may come from which peer.

use std::collections::BTreeMap;
use std::net::IpAddr;

use host::PeerConfig;
use ipn::Prefs;
use ipnet::IpNet;
use netmap::{NetMap, Peer};
use packet::PeerId;
use packet::addr::is_tailscale_ip;

/// The peers that packets can be exchanged with, by number.
///
/// A prefix that several peers may route goes to the lowest number, and the others may still send from it: what may come
/// from a peer and what goes to it are two questions.
pub(crate) fn peers(map: &NetMap, prefs: &Prefs) -> Vec<PeerConfig> {
    let eligible: Vec<(&Peer, Vec<IpNet>)> = map
        .peers
        .iter()
        .filter(|peer| can_be_reached(peer))
        .map(|peer| (&**peer, prefixes(peer, prefs)))
        .collect();
    let mut owners: BTreeMap<IpNet, PeerId> = BTreeMap::new();
    for (peer, prefixes) in &eligible {
        for prefix in prefixes {
            // Peers come by number, so the first has the lowest.
            owners.entry(*prefix).or_insert(peer.id);
        }
    }
    eligible
        .into_iter()
        .map(|(peer, sources)| config(peer, sources, &owners))
        .collect()
}

fn config(peer: &Peer, sources: Vec<IpNet>, owners: &BTreeMap<IpNet, PeerId>) -> PeerConfig {
    let routes = sources
        .iter()
        .filter(|prefix| owners.get(prefix) == Some(&peer.id))
        .copied()
        .collect();
    PeerConfig {
        id: peer.id,
        key: peer.key,
        disco: peer.disco,
        home_derp: peer.home_derp,
        endpoints: peer.endpoints.to_vec(),
        addresses: addresses(peer),
        sources,
        routes,
        jailed: peer.is_jailed,
    }
}

/// A node's own addresses, IPv4 first.
pub(crate) fn addresses(peer: &Peer) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = peer.ips().collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

/// Whether there is any way to it.
fn can_be_reached(peer: &Peer) -> bool {
    !peer.expired && (!peer.disco.is_zero() || peer.home_derp != 0 || peer.is_wireguard_only)
}

/// What may come from it, and goes to it unless another has it.
fn prefixes(peer: &Peer, prefs: &Prefs) -> Vec<IpNet> {
    let is_exit_node = !prefs.exit_node_id.is_empty() && *peer.stable_id == *prefs.exit_node_id;
    let mut prefixes: Vec<IpNet> = peer
        .allowed_ips
        .iter()
        .copied()
        // The control server must not send prefixes with host bits, and what it means by them cannot be known.
        .filter(|prefix| prefix.trunc() == *prefix)
        .filter(|prefix| {
            if is_own(peer, *prefix) {
                true
            } else if prefix.prefix_len() == 0 {
                is_exit_node
            } else {
                prefs.route_all
            }
        })
        .collect();
    prefixes.sort();
    prefixes.dedup();
    prefixes
}

/// Whether a prefix is a node's own address, and so needs nobody's leave.
fn is_own(peer: &Peer, prefix: IpNet) -> bool {
    let is_single = prefix.prefix_len() == prefix.max_prefix_len();
    (is_single && is_tailscale_ip(prefix.addr())) || peer.addresses.contains(&prefix)
}
