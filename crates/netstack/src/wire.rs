//! Writing IP packets into a reused buffer.

use std::net::{IpAddr, SocketAddr};

use packet::offload::{Csum, Gso, GsoKind};
use packet::{Proto, checksum};

use crate::tcp::segment::Segment;

const TTL: u8 = 64;
/// "Don't fragment": whatever carries our packets must say so if they are too long.
const DONT_FRAGMENT: u8 = 0x40;
pub(crate) const UDP_HEADER: usize = 8;

/// Bytes of the IP header of packets from and to this address.
pub(crate) fn ip_header_len(ip: IpAddr) -> usize {
    match ip {
        IpAddr::V4(_) => 20,
        IpAddr::V6(_) => 40,
    }
}

/// Replaces `out` by a TCP packet. `append` adds the payload.
pub(crate) fn tcp(
    local: SocketAddr,
    remote: SocketAddr,
    segment: &Segment<'_>,
    append: impl FnOnce(&mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    let start = begin(local.ip(), remote.ip(), Proto::TCP, out);
    segment.write_header(local.port(), remote.port(), out);
    append(out);
    finish(local.ip(), remote.ip(), Proto::TCP, start, 16, out);
}

/// Replaces `out` by a super-packet of TCP: its checksum is that of the pseudo header, for whoever splits it to go on. Tells how
/// it is made.
pub(crate) fn tcp_super(
    local: SocketAddr,
    remote: SocketAddr,
    segment: &Segment<'_>,
    size: usize,
    append: impl FnOnce(&mut Vec<u8>),
    out: &mut Vec<u8>,
) -> (Gso, Csum) {
    let start = begin(local.ip(), remote.ip(), Proto::TCP, out);
    segment.write_header(local.port(), remote.port(), out);
    let headers = out.len();
    append(out);
    finish_lengths(start, out);
    let sum = checksum::pseudo_header(local.ip(), remote.ip(), Proto::TCP, out.len() - start);
    if let Some(field) = out.get_mut(start + 16..start + 18) {
        field.copy_from_slice(&(!checksum::finish(sum)).to_be_bytes());
    }
    let gso = Gso {
        kind: match local.is_ipv4() {
            true => GsoKind::Tcp4,
            false => GsoKind::Tcp6,
        },
        hdr_len: headers as u16,
        size: u16::try_from(size).unwrap_or(u16::MAX),
    };
    let csum = Csum::Partial {
        start: start as u16,
        offset: 16,
    };
    (gso, csum)
}

/// Replaces `out` by a UDP packet.
pub(crate) fn udp(local: SocketAddr, remote: SocketAddr, payload: &[u8], out: &mut Vec<u8>) {
    let start = begin(local.ip(), remote.ip(), Proto::UDP, out);
    let length = (UDP_HEADER + payload.len()) as u16;
    out.extend_from_slice(&local.port().to_be_bytes());
    out.extend_from_slice(&remote.port().to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(payload);
    finish(local.ip(), remote.ip(), Proto::UDP, start, 6, out);
    // RFC 768: zero means "no checksum".
    if let Some(sum) = out.get_mut(start + 6..start + 8)
        && *sum == [0, 0]
    {
        sum.copy_from_slice(&[0xff, 0xff]);
    }
}

/// Writes the IP header with its length missing; tells where the transport header starts.
fn begin(src: IpAddr, dst: IpAddr, proto: Proto, out: &mut Vec<u8>) -> usize {
    out.clear();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            out.extend_from_slice(&[0x45, 0, 0, 0, 0, 0, DONT_FRAGMENT, 0, TTL, proto.0, 0, 0]);
            out.extend_from_slice(&src.octets());
            out.extend_from_slice(&dst.octets());
        }
        (src, dst) => {
            out.extend_from_slice(&[0x60, 0, 0, 0, 0, 0, proto.0, TTL]);
            for ip in [src, dst] {
                match ip {
                    IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
                    IpAddr::V4(ip) => out.extend_from_slice(&ip.to_ipv6_mapped().octets()),
                }
            }
        }
    }
    out.len()
}

/// Fills in the lengths and checksums.
fn finish(src: IpAddr, dst: IpAddr, proto: Proto, start: usize, sum_at: usize, out: &mut [u8]) {
    let (_, transport) = out.split_at_mut(start);
    let sum = checksum::pseudo_header(src, dst, proto, transport.len());
    let sum = checksum::finish(checksum::add(sum, transport));
    if let Some(field) = transport.get_mut(sum_at..sum_at + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    finish_lengths(start, out);
}

/// Fills in the IP header's length and checksum.
fn finish_lengths(start: usize, out: &mut [u8]) {
    let (header, transport) = out.split_at_mut(start);
    if let Ok(header) = <&mut [u8; 20]>::try_from(&mut *header) {
        let total = (start + transport.len()) as u16;
        header[2..4].copy_from_slice(&total.to_be_bytes());
        let sum = checksum::of(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    } else if let Some(field) = header.get_mut(4..6) {
        field.copy_from_slice(&(transport.len() as u16).to_be_bytes());
    }
}

/// Whether the transport checksum of a packet holds. A UDP packet over IPv4 may have none.
pub(crate) fn checksum_holds(view: &packet::IpView<'_>, transport: &[u8]) -> bool {
    let sum = match view.proto() {
        Proto::ICMP4 => 0,
        Proto::UDP if view.src().is_ipv4() && transport.get(6..8) == Some(&[0, 0]) => return true,
        Proto::UDP if transport.get(6..8) == Some(&[0, 0]) => return false,
        proto => checksum::pseudo_header(view.src(), view.dst(), proto, transport.len()),
    };
    checksum::finish(checksum::add(sum, transport)) == 0
}

/// Whether the IPv4 header's checksum holds; IPv6 has none.
pub(crate) fn header_holds(view: &packet::IpView<'_>) -> bool {
    view.src().is_ipv6()
        || view
            .bytes()
            .get(..view.transport_offset())
            .is_some_and(|header| checksum::of(header) == 0)
}
