//! What of the machine's interfaces matters to the choice of paths.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use host::{LinkDelta, LinkState};
use ipnet::IpNet;
use packet::addr::{ULA, is_tailscale_ip};

/// Looks at the clock that often.
pub(super) const TICK: Duration = Duration::from_secs(15);
/// Between two looks the machine slept if this much time has passed.
const SLEPT: Duration = Duration::from_millis(22_500);
/// After so long a sleep nothing of the network can be relied upon.
const SLEPT_LONG: Duration = Duration::from_secs(600);

/// At most this many IPv6 addresses of one /64: hosts with privacy extensions collect them.
const MAX_PER_V6_SUBNET: usize = 2;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    /// Whether it is up.
    pub up: bool,
    /// Whether it is loopback.
    pub loopback: bool,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
}

/// All interfaces of the machine, by name, and where the default route leads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Machine {
    /// The interfaces.
    pub interfaces: BTreeMap<String, Interface>,
    /// The interface of the default route.
    pub default_interface: Option<String>,
    /// The name of our own TUN device, if there is one.
    pub tun: Option<String>,
}

impl Machine {
    /// What the engines are told.
    pub(super) fn state(&self) -> LinkState {
        let have_v4 = self.usable_ips().any(is_usable_v4);
        let have_v6 = self.usable_ips().any(is_usable_v6);
        LinkState {
            // Compat: a link without an address is none, as in the originals (`AnyInterfaceUp`).
            up: have_v4 || have_v6,
            addresses: self.endpoint_addresses(),
            networks: self.networks(),
            default_interface: self.default_interface.clone(),
            have_v4,
            have_v6,
        }
    }

    fn networks(&self) -> Vec<IpNet> {
        let up = self.foreign().filter(|(_, interface)| interface.up);
        let all = up.flat_map(|(_, interface)| interface.addresses.iter().copied());
        let mut networks: Vec<IpNet> = all.filter(|net| is_routable(net.addr())).collect();
        networks.sort();
        networks
    }

    /// Interfaces that are not ours.
    fn foreign(&self) -> impl Iterator<Item = (&String, &Interface)> {
        self.interfaces
            .iter()
            .filter(|(name, _)| !self.is_ours(name))
    }

    fn is_ours(&self, name: &str) -> bool {
        self.tun.as_deref() == Some(name) || name.starts_with("tailscale")
    }

    fn usable_ips(&self) -> impl Iterator<Item = IpAddr> {
        self.foreign()
            .filter(|(_, interface)| interface.up)
            .flat_map(|(_, interface)| interface.addresses.iter().map(IpNet::addr))
    }

    /// Addresses under which a peer might reach us (`netmon.LocalAddresses` of the originals). Link-local IPv4 and unique
    /// local IPv6 addresses count only where there is nothing better, loopback only where there is nothing else at all.
    fn endpoint_addresses(&self) -> Vec<IpAddr> {
        let (mut regular, mut second, mut loopback) = (Vec::new(), Vec::new(), Vec::new());
        let mut per_subnet: BTreeMap<[u8; 8], usize> = BTreeMap::new();
        let other_overlay = |name: &str| name.starts_with("zt") || name == "wt0";
        for (name, interface) in self.foreign() {
            if !interface.up || other_overlay(name) {
                continue;
            }
            for ip in interface.addresses.iter().map(IpNet::addr) {
                match ip {
                    _ if is_tailscale_ip(ip) => {}
                    _ if ip.is_loopback() || interface.loopback => loopback.push(ip),
                    IpAddr::V4(v4) if v4.is_link_local() => second.push(ip),
                    IpAddr::V4(_) => regular.push(ip),
                    IpAddr::V6(v6) if v6.is_unicast_link_local() => {}
                    IpAddr::V6(v6) => {
                        let seen = per_subnet.entry(subnet(v6)).or_default();
                        *seen += 1;
                        if *seen > MAX_PER_V6_SUBNET {
                            continue;
                        }
                        if v6.is_unique_local() {
                            second.push(ip);
                        } else {
                            regular.push(ip);
                        }
                    }
                }
            }
        }
        [regular, second, loopback]
            .into_iter()
            .find(|found| !found.is_empty())
            .unwrap_or_default()
    }

    /// By interface: whether it is up, and its addresses that packets of others can reach. A change of these is a change of
    /// the network; one of anything else is not.
    fn interesting(&self) -> BTreeMap<&str, (bool, Vec<IpAddr>)> {
        let addresses = |interface: &Interface| {
            let mut all: Vec<IpAddr> = interface.addresses.iter().map(IpNet::addr).collect();
            all.retain(|ip| is_routable(*ip));
            all.sort();
            all
        };
        self.foreign()
            .filter(|(_, interface)| !interface.loopback)
            .map(|(name, interface)| (name.as_str(), (interface.up, addresses(interface))))
            .filter(|(_, (_, addresses))| !addresses.is_empty())
            .collect()
    }

    fn default_is_viable(&self) -> bool {
        let Some(name) = self.default_interface.as_deref() else {
            return false;
        };
        let interface = self.interfaces.get(name);
        !self.is_ours(name) && interface.is_some_and(|interface| interface.up)
    }
}

/// Whether so long a time between two looks means that the machine slept.
pub(super) fn has_slept(gap: Duration) -> bool {
    gap > SLEPT
}

