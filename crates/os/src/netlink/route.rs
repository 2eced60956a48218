//! Links, addresses, routes and rules (`linux/rtnetlink.h`, `linux/if_link.h`, `linux/fib_rules.h`).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::message::{
    ACK, CREATE, DUMP, EXCLUSIVE, REPLACE, Request, attributes, read_ip, read_text, read_u32,
};
use super::socket::{Answer, Netlink};

/// Kinds of messages.
pub const NEW_LINK: u16 = 16;
pub(crate) const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
pub(crate) const NEW_ADDRESS: u16 = 20;
pub(crate) const DEL_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
pub(crate) const NEW_ROUTE: u16 = 24;
pub(crate) const DEL_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
pub(crate) const NEW_RULE: u16 = 32;
pub(crate) const DEL_RULE: u16 = 33;
const GET_RULE: u16 = 34;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The routing table that is used without rules.
pub const TABLE_MAIN: u32 = 254;
/// The table of last resort, usually empty.
pub const TABLE_DEFAULT: u32 = 253;

/// A route that leads somewhere.
pub const UNICAST: u8 = 1;
/// A route that leads nowhere, and says so to who sends.
pub const UNREACHABLE: u8 = 7;
/// A route that sends the search on to the next rule.
pub const THROW: u8 = 9;
/// Kinds of routes that lead to no interface: from blackholes to those that send the search on.
const LEAD_NOWHERE: std::ops::RangeInclusive<u8> = 6..=THROW;
/// `RTPROT_BOOT`: what the originals and plain `ip route add` set.
const PROTOCOL_BOOT: u8 = 3;

const LINK_UP: u32 = 0x1;
const LINK_LOOPBACK: u32 = 0x8;
const LINK_LOWER_UP: u32 = 0x1_0000;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is up, administratively.
    pub up: bool,
    /// Whether it is connected, as far as the driver can tell.
    pub carrier: bool,
    /// Whether it is loopback.
    pub loopback: bool,
    /// The longest packet that it takes.
    pub mtu: u32,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The interface.
    pub link: u32,
    /// The address, with its network's length.
    pub net: IpNet,
}

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where it leads; length 0 for everywhere else.
    pub to: IpNet,
    /// Its table.
    pub table: u32,
    /// [`UNICAST`], [`THROW`] or another of the kernel's.
    pub kind: u8,
    /// The interface, where it has just one.
    pub link: Option<u32>,
    /// The next router, if any.
    pub gateway: Option<IpAddr>,
    /// The lower, the better.
    pub metric: u32,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Looks into a table.
    Lookup(u32),
    /// Ends the search: there is no way.
    Unreachable,
    /// Another, as the kernel numbers it.
    Other(u8),
}

/// A routing rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Of which family.
    pub v6: bool,
    /// Rules are asked in this order.
    pub priority: u32,
    /// Which packets it is for: value and mask of the mark; `None` for all.
    pub mark: Option<(u32, u32)>,
    /// What it does.
    pub action: Action,
}

impl Link {
    /// Reads the body of a link message.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let flags = read_u32(body, 8)?;
        let mut link = Self {
            index: read_u32(body, 4)?,
            name: String::new(),
            up: flags & LINK_UP != 0,
            carrier: flags & LINK_LOWER_UP != 0,
            loopback: flags & LINK_LOOPBACK != 0,
            mtu: 0,
        };
        for (kind, value) in attributes(body.get(16..)?) {
            match kind {
                3 => link.name = read_text(value),
                4 => link.mtu = read_u32(value, 0)?,
                _ => {}
            }
        }
        Some(link)
    }
}

impl Address {
    /// Reads the body of an address message.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let prefix_len = *body.get(1)?;
        let (mut local, mut address) = (None, None);
        for (kind, value) in attributes(body.get(8..)?) {
            match kind {
                1 => address = read_ip(value),
                2 => local = read_ip(value),
                _ => {}
            }
        }
        // On a link with a peer the two differ, and the local one is ours.
        Some(Self {
            link: read_u32(body, 4)?,
            net: IpNet::new(local.or(address)?, prefix_len).ok()?,
        })
    }

    fn request(&self, kind: u16, flags: u16) -> Request {
        let (family, ip) = (family(self.net.addr()), self.net.addr());
        let mut fixed = [family, self.net.prefix_len(), 0, 0, 0, 0, 0, 0];
        fixed[4..].copy_from_slice(&self.link.to_ne_bytes());
        Request::new(kind, flags | ACK)
            .fixed(&fixed)
            .ip(2, ip)
            .ip(1, ip)
    }

    /// Adds it; one that is there already is no error.
    pub fn add(&self) -> Request {
        self.request(NEW_ADDRESS, CREATE | REPLACE)
    }

    /// Removes it.
    pub fn remove(&self) -> Request {
        self.request(DEL_ADDRESS, 0)
    }
}

