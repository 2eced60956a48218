//! The checked view of one IP packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An IP protocol number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proto(pub u8);

impl Proto {
    /// ICMP for IPv4.
    pub const ICMP4: Self = Self(1);
    /// IGMP.
    pub const IGMP: Self = Self(2);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// The IPv6 fragment extension header.
    pub const FRAGMENT6: Self = Self(44);
    /// ICMP for IPv6.
    pub const ICMP6: Self = Self(58);
    /// Messages between Tailscale nodes ("any private encryption scheme" in IANA's list).
    pub const TSMP: Self = Self(99);
    /// SCTP.
    pub const SCTP: Self = Self(132);
}

impl std::fmt::Display for Proto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match *self {
            Self::ICMP4 => "ICMPv4",
            Self::IGMP => "IGMP",
            Self::TCP => "TCP",
            Self::UDP => "UDP",
            Self::ICMP6 => "ICMPv6",
            Self::TSMP => "TSMP",
            Self::SCTP => "SCTP",
            Self(n) => return write!(f, "IPProto-{n}"),
        })
    }
}

impl std::fmt::Debug for Proto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Byte 13 of a TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// ACK.
    pub const ACK: u8 = 0x10;

    /// Whether this opens a connection: SYN without ACK.
    pub const fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::ACK) == Self::SYN
    }

    /// Whether all of `bits` are set.
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }
}

/// Whether a packet is a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// A whole packet.
    Whole,
    /// The first fragment: it holds the transport header, and more follow.
    First,
    /// A later fragment, which has no transport header.
    Later,
}

/// Why bytes are not a packet that we handle. The filter drops all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unparsed {
    /// No bytes at all: inside a WireGuard session that is a keepalive.
    Empty,
    /// Shorter than an IP header.
    TooShort,
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// A header that contradicts itself or the length of the buffer.
    Malformed,
    /// The transport header is not whole: a way to smuggle ports past a filter (RFC 1858).
    CutTransport,
    /// A later fragment that could overlay the transport header (RFC 1858).
    OverlappingFragment,
    /// A protocol number that cannot be on the wire (0 and 255), or a fragmented TSMP message.
    BadProtocol,
}

impl std::fmt::Display for Unparsed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty packet",
            Self::TooShort => "packet shorter than its header",
            Self::NotIp => "neither IPv4 nor IPv6",
            Self::Malformed => "malformed IP header",
            Self::CutTransport => "transport header cut off",
            Self::OverlappingFragment => "fragment overlaps the transport header",
            Self::BadProtocol => "impossible protocol",
        })
    }
}

impl std::error::Error for Unparsed {}

/// A packet whose headers have been checked.
///
/// Only the IPv6 fragment extension header is understood; any other extension header is a protocol without ports, as
/// for the originals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpView<'a> {
    bytes: &'a [u8],
    src: IpAddr,
    dst: IpAddr,
    proto: Proto,
    fragment: Fragment,
    transport: usize,
    src_port: u16,
    dst_port: u16,
    tcp_flags: TcpFlags,
}

