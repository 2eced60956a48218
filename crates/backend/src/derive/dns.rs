//! What the OS resolver is told, and whom MagicDNS asks.
//!
//! Both follow from the same: the tailnet's settings, the user's wish for them, and what the machine's resolver can do. A
//! resolver that shares names out by suffix asks us for the tailnet's only. Any other asks us for all, and then we ask whom
//! it asked before (the originals' `net/dns/manager.go`).

use std::net::{IpAddr, SocketAddr};

use dns::{Name, Server, Zones};
use host::{DnsConfig, SystemDns};
use ipn::Prefs;
use netmap::{NetMap, Peer};
use packet::addr::{SERVICE_V4, SERVICE_V6, is_service_ip};
use tailcfg::{DnsRecord, Resolver};

/// What says that a peer asks others for those whose exit node it is; from this version on it goes without saying.
pub(super) const PROXY: &str = "peerapi-dns-proxy";
const PROXY_SINCE: i32 = 26;

/// Where MagicDNS answers.
pub(crate) fn service_addresses() -> impl Iterator<Item = IpAddr> {
    [IpAddr::V4(SERVICE_V4), IpAddr::V6(SERVICE_V6)].into_iter()
}

/// The tailnet's settings, as far as they count for this node.
#[derive(Default)]
struct Wanted {
    /// Whom to ask for all that no suffix is for, if the tailnet says so.
    defaults: Option<Vec<Server>>,
    /// Suffixes that are answered here, and those for which others are asked.
    routes: Vec<(Name, Option<Vec<Server>>)>,
    search: Vec<String>,
    /// Whether there are names to answer that no suffix is for.
    has_unrouted: bool,
    problems: Vec<String>,
}

impl Wanted {
    fn new(map: &NetMap, prefs: &Prefs) -> Self {
        // A server that only the tailnet reaches is of no use to a node that is not in it any more.
        if !prefs.corp_dns || map.self_node.expired {
            return Self::default();
        }
        let dns = &map.dns;
        let mut wanted = Self {
            has_unrouted: !dns.proxied,
            search: without_twins(dns.domains.iter().map(|name| trimmed(name))),
            ..Self::default()
        };
        if dns.proxied
            && let Ok(own) = map.suffix().parse::<Name>()
            && !own.is_root()
        {
            let reverse = dns::reverse_zones().map(|zone| (zone, None));
            wanted.routes.extend(reverse);
            wanted.routes.push((own, None));
        }
        let proxy = exit_node_proxy(map, prefs);
        let is_asked = |server: &&Resolver| proxy.is_none() || server.use_with_exit_node;
        wanted.set_defaults(map, prefs, proxy.as_ref());
        for (suffix, resolvers) in &dns.routes {
            let Ok(name) = suffix.parse::<Name>() else {
                let problem = format!("the DNS route for `{suffix}` is for no domain name");
                wanted.problems.push(problem);
                continue;
            };
            match resolvers.as_deref().unwrap_or_default() {
                [] => wanted.set(name, None),
                all => {
                    let asked: Vec<&Resolver> = all.iter().filter(is_asked).collect();
                    if !asked.is_empty() {
                        let servers = wanted.servers(asked);
                        wanted.set(name, Some(servers));
                    }
                }
            }
        }
        for name in dns.extra_records.iter().filter_map(address_record) {
            if !wanted.routes.iter().any(|(zone, _)| name.is_under(zone)) {
                wanted.routes.push((name, None));
            }
        }
        wanted
    }

    /// `proxy` is the exit node, if it asks others for us: servers of the network here are mostly not to be reached from there.
    fn set_defaults(&mut self, map: &NetMap, prefs: &Prefs, proxy: Option<&Server>) {
        let dns = &map.dns;
        if let Some(proxy) = proxy {
            let marked = dns.resolvers.iter().filter(|one| one.use_with_exit_node);
            let marked: Vec<&Resolver> = marked.collect();
            self.defaults = Some(match marked.is_empty() {
                true => vec![proxy.clone()],
                false => self.servers(marked),
            });
            return;
        }
        let exit_node = exit_node(map, prefs).filter(|peer| peer.is_wireguard_only);
        let of_exit_node = exit_node.and_then(|peer| peer.rare.as_ref());
        let of_exit_node = of_exit_node.map_or(&[][..], |rare| &rare.exit_node_dns);
        let fallback = match super::router::uses_exit_node(prefs) {
            true => &dns.fallback_resolvers[..],
            false => &[],
        };
        let choices = [&dns.resolvers[..], of_exit_node, fallback];
        if let Some(resolvers) = choices.into_iter().find(|all| !all.is_empty()) {
            self.defaults = Some(self.servers(resolvers));
        }
    }

