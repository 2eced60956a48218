//! What the OS routes into the tunnel.

use std::collections::BTreeSet;

use host::{CgnatGuard, FirewallConfig, FirewallKind, Lan, NetfilterMode, RouterConfig};
use ipn::Prefs;
use ipnet::IpNet;
use netmap::NetMap;
use packet::addr::{CGNAT, ULA, is_tailscale_ip};
use tailcfg::cap;

use super::routes::Routes;

/// Beyond this many single addresses one route stands for all of them.
const MAX_SINGLE_ROUTES: usize = 10_000;

/// Addresses and routes for the OS.
pub(crate) fn router(
    map: &NetMap,
    prefs: &Prefs,
    peers: &Routes,
    udp_ports: [u16; 2],
) -> RouterConfig {
    let mut routes: BTreeSet<IpNet> = BTreeSet::new();
    let mut cgnat = Vec::new();
    for route in peers.prefixes() {
        let is_single = route.prefix_len() == route.max_prefix_len();
        if !is_single || !is_tailscale_ip(route.addr()) {
            routes.insert(route);
        } else if route.addr().is_ipv6() {
            routes.insert(IpNet::V6(ULA));
        } else {
            cgnat.push(route);
        }
    }
    let max = match map.self_node.has_cap(cap::ONE_CGNAT) {
        true => 1,
        false => MAX_SINGLE_ROUTES,
    };
    if cgnat.len() > max {
        routes.insert(IpNet::V4(CGNAT));
    } else {
        routes.extend(cgnat);
    }
    if uses_exit_node(prefs) {
        // Also while the exit node is unknown: traffic that should go through it must not leak past it.
        routes.insert(IpNet::V4(ipnet::Ipv4Net::default()));
        routes.insert(IpNet::V6(ipnet::Ipv6Net::default()));
    }
    routes.extend(super::dns::service_addresses().map(IpNet::from));
    let mut addresses = map.self_node.addresses.to_vec();
    addresses.sort_by_key(|net| net.addr().is_ipv6());
    RouterConfig {
        forwards: !prefs.advertise_routes.is_empty(),
        addresses,
        routes: routes.into_iter().collect(),
        lan: match uses_exit_node(prefs) {
            true if prefs.exit_node_allow_lan_access => Lan::Kept,
            true => Lan::Captured,
            false => Lan::Wins,
        },
        is_guarded: uses_exit_node(prefs),
        firewall: firewall(map, prefs, udp_ports),
    }
}

fn firewall(map: &NetMap, prefs: &Prefs, [port_v4, port_v6]: [u16; 2]) -> FirewallConfig {
    FirewallConfig {
        mode: match prefs.netfilter_mode {
            ipn::NetfilterMode::OFF => NetfilterMode::Off,
            ipn::NetfilterMode::NO_DIVERT => NetfilterMode::NoDivert,
            _ => NetfilterMode::On,
        },
        kind: match prefs.netfilter_kind.as_str() {
            "iptables" => FirewallKind::Iptables,
            "nftables" => FirewallKind::Nftables,
            _ => FirewallKind::Auto,
        },
        snat: !prefs.no_snat,
        stateful: prefs.no_stateful_filtering == Some(false),
        cgnat: match map.self_node.has_cap(cap::DISABLE_LINUX_CGNAT_DROP_RULE) {
            true => CgnatGuard::Off,
            false => CgnatGuard::Narrow,
        },
        port_v4,
        port_v6,
    }
}

/// Whether the user wants an exit node, known or not.
pub(crate) fn uses_exit_node(prefs: &Prefs) -> bool {
    !prefs.exit_node_id.is_empty()
        || prefs.exit_node_ip.0.is_some()
        || !prefs.auto_exit_node.is_empty()
}
