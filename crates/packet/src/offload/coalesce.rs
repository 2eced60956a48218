//! From packets to super-packets.

use std::ops::Range;

use super::{
    Csum, DATA_OFFSET, FLAG_ACK, FLAG_PSH, FLAGS, Gso, GsoKind, ID4, IP6_HEADER, LENGTH4, LENGTH6,
    MAX_LEN, MAX_SEGMENTS, SEQUENCE, TCP_CHECKSUM, TCP_HEADER, UDP_CHECKSUM, UDP_HEADER,
    UDP_LENGTH, finish_ip4, get16, get32, pseudo, put16,
};
use crate::checksum;

/// How far back a packet's flow is looked for among the runs of a batch.
const LOOK_BACK: usize = 8;

/// What the kernel takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Super-packets of TCP.
    pub tcp: bool,
    /// Super-packets of UDP.
    pub udp: bool,
}

/// Packets of one flow that go as one, or a single packet of any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Its segmentation, if it is more than one packet.
    pub gso: Gso,
    /// Its checksum.
    pub csum: Csum,
    /// Which pieces of the buffer, in order: see [`Coalescer::pieces`].
    first_piece: usize,
    pieces: usize,
    /// How long the pieces are together.
    len: usize,
    shape: Shape,
}

/// What the next packet of a run must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// No packet can be added.
    Closed,
    Open {
        is_v4: bool,
        is_tcp: bool,
        transport: usize,
        headers: usize,
        next_sequence: u32,
        /// The checksum of the first packet was looked at.
        is_verified: bool,
    },
}

/// Collects the packets of one batch. All of them lie in one buffer, which is given to each call; nothing is copied.
///
/// Packets of one flow keep their order; flows may overtake each other.
#[derive(Debug, Default)]
pub struct Coalescer {
    limits: Limits,
    runs: Vec<Run>,
    pieces: Vec<(usize, Range<usize>)>,
}

impl Coalescer {
    /// An empty batch.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Forgets the batch; keeps its memory.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.pieces.clear();
    }

    /// Lets nothing continue what is in it: what comes next is another sender's.
    pub fn close(&mut self) {
        for run in &mut self.runs {
            run.shape = Shape::Closed;
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// What the kernel takes, as it is known now.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Adds a packet to a run of its flow that it continues; `false` if there is none. Then nothing is known about it, and it
    /// must be looked at as a whole before [`start`](Self::start).
    ///
    /// What continues a run agrees with its first packet in everything that a filter looks at.
    pub fn extend(&mut self, buf: &mut [u8], packet: Range<usize>) -> bool {
        let Some(bytes) = buf.get(packet.clone()) else {
            return false;
        };
        let Some(headers) = Headers::of(bytes) else {
            return false;
        };
        // A later run of the same flow hides the earlier ones.
        let found = self
            .runs
            .iter()
            .enumerate()
            .rev()
            .take(LOOK_BACK)
            .find(|(_, run)| {
                let first = self.first_packet(run).and_then(|range| buf.get(range));
                first.is_some_and(|first| same_flow(first, bytes))
            });
        let Some((at, run)) = found else {
            return false;
        };
        let Some(first) = self.first_packet(run) else {
            return false;
        };
        if !continues(run, buf, first.clone(), packet.clone(), &headers) {
            return false;
        }
        self.append(at, buf, first, packet, &headers);
        true
    }

    /// Adds a packet as the first of a run.
    pub fn start(&mut self, buf: &[u8], packet: Range<usize>) {
        let bytes = buf.get(packet.clone()).unwrap_or_default();
        let headers = Headers::of(bytes);
        let len = headers
            .as_ref()
            .map_or_else(|| packet.len(), |headers| headers.total);
        let wanted = |headers: &&Headers| match headers.is_tcp {
            true => self.limits.tcp && headers.flags == FLAG_ACK,
            false => self.limits.udp && get16(bytes, headers.transport + UDP_CHECKSUM) != 0,
        };
        let shape = headers
            .as_ref()
            .filter(wanted)
            .map_or(Shape::Closed, |headers| Shape::Open {
                is_v4: headers.is_v4,
                is_tcp: headers.is_tcp,
                transport: headers.transport,
                headers: headers.len,
                next_sequence: headers.sequence.wrapping_add(headers.payload() as u32),
                is_verified: false,
            });
        let size = headers.as_ref().map_or(0, Headers::payload);
        self.runs.push(Run {
            gso: Gso {
                kind: GsoKind::None,
                hdr_len: 0,
                size: u16::try_from(size).unwrap_or(u16::MAX),
            },
            csum: Csum::Full,
            first_piece: self.pieces.len(),
            pieces: 1,
            len,
            shape,
        });
        self.pieces
            .push((self.runs.len() - 1, packet.start..packet.start + len));
    }

    /// Writes the headers of what has become super-packets. Call it once, before [`runs`](Self::runs).
    pub fn finish(&mut self, buf: &mut [u8]) {
        // Pieces of one run lie together from now on, in their order.
        self.pieces.sort_by_key(|(run, _)| *run);
        let mut at = 0;
        for run in &mut self.runs {
            run.first_piece = at;
            at += run.pieces;
            let Some((_, first)) = self.pieces.get(run.first_piece) else {
                continue;
            };
            if run.pieces > 1 {
                finish_headers(run, buf, first.start);
            }
        }
    }

    /// The runs, in order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Where the bytes of a run are.
    pub fn pieces(&self, run: &Run) -> impl Iterator<Item = Range<usize>> + '_ {
        let pieces = self
            .pieces
            .get(run.first_piece..run.first_piece + run.pieces);
        pieces
            .unwrap_or_default()
            .iter()
            .map(|(_, range)| range.clone())
    }

    fn first_packet(&self, run: &Run) -> Option<Range<usize>> {
        self.pieces
            .get(run.first_piece)
            .map(|(_, range)| range.clone())
    }

    fn append(
        &mut self,
        at: usize,
        buf: &mut [u8],
        first: Range<usize>,
        packet: Range<usize>,
        headers: &Headers,
    ) {
        let Some(run) = self.runs.get_mut(at) else {
            return;
        };
        let payload = packet.start + headers.len..packet.start + headers.total;
        let len = payload.len();
        run.pieces += 1;
        run.len += len;
        run.gso.kind = match (headers.is_tcp, headers.is_v4) {
            (true, true) => GsoKind::Tcp4,
            (true, false) => GsoKind::Tcp6,
            (false, _) => GsoKind::Udp,
        };
        run.gso.hdr_len = headers.len as u16;
        run.csum = Csum::Partial {
            start: headers.transport as u16,
            offset: match headers.is_tcp {
                true => TCP_CHECKSUM as u16,
                false => UDP_CHECKSUM as u16,
            },
        };
        let is_pushed = headers.is_tcp && headers.flags & FLAG_PSH != 0;
        if is_pushed && let Some(flags) = buf.get_mut(first.start + headers.transport + FLAGS) {
            *flags |= FLAG_PSH;
        }
        if is_pushed || len < usize::from(run.gso.size) || run.pieces == MAX_SEGMENTS {
            run.shape = Shape::Closed;
        } else if let Shape::Open {
            next_sequence,
            is_verified,
            ..
        } = &mut run.shape
        {
            *next_sequence = next_sequence.wrapping_add(len as u32);
            *is_verified = true;
        }
        self.pieces.push((at, payload));
    }
}