    /// Those that can be asked.
    fn servers<'a>(&mut self, resolvers: impl IntoIterator<Item = &'a Resolver>) -> Vec<Server> {
        let mut servers = Vec::new();
        for resolver in resolvers {
            match Server::named(&resolver.addr) {
                Some(server) => servers.push(server),
                None => self.problems.push(format!(
                    "DNS server `{}` is not asked: it is neither an IP address nor a known server by HTTPS",
                    resolver.addr
                )),
            }
        }
        servers
    }

    fn set(&mut self, name: Name, servers: Option<Vec<Server>>) {
        self.routes.retain(|(other, _)| *other != name);
        self.routes.push((name, servers));
    }

    /// The servers of all routes, if they are the same and can be asked by anybody.
    fn one_set_for_all(&self) -> Option<Vec<IpAddr>> {
        let (_, first) = self.routes.first()?;
        let is_same = |(_, other): &(Name, Option<Vec<Server>>)| other == first;
        self.routes.iter().all(is_same).then_some(())?;
        plain(first.as_deref()?)
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

/// The peer that is the exit node.
fn exit_node<'a>(map: &'a NetMap, prefs: &Prefs) -> Option<&'a Peer> {
    let id = Some(&*prefs.exit_node_id).filter(|id| !id.is_empty())?;
    map.peers.by_stable_id(id).map(|peer| &**peer)
}

/// The exit node as the server for everything, if it is one.
fn exit_node_proxy(map: &NetMap, prefs: &Prefs) -> Option<Server> {
    let peer = exit_node(map, prefs)?;
    let hostinfo = peer.hostinfo();
    let mut services = hostinfo.services.iter();
    let offers = peer.cap >= PROXY_SINCE || services.any(|service| service.proto == PROXY);
    let address = offers.then(|| peer_api(map, peer))?;
    address.map(Server::peer)
}

/// Where the API of a peer is, in a family that we have, too.
#[must_use]
pub fn peer_api(map: &NetMap, peer: &Peer) -> Option<SocketAddr> {
    let hostinfo = peer.hostinfo();
    [("peerapi4", false), ("peerapi6", true)]
        .into_iter()
        .find_map(|(name, v6)| {
            let is_it = |ip: &IpAddr| ip.is_ipv6() == v6;
            let mut services = hostinfo.services.iter();
            let service = services.find(|service| service.proto == name && service.port != 0)?;
            map.self_node.ips().find(is_it)?;
            Some((peer.ips().find(is_it)?, service.port).into())
        })
}

fn without_twins(names: impl Iterator<Item = String>) -> Vec<String> {
    names.fold(Vec::new(), |mut all, name| {
        if !all.contains(&name) {
            all.push(name);
        }
        all
    })
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
    if wanted.defaults.is_none() && wanted.routes.is_empty() {
        let is_split = system.splits || search.is_empty();
        // What replaces the machine's settings must contain them.
        return match is_split {
            true => all_of(Vec::new()),
            false => with_the_systems_search(all_of(system.nameservers.clone()), system),
        };
    }
    if let Some(defaults) = &wanted.defaults {
        let direct = plain(defaults).filter(|_| wanted.routes.is_empty() && !wanted.has_unrouted);
        return all_of(direct.unwrap_or_else(|| ours(map)));
    }
    if system.splits {
        let matching = wanted.suffixes();
        let direct = wanted.one_set_for_all();
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
    let both = config
        .search
        .into_iter()
        .chain(system.search.iter().cloned());
    config.search = without_twins(both);
    config
}

/// Whom MagicDNS asks for what, and what of the tailnet's settings cannot be followed. Without the user's wish for them, nobody.
#[must_use]
pub fn zones(map: Option<&NetMap>, prefs: &Prefs, system: &SystemDns) -> (Zones, Vec<String>) {
    let mut zones = Zones::default();
    let Some(map) = map else {
        return (zones, Vec::new());
    };
    let wanted = Wanted::new(map, prefs);
    for (name, servers) in wanted.routes {
        match servers {
            None => zones.set_own(name),
            Some(servers) => zones.set(name, servers),
        }
    }
    if let Some(defaults) = wanted.defaults {
        zones.set(Name::root(), defaults);
    } else if prefs.corp_dns && !system.splits {
        // Whoever asks us for all gets what he got before.
        zones.set(Name::root(), before(system));
    }
    (zones, wanted.problems)
}

/// Those that the machine asked before it asked us.
fn before(system: &SystemDns) -> Vec<Server> {
    let others = system.nameservers.iter().filter(|ip| !is_service_ip(**ip));
    let plain = others.map(|ip| Server::Plain((*ip, dns::PORT).into()));
    plain.collect()
}

/// Whom an exit node asks for others: those that its machine asks. `None`: those that MagicDNS asks.
#[must_use]
pub fn for_others(system: &SystemDns) -> Option<Vec<Server>> {
    Some(before(system)).filter(|servers| !servers.is_empty())
}

/// Their addresses, if anybody can ask them in the plain way.
fn plain(servers: &[Server]) -> Option<Vec<IpAddr>> {
    let all: Option<Vec<IpAddr>> = servers.iter().map(Server::plain_ip).collect();
    all.filter(|all| !all.is_empty())
}
