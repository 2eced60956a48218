//! From one super-packet to its packets.

use super::{
    CHECKSUM4, Csum, DATA_OFFSET, FLAG_CWR, FLAG_FIN, FLAG_PSH, FLAGS, Gso, GsoKind, ID4,
    IP6_HEADER, LENGTH4, LENGTH6, MAX_HEADERS, SEQUENCE, TCP_CHECKSUM, TCP_HEADER, UDP_CHECKSUM,
    UDP_HEADER, UDP_LENGTH, finish_ip4, get16, get32, pseudo, put16,
};
use crate::checksum;

/// Why something is not the super-packet that it claims to be. It must be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BadGso {
    /// Segments would have no length.
    NoSize,
    /// The checksum is not left to us, or it is for another place than the transport header.
    Checksum,
    /// The headers are cut, contradict each other, or are not those of the claimed kind.
    Headers,
    /// There is nothing behind the headers.
    NoPayload,
}

impl std::fmt::Display for BadGso {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoSize => "super-packet without a segment size",
            Self::Checksum => "super-packet with a checksum that is not where it belongs",
            Self::Headers => "super-packet with headers of another kind",
            Self::NoPayload => "super-packet without payload",
        })
    }
}

impl std::error::Error for BadGso {}

/// Gives the packets of a super-packet, one after the other.
///
/// Each is put together in place: its headers are written in front of its payload, over the end of the packet before, which is
/// therefore to be done with by then.
pub struct Splitter<'a> {
    bytes: &'a mut [u8],
    headers: [u8; MAX_HEADERS],
    /// Bytes of all headers, and where the transport header starts.
    headers_len: usize,
    transport: usize,
    is_tcp: bool,
    is_v4: bool,
    size: usize,
    /// The next payload.
    next: usize,
    sequence: u32,
    id: u16,
    flags: u8,
    /// What is the same in the checksum of all: the pseudo header without its length.
    base_sum: u64,
}

impl<'a> Splitter<'a> {
    /// Looks at a super-packet. Its kernel has left the checksum to us, and says by that where the transport header starts;
    /// its own length of the headers is not believed.
    pub fn new(bytes: &'a mut [u8], gso: Gso, csum: Csum) -> Result<Self, BadGso> {
        let is_tcp = match gso.kind {
            GsoKind::Tcp4 | GsoKind::Tcp6 => true,
            GsoKind::Udp => false,
            GsoKind::None => return Err(BadGso::NoSize),
        };
        let size = usize::from(gso.size);
        if size == 0 {
            return Err(BadGso::NoSize);
        }
        let Csum::Partial { start, offset } = csum else {
            return Err(BadGso::Checksum);
        };
        let transport = usize::from(start);
        let (is_v4, protocol) = match bytes.first().map(|first| first >> 4) {
            Some(4) if gso.kind != GsoKind::Tcp6 => (true, bytes.get(9).copied()),
            // Whatever extensions there are, they are repeated as they stand.
            Some(6) if gso.kind != GsoKind::Tcp4 => (false, None),
            _ => return Err(BadGso::Headers),
        };
        let ip_len = match is_v4 {
            true => usize::from(bytes.first().map_or(0, |first| first & 15)) * 4,
            false => transport.max(IP6_HEADER),
        };
        let (wanted, place, least) = match is_tcp {
            true => (6, TCP_CHECKSUM, TCP_HEADER),
            false => (17, UDP_CHECKSUM, UDP_HEADER),
        };
        if usize::from(offset) != place || ip_len != transport || ip_len < 20 {
            return Err(BadGso::Checksum);
        }
        if protocol.is_some_and(|protocol| protocol != wanted) {
            return Err(BadGso::Headers);
        }
        let transport_len = match is_tcp {
            true => bytes
                .get(transport + DATA_OFFSET)
                .map_or(0, |byte| usize::from(byte >> 4) * 4),
            false => UDP_HEADER,
        };
        let headers_len = transport + transport_len;
        if transport_len < least || headers_len > MAX_HEADERS || bytes.len() < headers_len {
            return Err(BadGso::Headers);
        }
        if bytes.len() == headers_len {
            return Err(BadGso::NoPayload);
        }
        let mut headers = [0; MAX_HEADERS];
        headers[..headers_len].copy_from_slice(&bytes[..headers_len]);
        put16(&mut headers, transport + place, 0);
        Ok(Self {
            base_sum: pseudo(&headers, wanted, 0),
            sequence: get32(&headers, transport + SEQUENCE),
            id: get16(&headers, ID4),
            flags: headers[transport + FLAGS.min(transport_len - 1)],
            bytes,
            headers,
            headers_len,
            transport,
            is_tcp,
            is_v4,
            size,
            next: headers_len,
        })
    }