impl Run {
    /// How long it is.
    #[expect(clippy::len_without_is_empty, reason = "no run is empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// How many packets it is.
    pub fn packets(&self) -> usize {
        self.pieces
    }
}

/// What matters of a packet's headers: TCP or UDP in a whole packet without IPv6 extensions, or IPv4 fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Headers {
    is_v4: bool,
    is_tcp: bool,
    transport: usize,
    /// Bytes of all headers.
    len: usize,
    /// Bytes of the packet, without padding behind it.
    total: usize,
    sequence: u32,
    flags: u8,
}

impl Headers {
    /// `None` for what can be no part of a super-packet.
    fn of(bytes: &[u8]) -> Option<Self> {
        let first = *bytes.first()?;
        let (is_v4, transport, total, protocol) = match first >> 4 {
            4 => {
                let is_whole = get16(bytes, 6) & 0x3fff == 0;
                let transport = usize::from(first & 15) * 4;
                let protocol = *bytes.get(9).filter(|_| is_whole && transport >= 20)?;
                (
                    true,
                    transport,
                    usize::from(get16(bytes, LENGTH4)),
                    protocol,
                )
            }
            6 => {
                let total = IP6_HEADER + usize::from(get16(bytes, LENGTH6));
                (false, IP6_HEADER, total, *bytes.get(6)?)
            }
            _ => return None,
        };
        let is_tcp = match protocol {
            6 => true,
            17 => false,
            _ => return None,
        };
        let transport_len = match is_tcp {
            true => usize::from(bytes.get(transport + DATA_OFFSET)? >> 4) * 4,
            false => UDP_HEADER,
        };
        let least = if is_tcp { TCP_HEADER } else { UDP_HEADER };
        let len = transport + transport_len;
        if transport_len < least || len >= total || total > bytes.len() {
            return None;
        }
        let udp_len = usize::from(get16(bytes, transport + UDP_LENGTH));
        if !is_tcp && udp_len != total - transport {
            return None;
        }
        Some(Self {
            is_v4,
            is_tcp,
            transport,
            len,
            total,
            sequence: get32(bytes, transport + SEQUENCE),
            flags: match is_tcp {
                true => *bytes.get(transport + FLAGS)?,
                false => 0,
            },
        })
    }