impl Route {
    /// Reads the body of a route message.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let (family, prefix_len) = (*body.first()?, *body.get(1)?);
        let any: IpAddr = match family {
            AF_INET => Ipv4Addr::UNSPECIFIED.into(),
            AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let mut to = any;
        let mut route = Self {
            to: IpNet::new(any, 0).ok()?,
            table: u32::from(*body.get(4)?),
            kind: *body.get(7)?,
            link: None,
            gateway: None,
            metric: 0,
        };
        for (kind, value) in attributes(body.get(12..)?) {
            match kind {
                1 => to = read_ip(value)?,
                4 => route.link = read_u32(value, 0),
                5 => route.gateway = read_ip(value),
                6 => route.metric = read_u32(value, 0)?,
                15 => route.table = read_u32(value, 0)?,
                _ => {}
            }
        }
        route.to = IpNet::new(to, prefix_len).ok()?;
        // The kernel shows those of IPv6 at the loopback interface.
        route.link = route.link.filter(|_| !LEAD_NOWHERE.contains(&route.kind));
        Some(route)
    }

    fn request(&self, kind: u16, flags: u16) -> Request {
        // A table above 255 is named in the attribute only.
        let table = u8::try_from(self.table).unwrap_or(0);
        let protocol = if kind == DEL_ROUTE { 0 } else { PROTOCOL_BOOT };
        let to = self.to.trunc();
        let fixed = [
            family(to.addr()),
            to.prefix_len(),
            0,
            0,
            table,
            protocol,
            0,
            self.kind,
            0,
            0,
            0,
            0,
        ];
        let mut request = Request::new(kind, flags | ACK)
            .fixed(&fixed)
            .ip(1, to.addr())
            .number(15, self.table);
        if let Some(link) = self.link {
            request = request.number(4, link);
        }
        if let Some(gateway) = self.gateway {
            request = request.ip(5, gateway);
        }
        if self.metric != 0 {
            request = request.number(6, self.metric);
        }
        request
    }

    /// Adds it, or replaces the one that leads there.
    pub fn add(&self) -> Request {
        self.request(NEW_ROUTE, CREATE | REPLACE)
    }

    /// Removes it.
    pub fn remove(&self) -> Request {
        self.request(DEL_ROUTE, 0)
    }
}

impl Rule {
    /// Reads the body of a rule message.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let v6 = match *body.first()? {
            AF_INET => false,
            AF_INET6 => true,
            _ => return None,
        };
        let (mut table, action) = (u32::from(*body.get(4)?), *body.get(7)?);
        let (mut priority, mut mark, mut mask) = (0, 0, None);
        for (kind, value) in attributes(body.get(12..)?) {
            match kind {
                6 => priority = read_u32(value, 0)?,
                10 => mark = read_u32(value, 0)?,
                15 => table = read_u32(value, 0)?,
                16 => mask = read_u32(value, 0),
                _ => {}
            }
        }
        Some(Self {
            v6,
            priority,
            mark: mask.map(|mask| (mark, mask)),
            action: match action {
                1 => Action::Lookup(table),
                7 => Action::Unreachable,
                other => Action::Other(other),
            },
        })
    }

    fn request(&self, kind: u16, flags: u16) -> Request {
        let (table, action) = match self.action {
            Action::Lookup(table) => (table, 1),
            Action::Unreachable => (0, 7),
            Action::Other(action) => (0, action),
        };
        let family = if self.v6 { AF_INET6 } else { AF_INET };
        let small = u8::try_from(table).unwrap_or(0);
        let fixed = [family, 0, 0, 0, small, 0, 0, action, 0, 0, 0, 0];
        let mut request = Request::new(kind, flags | ACK)
            .fixed(&fixed)
            .number(6, self.priority);
        if let Some((mark, mask)) = self.mark {
            request = request.number(10, mark).number(16, mask);
        }
        if table != 0 {
            request = request.number(15, table);
        }
        request
    }

    /// Adds it; one that is there already is an error (`EEXIST`).
    pub fn add(&self) -> Request {
        self.request(NEW_RULE, CREATE | EXCLUSIVE)
    }

    /// Removes it.
    pub fn remove(&self) -> Request {
        self.request(DEL_RULE, 0)
    }
}

/// Lists of what the kernel has. What cannot be understood is left out.
impl Netlink {
    /// All interfaces.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let request = Request::new(GET_LINK, DUMP).fixed(&[0; 16]);
        Ok(parsed(self.dump(&request)?, NEW_LINK, Link::parse))
    }

    /// The interface with this name.
    pub fn link_named(&mut self, name: &str) -> io::Result<Option<Link>> {
        Ok(self.links()?.into_iter().find(|link| link.name == name))
    }

    /// All addresses.
    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let request = Request::new(GET_ADDRESS, DUMP).fixed(&[0; 8]);
        Ok(parsed(self.dump(&request)?, NEW_ADDRESS, Address::parse))
    }

    /// All routes of both families.
    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        let request = Request::new(GET_ROUTE, DUMP).fixed(&[0; 12]);
        Ok(parsed(self.dump(&request)?, NEW_ROUTE, Route::parse))
    }

    /// All rules of both families.
    pub fn rules(&mut self) -> io::Result<Vec<Rule>> {
        let request = Request::new(GET_RULE, DUMP).fixed(&[0; 12]);
        Ok(parsed(self.dump(&request)?, NEW_RULE, Rule::parse))
    }

    /// Addresses by interface.
    pub fn addresses_by_link(&mut self) -> io::Result<BTreeMap<u32, Vec<IpNet>>> {
        let mut by_link: BTreeMap<u32, Vec<IpNet>> = BTreeMap::new();
        for address in self.addresses()? {
            by_link.entry(address.link).or_default().push(address.net);
        }
        Ok(by_link)
    }
}

