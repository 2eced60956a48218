use proptest::prelude::*;

use super::congestion::Cubic;
use super::recv::RecvHalf;
use super::rtt::Rtt;
use super::segment::{HEADER, SackBlocks};
use super::send::ORIGIN;
use super::*;

fn options() -> impl Strategy<Value = Options> {
    let sack = prop::collection::vec(any::<(u32, u32)>(), 0..4);
    (
        any::<Option<u16>>(),
        prop::option::of(0u8..=14),
        any::<bool>(),
        sack,
    )
        .prop_map(|(mss, window_scale, sack_permitted, blocks)| {
            let mut sack = SackBlocks::default();
            // With all other options there is room for two.
            blocks
                .into_iter()
                .take(2)
                .for_each(|block| sack.push(block));
            Options {
                mss,
                window_scale,
                sack_permitted,
                sack,
            }
        })
}

proptest! {
    #[test]
    fn segments_round_trip(
        seq: u32, ack: u32, flags in 0u8..64, window: u16, options in options(),
        payload in prop::collection::vec(any::<u8>(), 0..50), ports: (u16, u16),
    ) {
        let segment = Segment { seq, ack, flags, window, options, payload: &payload };
        let mut bytes = Vec::new();
        segment.write_header(ports.0, ports.1, &mut bytes);
        prop_assert!(bytes.len() % 4 == 0 && bytes.len() <= 60);
        bytes.extend_from_slice(&payload);
        prop_assert_eq!(Segment::parse(&bytes), Some(segment));
    }

    #[test]
    fn any_bytes_parse_or_do_not(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Some(segment) = Segment::parse(&bytes) {
            prop_assert!(segment.payload.len() <= bytes.len() - HEADER);
            let _ = segment.reset_for();
        }
    }

    /// Segments in any order, cut in any way, some twice: what is read is the stream, and the reports are true.
    #[test]
    fn the_receiver_puts_any_order_right(
        irs: u32,
        len in 1usize..5000,
        cuts in prop::collection::vec((0usize..5000, 1usize..700), 1..120),
        fin: bool,
        portion in 1usize..1000,
    ) {
        let stream: Vec<u8> = (0..len).map(|at| ((at * 7) >> 2) as u8).collect();
        let mut recv = RecvHalf::new(irs, 1 << 20);
        let mut got = Vec::new();
        let mut have = vec![false; len];
        let whole = [(0, len)];
        for (from, size) in cuts.into_iter().chain(whole) {
            let from = from.min(len);
            let to = (from + size).min(len);
            have[from..to].fill(true);
            recv.handle_data(ORIGIN + 1 + from as u64, &stream[from..to], fin && to == len);
            for (start, end) in recv.sack().as_slice() {
                let at = |seq: u32| (recv.offset(seq) - ORIGIN - 1) as usize;
                prop_assert!(at(*start) < at(*end) && have[at(*start)..at(*end)].iter().all(|b| *b));
            }
            let mut buffer = vec![0; portion];
            let n = recv.read(&mut buffer);
            got.extend_from_slice(&buffer[..n]);
            prop_assert!(stream.starts_with(&got));
        }
        while recv.readable() > 0 {
            let mut buffer = vec![0; portion];
            let n = recv.read(&mut buffer);
            got.extend_from_slice(&buffer[..n]);
        }
        prop_assert_eq!(got, stream);
        prop_assert_eq!(recv.finished(), fin);
        prop_assert_eq!(recv.nxt(), ORIGIN + 1 + len as u64 + u64::from(fin));
        prop_assert!(!recv.has_gaps());
    }
}

#[test]
fn odd_options_are_survived() {
    let check = |options: &[u8], expected: Options| {
        let mut bytes = vec![0; HEADER];
        bytes.extend_from_slice(options);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes[12] = (bytes.len() / 4 * 16) as u8;
        assert_eq!(
            Segment::parse(&bytes).unwrap().options,
            expected,
            "{options:?}"
        );
    };
    let mss = Options {
        mss: Some(1240),
        ..Options::default()
    };
    check(&[2, 4, 4, 216], mss);
    check(&[1, 1, 2, 4, 4, 216, 0, 3], mss);
    check(&[2, 4, 4, 216, 3, 0], mss);
    check(&[2, 4, 4, 216, 254, 40], mss);
    check(&[99, 3, 0, 2, 4, 4, 216], mss);
    check(
        &[3, 3, 200],
        Options {
            window_scale: Some(14),
            ..Options::default()
        },
    );
    check(&[2, 3, 4], Options::default());
}

#[test]
fn tiny_pieces_are_bounded() {
    let mut recv = RecvHalf::new(0, 1 << 20);
    for at in (1..60_000).step_by(2) {
        recv.handle_data(ORIGIN + 1 + at, &[1], false);
    }
    recv.handle_data(ORIGIN + 1, &[1], false);
    assert_eq!(recv.nxt(), ORIGIN + 3);
}

#[test]
fn the_timeout_follows_the_path() {
    let ms = Duration::from_millis;
    let mut rtt = Rtt::new();
    assert_eq!(rtt.timeout(), ms(1000));
    rtt.sample(ms(100));
    assert_eq!(rtt.timeout(), ms(300));
    for _ in 0..50 {
        rtt.sample(ms(1));
    }
    assert_eq!(rtt.timeout(), ms(200), "never less");
    rtt.back_off();
    rtt.back_off();
    assert_eq!(rtt.timeout(), ms(800));
    for _ in 0..50 {
        rtt.back_off();
    }
    assert_eq!(rtt.timeout(), rtt::MAX);
    rtt.progress();
    assert_eq!(rtt.timeout(), ms(200));
}

#[test]
fn the_window_gives_way_and_comes_back() {
    let rtt = Duration::from_millis(50);
    let mut now = Instant::from_nanos(1_000_000_000);
    let mut cubic = Cubic::new(1000);
    assert_eq!(cubic.window(), 10_000);
    for _ in 0..6 {
        let window = cubic.window();
        cubic.on_ack(window, rtt, now);
        now += rtt;
    }
    assert_eq!(cubic.window(), 640_000, "doubles with each round trip");
    cubic.on_loss(640_000);
    assert_eq!(cubic.window(), 448_000);
    let mut rounds = 0;
    while cubic.window() < 640_000 {
        let window = cubic.window();
        cubic.on_ack(window, rtt, now);
        assert!(cubic.window() <= window * 3 / 2 + 1000);
        now += rtt;
        rounds += 1;
    }
    // K of RFC 9438 4.2 is 7.8 s, which is 157 round trips.
    assert!((120..180).contains(&rounds), "{rounds}");
    cubic.on_timeout(640_000);
    assert_eq!(cubic.window(), 1000);
    for _ in 0..1000 {
        cubic.on_timeout(1000);
        cubic.on_loss(0);
    }
    assert!(cubic.window() >= 1000);
}
