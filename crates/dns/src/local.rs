//! What is answered here, and how.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use packet::addr::{SERVICE_V4, SERVICE_V6, VIA};

use crate::{Kind, Name, Query, Rcode, Server, Zones};

/// The name of our service addresses.
const SYMBOLIC: &str = "magicdns.localhost-tailscale-daemon";
/// Zones below which 4via6 names are; or they have one label only.
const VIA_ZONES: [&str; 2] = ["ts.net", "tailscale.net"];
/// Who looks for services by unicast asks for these names of a network. Nobody has an answer.
const BONJOUR: [&str; 5] = ["b", "db", "r", "dr", "lb"];

/// What becomes of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// This is the answer.
    Answer(Vec<u8>),
    /// One of these knows. If there are none, nobody does.
    Ask(Vec<Server>),
}

/// The names of the tailnet.
pub trait Names {
    /// The addresses of a name, if there is such a name.
    fn addresses(&self, name: &Name) -> Option<Vec<IpAddr>>;
    /// Whether a name stands for all names below it, too.
    fn has_names_below(&self, name: &Name) -> bool;
    /// The name of an address.
    fn name_of(&self, address: IpAddr) -> Option<Name>;
}

/// What becomes of a question. `serial` is of our zones: the time, in seconds.
pub fn look_up(query: &Query, names: &dyn Names, zones: &Zones, serial: u32) -> Lookup {
    let resolver = Resolver {
        names,
        zones,
        serial,
    };
    match query.kind {
        Kind::PTR => resolver.look_up_name(query),
        _ => resolver.look_up_addresses(query),
    }
}

struct Resolver<'a> {
    names: &'a dyn Names,
    zones: &'a Zones,
    serial: u32,
}

impl Resolver<'_> {
    fn look_up_addresses(&self, query: &Query) -> Lookup {
        let name = &query.name;
        // RFC 7686
        if is_below(name, "onion") {
            return Lookup::Answer(query.answer_nothing(Rcode::NX_DOMAIN, None));
        }
        if is(name, SYMBOLIC) && matches!(query.kind, Kind::A | Kind::AAAA) {
            let all = [SERVICE_V4.into(), SERVICE_V6.into()];
            return self.known(query, &all);
        }
        if let Some(address) = via(name) {
            match query.kind {
                Kind::A | Kind::AAAA => return self.known(query, &[address.into()]),
                Kind::ANY => return Lookup::Answer(query.answer_addresses(&[address.into()])),
                _ => {}
            }
        }
        match self.addresses(name) {
            Some(addresses) => self.known(query, &addresses),
            None => self.unknown(query),
        }
    }

    fn addresses(&self, name: &Name) -> Option<Vec<IpAddr>> {
        if let Some(addresses) = self.names.addresses(name) {
            return Some(addresses);
        }
        let mut above = std::iter::successors(name.parent(), Name::parent);
        let parent = above.find(|name| self.names.has_names_below(name))?;
        self.names.addresses(&parent)
    }

    fn known(&self, query: &Query, addresses: &[IpAddr]) -> Lookup {
        let of = |is_wanted: fn(&IpAddr) -> bool| addresses.iter().copied().find(is_wanted);
        let found = match query.kind {
            Kind::A => of(IpAddr::is_ipv4),
            Kind::AAAA => of(IpAddr::is_ipv6),
            Kind::ANY => of(|_| true),
            Kind::NS | Kind::SOA | Kind::AXFR | Kind::HINFO => {
                return Lookup::Answer(query.answer_nothing(Rcode::NOT_IMP, None));
            }
            _ => return Lookup::Answer(query.answer_nothing(Rcode::NO_ERROR, None)),
        };
        Lookup::Answer(match found {
            Some(address) => query.answer_addresses(&[address]),
            None => {
                let zone = self.zones.own(&query.name);
                query.answer_nothing(Rcode::NO_ERROR, zone.map(|zone| (zone, self.serial)))
            }
        })
    }

    fn unknown(&self, query: &Query) -> Lookup {
        if let Some(zone) = self.zones.own(&query.name) {
            return Lookup::Answer(
                query.answer_nothing(Rcode::NX_DOMAIN, Some((zone, self.serial))),
            );
        }
        Lookup::Ask(self.zones.servers(&query.name).to_vec())
    }

    fn look_up_name(&self, query: &Query) -> Lookup {
        if is_bonjour(&query.name) {
            return Lookup::Answer(query.answer_nothing(Rcode::NX_DOMAIN, None));
        }
        let Some(address) = address_of(&query.name) else {
            return self.unknown(query);
        };
        if address == IpAddr::V4(SERVICE_V4) || address == IpAddr::V6(SERVICE_V6) {
            return Lookup::Answer(match SYMBOLIC.parse() {
                Ok(name) => query.answer_name(&name),
                Err(_) => query.answer_nothing(Rcode::SERV_FAIL, None),
            });
        }
        match self.names.name_of(address) {
            Some(name) => Lookup::Answer(query.answer_name(&name)),
            None => self.unknown(query),
        }
    }
}