impl<'a> IpView<'a> {
    /// Reads one packet. Bytes after the packet's own length are ignored: WireGuard pads.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Unparsed> {
        let first = *bytes.first().ok_or(Unparsed::Empty)?;
        if bytes.len() < HEADER4 {
            return Err(Unparsed::TooShort);
        }
        match first >> 4 {
            4 => Self::parse4(bytes),
            6 => Self::parse6(bytes),
            _ => Err(Unparsed::NotIp),
        }
    }

    /// The packet, without padding behind it.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Where it comes from.
    pub fn src(&self) -> IpAddr {
        self.src
    }

    /// Where it goes to.
    pub fn dst(&self) -> IpAddr {
        self.dst
    }

    /// The protocol inside, behind an IPv6 fragment header.
    pub fn proto(&self) -> Proto {
        self.proto
    }

    /// Whether it is a fragment.
    pub fn fragment(&self) -> Fragment {
        self.fragment
    }

    /// The source port of TCP, UDP and SCTP; 0 otherwise.
    pub fn src_port(&self) -> u16 {
        self.src_port
    }

    /// The destination port of TCP, UDP and SCTP; 0 otherwise.
    pub fn dst_port(&self) -> u16 {
        self.dst_port
    }

    /// Source address and port.
    pub fn src_addr(&self) -> SocketAddr {
        SocketAddr::new(self.src, self.src_port)
    }

    /// Destination address and port.
    pub fn dst_addr(&self) -> SocketAddr {
        SocketAddr::new(self.dst, self.dst_port)
    }

    /// The TCP flags; none set where it is not TCP.
    pub fn tcp_flags(&self) -> TcpFlags {
        self.tcp_flags
    }

    /// Whether it opens a TCP connection.
    pub fn is_tcp_syn(&self) -> bool {
        self.is(Proto::TCP) && self.tcp_flags.opens()
    }

    /// Where in [`bytes`](Self::bytes) the transport header (or, in a later fragment, its continuation) begins.
    pub fn transport_offset(&self) -> usize {
        self.transport
    }

    /// The transport header and what follows.
    pub fn transport(&self) -> &'a [u8] {
        self.bytes.get(self.transport..).unwrap_or_default()
    }

    /// What follows the transport header; for protocols whose header we do not know, all behind the IP header.
    pub fn payload(&self) -> &'a [u8] {
        let transport = self.transport();
        if self.fragment == Fragment::Later {
            return transport;
        }
        let skip = match self.proto {
            Proto::TCP => transport
                .get(12)
                .map_or(TCP_HEADER, |b| usize::from(b >> 4) * 4),
            Proto::UDP => UDP_HEADER,
            Proto::ICMP4 | Proto::ICMP6 => ICMP_HEADER,
            Proto::SCTP => SCTP_HEADER,
            _ => 0,
        };
        transport.get(skip..).unwrap_or_default()
    }

    /// Whether the transport header is there and of this protocol.
    pub fn is(&self, proto: Proto) -> bool {
        self.proto == proto && self.fragment != Fragment::Later
    }

    /// The ICMP type and code, of either family, where it is ICMP of the packet's own family.
    pub fn icmp(&self) -> Option<(u8, u8)> {
        let own = match self.src {
            IpAddr::V4(_) => Proto::ICMP4,
            IpAddr::V6(_) => Proto::ICMP6,
        };
        match self.transport() {
            [kind, code, ..] if self.is(own) => Some((*kind, *code)),
            _ => None,
        }
    }

    fn parse4(bytes: &'a [u8]) -> Result<Self, Unparsed> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER4>() else {
            return Err(Unparsed::TooShort);
        };
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let transport = usize::from(header[0] & 0x0f) * 4;
        if transport < HEADER4 || transport > length {
            return Err(Unparsed::Malformed);
        }
        let mut view = Self {
            bytes: bytes.get(..length).ok_or(Unparsed::Malformed)?,
            src: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
            dst: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
            proto: Proto(header[9]),
            fragment: Fragment::Whole,
            transport,
            src_port: 0,
            dst_port: 0,
            tcp_flags: TcpFlags::default(),
        };
        let word = u16::from_be_bytes([header[6], header[7]]);
        view.set_fragment(word & 0x1fff, word & 0x2000 != 0)?;
        view.read_transport()?;
        Ok(view)
    }

    fn parse6(bytes: &'a [u8]) -> Result<Self, Unparsed> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER6>() else {
            return Err(Unparsed::TooShort);
        };
        let length = HEADER6 + usize::from(u16::from_be_bytes([header[4], header[5]]));
        let ip = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&header[at..at + 16]);
            IpAddr::V6(Ipv6Addr::from(octets))
        };
        let mut view = Self {
            bytes: bytes.get(..length).ok_or(Unparsed::Malformed)?,
            src: ip(8),
            dst: ip(24),
            proto: Proto(header[6]),
            fragment: Fragment::Whole,
            transport: HEADER6,
            src_port: 0,
            dst_port: 0,
            tcp_flags: TcpFlags::default(),
        };
        if view.proto == Proto::FRAGMENT6 {
            let rest = view.transport();
            let (fragment, _) = rest.split_first_chunk::<8>().ok_or(Unparsed::Malformed)?;
            view.proto = Proto(fragment[0]);
            view.transport += 8;
            let word = u16::from_be_bytes([fragment[2], fragment[3]]);
            view.set_fragment(word >> 3, word & 1 != 0)?;
        }
        view.read_transport()?;
        Ok(view)
    }

    fn set_fragment(&mut self, offset_blocks: u16, more: bool) -> Result<(), Unparsed> {
        self.fragment = match (offset_blocks, more) {
            (0, false) => Fragment::Whole,
            (0, true) => Fragment::First,
            (1..MIN_FRAGMENT_BLOCKS, _) => return Err(Unparsed::OverlappingFragment),
            (_, _) => Fragment::Later,
        };
        Ok(())
    }

    fn read_transport(&mut self) -> Result<(), Unparsed> {
        if self.fragment == Fragment::Later {
            return Ok(());
        }
        let transport = self.transport();
        // ICMP of the other family is a protocol without ports, as for the originals.
        let need = match (self.proto, self.src) {
            (Proto(0 | 255), _) => return Err(Unparsed::BadProtocol),
            (Proto::TSMP, _) if self.fragment == Fragment::First => {
                return Err(Unparsed::BadProtocol);
            }
            (Proto::ICMP4, IpAddr::V4(_)) | (Proto::ICMP6, IpAddr::V6(_)) => ICMP_HEADER,
            (Proto::IGMP, IpAddr::V4(_)) => IGMP_HEADER,
            (Proto::TCP, _) => TCP_HEADER,
            (Proto::UDP, _) => UDP_HEADER,
            (Proto::SCTP, _) => SCTP_HEADER,
            (Proto::TSMP, _) => TSMP_MIN,
            _ => return Ok(()),
        };
        if transport.len() < need {
            return Err(Unparsed::CutTransport);
        }
        if matches!(self.proto, Proto::TCP | Proto::UDP | Proto::SCTP)
            && let Some(ports) = transport.first_chunk::<4>()
        {
            self.src_port = u16::from_be_bytes([ports[0], ports[1]]);
            self.dst_port = u16::from_be_bytes([ports[2], ports[3]]);
        }
        if self.proto == Proto::TCP
            && let Some(flags) = transport.get(13)
        {
            self.tcp_flags = TcpFlags(*flags);
        }
        Ok(())
    }
}

pub(crate) const HEADER4: usize = 20;
pub(crate) const HEADER6: usize = 40;
const ICMP_HEADER: usize = 4;
const IGMP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const SCTP_HEADER: usize = 12;
const TSMP_MIN: usize = 7;
/// A later fragment must start behind the longest IP header and the shortest TCP header: (60 + 20) / 8.
const MIN_FRAGMENT_BLOCKS: u16 = 10;

#[cfg(test)]
mod tests;
