use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::{IpView, Proto, checksum};

const ALL: Limits = Limits {
    tcp: true,
    udp: true,
};

#[derive(Debug, Clone)]
struct Flow {
    v6: bool,
    tcp: bool,
    /// Bytes of TCP options.
    options: usize,
    sequence: u32,
    dont_fragment: bool,
    id: u16,
    flags: u8,
}

fn address(v6: bool, last: u8) -> IpAddr {
    match v6 {
        true => IpAddr::from([
            0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last,
        ]),
        false => IpAddr::from([100, 64, 0, last]),
    }
}

impl Flow {
    fn transport(&self) -> usize {
        if self.v6 { 40 } else { 20 }
    }

    fn headers(&self) -> usize {
        self.transport() + if self.tcp { 20 + self.options } else { 8 }
    }

    fn gso(&self, size: u16) -> Gso {
        Gso {
            kind: match (self.tcp, self.v6) {
                (true, false) => GsoKind::Tcp4,
                (true, true) => GsoKind::Tcp6,
                (false, _) => GsoKind::Udp,
            },
            hdr_len: self.headers() as u16,
            size,
        }
    }

    fn csum(&self) -> Csum {
        Csum::Partial {
            start: self.transport() as u16,
            offset: if self.tcp { 16 } else { 6 },
        }
    }

    /// A super-packet as a kernel hands it over: the checksum is that of the pseudo header.
    fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let at = self.transport();
        let total = self.headers() + payload.len();
        let mut bytes = vec![0; self.headers()];
        bytes.extend_from_slice(payload);
        if self.v6 {
            bytes[0] = 0x60;
            put16(&mut bytes, 4, (total - 40) as u16);
            bytes[6] = if self.tcp { 6 } else { 17 };
            bytes[7] = 64;
        } else {
            bytes[0] = 0x45;
            put16(&mut bytes, 2, total as u16);
            put16(&mut bytes, 4, self.id);
            bytes[6] = if self.dont_fragment { 0x40 } else { 0 };
            bytes[8] = 64;
            bytes[9] = if self.tcp { 6 } else { 17 };
        }
        for (last, place) in [(1, 0), (2, 1)] {
            let octets = match address(self.v6, last) {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            let start = if self.v6 { 8 } else { 12 } + place * octets.len();
            bytes[start..start + octets.len()].copy_from_slice(&octets);
        }
        if !self.v6 {
            finish_ip4(&mut bytes[..20]);
        }
        put16(&mut bytes, at, 40000);
        put16(&mut bytes, at + 2, 443);
        if self.tcp {
            bytes[at + 4..at + 8].copy_from_slice(&self.sequence.to_be_bytes());
            bytes[at + 12] = ((20 + self.options) / 4 * 16) as u8;
            bytes[at + 13] = self.flags;
            put16(&mut bytes, at + 14, 5000);
            bytes[at + 20..at + 20 + self.options].fill(1);
        } else {
            put16(&mut bytes, at + 4, (total - at) as u16);
        }
        let protocol = if self.tcp { 6 } else { 17 };
        let sum = !checksum::finish(pseudo(&bytes, protocol, total - at));
        put16(&mut bytes, at + if self.tcp { 16 } else { 6 }, sum);
        bytes
    }

    fn split(&self, payload: &[u8], size: u16) -> Vec<Vec<u8>> {
        let mut bytes = self.packet(payload);
        let mut splitter = Splitter::new(&mut bytes, self.gso(size), self.csum()).unwrap();
        let mut packets = Vec::new();
        let (count, max) = (splitter.count(), splitter.max_len());
        while let Some(packet) = splitter.next() {
            packets.push(packet.to_vec());
        }
        assert_eq!(packets.len(), count);
        assert_eq!(packets.iter().map(Vec::len).max(), Some(max));
        packets
    }
}

fn flows() -> impl Strategy<Value = Flow> {
    let flags = prop_oneof![Just(FLAG_ACK), Just(FLAG_ACK | FLAG_PSH)];
    (any::<(bool, bool, bool, u16, u32)>(), 0usize..=10, flags).prop_map(
        |((v6, tcp, dont_fragment, id, sequence), options, flags)| Flow {
            v6,
            tcp,
            options: options * 4,
            sequence,
            dont_fragment,
            id,
            flags,
        },
    )
}

/// The packets one behind the other, each padded as in a tunnel, and where each is.
fn laid_out(packets: &[Vec<u8>]) -> (Vec<u8>, Vec<std::ops::Range<usize>>) {
    let (mut buf, mut ranges) = (Vec::new(), Vec::new());
    for packet in packets {
        let start = buf.len();
        buf.extend_from_slice(packet);
        buf.resize(start + packet.len().next_multiple_of(16), 0);
        ranges.push(start..buf.len());
        buf.extend_from_slice(&[0xee; 32]);
    }
    (buf, ranges)
}

