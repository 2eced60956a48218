//! What the OS resolver is told, and whom MagicDNS asks.
//!
//! Both follow from the same: the tailnet's settings, the user's wish for them, and what the machine's resolver can do. A
//! resolver that shares names out by suffix asks us for the tailnet's only. Any other asks us for all, and then we ask whom
//! it asked before (the originals' `net/dns/manager.go`).

use std::net::{IpAddr, SocketAddr};

use dns::{Name, Zones};
use host::{DnsConfig, SystemDns};
use ipn::Prefs;
use netmap::NetMap;
use packet::addr::{SERVICE_V4, SERVICE_V6, is_service_ip};
use tailcfg::{DnsRecord, Resolver};

const DNS_PORT: u16 = 53;

/// Where MagicDNS answers.
pub(crate) fn service_addresses() -> impl Iterator<Item = IpAddr> {
    [IpAddr::V4(SERVICE_V4), IpAddr::V6(SERVICE_V6)].into_iter()
}

/// The tailnet's settings, as far as they count for this node.
#[derive(Default)]
struct Wanted<'a> {
    /// Whom to ask for all that no suffix is for.
    defaults: &'a [Resolver],
    /// Suffixes that are answered here, and those for which others are asked.
    routes: Vec<(Name, &'a [Resolver])>,
    search: Vec<String>,
    /// Whether there are names to answer that no suffix is for.
    has_unrouted: bool,
    problems: Vec<String>,
}

impl<'a> Wanted<'a> {
    fn new(map: &'a NetMap, prefs: &Prefs) -> Self {
        // A server that only the tailnet reaches is of no use to a node that is not in it any more.
        if !prefs.corp_dns || map.self_node.expired {
            return Self::default();
        }
        let dns = &map.dns;
        let mut wanted = Self {
            defaults: &dns.resolvers,
            has_unrouted: !dns.proxied,
            search: dns.domains.iter().map(|name| trimmed(name)).collect(),
            ..Self::default()
        };
        if dns.proxied
            && let Ok(own) = map.suffix().parse::<Name>()
            && !own.is_root()
        {
            let reverse = dns::reverse_zones().map(|zone| (zone, Default::default()));
            wanted.routes.extend(reverse);
            wanted.routes.push((own, &[]));
        }
        for (suffix, resolvers) in &dns.routes {
            match suffix.parse::<Name>() {
                Ok(name) => wanted.set(name, resolvers.as_deref().unwrap_or_default()),
                Err(_) => wanted.problems.push(format!(
                    "the DNS route for `{suffix}` is for no domain name"
                )),
            }
        }
        let records = dns.extra_records.iter();
        for name in records.filter_map(address_record) {
            if !wanted.routes.iter().any(|(zone, _)| name.is_under(zone)) {
                wanted.routes.push((name, &[]));
            }
        }
        let uses_exit_node = super::router::uses_exit_node(prefs);
        if wanted.defaults.is_empty() && uses_exit_node {
            // The servers of the network here are mostly not to be reached from where the exit node is.
            wanted.defaults = &dns.fallback_resolvers;
        }
        wanted
    }

    fn set(&mut self, name: Name, resolvers: &'a [Resolver]) {
        self.routes.retain(|(other, _)| *other != name);
        self.routes.push((name, resolvers));
    }

    /// The servers of all routes, if they are the same and can be asked by anybody.
    fn one_set_for_all(&self) -> Option<Vec<IpAddr>> {
        let (_, first) = self.routes.first()?;
        let is_same = |(_, other): &(Name, &[Resolver])| {
            let addresses = |set: &[Resolver]| -> Vec<String> {
                set.iter().map(|server| server.addr.clone()).collect()
            };
            addresses(other) == addresses(first)
        };
        self.routes.iter().all(is_same).then(|| plain(first))?
    }

    fn suffixes(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .routes
            .iter()
            .map(|(name, _)| trimmed(&name.to_string()))
            .collect();
        names.sort();
        names
    }
}

fn trimmed(name: &str) -> String {
    name.trim_matches('.').to_owned()
}

/// The name of a record that stands for an address.
fn address_record(record: &DnsRecord) -> Option<Name> {
    let is_address = matches!(&*record.kind, "" | "A" | "AAAA");
    (is_address && record.value.parse::<IpAddr>().is_ok()).then_some(())?;
    record.name.parse().ok()
}

