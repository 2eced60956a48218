use std::collections::BTreeSet;

use super::*;
use crate::testing::Pair;

fn sessions(seed: u64) -> (Arc<Session>, Arc<Session>, Instant) {
    let pair = Pair::established(seed);
    let a = pair.a.session(pair.at).expect("a session");
    let b = pair.b.session(pair.at).expect("a session");
    (a, b, pair.at.now)
}

#[test]
fn wg_counter_is_64_bit() {
    let (a, b, now) = sessions(1);
    let low = 1000;
    let high = (1 << 32) + low;
    let mut datagrams = Vec::new();
    for counter in [low, high] {
        a.set_next_counter(counter);
        let mut out = Vec::new();
        a.seal(now, b"the same packet.", 0, &mut out)
            .expect("sealed");
        assert_eq!(out[8..16], counter.to_le_bytes());
        datagrams.push(out);
    }
    assert_ne!(datagrams[0][16..], datagrams[1][16..], "another nonce");
    let (packet, _) = b.open(now, &mut datagrams[1]).expect("opened");
    assert_eq!(packet, b"the same packet.");
}

#[test]
fn wg_counter_stops_at_reject_after_messages() {
    let (a, b, now) = sessions(2);
    assert_eq!(REJECT_AFTER_MESSAGES, (u64::MAX - (1 << 13)));
    a.set_next_counter(REJECT_AFTER_MESSAGES - 1);
    assert!(a.can_send(now));
    let mut out = Vec::new();
    a.seal(now, b"the last", 0, &mut out).expect("sealed");
    b.open(now, &mut out).expect("opened");
    for _ in 0..3 {
        assert_eq!(
            a.seal(now, b"one too many", 0, &mut Vec::new()),
            Err(SealError::CountersUsedUp)
        );
    }
    assert!(!a.can_send(now));
    // A batch is refused whole.
    a.set_next_counter(REJECT_AFTER_MESSAGES - 10);
    assert_eq!(a.reserve(now, 11), Err(SealError::CountersUsedUp));
    assert_eq!(a.reserve(now, 10).map(Iterator::count), Ok(10));
}

#[test]
fn wg_counter_beyond_the_limit_is_not_opened() {
    let (_, b, now) = sessions(3);
    let mut datagram = vec![0; 64];
    datagram[..16].copy_from_slice(&data_header(b.local_index(), REJECT_AFTER_MESSAGES));
    assert_eq!(
        b.open_in_place(now, &mut datagram),
        Err(OpenError::CounterLimit)
    );
}

#[test]
fn wg_oversized_datagram_is_an_error() {
    let (a, b, now) = sessions(4);
    let mut huge = vec![0; MAX_DATAGRAM + 1];
    huge[..16].copy_from_slice(&data_header(b.local_index(), 7));
    assert_eq!(classify(&huge), Err(crate::NotWireGuard::Length));
    assert_eq!(b.open_in_place(now, &mut huge), Err(OpenError::NotData));
    let packet = vec![0x45; MAX_DATAGRAM];
    let before = a.sent();
    assert_eq!(
        a.seal(now, &packet, 0, &mut Vec::new()),
        Err(SealError::Length)
    );
    assert_eq!(a.sent(), before, "no counter was spent");
    let packet = vec![0x45; MAX_DATAGRAM - DATA_OVERHEAD - 15];
    let mut out = Vec::new();
    a.seal(now, &packet, 0, &mut out).expect("the longest");
    b.open(now, &mut out).expect("opened");
}

#[test]
fn wg_padding_to_16() {
    let (a, b, now) = sessions(5);
    for len in [0, 1, 15, 16, 17, 100, 1279] {
        let mut out = Vec::new();
        a.seal(now, &vec![0x45; len], 1280, &mut out)
            .expect("sealed");
        assert_eq!(out.len() % 16, 0, "{len}");
        assert_eq!(out.len(), len.next_multiple_of(16) + 32, "{len}");
        let (packet, _) = b.open(now, &mut out).expect("opened");
        assert!(packet[len..].iter().all(|b| *b == 0));
    }
}

#[test]
fn wg_padding_stops_at_the_mtu() {
    assert_eq!(padded_len(1274, 1275), 1275);
    assert_eq!(padded_len(1275, 1275), 1275);
    assert_eq!(padded_len(1264, 1275), 1264);
    assert_eq!(padded_len(1276, 1275), 1275 + 16, "a packet of two MTUs");
    assert_eq!(padded_len(17, 0), 32);
    assert_eq!(padded_len(0, 1280), 0);
}

#[test]
fn wg_batch_is_sealed_into_one_buffer_and_opened_in_place() {
    let (a, b, now) = sessions(6);
    let stride = sealed_len(1200);
    let packets: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; 1200]).collect();
    let mut buffer = vec![0; stride * packets.len()];
    let reserved = a.reserve(now, packets.len() as u32).expect("counters");
    for ((counter, packet), place) in reserved.zip(&packets).zip(buffer.chunks_exact_mut(stride)) {
        a.seal_at(counter, packet, 1200, place).expect("sealed");
    }
    a.note_sent(now, true);

    // The network duplicates one and damages another.
    let copy = buffer[..stride].to_vec();
    buffer.extend_from_slice(&copy);
    buffer[stride * 3 + 20] ^= 1;
    let mut batch = Vec::new();
    for place in buffer.chunks_exact_mut(stride) {
        match b.open_in_place(now, place) {
            Ok(opening) => {
                assert!(place[opening.plaintext.clone()].iter().all(|b| *b < 40));
                batch.push(opening);
            }
            Err(error) => assert_eq!(error, OpenError::Forged),
        }
    }
    assert_eq!(batch.len(), 40);
    assert_eq!(b.accept_batch(&mut batch), 1, "the duplicate");
    assert_eq!(batch.len(), 39);
}

#[test]
fn wg_threads_never_share_a_counter() {
    let (a, _, now) = sessions(7);
    let ranges: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    (0..500)
                        .flat_map(|n| a.reserve(now, n % 7).expect("counters"))
                        .map(|counter| counter.value)
                        .collect()
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic"))
            .collect()
    });
    let all: Vec<u64> = ranges.concat();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
}

#[test]
fn wg_counter_of_another_session_is_refused() {
    let (a, b, now) = sessions(8);
    let counter = b.reserve(now, 1).expect("one").next().expect("one");
    let mut out = vec![0; sealed_len(16)];
    assert_eq!(
        a.seal_at(counter, &[1; 16], 16, &mut out),
        Err(SealError::WrongSession)
    );
    assert_eq!(out, vec![0; sealed_len(16)], "nothing was written");
}

#[test]
fn wg_replayed_data_is_refused() {
    let (a, b, now) = sessions(9);
    let mut out = Vec::new();
    a.seal(now, b"once", 0, &mut out).expect("sealed");
    let mut again = out.clone();
    b.open(now, &mut out).expect("opened");
    assert_eq!(b.open(now, &mut again), Err(OpenError::Replayed));
}

#[test]
fn wg_forged_data_does_not_move_the_window() {
    let (a, b, now) = sessions(10);
    let mut forged = vec![0; 64];
    forged[..16].copy_from_slice(&data_header(b.local_index(), 1 << 40));
    assert_eq!(b.open(now, &mut forged), Err(OpenError::Forged));
    let mut out = Vec::new();
    a.seal(now, b"still fine", 0, &mut out).expect("sealed");
    b.open(now, &mut out).expect("opened");
}