fn coalesce(packets: &[Vec<u8>], limits: Limits) -> Vec<(Run, Vec<u8>)> {
    let (mut buf, ranges) = laid_out(packets);
    let mut coalescer = Coalescer::new(limits);
    for range in ranges {
        if !coalescer.extend(&mut buf, range.clone()) {
            coalescer.start(&buf, range);
        }
    }
    coalescer.finish(&mut buf);
    let whole = |run: &Run| {
        let bytes: Vec<u8> = coalescer
            .pieces(run)
            .flat_map(|piece| buf[piece].to_vec())
            .collect();
        assert_eq!(bytes.len(), run.len());
        (*run, bytes)
    };
    coalescer.runs().iter().map(whole).collect()
}

proptest! {
    #[test]
    fn splitting_and_coalescing_are_inverse(
        flow in flows(),
        size in 1u16..2000,
        len in 1usize..40_000,
        seed: u8,
    ) {
        let len = len.min(usize::from(size) * MAX_SEGMENTS).min(MAX_LEN - flow.headers());
        let payload: Vec<u8> = (0..len).map(|n| (n as u8).wrapping_mul(31) ^ seed).collect();
        let packets = flow.split(&payload, size);
        let mut expected = 0;
        for packet in &packets {
            let view = IpView::parse(packet).unwrap();
            prop_assert_eq!(view.bytes().len(), packet.len());
            let proto = if flow.tcp { Proto::TCP } else { Proto::UDP };
            let sum = checksum::pseudo_header(view.src(), view.dst(), proto, view.transport().len());
            prop_assert_eq!(checksum::finish(checksum::add(sum, view.transport())), 0);
            if !flow.v6 {
                prop_assert_eq!(checksum::of(&packet[..20]), 0);
            }
            if flow.tcp {
                let sequence = get32(view.transport(), 4);
                prop_assert_eq!(sequence, flow.sequence.wrapping_add(expected));
            }
            expected += view.payload().len() as u32;
        }
        prop_assert_eq!(expected as usize, payload.len());

        let runs = coalesce(&packets, ALL);
        // A push in a packet of its own says that nothing may be added to it.
        prop_assert_eq!(runs.len(), 1);
        let (run, bytes) = &runs[0];
        prop_assert_eq!(run.packets(), packets.len());
        if packets.len() > 1 {
            prop_assert_eq!(run.gso, flow.gso(size));
            prop_assert_eq!(run.csum, flow.csum());
            prop_assert_eq!(bytes, &flow.packet(&payload));
        } else {
            prop_assert_eq!((run.gso.kind, run.csum), (GsoKind::None, Csum::Full));
            prop_assert_eq!(bytes, &packets[0]);
        }
    }

    #[test]
    fn flows_keep_their_order_and_nothing_is_lost(
        flow in flows(),
        other in flows(),
        order in prop::collection::vec(any::<bool>(), 1..60),
        damaged in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        // Another protocol or family is another flow.
        let mut flows = [flow, other];
        flows[1].tcp = !flows[0].tcp;
        let payload: Vec<u8> = (0..60 * 100).map(|n| (n / 100) as u8).collect();
        let mut queues = flows.each_ref().map(|flow| {
            std::collections::VecDeque::from(flow.split(&payload, 100))
        });
        let mut packets: Vec<Vec<u8>> = order
            .iter()
            .filter_map(|second| queues[usize::from(*second)].pop_front())
            .collect();
        for index in &damaged {
            let packet = index.get(&packets).clone();
            let at = packets.iter().position(|other| *other == packet).unwrap();
            *packets[at].last_mut().unwrap() ^= 0x40;
        }
        let runs = coalesce(&packets, ALL);
        let total: usize = runs.iter().map(|(run, _)| run.packets()).sum();
        prop_assert_eq!(total, packets.len());
        for tcp in [true, false] {
            let of = |bytes: &[u8]| IpView::parse(bytes).unwrap().is(Proto::TCP) == tcp;
            let payload_of = |bytes: &[u8]| IpView::parse(bytes).unwrap().payload().to_vec();
            let sent: Vec<u8> = packets.iter().filter(|p| of(p)).flat_map(|p| payload_of(p)).collect();
            let got: Vec<u8> = runs.iter().filter(|(_, p)| of(p)).flat_map(|(_, p)| payload_of(p)).collect();
            prop_assert_eq!(sent, got);
        }
    }

    #[test]
    fn hostile_bytes_are_no_trouble(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..10),
        kind in 0u8..4,
        size: u16,
        start: u16,
        offset: u16,
    ) {
        let kind = [GsoKind::None, GsoKind::Tcp4, GsoKind::Tcp6, GsoKind::Udp][usize::from(kind)];
        let gso = Gso { kind, hdr_len: start, size };
        for csum in [Csum::Full, Csum::Partial { start, offset }, Csum::Partial { start: 20, offset: 16 }] {
            for packet in &packets {
                let mut packet = packet.clone();
                let _ = complete(&mut packet, csum);
                if let Ok(mut splitter) = Splitter::new(&mut packet, gso, csum) {
                    while splitter.next().is_some() {}
                }
            }
        }
        let runs = coalesce(&packets, ALL);
        prop_assert_eq!(runs.iter().map(|(run, _)| run.packets()).sum::<usize>(), packets.len());
    }

    #[test]
    fn sums_are_the_plain_ones(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut plain = 0u64;
        for pair in bytes.chunks(2) {
            plain += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        prop_assert_eq!(checksum::of(&bytes), checksum::finish(plain));
    }
}

