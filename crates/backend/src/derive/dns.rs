//! What the OS resolver is told.

use std::net::IpAddr;

use host::DnsConfig;
use ipn::Prefs;
use netmap::NetMap;
use packet::addr::{SERVICE_V4, SERVICE_V6};

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
