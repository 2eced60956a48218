//! Exchanging one address of a packet, in place.
//!
//! Peers that see us from another tailnet may know us by another address than our own (`SelfNodeV4MasqAddrForThisPeer`).

use std::net::IpAddr;

use crate::checksum;
use crate::{Fragment, IpView, Proto};

/// Which address of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// Exchanges an address of a packet and mends the checksums that cover it (RFC 1624). Says whether it was done: not for
/// bytes that are no packet, and not across families. Then nothing has changed.
pub fn set_address(packet: &mut [u8], end: End, new: IpAddr) -> bool {
    let Ok(view) = IpView::parse(packet) else {
        return false;
    };
    let old = match end {
        End::Source => view.src(),
        End::Destination => view.dst(),
    };
    if old.is_ipv4() != new.is_ipv4() {
        return false;
    }
    // Only the first fragment has a transport header.
    let transport = (view.fragment() != Fragment::Later)
        .then(|| transport_sum(&view))
        .flatten();
    let (sums, address) = match (new, end) {
        (IpAddr::V4(_), End::Source) => ([Some(10), transport], 12..16),
        (IpAddr::V4(_), End::Destination) => ([Some(10), transport], 16..20),
        (IpAddr::V6(_), End::Source) => ([None, transport], 8..24),
        (IpAddr::V6(_), End::Destination) => ([None, transport], 24..40),
    };
    let is_udp = view.is(Proto::UDP);
    for (index, at) in sums.into_iter().enumerate() {
        if let Some(at) = at {
            mend(packet, at, old, new, is_udp && index == 1);
        }
    }
    if let Some(bytes) = packet.get_mut(address) {
        match new {
            IpAddr::V4(new) => bytes.copy_from_slice(&new.octets()),
            IpAddr::V6(new) => bytes.copy_from_slice(&new.octets()),
        }
    }
    true
}

/// Where the transport header has a checksum that covers the addresses.
fn transport_sum(view: &IpView<'_>) -> Option<usize> {
    let within = match view.proto() {
        Proto::TCP => 16,
        Proto::UDP => 6,
        Proto::ICMP6 if view.src().is_ipv6() => 2,
        _ => return None,
    };
    (view.transport().len() >= within + 2).then(|| view.transport_offset() + within)
}