    /// How many packets are still to come.
    pub fn count(&self) -> usize {
        self.bytes
            .len()
            .saturating_sub(self.next)
            .div_ceil(self.size)
    }

    /// How long the longest packet is.
    pub fn max_len(&self) -> usize {
        self.headers_len + self.size.min(self.bytes.len() - self.headers_len)
    }

    /// The next packet. It is valid until the one after it is asked for.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator could not lend its own buffer"
    )]
    pub fn next(&mut self) -> Option<&mut [u8]> {
        let payload = self.next;
        if payload >= self.bytes.len() {
            return None;
        }
        let end = (payload + self.size).min(self.bytes.len());
        let is_last = end == self.bytes.len();
        self.next = end;
        let len = end - payload;
        self.write_ip(len);
        let sum = self.write_transport(len, is_last);
        let place = match self.is_tcp {
            true => TCP_CHECKSUM,
            false => UDP_CHECKSUM,
        };
        let sum = checksum::add(sum, self.bytes.get(payload..end)?);
        let sum = match (checksum::finish(sum), self.is_tcp) {
            // Zero would mean that there is none.
            (0, false) => 0xffff,
            (sum, _) => sum,
        };
        put16(&mut self.headers, self.transport + place, sum);
        let packet = self.bytes.get_mut(payload - self.headers_len..end)?;
        packet
            .get_mut(..self.headers_len)?
            .copy_from_slice(self.headers.get(..self.headers_len)?);
        Some(packet)
    }

    fn write_ip(&mut self, payload: usize) {
        let total = self.headers_len + payload;
        if self.is_v4 {
            // A length of a super-packet fits 16 bits, or the kernel would not have made it.
            put16(&mut self.headers, LENGTH4, total as u16);
            put16(&mut self.headers, ID4, self.id);
            self.id = self.id.wrapping_add(1);
            put16(&mut self.headers, CHECKSUM4, 0);
            let transport = self.transport;
            finish_ip4(&mut self.headers[..transport]);
        } else {
            put16(&mut self.headers, LENGTH6, (total - IP6_HEADER) as u16);
        }
    }

    /// Gives the sum of all but the payload.
    fn write_transport(&mut self, payload: usize, is_last: bool) -> u64 {
        let at = self.transport;
        if self.is_tcp {
            if let Some(place) = self.headers.get_mut(at + SEQUENCE..at + SEQUENCE + 4) {
                place.copy_from_slice(&self.sequence.to_be_bytes());
            }
            let is_first = self.next - payload == self.headers_len;
            let mut flags = self.flags;
            if !is_last {
                flags &= !(FLAG_FIN | FLAG_PSH);
            }
            if !is_first {
                flags &= !FLAG_CWR;
            }
            self.headers[at + FLAGS] = flags;
            self.sequence = self.sequence.wrapping_add(payload as u32);
            put16(&mut self.headers, at + TCP_CHECKSUM, 0);
        } else {
            put16(
                &mut self.headers,
                at + UDP_LENGTH,
                (UDP_HEADER + payload) as u16,
            );
            put16(&mut self.headers, at + UDP_CHECKSUM, 0);
        }
        let transport_len = self.headers_len - at + payload;
        let header = &self.headers[at..self.headers_len];
        checksum::add(self.base_sum + transport_len as u64, header)
    }
}

/// Completes the checksum of a packet that its sender's kernel has left to its device. `false` if it lies outside.
pub fn complete(packet: &mut [u8], csum: Csum) -> bool {
    let Csum::Partial { start, offset } = csum else {
        return true;
    };
    let (start, place) = (usize::from(start), usize::from(start) + usize::from(offset));
    let Some(pair) = packet.get(place..place + 2) else {
        return false;
    };
    let partial = u64::from(u16::from_be_bytes([pair[0], pair[1]]));
    put16(packet, place, 0);
    let sum = checksum::add(partial, packet.get(start..).unwrap_or_default());
    let sum = match checksum::finish(sum) {
        // For UDP zero would mean that there is none; for TCP the two are the same number.
        0 => 0xffff,
        sum => sum,
    };
    put16(packet, place, sum);
    true
}
