use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use derp::TokenBucket;
use host::Instant;
use keys::NodePublic;
use proptest::prelude::*;

use super::queue::{BATCH_LEN, Check, MAX_BYTES, MAX_BYTES_UNCONNECTED};
use super::run::keep_within;
use super::{Batch, SendQueue};

const STALL: Duration = Duration::from_millis(500);

fn poll<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn key(n: u8) -> NodePublic {
    NodePublic::from_bytes([n; 32])
}

fn batch(to: u8, packet: &[u8]) -> Batch {
    let mut batch = Batch::default();
    let frame = batch.begin(&key(to));
    batch.frames.extend_from_slice(packet);
    assert_eq!(batch.finish(frame), packet.len());
    batch
}

fn take(queue: &SendQueue) -> Option<(Vec<u8>, bool)> {
    let mut out = Vec::new();
    match poll(queue.take(&mut out)) {
        Poll::Ready(taken) => Some((out, taken.drained)),
        Poll::Pending => None,
    }
}

#[test]
fn frames_are_those_of_the_protocol() {
    let mut want = Vec::new();
    derp::put::send_packet(&mut want, &key(7), b"packet").unwrap();
    let mut batch = batch(7, b"packet");
    assert_eq!(batch.frames, want);
    let abandoned = batch.begin(&key(8));
    batch.frames.extend_from_slice(b"half");
    batch.abandon(abandoned);
    assert_eq!((batch.frames, batch.packets), (want, 1));
}

#[test]
fn the_oldest_goes_first_when_too_much_waits() {
    for (connected, most) in [(false, MAX_BYTES_UNCONNECTED), (true, MAX_BYTES)] {
        let queue = SendQueue::new(false);
        if connected {
            assert!(poll(queue.connected(None)).is_ready());
        }
        let len = 8 << 10;
        let frame = batch(0, &vec![0; len]).frames.len();
        let fits = most / frame;
        for n in 0..fits {
            assert_eq!(queue.push(batch(n as u8, &vec![0; len]), rt::now()), 0);
        }
        assert_eq!(queue.push(batch(200, &vec![0; len]), rt::now()), 1);
        let (out, _) = take(&queue).unwrap();
        assert_eq!(&out[5..37], key(1).as_bytes(), "the first one was dropped");
    }
    // However long it is, the newest stays.
    let queue = SendQueue::new(false);
    queue.push(batch(1, b"x"), rt::now());
    assert_eq!(
        queue.push(batch(2, &vec![0; MAX_BYTES_UNCONNECTED]), rt::now()),
        1
    );
    assert_eq!(&take(&queue).unwrap().0[5..37], key(2).as_bytes());
}

#[test]
fn a_queue_that_stands_loses_its_oldest_packets_one_at_a_time() {
    let queue = SendQueue::new(false);
    assert!(poll(queue.connected(None)).is_ready());
    let start = Instant::ZERO + STALL * 1000;
    let ms = Duration::from_millis(1);
    let (mut dropped, mut taken) = (0, 0);
    for at in 0..1000u32 {
        let now = start + ms * at;
        let mut batch = batch(1, &at.to_be_bytes());
        for _ in 0..40 {
            let frame = batch.begin(&key(2));
            batch.frames.extend_from_slice(&[0; 1400]);
            batch.finish(frame);
        }
        assert_eq!(queue.push(batch, now), 0);
        // The link is 10 ms behind.
        if at >= 10 {
            let mut out = Vec::new();
            let one = queue.try_take(&mut out, now).expect("something waits");
            let was_first = out[37..41] == (at - 10).to_be_bytes();
            assert_eq!(
                one.dropped,
                u32::from(!was_first),
                "the oldest packet, and no other"
            );
            dropped += one.dropped;
            taken += 1;
        }
    }
    assert!(dropped > 5 && dropped < taken / 20, "{dropped} of {taken}");
}

#[test]
fn control_frames_overtake_packets_and_die_with_the_connection() {
    let queue = SendQueue::new(false);
    queue.push(batch(1, b"x"), rt::now());
    queue.set_home(true);
    queue.push_pong([9; 8]);
    let (out, _) = take(&queue).unwrap();
    assert_eq!(out[0], derp::FrameType::NOTE_PREFERRED.0);
    assert_eq!(out[6], derp::FrameType::PONG.0);
    assert_eq!(out[19], derp::FrameType::SEND_PACKET.0);
    queue.push_pong([9; 8]);
    queue.push(batch(2, b"kept"), rt::now());
    queue.disconnected();
    assert!(queue.home());
    let (out, _) = take(&queue).unwrap();
    assert_eq!(out[0], derp::FrameType::SEND_PACKET.0);
}

