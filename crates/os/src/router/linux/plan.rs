//! What to do, from what is there and what is wanted.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use host::{Difference, Lan, RouterConfig};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use packet::addr::{CGNAT, is_tailscale_ip};

use super::{BYPASS_MARK, MARK_MASK, RULE_BASE, RULE_BASE_BEFORE_MWAN3, TABLE};
use crate::netlink::route::{
    Action, TABLE_DEFAULT, TABLE_MAIN, THROW, UNICAST, UNREACHABLE, set_link_up,
};
use crate::netlink::{Address, Request, Route, Rule};

/// What the kernel has.
#[derive(Debug, Clone, Default)]
pub(super) struct Have {
    /// The device's number; `None` if there is no device.
    pub(super) link: Option<u32>,
    /// Whether it is up.
    pub(super) is_up: bool,
    /// Whether it can have IPv6 addresses.
    pub(super) v6: bool,
    /// Whether anything of the machine can.
    pub(super) machine_v6: bool,
    /// Its addresses.
    pub(super) addresses: Vec<IpNet>,
    /// All routes of our table.
    pub(super) routes: Vec<Route>,
    /// All rules.
    pub(super) rules: Vec<Rule>,
    /// The addresses of other interfaces that are up and connected, each with its network's length.
    pub(super) others: Vec<IpNet>,
    /// Those of the loopback interface.
    pub(super) loopback: Vec<IpNet>,
    /// The next routers of the machine's other routes.
    pub(super) gateways: Vec<IpAddr>,
    /// Whether the machine is set up for several ways to the internet by mwan3 (OpenWrt).
    pub(super) has_mwan3: bool,
}

impl Have {
    /// Whether the machine's own networks use the carriers' range, in which the tailnet's addresses are.
    pub(super) fn is_cgnat_underlay(&self) -> bool {
        let in_range = |ip: IpAddr| matches!(ip, IpAddr::V4(ip) if CGNAT.contains(&ip));
        let addresses = self.others.iter().map(IpNet::addr);
        addresses.chain(self.gateways.iter().copied()).any(in_range)
    }

    /// Behind which number our rules' priorities start: before those of mwan3, where it is at work, which would send away what is for the
    /// tunnel.
    fn rule_base(&self) -> u32 {
        let is_mwan3s = |rule: &Rule| {
            let marks = rule.mark.is_some_and(|(mark, _)| mark != 0);
            !rule.v6 && marks && (2001..=2004).contains(&rule.priority)
        };
        match self.has_mwan3 && self.rules.iter().any(is_mwan3s) {
            true => RULE_BASE_BEFORE_MWAN3,
            false => RULE_BASE,
        }
    }
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Want {
    pub(super) addresses: BTreeSet<IpNet>,
    pub(super) routes: BTreeSet<IpNet>,
    lan: Lan,
    /// Whether nothing may leave beside the tunnel, whatever becomes of the device.
    is_guarded: bool,
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Set the device up.
    LinkUp(u32),
    /// Give the device an address.
    AddAddress(Address),
    /// Take an address from the device.
    RemoveAddress(Address),
    /// Add or replace a route.
    AddRoute(Route),
    /// Remove a route.
    RemoveRoute(Route),
    /// Add a rule.
    AddRule(Rule),
    /// Remove a rule.
    RemoveRule(Rule),
}

impl Want {
    /// What the brain wants.
    pub(super) fn from_config(config: &RouterConfig) -> Self {
        Self {
            addresses: config.addresses.iter().copied().collect(),
            routes: config.routes.iter().map(IpNet::trunc).collect(),
            lan: config.lan,
            is_guarded: config.is_guarded,
        }
    }

    /// Whether anything is wanted.
    pub(super) fn is_on(&self) -> bool {
        !self.addresses.is_empty() || !self.routes.is_empty()
    }

    /// What becomes of the networks around us.
    pub(super) fn lan(&self) -> Lan {
        self.lan
    }

    /// The routes of our table, with the exceptions to them.
    fn table(&self, have: &Have) -> Vec<Route> {
        let exceptions = self.exceptions(have);
        let mut tunnel: BTreeSet<IpNet> = self.routes.difference(&exceptions).copied().collect();
        if self.lan == Lan::Captured {
            tunnel.extend(networks(&have.others));
        }
        let tunnel = tunnel
            .into_iter()
            .filter(|to| have.v6 || to.addr().is_ipv4())
            .filter_map(|to| have.link.map(|link| route(link, to)));
        let exceptions = exceptions
            .into_iter()
            .filter(|to| self.concerns(have, to.addr().is_ipv6()))
            .filter(|_| have.link.is_some() || self.is_guarded)
            .map(exception);
        let guards = [false, true]
            .into_iter()
            .filter(|v6| self.is_on() && self.is_guarded && self.concerns(have, *v6))
            .map(guard);
        tunnel.chain(exceptions).chain(guards).collect()
    }

