//! The longest segment that TCP ends tell each other (RFC 9293, 3.7.1), lowered to what a tunnel on the way carries.

use crate::checksum;
use crate::{Fragment, IpView, Proto};

/// The kinds of options that are looked for.
const END: u8 = 0;
const NOTHING: u8 = 1;
const MAX_SEGMENT: u8 = 2;
const TCP_HEADER: usize = 20;
const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;

/// Lowers the longest segment that an opening of a TCP connection tells, so that packets have at most `mtu` bytes. With `mend` the checksum,
/// which was right, is right again; without it the packet's sender has left it to be completed. Says whether anything has changed.
pub fn clamp(packet: &mut [u8], mtu: usize, mend: bool) -> bool {
    let Some((at, told)) = find(packet) else {
        return false;
    };
    let headers = match packet.first().map(|first| first >> 4) {
        Some(4) => V4_HEADER,
        _ => V6_HEADER,
    };
    let most = u16::try_from(mtu.saturating_sub(headers + TCP_HEADER)).unwrap_or(u16::MAX);
    if told <= most {
        return false;
    }
    let Some(sum_at) = IpView::parse(packet)
        .ok()
        .map(|view| view.transport_offset() + 16)
    else {
        return false;
    };
    put(packet, at, most);
    if mend && let Some(sum) = half(packet, sum_at) {
        // An option may begin at an odd place; then its bytes count the other way round.
        let place = |value: u16| match at.is_multiple_of(2) == sum_at.is_multiple_of(2) {
            true => value,
            false => value.swap_bytes(),
        };
        let changed = u64::from(!sum) + u64::from(!place(told)) + u64::from(place(most));
        put(packet, sum_at, checksum::finish(changed));
    }
    true
}

/// Where the option's value is, and what it says.
fn find(packet: &[u8]) -> Option<(usize, u16)> {
    let view = IpView::parse(packet).ok()?;
    let is_opening = view.is(Proto::TCP) && view.tcp_flags().has(crate::TcpFlags::SYN);
    if !is_opening || view.fragment() == Fragment::Later {
        return None;
    }
    let header = view.transport();
    let len = usize::from(*header.get(12)? >> 4) * 4;
    let options = header.get(TCP_HEADER..len)?;
    let mut at = 0;
    loop {
        match *options.get(at)? {
            END => return None,
            NOTHING => at += 1,
            kind => {
                let len = usize::from(*options.get(at + 1)?);
                if kind == MAX_SEGMENT && len == 4 {
                    let value = half(options, at + 2)?;
                    return Some((view.transport_offset() + TCP_HEADER + at + 2, value));
                }
                at += len.max(2);
            }
        }
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(pair.try_into().ok()?))
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// Whether a packet must not be cut into fragments on its way: none of IPv6, and those of IPv4 that say so.
#[must_use]
pub fn is_whole(packet: &[u8]) -> bool {
    const DONT_FRAGMENT: u8 = 0x40;
    match packet.first().map(|first| first >> 4) {
        Some(4) => packet
            .get(6)
            .is_some_and(|flags| flags & DONT_FRAGMENT != 0),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::ip_packet;

    fn opening(v6: bool, options: &[u8], flags: u8) -> Vec<u8> {
        let [src, dst]: [IpAddr; 2] = match v6 {
            false => ["100.64.0.1", "100.64.0.2"].map(|ip| ip.parse().unwrap()),
            true => ["fd7a::1", "fd7a::2"].map(|ip| ip.parse().unwrap()),
        };
        let mut header = vec![0; 20];
        header[..4].copy_from_slice(&[0, 80, 0, 81]);
        header.extend_from_slice(options);
        header.resize(header.len().next_multiple_of(4), 0);
        header[12] = ((header.len() / 4) << 4) as u8;
        header[13] = flags;
        let sum = checksum::pseudo_header(src, dst, Proto::TCP, header.len());
        let sum = checksum::finish(checksum::add(sum, &header));
        header[16..18].copy_from_slice(&sum.to_be_bytes());
        ip_packet(src, dst, Proto::TCP, &header).unwrap()
    }

    fn is_sum_right(packet: &[u8]) -> bool {
        let view = IpView::parse(packet).unwrap();
        let len = view.transport().len();
        let sum = checksum::pseudo_header(view.src(), view.dst(), Proto::TCP, len);
        checksum::finish(checksum::add(sum, view.transport())) == 0
    }

    #[test]
    fn openings_tell_what_the_tunnel_carries() {
        const SYN: u8 = 2;
        for (v6, options, expected) in [
            (false, &[2, 4, 5, 180][..], Some(1216 - 40)),
            (true, &[2, 4, 5, 180], Some(1216 - 60)),
            (false, &[1, 2, 4, 5, 180], Some(1216 - 40)),
            (false, &[4, 2, 2, 4, 5, 180, 1, 3, 3, 7], Some(1216 - 40)),
            (false, &[2, 4, 2, 0], None),
            (false, &[0, 2, 4, 5, 180], None),
            (false, &[2, 3, 5], None),
            (false, &[], None),
        ] {
            let before = opening(v6, options, SYN);
            let mut packet = before.clone();
            assert_eq!(
                clamp(&mut packet, 1216, true),
                expected.is_some(),
                "{options:?}"
            );
            match expected {
                Some(most) => assert_eq!(find(&packet).unwrap().1, most),
                None => assert_eq!(packet, before),
            }
            assert!(is_sum_right(&packet), "{options:?}");
        }
        let mut data = opening(false, &[2, 4, 5, 180], 16);
        assert!(!clamp(&mut data, 1216, true));
    }

    proptest! {
        #[test]
        fn whatever_the_options_are_the_sum_stays_right(
            v6: bool, options in prop::collection::vec(any::<u8>(), 0..40), mtu in 0_usize..2000,
        ) {
            let mut packet = opening(v6, &options, 2);
            let len = packet.len();
            clamp(&mut packet, mtu, true);
            prop_assert!(is_sum_right(&packet));
            prop_assert_eq!(packet.len(), len);
            let again = packet.clone();
            prop_assert!(!clamp(&mut packet, mtu, true));
            prop_assert_eq!(packet, again);
        }

        #[test]
        fn no_bytes_are_too_strange(mut bytes in prop::collection::vec(any::<u8>(), 0..100), mtu: usize) {
            clamp(&mut bytes, mtu, true);
            let _ = is_whole(&bytes);
        }
    }
}