/// The resolver's settings; nothing while the user does not want ours, or the tailnet has none.
pub(crate) fn dns(map: &NetMap, prefs: &Prefs, system: &SystemDns) -> DnsConfig {
    let wanted = Wanted::new(map, prefs);
    let search = wanted.search.clone();
    let all_of = |nameservers: Vec<IpAddr>| DnsConfig {
        nameservers,
        search: search.clone(),
        matching: Vec::new(),
    };
    if wanted.defaults.is_empty() && wanted.routes.is_empty() {
        let is_split = system.splits || search.is_empty();
        // What replaces the machine's settings must contain them.
        return match is_split {
            true => all_of(Vec::new()),
            false => with_the_systems_search(all_of(system.nameservers.clone()), system),
        };
    }
    if !wanted.defaults.is_empty() {
        let direct =
            plain(wanted.defaults).filter(|_| wanted.routes.is_empty() && !wanted.has_unrouted);
        return all_of(direct.unwrap_or_else(|| ours(map)));
    }
    if system.splits {
        let matching = wanted.suffixes();
        let direct = wanted.one_set_for_all().filter(|set| !set.is_empty());
        return DnsConfig {
            nameservers: direct.unwrap_or_else(|| ours(map)),
            matching,
            search,
        };
    }
    with_the_systems_search(all_of(ours(map)), system)
}

/// Our own address, in a family that the node has.
fn ours(map: &NetMap) -> Vec<IpAddr> {
    let mut addresses = map.self_node.addresses.iter();
    vec![match addresses.any(|net| net.addr().is_ipv4()) {
        true => SERVICE_V4.into(),
        false => SERVICE_V6.into(),
    }]
}

fn with_the_systems_search(mut config: DnsConfig, system: &SystemDns) -> DnsConfig {
    for name in &system.search {
        if !config.search.contains(name) {
            config.search.push(name.clone());
        }
    }
    config
}

/// Whom MagicDNS asks for what, and what of the tailnet's settings cannot be followed. Without the user's wish for them, nobody.
#[must_use]
pub fn zones(map: Option<&NetMap>, prefs: &Prefs, system: &SystemDns) -> (Zones, Vec<String>) {
    let mut zones = Zones::default();
    let Some(map) = map else {
        return (zones, Vec::new());
    };
    let mut wanted = Wanted::new(map, prefs);
    let mut problems = std::mem::take(&mut wanted.problems);
    for (name, resolvers) in wanted.routes {
        match resolvers {
            [] => zones.set_own(name),
            resolvers => zones.set(name, servers(resolvers, &mut problems)),
        }
    }
    if !wanted.defaults.is_empty() {
        zones.set(Name::root(), servers(wanted.defaults, &mut problems));
    } else if prefs.corp_dns && !system.splits {
        // Whoever asks us for all gets what he got before.
        let others = system.nameservers.iter().filter(|ip| !is_service_ip(**ip));
        zones.set(
            Name::root(),
            others.map(|ip| (*ip, DNS_PORT).into()).collect(),
        );
    }
    (zones, problems)
}

/// Their addresses, if anybody can ask them in the plain way.
fn plain(resolvers: &[Resolver]) -> Option<Vec<IpAddr>> {
    let server = |resolver: &Resolver| {
        let server = address(resolver)?;
        (server.port() == DNS_PORT).then_some(server.ip())
    };
    resolvers.iter().map(server).collect()
}

fn address(resolver: &Resolver) -> Option<SocketAddr> {
    let text = &*resolver.addr;
    let alone = text.parse().map(|ip: IpAddr| (ip, DNS_PORT).into());
    alone.or_else(|_| text.parse()).ok()
}

/// Those that can be asked: by address, with or without a port.
fn servers(resolvers: &[Resolver], problems: &mut Vec<String>) -> Vec<SocketAddr> {
    let server = |resolver: &Resolver| {
        let server = address(resolver);
        if server.is_none() {
            problems.push(format!(
                "DNS server `{}` is not asked: it is no IP address, and DNS over HTTPS is not built",
                resolver.addr
            ));
        }
        server
    };
    resolvers.iter().filter_map(server).collect()
}