/// Corrects the checksum at `at` for a changed address.
fn mend(packet: &mut [u8], at: usize, old: IpAddr, new: IpAddr, is_udp: bool) {
    let Some(Ok(bytes)) = packet.get_mut(at..at + 2).map(<&mut [u8; 2]>::try_from) else {
        return;
    };
    let sum = u16::from_be_bytes(*bytes);
    // Zero means that the sender of UDP made no checksum.
    if is_udp && sum == 0 {
        return;
    }
    let complement = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => checksum::add(0, &ip.octets().map(|byte| !byte)),
        IpAddr::V6(ip) => checksum::add(0, &ip.octets().map(|byte| !byte)),
    };
    let plain = match new {
        IpAddr::V4(ip) => checksum::add(0, &ip.octets()),
        IpAddr::V6(ip) => checksum::add(0, &ip.octets()),
    };
    let mended = checksum::finish(u64::from(!sum) + complement(old) + plain);
    *bytes = match mended {
        0 if is_udp => [0xff, 0xff],
        mended => mended.to_be_bytes(),
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ip_packet;

    const V4: [&str; 3] = ["100.64.0.1", "100.64.0.2", "100.99.255.254"];
    const V6: [&str; 3] = ["fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2", "fd7a::ffff"];

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A packet with checksums made from scratch.
    fn packet(src: IpAddr, dst: IpAddr, proto: Proto, body: &[u8]) -> Vec<u8> {
        let mut transport = match proto {
            Proto::TCP => {
                let mut header = vec![0; 20];
                header[..4].copy_from_slice(&[0, 80, 0, 81]);
                header[12] = 0x50;
                header[13] = 0x02;
                header
            }
            Proto::UDP => {
                let len = u16::try_from(8 + body.len()).unwrap().to_be_bytes();
                vec![0, 80, 0, 81, len[0], len[1], 0, 0]
            }
            _ => vec![8, 0, 0, 0, 0, 1, 0, 1],
        };
        transport.extend(body);
        let at = match proto {
            Proto::TCP => Some(16),
            Proto::UDP => Some(6),
            Proto::ICMP6 => Some(2),
            _ => None,
        };
        if let Some(at) = at {
            let pseudo = checksum::pseudo_header(src, dst, proto, transport.len());
            let sum = checksum::finish(checksum::add(pseudo, &transport));
            let sum = if sum == 0 && proto == Proto::UDP {
                0xffff
            } else {
                sum
            };
            transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        ip_packet(src, dst, proto, &transport).unwrap()
    }

    /// Two sums that stand for the same: all ones is zero.
    fn same(a: &[u8], b: &[u8]) -> bool {
        let plus_zero = |bytes: &[u8]| bytes.iter().map(|b| u64::from(*b)).sum::<u64>();
        a == b || plus_zero(a).abs_diff(plus_zero(b)) == 2 * 0xff
    }

    proptest! {
        #[test]
        fn what_comes_out_is_as_if_made_so(
            v6 in any::<bool>(), proto in 0..4_usize, body in prop::collection::vec(any::<u8>(), 0..64), source in any::<bool>(),
        ) {
            let [a, b, c] = if v6 { V6 } else { V4 }.map(ip);
            let icmp = if v6 { Proto::ICMP6 } else { Proto::ICMP4 };
            let proto = [Proto::TCP, Proto::UDP, icmp, Proto::TSMP][proto];
            let mut changed = packet(a, b, proto, &body);
            let (end, want) = if source {
                (End::Source, packet(c, b, proto, &body))
            } else {
                (End::Destination, packet(a, c, proto, &body))
            };
            prop_assert!(set_address(&mut changed, end, c));
            prop_assert!(same(&changed, &want), "{changed:02x?}\n{want:02x?}");
            let view = IpView::parse(&changed).unwrap();
            if c.is_ipv4() {
                prop_assert_eq!(checksum::of(&changed[..20]), 0);
            }
            if proto == Proto::TCP || proto == Proto::UDP || proto == Proto::ICMP6 {
                let pseudo = checksum::pseudo_header(view.src(), view.dst(), proto, view.transport().len());
                prop_assert_eq!(checksum::finish(checksum::add(pseudo, view.transport())), 0);
            }
            let back = if source { a } else { b };
            prop_assert!(set_address(&mut changed, end, back));
            prop_assert!(same(&changed, &packet(a, b, proto, &body)));
        }

        #[test]
        fn no_bytes_do_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..80), v6 in any::<bool>()) {
            let before = bytes.clone();
            let new = ip(if v6 { V6[0] } else { V4[0] });
            if !set_address(&mut bytes, End::Source, new) {
                prop_assert_eq!(&bytes, &before);
            }
        }
    }

    #[test]
    fn what_has_no_checksum_gets_none() {
        let mut packet = packet(ip(V4[0]), ip(V4[1]), Proto::UDP, b"data");
        packet[26..28].fill(0);
        assert!(set_address(&mut packet, End::Source, ip(V4[2])));
        assert_eq!(packet[26..28], [0, 0]);
    }

    #[test]
    fn a_later_fragment_keeps_its_bytes() {
        let mut packet = ip_packet(ip(V4[0]), ip(V4[1]), Proto::UDP, &[7; 16]).unwrap();
        // Offset 100, in units of eight bytes.
        packet[7] = 100;
        let sum = checksum::of(&[&packet[..10], &[0, 0], &packet[12..20]].concat());
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        assert!(set_address(&mut packet, End::Destination, ip(V4[2])));
        assert_eq!(packet[20..], [7; 16]);
        assert_eq!(checksum::of(&packet[..20]), 0);
    }

    #[test]
    fn families_do_not_mix() {
        let mut packet = packet(ip(V4[0]), ip(V4[1]), Proto::UDP, b"");
        let before = packet.clone();
        assert!(!set_address(&mut packet, End::Source, ip(V6[0])));
        assert_eq!(packet, before);
    }
}
