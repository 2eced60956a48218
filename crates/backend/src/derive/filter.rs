//! What may come in.

use std::sync::Arc;

use filter::Rules;
use ipn::Prefs;
use ipnet::IpNet;
use netmap::NetMap;
use packet::addr::{CGNAT, ULA};

use crate::FilterConfig;

/// The filter's inputs.
///
/// A default route that we advertise opens nothing: what of the Internet is behind this machine, and what is its own
/// network, cannot be told from here.
pub(crate) fn filter(map: &NetMap, prefs: &Prefs) -> FilterConfig {
    let routed = || {
        let routes = prefs.advertise_routes.iter().copied();
        routes.filter(|net| net.prefix_len() != 0)
    };
    let own = map.self_node.addresses.iter().copied();
    let rules = if admits_unsigned(map) {
        Arc::default()
    } else {
        Arc::clone(&map.filter_rules)
    };
    FilterConfig {
        local: own.chain(routed()).collect(),
        logged: [IpNet::V4(CGNAT), IpNet::V6(ULA)]
            .into_iter()
            .chain(routed())
            .collect(),
        rules,
        shields_up: prefs.shields_up,
    }
}

/// Whether the rules let in a peer that tailnet lock does not vouch for. Then none of them can be trusted.
pub(crate) fn admits_unsigned(map: &NetMap) -> bool {
    let unsigned = || map.peers.iter().filter(|peer| peer.unsigned_peer_api_only);
    if unsigned().next().is_none() {
        return false;
    }
    let (rules, _) = Rules::parse(&map.filter_rules);
    unsigned().any(|peer| peer.allowed_ips.iter().any(|net| rules.admit_from(net)))
}
