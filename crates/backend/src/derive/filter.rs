//! What may come in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use filter::Rules;
use ipn::Prefs;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netmap::{NetMap, Peer};
use packet::addr::{CGNAT, ULA};

use crate::FilterConfig;

/// The filter's inputs; `is_refused` is what [`admits_unsigned`] says, `networks` are those that the machine is on.
pub(crate) fn filter(
    map: &NetMap,
    prefs: &Prefs,
    networks: &[IpNet],
    is_refused: bool,
) -> FilterConfig {
    let routed = || {
        let routes = prefs.advertise_routes.iter().copied();
        routes.filter(|net| net.prefix_len() != 0)
    };
    let own = map.self_node.addresses.iter().copied();
    let all_but = [false, true].map(|v6| {
        let is_it = |net: &IpNet| net.prefix_len() == 0 && net.addr().is_ipv6() == v6;
        let is_exit = prefs.advertise_routes.iter().any(is_it);
        is_exit.then(|| private(networks, v6))
    });
    // Who comes out here may ask what this machine offers to the Internet, like anybody there.
    let is_public = |ip: &IpAddr| {
        let is_out = all_but[usize::from(ip.is_ipv6())].is_some();
        is_out && !NOT_THE_INTERNET.iter().any(|net| net.contains(ip))
    };
    let public = networks.iter().map(IpNet::addr).filter(is_public);
    let rules = if is_refused {
        Arc::default()
    } else {
        Arc::clone(&map.filter_rules)
    };
    FilterConfig {
        local: own.chain(routed()).chain(public.map(IpNet::from)).collect(),
        all_but,
        logged: [IpNet::V4(CGNAT), IpNet::V6(ULA)]
            .into_iter()
            .chain(routed())
            .collect(),
        rules,
        shields_up: prefs.shields_up,
    }
}

/// What an exit node does not let others to: it is for the Internet, not for the networks around it.
fn private(networks: &[IpNet], v6: bool) -> Vec<IpNet> {
    let around = networks.iter().map(IpNet::trunc);
    let all = around.chain(NOT_THE_INTERNET);
    let of_family = all.filter(|net| net.addr().is_ipv6() == v6);
    // A network of one address is no network; the address is this machine's own.
    of_family
        .filter(|net| net.prefix_len() != net.max_prefix_len())
        .collect()
}

/// Ranges that nobody on the Internet has (the originals' `removeFromDefaultRoute`, and loopback).
const NOT_THE_INTERNET: [IpNet; 10] = [
    v4([10, 0, 0, 0], 8),
    v4([172, 16, 0, 0], 12),
    v4([192, 168, 0, 0], 16),
    v4([169, 254, 0, 0], 16),
    v4([224, 0, 0, 0], 4),
    v4([127, 0, 0, 0], 8),
    IpNet::V4(CGNAT),
    v6(0xfe80, 10),
    v6(0xff00, 8),
    IpNet::V6(ULA),
];

const fn v4(octets: [u8; 4], len: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len))
}

const fn v6(first: u16, len: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0),
        len,
    ))
}

/// Whether the rules let in one of these peers, for which tailnet lock does not vouch. Then none of them can be trusted.
pub(crate) fn admits_unsigned<'a>(map: &NetMap, unsigned: impl Iterator<Item = &'a Peer>) -> bool {
    let mut unsigned = unsigned.peekable();
    if unsigned.peek().is_none() {
        return false;
    }
    let (rules, _) = Rules::parse(&map.filter_rules);
    unsigned.any(|peer| peer.allowed_ips.iter().any(|net| rules.admit_from(net)))
}
