//! Many packets at once: super-packets, and the seal over a batch.

use aead::{Key, MAX_PACKETS, Place, TAG_LEN};
use packet::offload::{Coalescer, Csum, Gso, GsoKind, Limits, Splitter, complete};

const ALL: Limits = Limits {
    tcp: true,
    udp: true,
};

/// What a kernel says of a packet, then the packet. Whatever it is: the payload of the packets is the payload of the whole, none
/// is longer than it was said, and they are counted right.
pub(crate) fn split(data: &[u8]) {
    let Some((head, packet)) = data.split_first_chunk::<8>() else {
        return;
    };
    let pair = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let kinds = [GsoKind::None, GsoKind::Tcp4, GsoKind::Tcp6, GsoKind::Udp];
    let gso = Gso {
        kind: kinds[usize::from(head[0] & 3)],
        hdr_len: u16::from(head[1]),
        size: pair(2),
    };
    let csum = Csum::Partial {
        start: pair(4),
        offset: pair(6),
    };
    let mut alone = packet.to_vec();
    let _ = complete(&mut alone, csum);
    let mut bytes = packet.to_vec();
    let Ok(mut splitter) = Splitter::new(&mut bytes, gso, csum) else {
        return;
    };
    let (count, longest) = (splitter.count(), splitter.max_len());
    let mut lens = Vec::new();
    while let Some(packet) = splitter.next() {
        lens.push(packet.len());
    }
    assert_eq!(lens.len(), count);
    assert_eq!(lens.iter().max(), Some(&longest));
    let headers =
        packet.len() + count.saturating_sub(1) * (longest - usize::from(gso.size).min(longest));
    if count > 1 {
        assert_eq!(lens.iter().sum::<usize>(), headers);
    }
}

/// Packets, each behind its length. What was put together, the splitter takes apart into the same packets in the same order.
pub(crate) fn coalesce(data: &[u8]) {
    let (mut buffer, mut ranges) = (Vec::new(), Vec::new());
    let mut rest = data;
    while let Some((len, behind)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes(*len)).min(behind.len());
        let (packet, behind) = behind.split_at(len);
        ranges.push(buffer.len()..buffer.len() + len);
        buffer.extend_from_slice(packet);
        rest = behind;
    }
    let packets: Vec<Vec<u8>> = ranges
        .iter()
        .map(|range| buffer[range.clone()].to_vec())
        .collect();
    let mut coalescer = Coalescer::new(ALL);
    // Which run each packet became a part of.
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for (at, range) in ranges.into_iter().enumerate() {
        let before: Vec<usize> = coalescer.runs().iter().map(|run| run.packets()).collect();
        if coalescer.extend(&mut buffer, range.clone()) {
            let grown = coalescer.runs().iter().map(|run| run.packets());
            let grown = grown.zip(before).position(|(now, before)| now > before);
            runs[grown.expect("one has grown")].push(at);
        } else {
            coalescer.start(&buffer, range);
            runs.push(vec![at]);
        }
    }
    coalescer.finish(&mut buffer);
    assert_eq!(coalescer.runs().len(), runs.len());
    for (run, members) in coalescer.runs().iter().zip(runs) {
        let pieces = coalescer.pieces(run);
        let mut whole: Vec<u8> = pieces.flat_map(|piece| buffer[piece].to_vec()).collect();
        assert_eq!((whole.len(), members.len()), (run.len(), run.packets()));
        if run.packets() == 1 {
            assert!(packets[members[0]].starts_with(&whole));
            continue;
        }
        let mut splitter =
            Splitter::new(&mut whole, run.gso, run.csum).expect("what we make can be taken apart");
        for member in members {
            let packet = splitter.next().expect("as many as there were");
            let before = &packets[member][..packet.len()];
            assert_eq!(essence(packet, run), essence(before, run));
        }
        assert!(splitter.next().is_none());
    }
}

/// A packet without its checksums, which may have two forms of zero, and without an id that says nothing, since the packet may not be
/// fragmented.
fn essence(packet: &[u8], run: &packet::offload::Run) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        packet[10..12].fill(0);
        if packet[6] & 0x40 != 0 {
            packet[4..6].fill(0);
        }
    }
    if let Csum::Partial { start, offset } = run.csum {
        let at = usize::from(start) + usize::from(offset);
        packet[at..at + 2].fill(0);
    }
    packet
}

/// Lengths of packets, then their bytes. A batch is sealed as its packets are one by one; it opens again; what was damaged does not.
pub(crate) fn seal(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<10>() else {
        return;
    };
    let key = Key::new(&[head[0]; 32]);
    let counter = u64::from_le_bytes(*head.last_chunk().expect("8 of 10")) >> 1;
    let count = usize::from(head[1]) % (MAX_PACKETS + 1);
    let (lens, text) = rest.split_at(rest.len().min(count));
    let (mut buffer, mut places) = (Vec::new(), Vec::new());
    for (counter, len) in (counter..).zip(lens) {
        let (start, len) = (buffer.len() + 3, usize::from(*len) * 7);
        buffer.resize(start + len + TAG_LEN, head[0]);
        for (byte, text) in buffer[start..].iter_mut().zip(text) {
            *byte = *text;
        }
        let range = start..buffer.len();
        places.push(Place { counter, range });
    }
    let plain = buffer.clone();
    key.seal(&mut buffer, &places).expect("good places");
    let mut one_by_one = plain.clone();
    for place in &places {
        key.seal(&mut one_by_one, std::slice::from_ref(place))
            .expect("a good place");
    }
    assert!(buffer == one_by_one);
    let all = u64::MAX.checked_shr(64 - places.len() as u32).unwrap_or(0);
    let damaged = usize::from(head[9]).checked_rem(places.len());
    if let Some(damaged) = damaged {
        let range = places[damaged].range.clone();
        let at = range.start + usize::from(head[2]) % range.len();
        buffer[at] ^= 1 << (head[3] & 7);
    }
    let good = damaged.map_or(all, |damaged| all & !(1 << damaged));
    assert_eq!(key.open(&mut buffer, &places), Ok(good));
    for (at, place) in places.iter().enumerate() {
        let text = place.range.start..place.range.end - TAG_LEN;
        assert!(good >> at & 1 == 0 || buffer[text.clone()] == plain[text]);
    }
}
