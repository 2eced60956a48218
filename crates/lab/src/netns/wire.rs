//! Links between namespaces, and addresses and routes on them.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::RawFd;

use anyhow::Result;
use ipnet::{IpNet, Ipv4Net};
use os::netlink::message::Request;
use os::netlink::route::{
    TABLE_MAIN, UNICAST, link_header, link_request, new_link, set_link_mtu, set_link_up,
};
use os::netlink::{Address, Netlink, Protocol, Route};

use crate::netns::Netns;

const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;

/// Makes a bridge that is up and has an address.
pub(crate) fn add_bridge(space: &Netns, name: &str, address: Ipv4Net) -> Result<()> {
    let request = new_link()
        .text(IFLA_IFNAME, name)
        .nest(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, "bridge"));
    space.netlink(Protocol::Route, |netlink| netlink.request(request))?;
    add_address(space, name, address)?;
    set_up(space, name, true)
}

/// Joins two namespaces by a virtual cable; both ends are up.
pub fn add_cable(a: (&Netns, &str), b: (&Netns, &str)) -> Result<()> {
    let (a_file, b_file) = (a.0.raw(), b.0.raw());
    let request = new_link()
        .text(IFLA_IFNAME, a.1)
        .number(IFLA_NET_NS_FD, number(a_file))
        .nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth")
                .nest(IFLA_INFO_DATA, |data| {
                    data.nest(VETH_INFO_PEER, |peer: Request| {
                        peer.fixed(&link_header(0, 0, 0))
                            .text(IFLA_IFNAME, b.1)
                            .number(IFLA_NET_NS_FD, number(b_file))
                    })
                })
        });
    a.0.netlink(Protocol::Route, |netlink| netlink.request(request))?;
    set_up(a.0, a.1, true)?;
    set_up(b.0, b.1, true)
}

fn number(file: RawFd) -> u32 {
    file.unsigned_abs()
}

/// Plugs an interface into a bridge.
pub(crate) fn enslave(space: &Netns, name: &str, bridge: &str) -> Result<()> {
    space.netlink(Protocol::Route, |netlink| {
        let bridge = index(netlink, bridge)?;
        let index = index(netlink, name)?;
        netlink.request(link_request(index, 0, 0).number(IFLA_MASTER, bridge))
    })
}

/// Sets an interface up or down.
pub(crate) fn set_up(space: &Netns, name: &str, up: bool) -> Result<()> {
    space.netlink(Protocol::Route, |netlink| {
        let index = index(netlink, name)?;
        netlink.request(set_link_up(index, up))
    })
}

/// Sets the longest packet of an interface.
pub(crate) fn set_mtu(space: &Netns, name: &str, mtu: u32) -> Result<()> {
    space.netlink(Protocol::Route, |netlink| {
        let index = index(netlink, name)?;
        netlink.request(set_link_mtu(index, mtu))
    })
}

pub(crate) fn add_address(space: &Netns, name: &str, address: Ipv4Net) -> Result<()> {
    change_address(space, name, address, Address::add)
}

pub(crate) fn remove_address(space: &Netns, name: &str, address: Ipv4Net) -> Result<()> {
    change_address(space, name, address, Address::remove)
}

fn change_address(
    space: &Netns,
    name: &str,
    address: Ipv4Net,
    change: fn(&Address) -> Request,
) -> Result<()> {
    space.netlink(Protocol::Route, |netlink| {
        let address = Address {
            link: index(netlink, name)?,
            net: address.into(),
        };
        netlink.request(change(&address))
    })
}

/// Sends everything that has no other way to a router.
pub(crate) fn add_default_route(space: &Netns, name: &str, gateway: Ipv4Addr) -> Result<()> {
    space.netlink(Protocol::Route, |netlink| {
        let route = Route {
            to: IpNet::V4(Ipv4Net::default()),
            table: TABLE_MAIN,
            kind: UNICAST,
            link: Some(index(netlink, name)?),
            gateway: Some(IpAddr::V4(gateway)),
            metric: 0,
        };
        netlink.request(route.add())
    })
}

fn index(netlink: &mut Netlink, name: &str) -> io::Result<u32> {
    let found = netlink.link_named(name)?;
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no interface `{name}`"));
    Ok(found.ok_or_else(missing)?.index)
}