fn parsed<T>(answers: Vec<Answer>, kind: u16, parse: impl Fn(&[u8]) -> Option<T>) -> Vec<T> {
    answers
        .iter()
        .filter(|answer| answer.kind == kind)
        .filter_map(|answer| parse(&answer.body))
        .collect()
}

/// Sets an interface up or down.
pub fn set_link_up(index: u32, up: bool) -> Request {
    let flags = if up { LINK_UP } else { 0 };
    link_request(index, flags, LINK_UP)
}

/// Sets the longest packet that an interface takes.
pub fn set_link_mtu(index: u32, mtu: u32) -> Request {
    link_request(index, 0, 0).number(4, mtu)
}

/// Sets how long the super-packets are that an interface is given.
pub fn set_link_gso(index: u32, len: u32) -> Request {
    // IFLA_GSO_MAX_SIZE
    link_request(index, 0, 0).number(41, len)
}

/// Removes an interface.
pub fn remove_link(index: u32) -> Request {
    Request::new(DEL_LINK, ACK).fixed(&link_header(index, 0, 0))
}

/// A request that changes an interface: attributes can be added.
pub fn link_request(index: u32, flags: u32, change: u32) -> Request {
    Request::new(NEW_LINK, ACK).fixed(&link_header(index, flags, change))
}

/// A request that makes an interface: attributes can be added.
pub fn new_link() -> Request {
    Request::new(NEW_LINK, ACK | CREATE | EXCLUSIVE).fixed(&link_header(0, 0, 0))
}

/// `struct ifinfomsg`: family u8, padding u8, type u16, index i32, flags u32, mask of changed flags u32.
pub fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&change.to_ne_bytes());
    header
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::message::{HEADER_LEN, messages};

    fn nets() -> impl Strategy<Value = IpNet> {
        let v4 = (any::<[u8; 4]>(), 0..=32u8).prop_map(|(ip, len)| IpNet::new(ip.into(), len));
        let v6 = (any::<[u8; 16]>(), 0..=128u8).prop_map(|(ip, len)| IpNet::new(ip.into(), len));
        prop_oneof![v4, v6].prop_map(Result::unwrap)
    }

    fn body(request: Request) -> Vec<u8> {
        let bytes = request.finish(1);
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(all.len(), 1);
        bytes[HEADER_LEN..].to_vec()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn golden_bytes() {
        // `ip -4 rule add pref 5210 fwmark 0x80000/0xff0000 lookup main`, as strace shows it.
        let rule = Rule {
            v6: false,
            priority: 5210,
            mark: Some((0x80000, 0xff0000)),
            action: Action::Lookup(TABLE_MAIN),
        };
        let golden = [
            &[60, 0, 0, 0, 32, 0, 5, 6, 1, 0, 0, 0, 0, 0, 0, 0][..],
            &[2, 0, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0],
            &[8, 0, 6, 0, 0x5a, 0x14, 0, 0],
            &[8, 0, 10, 0, 0, 0, 8, 0],
            &[8, 0, 16, 0, 0, 0, 0xff, 0],
            &[8, 0, 15, 0, 254, 0, 0, 0],
        ];
        assert_eq!(rule.add().finish(1), golden.concat());
    }

    proptest! {
        #[test]
        fn objects_come_back(net in nets(), link in 1u32.., table in 1u32.., metric: u32, priority: u32,
                             mark: Option<(u32, u32)>, v6: bool) {
            let address = Address { link, net };
            prop_assert_eq!(Address::parse(&body(address.add())), Some(address));
            let route = Route {
                to: net.trunc(), table, kind: UNICAST, link: Some(link), gateway: None, metric,
            };
            prop_assert_eq!(Route::parse(&body(route.add())), Some(route));
            let rule = Rule { v6, priority, mark, action: Action::Lookup(table) };
            prop_assert_eq!(Rule::parse(&body(rule.add())), Some(rule));
        }

        #[test]
        fn damage_is_no_trouble(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = (Link::parse(&bytes), Address::parse(&bytes), Route::parse(&bytes), Rule::parse(&bytes));
        }
    }

    #[test]
    fn this_machine_has_loopback() {
        let mut netlink = Netlink::open(crate::netlink::Protocol::Route).unwrap();
        let links = netlink.links().unwrap();
        assert!(links.iter().any(|link| link.loopback), "{links:?}");
        netlink.addresses().unwrap();
        netlink.routes().unwrap();
        netlink.rules().unwrap();
    }
}
