//! Making IP packets.

use std::net::IpAddr;

use crate::ip::{HEADER4, HEADER6};
use crate::{Proto, checksum};

/// Hop limit of what we make, as the originals'.
const TTL: u8 = 64;

/// An IP packet around `payload`: IPv4 with identification 0 and a valid header checksum, or IPv6 with flow label 0.
/// `None` if the addresses are of different families or the packet would be too long.
pub fn ip_packet(src: IpAddr, dst: IpAddr, proto: Proto, payload: &[u8]) -> Option<Vec<u8>> {
    let mut packet = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let length = u16::try_from(HEADER4 + payload.len()).ok()?;
            let mut header = [0; HEADER4];
            header[0] = 0x45;
            header[2..4].copy_from_slice(&length.to_be_bytes());
            header[8] = TTL;
            header[9] = proto.0;
            header[12..16].copy_from_slice(&src.octets());
            header[16..20].copy_from_slice(&dst.octets());
            let sum = checksum::of(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header.to_vec()
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let length = u16::try_from(payload.len()).ok()?;
            let mut header = [0; HEADER6];
            header[0] = 0x60;
            header[4..6].copy_from_slice(&length.to_be_bytes());
            header[6] = proto.0;
            header[7] = TTL;
            header[8..24].copy_from_slice(&src.octets());
            header[24..40].copy_from_slice(&dst.octets());
            header.to_vec()
        }
        _ => return None,
    };
    packet.extend_from_slice(payload);
    Some(packet)
}
