//! The Internet checksum (RFC 1071) and the pseudo headers that go into it.

use std::net::IpAddr;

use crate::Proto;

/// Adds `bytes` to a running one's complement sum. A slice of odd length is padded with a zero byte, so only the last
/// slice of a sum may be odd.
pub fn add(sum: u64, bytes: &[u8]) -> u64 {
    sum + u64::from(u16::from_be_bytes(native(bytes).to_ne_bytes()))
}

/// The sum in the machine's byte order, which is the same sum with its bytes swapped (RFC 1071, 2 B).
fn native(bytes: &[u8]) -> u16 {
    // Independent lanes, so that no addition waits for the one before.
    let mut lanes = [0u128; 4];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u128::from(u64::from_ne_bytes(*word));
        }
    }
    let [mut sum, b, c, d] = lanes;
    sum += b + c + d;
    let (pairs, odd) = rest.as_chunks::<2>();
    for pair in pairs {
        sum += u128::from(u16::from_ne_bytes(*pair));
    }
    if let [byte] = odd {
        sum += u128::from(u16::from_ne_bytes([*byte, 0]));
    }
    while sum > 0xffff {
        sum = (sum & u128::from(u64::MAX)) + (sum >> 64);
        sum = (sum & 0xffff_ffff) + (sum >> 32);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Folds a running sum to the 16-bit checksum (complemented).
pub fn finish(sum: u64) -> u16 {
    let mut sum = sum;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The checksum of one slice. Zero if the slice holds its own valid checksum.
pub fn of(bytes: &[u8]) -> u16 {
    finish(add(0, bytes))
}

/// The sum of the pseudo header of RFC 9293 3.1 (IPv4) or RFC 8200 8.1 (IPv6), to be continued with [`add`] over the
/// transport header and payload.
pub fn pseudo_header(src: IpAddr, dst: IpAddr, proto: Proto, transport_len: usize) -> u64 {
    let mut sum = 0;
    for ip in [src, dst] {
        sum = match ip {
            IpAddr::V4(ip) => add(sum, &ip.octets()),
            IpAddr::V6(ip) => add(sum, &ip.octets()),
        };
    }
    sum + u64::from(proto.0) + transport_len as u64
}
