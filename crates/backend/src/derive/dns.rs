//! What the OS resolver is told.

use std::net::{IpAddr, SocketAddr};

use dns::{Name, Zones};
use host::DnsConfig;
use ipn::Prefs;
use netmap::NetMap;
use packet::addr::{SERVICE_V4, SERVICE_V6};
use tailcfg::Resolver;

const DNS_PORT: u16 = 53;

/// Where MagicDNS answers.
pub(crate) fn service_addresses() -> impl Iterator<Item = IpAddr> {
    [IpAddr::V4(SERVICE_V4), IpAddr::V6(SERVICE_V6)].into_iter()
}

/// The resolver's settings; nothing while the user does not want ours, or the tailnet has none.
pub(crate) fn dns(map: &NetMap, prefs: &Prefs) -> DnsConfig {
    let dns = &map.dns;
    let is_used = dns.proxied || !dns.resolvers.is_empty() || !dns.routes.is_empty();
    if !prefs.corp_dns || !is_used {
        return DnsConfig::default();
    }
    let trim = |name: &String| name.trim_matches('.').to_owned();
    let search: Vec<String> = dns.domains.iter().map(trim).collect();
    let mut matching = Vec::new();
    if dns.resolvers.is_empty() {
        matching.extend(dns.routes.keys().map(trim));
        if dns.proxied {
            matching.push(map.suffix().to_owned());
        }
        matching.sort();
        matching.dedup();
    }
    DnsConfig {
        nameservers: vec![IpAddr::V4(SERVICE_V4)],
        search,
        matching,
    }
}

/// Whom MagicDNS asks for what, and what of the tailnet's settings cannot be followed. Without the user's wish for them, nobody.
#[must_use]
pub fn zones(map: Option<&NetMap>, prefs: &Prefs) -> (Zones, Vec<String>) {
    let (mut zones, mut problems) = (Zones::default(), Vec::new());
    // A server that only the tailnet reaches is of no use to a node that is not in it any more.
    let Some(map) = map.filter(|map| prefs.corp_dns && !map.self_node.expired) else {
        return (zones, problems);
    };
    let dns = &map.dns;
    if dns.proxied
        && let Ok(own) = map.suffix().parse::<Name>()
        && !own.is_root()
    {
        dns::reverse_zones().for_each(|zone| zones.set_own(zone));
        zones.set_own(own);
    }
    for (suffix, resolvers) in &dns.routes {
        let Ok(name) = suffix.parse::<Name>() else {
            problems.push(format!(
                "the DNS route for `{suffix}` is for no domain name"
            ));
            continue;
        };
        match resolvers.as_deref().unwrap_or_default() {
            [] => zones.set_own(name),
            resolvers => zones.set(name, servers(resolvers, &mut problems)),
        }
    }
    if !dns.resolvers.is_empty() {
        zones.set(Name::root(), servers(&dns.resolvers, &mut problems));
    }
    (zones, problems)
}

/// Those that can be asked: by address, with or without a port.
fn servers(resolvers: &[Resolver], problems: &mut Vec<String>) -> Vec<SocketAddr> {
    let server = |resolver: &Resolver| {
        let address = &*resolver.addr;
        let alone = address.parse().map(|ip: IpAddr| (ip, DNS_PORT).into());
        let server = alone.or_else(|_| address.parse::<SocketAddr>());
        if server.is_err() {
            problems.push(format!(
                "DNS server `{address}` is not asked: it is no IP address, and DNS over HTTPS is not built"
            ));
        }
        server.ok()
    };
    resolvers.iter().filter_map(server).collect()
}
