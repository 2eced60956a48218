//! Explicit congestion notification, for tunnels (RFC 6040).

use crate::offload::{get16, put16};

const ECN: u8 = 3;
/// Congestion was met on the way.
const CONGESTED: u8 = 3;

/// The ECN field of an IP packet, which the packet around it gets too (4.1, normal mode).
pub fn of(packet: &[u8]) -> u8 {
    match packet {
        [first, second, ..] if first >> 4 == 6 => (second >> 4) & ECN,
        [_, tos, ..] => tos & ECN,
        _ => 0,
    }
}

/// Tells a packet's receiver that the packet around it met congestion (4.2). `false` if it does not understand that: then the
/// packet must be dropped, which every sender understands.
pub fn mark_congested(packet: &mut [u8]) -> bool {
    if of(packet) == 0 {
        return false;
    }
    match packet {
        [first, second, ..] if *first >> 4 == 6 => *second |= CONGESTED << 4,
        [first, tos, ..] => {
            let before = u16::from_be_bytes([*first, *tos]);
            *tos |= CONGESTED;
            let after = u16::from_be_bytes([*first, *tos]);
            // RFC 1624, 3: HC' = ~(~HC + ~m + m').
            let sum = u32::from(!get16(packet, 10)) + u32::from(!before) + u32::from(after);
            let sum = (sum & 0xffff) + (sum >> 16);
            put16(packet, 10, !((sum & 0xffff) + (sum >> 16)) as u16);
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum;

    #[test]
    fn congestion_reaches_who_understands_it() {
        let mut v4 = [0u8; 20];
        v4[0] = 0x45;
        v4[8] = 64;
        for tos in 0..=255u8 {
            v4[1] = tos;
            put16(&mut v4, 10, 0);
            let sum = checksum::of(&v4);
            put16(&mut v4, 10, sum);
            let mut packet = v4;
            assert_eq!(mark_congested(&mut packet), tos & 3 != 0);
            if tos & 3 != 0 {
                assert_eq!(packet[1], tos | 3);
            }
            assert_eq!(checksum::of(&packet), 0, "{tos}");
            let mut v6 = [0x60 | tos >> 4, tos << 4, 0, 0];
            assert_eq!(of(&v6), tos & 3);
            assert_eq!(mark_congested(&mut v6), tos & 3 != 0);
            if tos & 3 != 0 {
                assert_eq!(v6[1], (tos | 3) << 4);
            }
        }
        assert!(!mark_congested(&mut []));
    }
}