/// What the step from `old` to `new` means, `gap` after the last look; `None` if nothing.
pub(super) fn delta(old: &Machine, new: &Machine, gap: Duration) -> Option<LinkDelta> {
    let woke = has_slept(gap);
    if old == new && !woke {
        return None;
    }
    let (before, now) = (old.state(), new.state());
    let moved = old.default_interface != new.default_interface
        || old.interesting() != new.interesting()
        || (before.have_v4, before.have_v6) != (now.have_v4, now.have_v6)
        || gap >= SLEPT_LONG;
    if before == now && !moved && !woke {
        return None;
    }
    Some(LinkDelta {
        now: Arc::new(now),
        // Without a way out there is nothing to bind anew for; the change that brings one is major again.
        major: moved && new.default_is_viable(),
        woke,
    })
}

fn is_routable(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !link_local && !ip.is_loopback() && !is_tailscale_ip(ip)
}

fn is_usable_v4(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if !v4.is_loopback() && !v4.is_link_local() && !is_tailscale_ip(ip))
}

fn is_usable_v6(ip: IpAddr) -> bool {
    let IpAddr::V6(v6) = ip else { return false };
    let is_global = v6.octets()[0] & 0xe0 == 0x20;
    is_global || (v6.is_unique_local() && !ULA.contains(&v6))
}

fn subnet(ip: Ipv6Addr) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = ip.octets();
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(addresses: &[&str]) -> Interface {
        Interface {
            up: true,
            loopback: addresses.iter().any(|net| net.starts_with("127.")),
            addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
        }
    }

    fn machine(interfaces: &[(&str, &[&str])], default: Option<&str>) -> Machine {
        Machine {
            interfaces: interfaces
                .iter()
                .map(|(name, addresses)| ((*name).to_owned(), interface(addresses)))
                .collect(),
            default_interface: default.map(str::to_owned),
            tun: Some("ts7".into()),
        }
    }

    fn laptop() -> Machine {
        machine(
            &[
                ("lo", &["127.0.0.1/8", "::1/128"]),
                ("eth0", &["192.168.1.7/24", "fe80::1/64"]),
                ("ts7", &["100.64.0.7/32"]),
            ],
            Some("eth0"),
        )
    }

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn addresses_that_peers_might_reach() {
        let texts = |machine: &Machine| {
            let all = machine.state().addresses;
            all.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(texts(&laptop()), ["192.168.1.7"]);
        let many = machine(
            &[
                (
                    "a",
                    &[
                        "2001:db8::1/64",
                        "2001:db8::2/64",
                        "2001:db8::3/64",
                        "fd00::1/64",
                    ],
                ),
                ("b", &["169.254.3.4/16", "100.100.1.1/10"]),
                ("zt0", &["10.1.1.1/8"]),
                ("tailscale0", &["10.2.2.2/8"]),
            ],
            None,
        );
        assert_eq!(texts(&many), ["2001:db8::1", "2001:db8::2"]);
        assert_eq!(
            texts(&machine(&[("b", &["169.254.3.4/16"])], None)),
            ["169.254.3.4"]
        );
        assert_eq!(
            texts(&machine(&[("lo", &["127.0.0.1/8"])], None)),
            ["127.0.0.1"]
        );
    }

    #[test]
    fn up_and_families() {
        let state = laptop().state();
        assert_eq!(
            (state.up, state.have_v4, state.have_v6),
            (true, true, false)
        );
        let mut asleep = laptop();
        asleep.interfaces.get_mut("eth0").unwrap().up = false;
        let state = asleep.state();
        assert_eq!(
            (state.up, state.have_v4, state.have_v6),
            (false, false, false)
        );
        assert!(machine(&[("e", &["2001:db8::1/64"])], None).state().have_v6);
        assert!(machine(&[("e", &["fd00::1/64"])], None).state().have_v6);
        assert!(
            !machine(&[("e", &["fd7a:115c:a1e0::1/128"])], None)
                .state()
                .have_v6
        );
    }

    #[test]
    fn changes_that_matter() {
        let old = laptop();
        assert_eq!(delta(&old, &old, NOW), None);

        let mut moved = laptop();
        moved
            .interfaces
            .insert("eth0".into(), interface(&["10.0.0.9/24"]));
        let step = delta(&old, &moved, NOW).unwrap();
        assert!(step.major && !step.woke);
        assert_eq!(step.now.addresses, ["10.0.0.9".parse::<IpAddr>().unwrap()]);

        let mut wifi = laptop();
        wifi.default_interface = Some("wlan0".into());
        wifi.interfaces
            .insert("wlan0".into(), interface(&["10.0.0.9/24"]));
        assert!(delta(&old, &wifi, NOW).unwrap().major);

        let mut gone = laptop();
        gone.interfaces.get_mut("eth0").unwrap().up = false;
        let step = delta(&old, &gone, NOW).unwrap();
        assert!(!step.major && !step.now.up, "nothing to bind anew for");
        assert!(delta(&gone, &old, NOW).unwrap().major);
    }

    #[test]
    fn changes_that_do_not() {
        let old = laptop();
        let mut ours = laptop();
        ours.interfaces
            .insert("ts7".into(), interface(&["100.64.0.8/32"]));
        assert_eq!(delta(&old, &ours, NOW), None);
        let mut link_local = laptop();
        link_local
            .interfaces
            .insert("br0".into(), interface(&["fe80::9/64"]));
        assert_eq!(delta(&old, &link_local, NOW), None);
    }

    #[test]
    fn sleep() {
        let old = laptop();
        assert_eq!(delta(&old, &old, Duration::from_secs(22)), None);
        let nap = delta(&old, &old, Duration::from_secs(23)).unwrap();
        assert!(nap.woke && !nap.major);
        let night = delta(&old, &old, Duration::from_secs(600)).unwrap();
        assert!(night.woke && night.major);
    }
}
