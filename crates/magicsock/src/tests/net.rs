//! The simulated network: sites behind routers of several kinds (RFC 4787), and the Internet between them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use host::Instant;

/// What stands between a site and the Internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nat {
    /// Public addresses, no firewall.
    None,
    /// One mapping for all destinations; in comes only what answers.
    Easy,
    /// A mapping for each destination; in comes only what answers.
    Hard,
    /// No UDP at all.
    Blocked,
}

/// How long a mapping lives without a packet going out.
const MAPPING_LIFETIME: Duration = Duration::from_secs(30);
pub(crate) const PORT: u16 = 41641;

#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) nat: Nat,
    public: Ipv4Addr,
    /// One way, from the site's hosts into the Internet.
    pub(crate) delay: Duration,
    mappings: Vec<Mapping>,
    next_port: u16,
}

#[derive(Debug)]
struct Mapping {
    inside: SocketAddr,
    /// The only destination, if mappings are for one.
    only: Option<SocketAddr>,
    port: u16,
    /// Whom packets went to, and when the last one did.
    allowed: BTreeMap<SocketAddr, Instant>,
}

/// Where a datagram ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// At a host of a site, by its inside address.
    Host { site: usize, inside: SocketAddr },
    /// At an address of the Internet that is no site's.
    Internet,
    /// Nowhere.
    Lost,
}

#[derive(Debug, Default)]
pub(crate) struct Net {
    pub(crate) sites: Vec<Site>,
}

impl Net {
    pub(crate) fn add(&mut self, nat: Nat, delay: Duration) -> usize {
        let number = self.sites.len() as u8;
        self.sites.push(Site {
            nat,
            public: Ipv4Addr::new(203, 0, 113, number + 1),
            delay,
            mappings: Vec::new(),
            next_port: 1024,
        });
        self.sites.len() - 1
    }

    /// The address of the `number`th host of a site. Behind routers all sites use the same ones, as at home.
    pub(crate) fn address(&self, site: usize, number: usize) -> IpAddr {
        match self.sites[site].nat {
            Nat::None => self.sites[site].public.into(),
            _ => Ipv4Addr::new(192, 168, 1, 10 + number as u8).into(),
        }
    }

    /// The router loses its memory, and gives other ports from here on.
    pub(crate) fn reboot(&mut self, site: usize) {
        self.sites[site].mappings.clear();
        self.sites[site].next_port += 1000;
    }

    /// Takes a datagram out of a site: gives where it ends, and where it seems to come from there.
    pub(crate) fn send(
        &mut self,
        site: usize,
        inside: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> (End, SocketAddr) {
        let is_private = |addr: SocketAddr| matches!(addr.ip(), IpAddr::V4(ip) if ip.is_private());
        if is_private(to) {
            // The local network, where somebody else may have the address that was meant.
            let end = match is_private(inside) {
                true => End::Host { site, inside: to },
                false => End::Lost,
            };
            return (end, inside);
        }
        let Some(from) = self.sites[site].translate(inside, to, now) else {
            return (End::Lost, inside);
        };
        let destination = self
            .sites
            .iter()
            .position(|other| IpAddr::from(other.public) == to.ip());
        let end = match destination {
            None => End::Internet,
            // Routers that send a host's own packets back in are not to be counted on.
            Some(other) if other == site => End::Lost,
            Some(other) => self.enter(other, from, to, now),
        };
        (end, from)
    }

    /// Takes a datagram from the Internet into a site.
    pub(crate) fn enter(&self, site: usize, from: SocketAddr, to: SocketAddr, now: Instant) -> End {
        match self.sites[site].admit(from, to, now) {
            Some(inside) => End::Host { site, inside },
            None => End::Lost,
        }
    }

    /// The site that an address of the Internet belongs to.
    pub(crate) fn site_of(&self, addr: SocketAddr) -> Option<usize> {
        let mut sites = self.sites.iter();
        sites.position(|site| IpAddr::from(site.public) == addr.ip())
    }
}

impl Site {
    fn translate(
        &mut self,
        inside: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Option<SocketAddr> {
        let only = match self.nat {
            Nat::Blocked => return None,
            Nat::None => return Some(inside),
            Nat::Easy => None,
            Nat::Hard => Some(to),
        };
        self.mappings.retain(|m| m.is_alive(now));
        let known = self
            .mappings
            .iter()
            .position(|m| m.inside == inside && m.only == only);
        let index = known.unwrap_or_else(|| {
            self.next_port += 1;
            self.mappings.push(Mapping {
                inside,
                only,
                port: self.next_port,
                allowed: BTreeMap::new(),
            });
            self.mappings.len() - 1
        });
        let mapping = &mut self.mappings[index];
        mapping.allowed.insert(to, now);
        Some(SocketAddr::new(self.public.into(), mapping.port))
    }

    fn admit(&self, from: SocketAddr, to: SocketAddr, now: Instant) -> Option<SocketAddr> {
        match self.nat {
            Nat::Blocked => None,
            Nat::None => Some(to),
            Nat::Easy | Nat::Hard => {
                let mapping = self.mappings.iter().find(|m| m.port == to.port())?;
                let last = mapping.allowed.get(&from)?;
                (now.since(*last) <= MAPPING_LIFETIME).then_some(mapping.inside)
            }
        }
    }
}

impl Mapping {
    fn is_alive(&self, now: Instant) -> bool {
        let mut last = self.allowed.values();
        last.any(|at| now.since(*at) <= MAPPING_LIFETIME)
    }
}

/// Whether two nodes can reach each other directly, by what kinds of routers they are behind.
pub(crate) fn can_be_direct(a: (usize, Nat), b: (usize, Nat)) -> bool {
    if a.0 == b.0 {
        return true;
    }
    let mut kinds = [a.1, b.1];
    kinds.sort();
    match kinds {
        [_, Nat::Blocked] => false,
        [Nat::None, _] | [Nat::Easy, Nat::Easy] => true,
        _ => false,
    }
}
