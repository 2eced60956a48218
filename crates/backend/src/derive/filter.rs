//! What may come in.

use std::sync::Arc;

use filter::Rules;
use ipn::Prefs;
use ipnet::IpNet;
use netmap::{NetMap, Peer};
use packet::addr::{CGNAT, ULA};

use crate::FilterConfig;

/// The filter's inputs; `is_refused` is what [`admits_unsigned`] says.
///
/// A default route that we advertise opens nothing: what of the Internet is behind this machine, and what is its own
/// network, cannot be told from here.
pub(crate) fn filter(map: &NetMap, prefs: &Prefs, is_refused: bool) -> FilterConfig {
    let routed = || {
        let routes = prefs.advertise_routes.iter().copied();
        routes.filter(|net| net.prefix_len() != 0)
    };
    let own = map.self_node.addresses.iter().copied();
    let rules = if is_refused {
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

/// Whether the rules let in one of these peers, for which tailnet lock does not vouch. Then none of them can be trusted.
pub(crate) fn admits_unsigned<'a>(map: &NetMap, unsigned: impl Iterator<Item = &'a Peer>) -> bool {
    let mut unsigned = unsigned.peekable();
    if unsigned.peek().is_none() {
        return false;
    }
    let (rules, _) = Rules::parse(&map.filter_rules);
    unsigned.any(|peer| peer.allowed_ips.iter().any(|net| rules.admit_from(net)))
}