#[test]
fn whoever_saw_congestion_hears_of_its_end() {
    let queue = SendQueue::new(false);
    assert!(poll(queue.connected(None)).is_ready());
    let now = rt::now();
    assert!(!queue.is_congested(now, STALL));
    for _ in 0..4 {
        queue.push(batch(1, &[0; BATCH_LEN - 64]), rt::now());
    }
    assert!(queue.is_congested(now, STALL));
    let stuck = now + STALL * 100;
    assert!(
        !queue.is_congested(stuck, STALL),
        "a stuck link holds nobody back"
    );
    let drained: Vec<bool> = std::iter::from_fn(|| take(&queue))
        .map(|(_, d)| d)
        .collect();
    assert_eq!(drained, [false, false, true, false]);
    queue.disconnected();
    for _ in 0..8 {
        queue.push(batch(1, &[0; BATCH_LEN - 64]), rt::now());
    }
    assert!(
        !queue.is_congested(rt::now(), STALL),
        "nor does one that is down"
    );
}

#[test]
fn pongs_have_a_limit() {
    let queue = SendQueue::new(false);
    for _ in 0..100_000 {
        queue.push_pong([1; 8]);
    }
    assert!(take(&queue).unwrap().0.len() < 2048);
}

proptest! {
    /// Whatever is taken is what was put in, in order, whole frames only.
    #[test]
    fn frames_stay_whole_and_in_order(lens in proptest::collection::vec(0usize..40_000, 1..30)) {
        let queue = SendQueue::new(false);
        prop_assert!(poll(queue.connected(None)).is_ready());
        let mut want = Vec::new();
        for len in &lens {
            let batch = batch(3, &vec![*len as u8; *len]);
            want.extend_from_slice(&batch.frames);
            prop_assert_eq!(queue.push(batch, rt::now()), 0);
        }
        let mut got = Vec::new();
        while let Some((out, _)) = take(&queue) {
            prop_assert!(!out.is_empty());
            got.extend_from_slice(&out);
        }
        prop_assert!(got == want);
    }

    /// A limit drops whole packets only, and nothing but packets.
    #[test]
    fn a_limit_drops_whole_packets(
        lens in proptest::collection::vec(0usize..500, 0..30),
        burst in 0u64..4000,
    ) {
        let mut frames = Vec::new();
        let mut bucket = TokenBucket::new(1, burst, Duration::ZERO);
        let mut want = Vec::new();
        let mut left = burst as usize;
        for len in lens {
            let packet = vec![1; len];
            derp::put::pong(&mut frames, [2; 8]);
            derp::put::send_packet(&mut frames, &key(1), &packet).unwrap();
            derp::put::pong(&mut want, [2; 8]);
            if left >= len + 37 {
                left -= len + 37;
                derp::put::send_packet(&mut want, &key(1), &packet).unwrap();
            }
        }
        keep_within(&mut bucket, &mut frames, Instant::ZERO);
        prop_assert!(frames == want);
    }
}

#[test]
fn a_connection_whose_address_is_gone_is_not_asked_for_a_sign_of_life() {
    let ours = "192.168.1.2".parse().unwrap();
    let other = "192.168.1.102".parse().unwrap();
    for (local, addresses, want) in [
        (Some(ours), &[ours, other][..], Check::Alive),
        (Some(ours), &[other], Check::AddressGone),
        (Some(ours), &[], Check::Alive),
        (None, &[other], Check::Alive),
        (Some("127.0.0.1".parse().unwrap()), &[other], Check::Alive),
    ] {
        let queue = SendQueue::new(false);
        assert!(poll(queue.connected(local)).is_ready());
        assert!(poll(queue.checked()).is_pending());
        queue.check(addresses);
        assert_eq!(poll(queue.checked()), Poll::Ready(want), "{local:?}");
        // The next connection has an address of its own.
        assert!(poll(queue.connected(Some(other))).is_ready());
        queue.check(&[other]);
        assert_eq!(poll(queue.checked()), Poll::Ready(Check::Alive));
    }
}
