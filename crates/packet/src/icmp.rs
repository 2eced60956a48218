//! ICMP for both families: echo, and the errors that a router sends (RFC 792, 4443).

use std::net::IpAddr;

use crate::{Fragment, IpView, Proto, checksum, ip_packet};

/// An echo request or reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo<'a> {
    /// Whether it is the reply.
    pub reply: bool,
    /// Chosen by the asker.
    pub id: u16,
    /// Chosen by the asker.
    pub seq: u16,
    /// Comes back unchanged.
    pub data: &'a [u8],
}

impl<'a> Echo<'a> {
    /// Reads an echo message; `None` if the packet is none. The checksum is not looked at.
    pub fn parse(view: &IpView<'a>) -> Option<Self> {
        let reply = match (view.src(), view.icmp()?) {
            (IpAddr::V4(_), (8, 0)) | (IpAddr::V6(_), (128, 0)) => false,
            (IpAddr::V4(_), (0, 0)) | (IpAddr::V6(_), (129, 0)) => true,
            _ => return None,
        };
        let (head, data) = view.transport().split_first_chunk::<8>()?;
        Some(Self {
            reply,
            id: u16::from_be_bytes([head[4], head[5]]),
            seq: u16::from_be_bytes([head[6], head[7]]),
            data,
        })
    }

    /// The packet. `None` if the addresses are of different families or the data too long.
    pub fn packet(&self, src: IpAddr, dst: IpAddr) -> Option<Vec<u8>> {
        let kind = match (src, self.reply) {
            (IpAddr::V4(_), false) => 8,
            (IpAddr::V4(_), true) => 0,
            (IpAddr::V6(_), false) => 128,
            (IpAddr::V6(_), true) => 129,
        };
        let [a, b] = self.id.to_be_bytes();
        let [c, d] = self.seq.to_be_bytes();
        message(src, dst, [kind, 0], [a, b, c, d], self.data)
    }
}

/// What a router has to say about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Nobody there knows the way (network unreachable; no route).
    NoRoute,
    /// The destination does not answer.
    HostUnreachable,
    /// No listener.
    PortUnreachable,
    /// A firewall says no.
    Prohibited,
    /// Longer than the next link allows; the limit in bytes.
    TooBig(u16),
    /// The hop limit has run out.
    TimeExceeded,
}

/// The error message about `about`, from `from` to its sender. `None` where RFC 1122 3.2.2 forbids one: about an ICMP
/// error, a later fragment, or a packet to or from other than one host.
pub fn error(about: &IpView<'_>, from: IpAddr, error: Error) -> Option<Vec<u8>> {
    let to = about.src();
    if about.fragment() == Fragment::Later
        || is_error(about)
        || about.dst().is_multicast()
        || to.is_multicast()
        || to.is_unspecified()
    {
        return None;
    }
    let v4 = to.is_ipv4();
    let head = match (error, v4) {
        (Error::NoRoute, true) => [3, 0],
        (Error::HostUnreachable, true) => [3, 1],
        (Error::PortUnreachable, true) => [3, 3],
        (Error::TooBig(_), true) => [3, 4],
        (Error::Prohibited, true) => [3, 13],
        (Error::TimeExceeded, true) => [11, 0],
        (Error::NoRoute, false) => [1, 0],
        (Error::Prohibited, false) => [1, 1],
        (Error::HostUnreachable, false) => [1, 3],
        (Error::PortUnreachable, false) => [1, 4],
        (Error::TooBig(_), false) => [2, 0],
        (Error::TimeExceeded, false) => [3, 0],
    };
    // The MTU is the low half of the word in IPv4 (RFC 1191) and the whole word in IPv6: the same bytes for 16 bits.
    let word = match error {
        Error::TooBig(mtu) => u32::from(mtu).to_be_bytes(),
        _ => [0; 4],
    };
    // RFC 1812 4.3.2.3: at most 576 bytes in all; RFC 4443 2.4: at most 1280.
    let limit = if v4 { 576 - 28 } else { 1280 - 48 };
    let quoted = about.bytes().get(..limit).unwrap_or_else(|| about.bytes());
    message(from, to, head, word, quoted)
}

/// Whether this is an ICMP error message, which reports on another packet.
///
/// Compat: the originals take IPv4 type 18 for "parameter problem", which is 12 (RFC 792); only 12 counts here.
pub fn is_error(view: &IpView<'_>) -> bool {
    // An error quotes a packet, so its own header is 8 bytes.
    if view.transport().len() < 8 {
        return false;
    }
    match (view.src(), view.icmp()) {
        (IpAddr::V4(_), Some((kind, _))) => matches!(kind, 3 | 11 | 12),
        (IpAddr::V6(_), Some((kind, _))) => matches!(kind, 1..=4),
        _ => false,
    }
}

/// Whether this is an echo reply.
pub fn is_echo_reply(view: &IpView<'_>) -> bool {
    Echo::parse(view).is_some_and(|echo| echo.reply)
}

fn message(
    src: IpAddr,
    dst: IpAddr,
    [kind, code]: [u8; 2],
    word: [u8; 4],
    data: &[u8],
) -> Option<Vec<u8>> {
    let mut body = Vec::with_capacity(8 + data.len());
    body.extend_from_slice(&[kind, code, 0, 0]);
    body.extend_from_slice(&word);
    body.extend_from_slice(data);
    let (proto, start) = match src {
        IpAddr::V4(_) => (Proto::ICMP4, 0),
        IpAddr::V6(_) => (
            Proto::ICMP6,
            checksum::pseudo_header(src, dst, Proto::ICMP6, body.len()),
        ),
    };
    let sum = checksum::finish(checksum::add(start, &body));
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    ip_packet(src, dst, proto, &body)
}

#[cfg(test)]
mod tests;