fn is(name: &Name, text: &str) -> bool {
    text.parse::<Name>().is_ok_and(|other| *name == other)
}

/// Whether it is below `zone`, which is not itself.
fn is_below(name: &Name, zone: &str) -> bool {
    let zone = zone.parse::<Name>();
    zone.is_ok_and(|zone| name.is_under(&zone) && *name != zone)
}

fn is_bonjour(name: &Name) -> bool {
    let labels: Vec<&[u8]> = name.labels().take(3).collect();
    let [first, second, third] = labels[..] else {
        return false;
    };
    BONJOUR.iter().any(|known| known.as_bytes() == first)
        && (second, third) == (b"_dns-sd", b"_udp")
}

/// The address in a name like `10-1-1-3-via-7`: an IPv4 address behind one of several sites that use the same.
fn via(name: &Name) -> Option<Ipv6Addr> {
    let first = std::str::from_utf8(name.labels().next()?).ok()?;
    let rest = name.parent()?;
    if !rest.is_root() && !VIA_ZONES.iter().any(|zone| is_below(&rest, zone)) {
        return None;
    }
    let (address, site) = first.split_once("-via-")?;
    let address: Ipv4Addr = address.replace('-', ".").parse().ok()?;
    let site = number(site)?;
    let behind_prefix = u128::from(site) << 32 | u128::from(u32::from(address));
    Some(Ipv6Addr::from(u128::from(VIA.addr()) | behind_prefix))
}

/// A number as Go reads it without being told its base.
fn number(text: &str) -> Option<u32> {
    let prefixes = [("0x", 16), ("0o", 8), ("0b", 2), ("0", 8)];
    let mut based = prefixes
        .into_iter()
        .filter_map(|(prefix, base)| Some((text.strip_prefix(prefix)?, base)));
    match based.next() {
        Some((digits, base)) if !digits.is_empty() => u32::from_str_radix(digits, base).ok(),
        _ => text.parse().ok(),
    }
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for (RFC 1035, 3.5; RFC 3596, 2.5).
fn address_of(name: &Name) -> Option<IpAddr> {
    let labels: Vec<&str> = name
        .labels()
        .map(|label| std::str::from_utf8(label).unwrap_or(""))
        .collect();
    match &labels[..] {
        [parts @ .., "in-addr", "arpa"] if parts.len() == 4 => {
            let mut octets = [0; 4];
            for (octet, part) in octets.iter_mut().rev().zip(parts) {
                *octet = part.parse().ok()?;
            }
            Some(IpAddr::V4(octets.into()))
        }
        [parts @ .., "ip6", "arpa"] if parts.len() == 32 => {
            let mut bits = 0_u128;
            for part in parts.iter().rev() {
                let digit = u128::from_str_radix(part, 16).ok()?;
                if part.len() != 1 {
                    return None;
                }
                bits = bits << 4 | digit;
            }
            Some(IpAddr::V6(bits.into()))
        }
        _ => None,
    }
}