    /// Whether a family has rules of ours: where the device has it, and where nothing of it may leave without us.
    fn concerns(&self, have: &Have, v6: bool) -> bool {
        !v6 || have.v6 || (self.is_guarded && have.machine_v6)
    }

    /// Networks around us that stay reachable although a route into the tunnel leads there too.
    pub(super) fn exceptions(&self, have: &Have) -> BTreeSet<IpNet> {
        if !self.is_on() {
            return BTreeSet::new();
        }
        match self.lan {
            Lan::Yields => BTreeSet::new(),
            Lan::Captured => networks(&have.loopback).collect(),
            Lan::Kept => networks(&have.loopback)
                .chain(networks(&have.others))
                .collect(),
            Lan::Wins => networks(&have.others)
                .filter(|lan| {
                    let leads_there = |route: &IpNet| route.prefix_len() > 0 && route.contains(lan);
                    self.routes.iter().any(leads_there)
                })
                .collect(),
        }
    }
}

/// Our rules of one family, in order of priority.
///
/// What our own sockets send is marked, and finds its way as if we were not there, or none; all else asks our table
/// first.
fn rules(v6: bool, base: u32) -> [Rule; 4] {
    let bypass = Some((BYPASS_MARK, MARK_MASK));
    let rule = |offset, mark, action| Rule {
        v6,
        priority: base + offset,
        mark,
        action,
    };
    [
        rule(10, bypass, Action::Lookup(TABLE_MAIN)),
        rule(30, bypass, Action::Lookup(TABLE_DEFAULT)),
        rule(50, bypass, Action::Unreachable),
        rule(70, None, Action::Lookup(TABLE)),
    ]
}

/// Whether a rule is ours, or of an earlier version of us, or of the original's: at one of our priorities, and doing what ours
/// does there.
fn is_our_rule(rule: &Rule) -> bool {
    [RULE_BASE, RULE_BASE_BEFORE_MWAN3]
        .iter()
        .flat_map(|base| rules(rule.v6, *base))
        .any(|own| own.priority == rule.priority && own.action == rule.action)
}

/// The steps from `have` to `want`. What is new is added before what is old is removed: with its last address a device loses
/// its routes.
pub(super) fn plan(have: &Have, want: &Want) -> Vec<Step> {
    let mut steps = Vec::new();
    let is_on = want.is_on() && (have.link.is_some() || want.is_guarded);
    let usable = |net: &&IpNet| have.v6 || net.addr().is_ipv4();
    let wanted_rules: Vec<Rule> = [false, true]
        .into_iter()
        .filter(|v6| is_on && want.concerns(have, *v6))
        .flat_map(|v6| rules(v6, have.rule_base()))
        .collect();
    if let Some(link) = have.link {
        if is_on && !have.is_up {
            steps.push(Step::LinkUp(link));
        }
        let own = |net: IpNet| Address { link, net };
        let addresses = want.addresses.iter().filter(usable);
        steps.extend(
            addresses
                .filter(|net| !have.addresses.contains(net))
                .map(|net| Step::AddAddress(own(*net))),
        );
    }
    steps.extend(
        wanted_rules
            .iter()
            .filter(|rule| !have.rules.contains(rule))
            .map(|rule| Step::AddRule(*rule)),
    );
    let table = want.table(have);
    let there = |old: &Route| table.iter().any(|new| leads_same_way(old, new));
    steps.extend(
        table
            .iter()
            // The kernel shows a metric of its own for IPv6.
            .filter(|new| !have.routes.iter().any(|old| leads_same_way(old, new)))
            .map(|new| Step::AddRoute(*new)),
    );
    // For IPv4, an exception in place of a route has replaced it already.
    let replaced = |old: &Route| {
        let is_same = |new: &Route| (new.to, new.metric) == (old.to, old.metric);
        old.to.addr().is_ipv4() && table.iter().any(is_same)
    };
    steps.extend(
        have.routes
            .iter()
            .filter(|old| is_our_route(old, have.link) && !there(old) && !replaced(old))
            .map(|old| Step::RemoveRoute(*old)),
    );
    steps.extend(
        have.rules
            .iter()
            .filter(|rule| is_our_rule(rule) && !wanted_rules.contains(rule))
            .map(|rule| Step::RemoveRule(*rule)),
    );
    if let Some(link) = have.link {
        let foreign = have
            .addresses
            .iter()
            .filter(|net| is_tailscale_ip(net.addr()) && !want.addresses.contains(net));
        steps.extend(foreign.map(|net| Step::RemoveAddress(Address { link, net: *net })));
    }
    steps
}

fn route(link: u32, to: IpNet) -> Route {
    Route {
        to,
        table: TABLE,
        kind: UNICAST,
        link: Some(link),
        gateway: None,
        metric: 0,
    }
}

fn exception(to: IpNet) -> Route {
    Route {
        to,
        table: TABLE,
        kind: THROW,
        link: None,
        gateway: None,
        metric: 0,
    }
}

/// What holds where the device and its routes are gone, for whatever reason: nothing leaves.
///
/// Sockets that are bound to a link pass both by, as they pass by the routes to the device. In IPv4 they would not pass by an unreachable
/// one, which ends the search for everybody; what goes to the loopback interface and is for somebody else is dropped there.
fn guard(v6: bool) -> Route {
    let (to, kind, link) = match v6 {
        false => (IpNet::V4(Ipv4Net::default()), UNICAST, Some(LOOPBACK)),
        true => (IpNet::V6(Ipv6Net::default()), UNREACHABLE, None),
    };
    Route {
        to,
        table: TABLE,
        kind,
        link,
        gateway: None,
        metric: GUARD_METRIC,
    }
}

/// The number of the loopback interface, in every network namespace.
const LOOPBACK: u32 = 1;

fn is_guard(route: &Route) -> bool {
    *route == guard(route.to.addr().is_ipv6())
}

/// Every other route to the same place is better.
const GUARD_METRIC: u32 = 1 << 30;

/// The networks of these addresses. Single addresses are none, and a tailnet is not around us.
fn networks(addresses: &[IpNet]) -> impl Iterator<Item = IpNet> {
    addresses
        .iter()
        .filter(|net| net.prefix_len() < net.max_prefix_len() && !is_tailnet_ula(net.addr()))
        .filter(|net| !is_link_local(net.addr()))
        .map(IpNet::trunc)
}

fn is_tailnet_ula(ip: IpAddr) -> bool {
    ip.is_ipv6() && is_tailscale_ip(ip)
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn leads_same_way(old: &Route, new: &Route) -> bool {
    (old.to, old.kind, old.link) == (new.to, new.kind, new.link)
}

/// Of our table: what leads to our device, and exceptions and guards, which lead to none.
fn is_our_route(route: &Route, link: Option<u32>) -> bool {
    match route.kind {
        THROW => true,
        _ if is_guard(route) => true,
        _ => link.is_some() && route.link == link,
    }
}

impl Step {
    /// How the kernel is asked to do it.
    pub(super) fn request(&self) -> Request {
        match self {
            Self::LinkUp(link) => set_link_up(*link, true),
            Self::AddAddress(address) => address.add(),
            Self::RemoveAddress(address) => address.remove(),
            Self::AddRoute(route) => route.add(),
            Self::RemoveRoute(route) => route.remove(),
            Self::AddRule(rule) => rule.add(),
            Self::RemoveRule(rule) => rule.remove(),
        }
    }
}

impl Step {
    /// The step as something that is not as it should be.
    pub(super) fn difference(&self) -> Difference {
        let about = match self {
            Self::AddAddress(address) | Self::RemoveAddress(address) => Some(address.net),
            Self::AddRoute(route) | Self::RemoveRoute(route) => Some(route.to),
            Self::LinkUp(_) | Self::AddRule(_) | Self::RemoveRule(_) => None,
        };
        let step = match self {
            Self::AddRoute(route) if route.kind == THROW => {
                format!("keep {} out of the tunnel", route.to)
            }
            step => step.to_string(),
        };
        Difference {
            part: "routing",
            step,
            about,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = |rule: &Rule| if rule.v6 { "IPv6" } else { "IPv4" };
        match self {
            Self::LinkUp(_) => f.write_str("set the TUN device up"),
            Self::AddAddress(address) => write!(f, "add the address {}", address.net),
            Self::RemoveAddress(address) => write!(f, "remove the address {}", address.net),
            Self::AddRoute(route) if is_guard(route) => {
                write!(f, "let nothing to {} leave beside the tunnel", route.to)
            }
            Self::RemoveRoute(route) if is_guard(route) => {
                write!(f, "let what is for {} leave beside the tunnel", route.to)
            }
            Self::AddRoute(route) => write!(f, "add the route to {}", route.to),
            Self::RemoveRoute(route) => write!(f, "remove the route to {}", route.to),
            Self::AddRule(rule) => write!(f, "add the {} rule {}", family(rule), rule.priority),
            Self::RemoveRule(rule) => {
                write!(f, "remove the {} rule {}", family(rule), rule.priority)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINK: u32 = 7;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn want(addresses: &[&str], routes: &[&str]) -> Want {
        Want::from_config(&RouterConfig {
            addresses: nets(addresses),
            routes: nets(routes),
            ..RouterConfig::default()
        })
    }

    fn empty() -> Have {
        Have {
            link: Some(LINK),
            v6: true,
            machine_v6: true,
            ..Have::default()
        }
    }

    /// What a kernel does.
    fn carry_out(have: &mut Have, steps: &[Step]) {
        for step in steps {
            match *step {
                Step::LinkUp(_) => have.is_up = true,
                Step::AddAddress(address) => have.addresses.push(address.net),
                Step::RemoveAddress(address) => have.addresses.retain(|net| *net != address.net),
                Step::AddRoute(mut route) => {
                    // As the kernel does.
                    if route.metric == 0 && route.to.addr().is_ipv6() {
                        route.metric = 1024;
                    }
                    if route.to.addr().is_ipv4() {
                        have.routes
                            .retain(|old| (old.to, old.metric) != (route.to, route.metric));
                    }
                    have.routes.push(route);
                }
                Step::RemoveRoute(route) => have.routes.retain(|old| *old != route),
                Step::AddRule(rule) => have.rules.push(rule),
                Step::RemoveRule(rule) => have.rules.retain(|old| *old != rule),
            }
        }
    }

    fn texts(steps: &[Step]) -> Vec<String> {
        steps.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn from_nothing() {
        let steps = plan(
            &empty(),
            &want(
                &["100.64.0.1/32", "fd7a:115c:a1e0::1/128"],
                &["100.64.0.2/32"],
            ),
        );
        assert_eq!(
            texts(&steps),
            [
                "set the TUN device up",
                "add the address 100.64.0.1/32",
                "add the address fd7a:115c:a1e0::1/128",
                "add the IPv4 rule 5210",
                "add the IPv4 rule 5230",
                "add the IPv4 rule 5250",
                "add the IPv4 rule 5270",
                "add the IPv6 rule 5210",
                "add the IPv6 rule 5230",
                "add the IPv6 rule 5250",
                "add the IPv6 rule 5270",
                "add the route to 100.64.0.2/32",
            ]
        );
    }

    #[test]
    fn without_ipv6() {
        let have = Have {
            v6: false,
            ..empty()
        };
        let want = want(
            &["100.64.0.1/32", "fd7a:115c:a1e0::1/128"],
            &["100.64.0.2/32", "fd7a:115c:a1e0::/48"],
        );
        let steps = texts(&plan(&have, &want));
        assert!(
            !steps
                .iter()
                .any(|step| step.contains("IPv6") || step.contains("fd7a")),
            "{steps:?}"
        );
    }

    #[test]
    fn another_address_comes_before_the_old_one_goes() {
        let mut have = empty();
        let steps = plan(&have, &want(&["100.64.0.1/32"], &["100.64.0.9/32"]));
        carry_out(&mut have, &steps);
        let steps = plan(&have, &want(&["100.64.0.2/32"], &["100.64.0.8/32"]));
        assert_eq!(
            texts(&steps),
            [
                "add the address 100.64.0.2/32",
                "add the route to 100.64.0.8/32",
                "remove the route to 100.64.0.9/32",
                "remove the address 100.64.0.1/32",
            ]
        );
    }

    #[test]
    fn what_is_not_ours_stays() {
        let foreign_route = Route {
            link: Some(3),
            ..route(LINK, "10.0.0.0/8".parse().unwrap())
        };
        let foreign_rule = Rule {
            v6: false,
            priority: 5205,
            mark: None,
            action: Action::Lookup(77),
        };
        let same_place = Rule {
            priority: 5270,
            ..foreign_rule
        };
        let have = Have {
            addresses: nets(&["192.0.2.1/24"]),
            routes: vec![foreign_route],
            rules: vec![foreign_rule, same_place],
            ..empty()
        };
        assert_eq!(plan(&have, &Want::default()), []);
    }

    #[test]
    fn leftovers_of_a_killed_process_go() {
        let mut have = empty();
        let steps = plan(&have, &want(&["100.64.0.1/32"], &["100.64.0.9/32"]));
        carry_out(&mut have, &steps);
        // The device went with the process, and its routes with the device.
        have.link = None;
        have.addresses.clear();
        have.routes = vec![Route {
            kind: THROW,
            link: None,
            ..route(LINK, "127.0.0.0/8".parse().unwrap())
        }];
        let steps = plan(&have, &Want::default());
        assert_eq!(steps.len(), 1 + 8, "{:?}", texts(&steps));
        carry_out(&mut have, &steps);
        assert!(have.rules.is_empty() && have.routes.is_empty());
    }

    fn guarded(routes: &[&str]) -> Want {
        Want::from_config(&RouterConfig {
            addresses: nets(&["100.64.0.1/32"]),
            routes: nets(routes),
            lan: Lan::Kept,
            is_guarded: true,
            ..RouterConfig::default()
        })
    }

    #[test]
    fn a_guard_stays_when_the_device_goes_and_goes_when_it_is_not_wanted() {
        let mut have = Have {
            others: nets(&["192.0.2.1/24", "2001:db8::1/64"]),
            ..empty()
        };
        let want = guarded(&["0.0.0.0/0", "::/0"]);
        let steps = plan(&have, &want);
        carry_out(&mut have, &steps);
        assert_eq!(have.routes.len(), 2 + 2 + 2, "{:?}", have.routes);

        // The daemon, or the device alone, is gone.
        have.link = None;
        have.v6 = false;
        have.addresses.clear();
        have.routes.retain(|route| route.link != Some(LINK));
        assert_eq!(plan(&have, &want), []);
        assert!([false, true].iter().all(|v6| {
            let guard = guard(*v6);
            have.routes
                .iter()
                .any(|route| leads_same_way(route, &guard))
        }));
        let steps = plan(&have, &Want::default());
        carry_out(&mut have, &steps);
        assert!(have.rules.is_empty() && have.routes.is_empty());
    }

    #[test]
    fn a_device_without_ipv6_lets_none_pass_beside_it() {
        let mut have = Have {
            v6: false,
            ..empty()
        };
        let steps = plan(&have, &guarded(&["0.0.0.0/0", "::/0"]));
        carry_out(&mut have, &steps);
        assert!(have.rules.iter().any(|rule| rule.v6));
        let any = "::/0".parse().unwrap();
        let leads: Vec<u8> = have
            .routes
            .iter()
            .filter(|route| route.to == any)
            .map(|route| route.kind)
            .collect();
        assert_eq!(leads, [UNREACHABLE]);

        // A kernel that has none has nothing to guard.
        let mut have = Have {
            v6: false,
            machine_v6: false,
            ..empty()
        };
        let steps = plan(&have, &guarded(&["0.0.0.0/0", "::/0"]));
        carry_out(&mut have, &steps);
        assert!(!have.rules.iter().any(|rule| rule.v6));
    }

    fn configs() -> impl Strategy<Value = Want> {
        let ip = prop_oneof![
            (1u8..5).prop_map(|n| format!("100.64.0.{n}/32")),
            (1u8..5).prop_map(|n| format!("fd7a:115c:a1e0::{n}/128")),
        ];
        let net = prop_oneof![
            (1u8..9).prop_map(|n| format!("100.64.0.{n}/32")),
            (1u8..4).prop_map(|n| format!("10.{n}.0.0/16")),
            Just("0.0.0.0/0".to_owned()),
            Just("::/0".to_owned()),
        ];
        let set = |text| prop::collection::vec(text, 0..4);
        let all = (set(ip.boxed()), set(net.boxed()), any::<bool>());
        all.prop_map(|(addresses, routes, is_guarded)| {
            let borrowed =
                |all: &[String]| nets(&all.iter().map(String::as_str).collect::<Vec<_>>());
            Want::from_config(&RouterConfig {
                addresses: borrowed(&addresses),
                routes: borrowed(&routes),
                is_guarded,
                ..RouterConfig::default()
            })
        })
    }

    proptest! {
        #[test]
        fn any_way_leads_to_what_is_wanted(wants in prop::collection::vec(configs(), 1..6)) {
            let mut have = empty();
            for want in &wants {
                let steps = plan(&have, want);
                carry_out(&mut have, &steps);
                prop_assert_eq!(plan(&have, want), [], "one round is enough");
                let addresses: BTreeSet<IpNet> = have.addresses.iter().copied().collect();
                prop_assert_eq!(&addresses, &want.addresses);
                let (guards, routes): (Vec<Route>, Vec<Route>) =
                    have.routes.iter().partition(|route| is_guard(route));
                let routes: BTreeSet<IpNet> = routes.iter().map(|route| route.to).collect();
                prop_assert_eq!(guards.len(), if want.is_on() && want.is_guarded { 2 } else { 0 });
                prop_assert_eq!(&routes, &want.routes);
                prop_assert_eq!(have.rules.len(), if want.is_on() { 8 } else { 0 });
            }
        }
    }
}