    fn payload(&self) -> usize {
        self.total - self.len
    }
}

/// Whether two packets have the same addresses, protocol and ports, as far as they have them at the usual places.
fn same_flow(a: &[u8], b: &[u8]) -> bool {
    let (Some(first), Some(other)) = (a.first(), b.first()) else {
        return false;
    };
    if first != other {
        return false;
    }
    let (protocol, addresses, transport) = match first >> 4 {
        4 => (9, 12..20, usize::from(first & 15) * 4),
        _ => (6, 8..40, IP6_HEADER),
    };
    a.get(protocol) == b.get(protocol)
        && a.get(addresses.clone()) == b.get(addresses)
        && a.get(transport..transport + 4) == b.get(transport..transport + 4)
}

/// Whether `packet` can go behind what a run has, whose first packet is at `first`.
fn continues(
    run: &Run,
    buf: &mut [u8],
    first: Range<usize>,
    packet: Range<usize>,
    headers: &Headers,
) -> bool {
    let Shape::Open {
        is_v4,
        is_tcp,
        transport,
        headers: headers_len,
        next_sequence,
        is_verified,
    } = run.shape
    else {
        return false;
    };
    let same_kind = (headers.is_v4, headers.is_tcp) == (is_v4, is_tcp)
        && (headers.transport, headers.len) == (transport, headers_len);
    if !same_kind
        || headers.payload() > usize::from(run.gso.size)
        || run.len + headers.payload() > MAX_LEN
        || (is_tcp && headers.sequence != next_sequence)
        || (is_tcp && headers.flags & !FLAG_PSH != FLAG_ACK)
    {
        return false;
    }
    let (Some(a), Some(b)) = (buf.get(first.clone()), buf.get(packet)) else {
        return false;
    };
    let b = b.get(..headers.total).unwrap_or_default();
    same_headers(a, b, headers, run.pieces)
        && (is_verified || is_intact(a, headers))
        && is_intact(b, headers)
}

/// Whether the headers agree in all that is not their own packet's, the second being behind `packets` others.
fn same_headers(a: &[u8], b: &[u8], headers: &Headers, packets: usize) -> bool {
    let same = |range: Range<usize>| a.get(range.clone()) == b.get(range);
    let at = headers.transport;
    let ip = match headers.is_v4 {
        // Type of service; the "don't fragment" bit and time to live; options.
        true => same(1..2) && same(6..9) && same(20..at) && id_follows(a, b, packets),
        // Traffic class and flow label; hop limit.
        false => same(0..4) && same(7..8),
    };
    if !headers.is_tcp {
        return ip && get16(b, at + UDP_CHECKSUM) != 0;
    }
    // Acknowledgement; data offset; window; urgent pointer and options.
    ip && same(at + 8..at + 13) && same(at + 14..at + 16) && same(at + 18..headers.len)
}

/// Where fragments are allowed, ids count: a kernel that splits counts on from the first.
fn id_follows(a: &[u8], b: &[u8], packets: usize) -> bool {
    let may_fragment = a.get(6).is_some_and(|byte| byte & 0x40 == 0);
    !may_fragment || get16(b, ID4) == get16(a, ID4).wrapping_add(packets as u16)
}

/// Whether the transport checksum holds.
fn is_intact(packet: &[u8], headers: &Headers) -> bool {
    let Some(transport) = packet.get(headers.transport..) else {
        return false;
    };
    let protocol = if headers.is_tcp { 6 } else { 17 };
    let sum = pseudo(packet, protocol, transport.len());
    checksum::finish(checksum::add(sum, transport)) == 0
}

/// Makes the headers at `at` those of the whole run; the checksum is that of the pseudo header alone, for the kernel to go on.
fn finish_headers(run: &Run, buf: &mut [u8], at: usize) {
    let Csum::Partial { start, offset } = run.csum else {
        return;
    };
    let (transport, place) = (usize::from(start), usize::from(offset));
    let is_tcp = run.gso.kind != GsoKind::Udp;
    let Some(headers) = buf.get_mut(at..at + usize::from(run.gso.hdr_len)) else {
        return;
    };
    let transport_len = run.len - transport;
    if headers.first().is_some_and(|first| first >> 4 == 4) {
        put16(headers, LENGTH4, run.len as u16);
        if let Some(header) = headers.get_mut(..transport) {
            finish_ip4(header);
        }
    } else {
        put16(headers, LENGTH6, (run.len - IP6_HEADER) as u16);
    }
    if !is_tcp {
        put16(headers, transport + UDP_LENGTH, transport_len as u16);
    }
    let protocol = if is_tcp { 6 } else { 17 };
    let sum = checksum::finish(pseudo(headers, protocol, transport_len));
    put16(headers, transport + place, !sum);
}
