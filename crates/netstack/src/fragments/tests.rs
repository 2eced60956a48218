use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::wire;

const NOW: Instant = Instant::from_nanos(1_000_000_000);

fn datagram(v6: bool, len: usize) -> Vec<u8> {
    let (a, b) = match v6 {
        false => ("100.64.0.1:7", "100.64.0.2:9"),
        true => ("[fd7a:115c:a1e0::1]:7", "[fd7a:115c:a1e0::2]:9"),
    };
    let (a, b): (SocketAddr, SocketAddr) = (a.parse().unwrap(), b.parse().unwrap());
    let payload: Vec<u8> = (0..len).map(|at| (at / 3) as u8).collect();
    let mut packet = Vec::new();
    wire::udp(a, b, &payload, &mut packet);
    packet
}

fn put(fragments: &mut Fragments, fragment: &[u8]) -> Option<Vec<u8>> {
    fragments.handle(&IpView::parse(fragment).unwrap(), NOW)
}

/// As it was but for "don't fragment", which a fragment cannot have.
fn same(whole: &[u8], packet: &[u8]) -> bool {
    let mut expected = packet.to_vec();
    if packet[0] >> 4 == 4 {
        expected[6] = 0;
        expected[4..6].copy_from_slice(&whole[4..6]);
        seal_header(&mut expected[..20]);
    }
    whole == expected
}

proptest! {
    #[test]
    fn what_is_cut_is_put_together(
        v6: bool, len in 1300usize..65_000, mtu in 600usize..1500, id: u32, order: u64, twice: bool,
    ) {
        let packet = datagram(v6, len);
        let mut pieces = cut(&packet, mtu, id);
        prop_assert!(pieces.iter().all(|piece| piece.len() <= mtu));
        let count = pieces.len();
        if twice {
            pieces.push(pieces[order as usize % (count - 1)].clone());
            let end = pieces.len() - 1;
            pieces.swap(0, end);
        }
        let by = order as usize % pieces.len();
        pieces.rotate_left(by);
        let mut fragments = Fragments::default();
        let mut whole = None;
        for piece in &pieces {
            whole = put(&mut fragments, piece).or(whole);
        }
        prop_assert!(same(&whole.unwrap(), &packet));
        prop_assert!(fragments.bytes <= packet.len());
    }

    #[test]
    fn any_fragments_are_survived_within_bounds(
        v6: bool,
        pieces in prop::collection::vec((0u16..8192, 0usize..300, any::<bool>(), 0u32..3), 0..300),
    ) {
        let mut fragments = Fragments::default();
        for (offset, len, more, id) in pieces {
            let mut packet = datagram(v6, 0);
            packet.truncate(if v6 { 40 } else { 20 });
            match v6 {
                true => write_v6(&mut packet, len, id, offset * 8, more),
                false => write_v4(&mut packet, len, id, offset * 8, more),
            }
            packet.resize(packet.len() + len, 0);
            if let Ok(view) = IpView::parse(&packet) {
                let _ = fragments.handle(&view, NOW);
            }
        }
        let held: usize = fragments.by_key.values().map(|partial| partial.have).sum();
        prop_assert_eq!(held, fragments.bytes);
        fragments.expire(NOW + TIMEOUT);
        prop_assert_eq!((fragments.bytes, fragments.by_key.len()), (0, 0));
        prop_assert_eq!(fragments.next_timeout(), None);
    }
}

#[test]
fn overlaps_spoil_a_datagram() {
    let packet = datagram(false, 3000);
    let mut pieces = cut(&packet, 1280, 5);
    let mut fragments = Fragments::default();
    assert!(put(&mut fragments, &pieces[0]).is_none());
    // The same place, other bytes.
    *pieces[0].last_mut().unwrap() ^= 1;
    assert!(put(&mut fragments, &pieces[0]).is_none());
    assert_eq!(fragments.bytes, 0);
}

#[test]
fn complete_datagrams_leave_nothing_that_adds_up() {
    let mut fragments = Fragments::default();
    for id in 0..20_000 {
        let pieces = cut(&datagram(true, 2000), 1280, id);
        assert!(put(&mut fragments, &pieces[0]).is_none());
        assert!(put(&mut fragments, &pieces[1]).is_some());
    }
    assert!(fragments.queue.len() <= MAX_STALE + 1);
}

#[test]
fn memory_is_bounded_and_the_oldest_go_first() {
    let mut fragments = Fragments::default();
    for id in 0..10_000 {
        let pieces = cut(&datagram(false, 3000), 1280, id);
        assert!(put(&mut fragments, &pieces[0]).is_none());
        assert!(fragments.bytes <= MAX_BYTES);
    }
    let last = cut(&datagram(false, 3000), 1280, 9_999);
    assert!(put(&mut fragments, &last[1]).is_none());
    assert!(put(&mut fragments, &last[2]).is_some());
}