fn flow(tcp: bool) -> Flow {
    Flow {
        v6: false,
        tcp,
        options: 12,
        sequence: 7,
        dont_fragment: true,
        id: 1,
        flags: FLAG_ACK,
    }
}

#[test]
fn lies_are_refused() {
    let flow = flow(true);
    let payload = [5; 300];
    let good = flow.packet(&payload);
    let new = |bytes: &[u8], gso: Gso, csum: Csum| {
        let mut bytes = bytes.to_vec();
        Splitter::new(&mut bytes, gso, csum)
            .map(|_| ())
            .unwrap_err()
    };
    let (gso, csum) = (flow.gso(100), flow.csum());
    assert_eq!(new(&good, Gso { size: 0, ..gso }, csum), BadGso::NoSize);
    assert_eq!(new(&good, gso, Csum::Full), BadGso::Checksum);
    let elsewhere = Csum::Partial {
        start: 24,
        offset: 16,
    };
    assert_eq!(new(&good, gso, elsewhere), BadGso::Checksum);
    let udp = Gso {
        kind: GsoKind::Udp,
        ..gso
    };
    assert_eq!(new(&good, udp, csum), BadGso::Checksum);
    let v6 = Gso {
        kind: GsoKind::Tcp6,
        ..gso
    };
    assert_eq!(new(&good, v6, csum), BadGso::Headers);
    assert_eq!(new(&good[..flow.headers()], gso, csum), BadGso::NoPayload);
    assert_eq!(new(&good[..30], gso, csum), BadGso::Headers);
    assert_eq!(new(&[], gso, csum), BadGso::Headers);
}

#[test]
fn what_the_kernel_does_not_take_stays_single() {
    let limits = [
        (
            true,
            Limits {
                tcp: false,
                udp: true,
            },
        ),
        (
            false,
            Limits {
                tcp: true,
                udp: false,
            },
        ),
    ];
    for (tcp, limits) in limits {
        let packets = flow(tcp).split(&[1; 1000], 100);
        let runs = coalesce(&packets, limits);
        assert!(
            runs.iter()
                .all(|(run, _)| run.packets() == 1 && run.csum == Csum::Full)
        );
        assert_eq!(runs.len(), 10);
    }
}

#[test]
fn what_says_something_of_its_own_is_not_merged() {
    let flow = flow(true);
    let packets = flow.split(&[1; 300], 100);
    let change = |at: usize, value: u8| {
        let mut packets = packets.clone();
        packets[1][at] = value;
        // A new checksum, so that only the change counts.
        let len = packets[1].len();
        put16(&mut packets[1], 20 + 16, 0);
        let sum = pseudo(&packets[1], 6, len - 20);
        let sum = checksum::finish(checksum::add(sum, &packets[1][20..]));
        put16(&mut packets[1], 20 + 16, sum);
        coalesce(&packets, ALL).len()
    };
    assert_eq!(coalesce(&packets, ALL).len(), 1);
    for (what, at, value) in [
        ("congestion", 1, 3),
        ("time to live", 8, 63),
        ("fin", 33, FLAG_ACK | FLAG_FIN),
        ("urgent", 33, FLAG_ACK | 0x20),
        ("echo of congestion", 33, FLAG_ACK | 0x40),
        ("acknowledgement", 31, 9),
        ("window", 35, 9),
        ("options", 45, 9),
        ("sequence", 27, 200),
    ] {
        assert!(change(at, value) > 1, "{what}");
    }
    // A push ends a run, and is kept.
    assert_eq!(change(33, FLAG_ACK | FLAG_PSH), 2);
}
