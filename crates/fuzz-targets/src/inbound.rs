//! The whole way of what comes from the network: trains, sessions, the window of counters, the filter, super-packets for the host.

use std::net::{IpAddr, SocketAddr};

use dataplane::trial::{Given, Inbound};
use host::{Ecn, GsoKind, UdpRx};
use packet::offload::Splitter;
use packet::{IpView, Proto, checksum};

/// Reads of at most so many datagrams.
const MAX_DATAGRAMS: usize = 128;

/// What the network brings in one read.
struct Read {
    inbound: Inbound,
    buffer: Vec<u8>,
    trains: Vec<UdpRx>,
    /// The sealed packets that were not yet seen at the host.
    sealed: Vec<Vec<u8>>,
    last: Vec<u8>,
    sequence: u32,
    datagrams: usize,
}

/// Orders to make datagrams of: sealed packets, plausible and not, damaged ones, repeated ones, nonsense; in trains whose lengths lie.
/// The host gets nothing but packets that were sealed, each at most once.
pub(crate) fn inbound(data: &[u8]) {
    let mut read = Read {
        inbound: Inbound::new(),
        buffer: Vec::new(),
        trains: Vec::new(),
        sealed: Vec::new(),
        last: Vec::new(),
        sequence: 1,
        datagrams: 0,
    };
    let mut rest = data;
    while let Some(([order, how, len, len_high], behind)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([*len, *len_high])).min(behind.len());
        let (bytes, behind) = behind.split_at(len);
        read.follow(*order, *how, bytes);
        rest = behind;
    }
    read.give();
}

impl Read {
    fn follow(&mut self, order: u8, how: u8, bytes: &[u8]) {
        let datagram = match order & 7 {
            0 => self.seal(bytes.to_vec()),
            1..=3 => {
                let segment = self.segment(how, bytes);
                self.seal(segment)
            }
            4 => bytes.to_vec(),
            // Again, whole or damaged.
            5 => self.last.clone(),
            6 => {
                let mut damaged = self.last.clone();
                let at = usize::from(how) % damaged.len().max(1);
                if let Some(byte) = damaged.get_mut(at) {
                    *byte ^= bytes.first().copied().unwrap_or(1);
                }
                damaged
            }
            _ => return self.give(),
        };
        self.arrive(order, how, &datagram);
        if self.datagrams >= MAX_DATAGRAMS {
            self.give();
        }
    }

    fn seal(&mut self, mut packet: Vec<u8>) -> Vec<u8> {
        let Some(datagram) = self.inbound.seal(&packet) else {
            return Vec::new();
        };
        // A packet that says that it is longer has the tunnel's padding as its end.
        packet.resize(packet.len().next_multiple_of(16), 0);
        self.sealed.push(packet);
        self.last.clone_from(&datagram);
        datagram
    }

    /// A TCP segment or UDP datagram that may well follow the one before.
    fn segment(&mut self, how: u8, payload: &[u8]) -> Vec<u8> {
        let [src, dst] = Inbound::ADDRESSES.map(IpAddr::from);
        let is_udp = how & 1 != 0;
        let (proto, mut segment, at) = if is_udp {
            let len = (8 + payload.len()) as u16;
            let header = [40000, 443, len, 0].map(u16::to_be_bytes).concat();
            (Proto::UDP, header, 6)
        } else {
            let mut header = vec![0; 20];
            header[..4].copy_from_slice(&[0x9c, 0x40, 0x01, 0xbb]);
            header[4..8].copy_from_slice(&self.sequence.to_be_bytes());
            header[12..14].copy_from_slice(&[0x50, 0x10 | how & 0x0f]);
            self.sequence = self.sequence.wrapping_add(payload.len() as u32);
            (Proto::TCP, header, 16)
        };
        segment.extend_from_slice(payload);
        if how & 0x80 == 0 {
            let pseudo = checksum::pseudo_header(src, dst, proto, segment.len());
            let sum = checksum::finish(checksum::add(pseudo, &segment));
            segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        packet::ip_packet(src, dst, proto, &segment).unwrap_or_default()
    }

    fn arrive(&mut self, order: u8, how: u8, datagram: &[u8]) {
        let off = self.buffer.len() as u32;
        self.buffer.extend_from_slice(datagram);
        self.datagrams += 1;
        let len = datagram.len() as u32;
        let mut train = UdpRx {
            off,
            len,
            stride: len as u16,
            from: match order & 0x20 {
                0 => SocketAddr::from(([198, 51, 100, 1], 41641)),
                _ => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 41641)),
            },
            to: None,
            ecn: Ecn(order >> 3 & 3),
        };
        match order >> 6 {
            // One more of the train before.
            1 => {
                if let Some(before) = self.trains.last_mut() {
                    before.len += len;
                    return;
                }
            }
            2 => train.stride = how.into(),
            3 => {
                train.len += u32::from(how) * 16;
                train.off = train.off.saturating_sub(how.into());
            }
            _ => {}
        }
        self.trains.push(train);
    }

    /// The worker gets what was collected.
    fn give(&mut self) {
        let given = self.inbound.receive(&mut self.buffer, &self.trains);
        self.buffer.clear();
        self.trains.clear();
        self.datagrams = 0;
        for given in given {
            self.compare(given);
        }
    }

    fn compare(&mut self, mut given: Given) {
        if given.gso.kind == GsoKind::None {
            return self.find(&given.bytes);
        }
        let mut splitter = Splitter::new(&mut given.bytes, given.gso, given.csum)
            .expect("what the host gets can be taken apart");
        while let Some(packet) = splitter.next() {
            let packet = packet.to_vec();
            self.find(&packet);
        }
    }

    fn find(&mut self, packet: &[u8]) {
        let wanted = essence(packet);
        assert_eq!(
            wanted.as_ref().map(Vec::len),
            Some(packet.len()),
            "nothing follows it"
        );
        let mut sealed = self.sealed.iter();
        let found = sealed.position(|sealed| essence(sealed) == wanted);
        let at = found.expect("the host gets nothing but what was sealed, and nothing twice");
        self.sealed.swap_remove(at);
    }
}

/// A packet, as long as it says that it is, without what may change on the way: how congestion is marked, checksums (zero has two
/// forms), an id that says nothing. `None` for what is none.
fn essence(packet: &[u8]) -> Option<Vec<u8>> {
    let view = IpView::parse(packet).ok()?;
    let mut bytes = view.bytes().to_vec();
    if view.dst().is_ipv4() {
        *bytes.get_mut(1)? &= !3;
        bytes.get_mut(10..12)?.fill(0);
        if bytes.get(6)? & 0x40 != 0 {
            bytes.get_mut(4..6)?.fill(0);
        }
    } else {
        *bytes.get_mut(1)? &= !0x30;
    }
    let transport = bytes.len() - view.transport().len();
    let checksum = match view.is(Proto::TCP) {
        true => transport + 16,
        false => transport + 6,
    };
    if (view.is(Proto::TCP) || view.is(Proto::UDP))
        && let Some(sum) = bytes.get_mut(checksum..checksum + 2)
    {
        sum.fill(0);
    }
    Some(bytes)
}
