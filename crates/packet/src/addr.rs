//! The tailnet address plan (the originals' `net/tsaddr`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The range that IPv4 addresses of nodes come from.
pub const CGNAT: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);
/// The part of [`CGNAT`] that is ChromeOS's own: never a node.
pub const CHROMEOS_VM: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 115, 92, 0), 23);
/// The range that IPv6 addresses of nodes come from.
pub const ULA: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0), 48);
/// Where IPv4 subnets of several sites are told apart by a site number.
pub const VIA: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0xb1a, 0, 0, 0, 0), 64);
/// IPv6 addresses that are made from a node's IPv4 address.
pub const FROM_V4: Ipv6Net = Ipv6Net::new_assert(
    Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0xab12, 0x4843, 0xcd96, 0x6200, 0),
    104,
);
/// Where a node's own services (MagicDNS) listen.
pub const SERVICE_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 100);
/// Where a node's own services (MagicDNS) listen.
pub const SERVICE_V6: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0x53);
/// The cloud metadata server: the one link-local address that may be reached through a tunnel.
pub const CLOUD_METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The placeholder address under which relays appear as endpoints; the port is the region.
pub const DERP_MAGIC: Ipv4Addr = Ipv4Addr::new(127, 3, 3, 40);

/// Whether a node's address can be `ip`. IPv4-mapped IPv6 addresses count as IPv4.
pub fn is_tailscale_ip(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => CGNAT.contains(&ip) && !CHROMEOS_VM.contains(&ip),
        IpAddr::V6(ip) => ULA.contains(&ip),
    }
}

/// Whether `ip` is one of the two service addresses.
pub fn is_service_ip(ip: IpAddr) -> bool {
    ip == IpAddr::V4(SERVICE_V4) || ip == IpAddr::V6(SERVICE_V6)
}

/// Whether this is a default route, which makes its peer an exit node.
pub fn is_exit_route(net: &IpNet) -> bool {
    net.prefix_len() == 0
}

/// The IPv6 address that belongs to a node's IPv4 address. `None` if the latter is no node's.
pub fn v6_from_v4(ip: Ipv4Addr) -> Option<Ipv6Addr> {
    if !is_tailscale_ip(ip.into()) {
        return None;
    }
    let mut octets = FROM_V4.addr().octets();
    octets[13..].copy_from_slice(&ip.octets()[1..]);
    Some(octets.into())
}

/// The IPv4 address that [`v6_from_v4`] made `ip` from.
pub fn v4_from_v6(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., b, c, d] = ip.octets();
    FROM_V4.contains(&ip).then(|| Ipv4Addr::new(100, b, c, d))
}

/// The 4via6 prefix of an IPv4 prefix at a site.
pub fn via(site: u16, net: Ipv4Net) -> Ipv6Net {
    let mut octets = VIA.addr().octets();
    octets[10..12].copy_from_slice(&site.to_be_bytes());
    octets[12..].copy_from_slice(&net.addr().octets());
    // 96 + 32 at most: always a valid length.
    Ipv6Net::new(octets.into(), 96 + net.prefix_len()).unwrap_or(VIA)
}

/// The site and IPv4 address of a 4via6 address. `None` if it is none, or its site number does not fit 16 bits.
pub fn unvia(ip: Ipv6Addr) -> Option<(u16, Ipv4Addr)> {
    if !VIA.contains(&ip) {
        return None;
    }
    let [.., s0, s1, s2, s3, a, b, c, d] = ip.octets();
    let site = u16::try_from(u32::from_be_bytes([s0, s1, s2, s3])).ok()?;
    Some((site, Ipv4Addr::new(a, b, c, d)))
}

/// The site and IPv4 prefix of a 4via6 prefix.
pub fn unvia_net(net: Ipv6Net) -> Option<(u16, Ipv4Net)> {
    let (site, ip) = unvia(net.addr())?;
    let len = net.prefix_len().checked_sub(96)?;
    Some((site, Ipv4Net::new(ip, len).ok()?))
}

#[cfg(test)]
mod tests;
