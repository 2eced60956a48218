//! What each stage of the pipeline costs, beside the bare seal in the same process; and what everything costs that is not the moving of
//! packets itself. `cargo xtask bench micro` runs these, with optimisation.

use std::hint::black_box;
use std::io::IoSlice;
use std::ops::Range;

use packet::offload::{Coalescer, MAX_SEGMENTS, Splitter};
use packet::{IpView, icmp, mss};
use wireguard::{Unsealed, padded_len, sealed_len};

use super::*;
use crate::sockets::Outgoing;
use crate::workers::flows::{FlowKey, FlowTable};

/// Payload of each packet, and how many a super-packet has.
const SIZE: usize = 1240;
const COUNT: usize = 48;
const ROUNDS: usize = 7;

fn super_packet() -> Vec<u8> {
    tcp(0, 7, &text(SIZE * COUNT), false)
}

/// Nanoseconds of the fastest round.
fn nanos(times: usize, mut step: impl FnMut()) -> f64 {
    let round = |step: &mut dyn FnMut()| {
        let start = rt::now();
        for _ in 0..times {
            step();
        }
        rt::now().since(start).as_nanos() as f64 / times as f64
    };
    (0..ROUNDS)
        .map(|_| round(&mut step))
        .fold(f64::MAX, f64::min)
}

fn split(bytes: &mut [u8], mut each: impl FnMut(&[u8])) {
    let mut splitter = Splitter::new(bytes, gso(SIZE as u16), PARTIAL).expect("a super-packet");
    while let Some(packet) = splitter.next() {
        each(packet);
    }
}

#[test]
#[ignore = "measures: see cargo xtask bench micro"]
fn stages() {
    let [a, b] = scene();
    let stride = sealed_len(padded_len(SIZE + HEADERS, MTU));
    let mut packets = Vec::new();
    split(&mut super_packet(), |packet| packets.push(packet.to_vec()));
    let mut rows: Vec<(&str, f64)> = Vec::new();

    let key = aead::Key::new(&[7; 32]);
    let places: Vec<aead::Place> = (0..COUNT)
        .map(|at| aead::Place {
            counter: at as u64,
            range: at * stride + 16..(at + 1) * stride,
        })
        .collect();
    let mut buffer = vec![0; stride * COUNT];
    let bare = nanos(500, || key.seal(&mut buffer, &places).expect("sealed"));
    rows.push(("seal, nothing else", bare));

    let mut unsealed = Unsealed::default();
    let seal = |buffer: &mut [u8], unsealed: &mut Unsealed| {
        let counters = a.session.reserve(start(), COUNT as u32).expect("counters");
        for ((counter, packet), at) in counters.zip(&packets).zip(0..) {
            let padded = padded_len(packet.len(), MTU);
            unsealed
                .push(&a.session, counter, packet, padded, buffer, at * stride)
                .expect("laid out");
        }
        unsealed.finish(buffer);
    };
    rows.push((
        "seal a batch",
        nanos(500, || seal(&mut buffer, &mut unsealed)),
    ));

    let sealed = buffer.clone();
    let ranges: Vec<Range<usize>> = (0..COUNT)
        .map(|at| at * stride..(at + 1) * stride)
        .collect();
    let copy = nanos(500, || buffer.copy_from_slice(black_box(&sealed)));
    let mut opened = Vec::new();
    let open = nanos(500, || {
        buffer.copy_from_slice(&sealed);
        opened.clear();
        b.session
            .open_batch(start(), &mut buffer, &ranges, &mut opened)
            .expect("opened");
    });
    assert_eq!(opened.len(), COUNT);
    rows.push(("open a batch", open - copy));

    let whole = super_packet();
    let mut bytes = whole.clone();
    let copy = nanos(500, || bytes.copy_from_slice(black_box(&whole)));
    let split = nanos(500, || {
        bytes.copy_from_slice(&whole);
        split(&mut bytes, |packet| assert!(!black_box(packet).is_empty()));
    });
    rows.push(("split", split - copy));

    let laid_out = packets.concat();
    let mut together = laid_out.clone();
    let mut coalescer = Coalescer::new(Limits {
        tcp: true,
        udp: true,
    });
    let coalesce = nanos(500, || {
        coalescer.clear();
        together[..HEADERS].copy_from_slice(&laid_out[..HEADERS]);
        for at in 0..COUNT {
            let range = at * (SIZE + HEADERS)..(at + 1) * (SIZE + HEADERS);
            if !coalescer.extend(&mut together, range.clone()) {
                coalescer.start(&together, range);
            }
        }
        coalescer.finish(&mut together);
        assert_eq!(coalescer.runs().len(), 1);
    });
    rows.push(("coalesce", coalesce));

    let mut flows = FlowTable::new();
    let views: Vec<IpView<'_>> = packets
        .iter()
        .map(|packet| IpView::parse(packet).expect("IP"))
        .collect();
    flows.insert(FlowKey::of(&views[0]), 7);
    let lookup = nanos(5000, || {
        for view in &views {
            assert!(flows.get_mut(&FlowKey::of(black_box(view))).is_some());
        }
    });
    rows.push(("flow lookup", lookup));
    let guard = b.shared.guard.load();
    let judge = nanos(5000, || {
        for view in &views {
            assert!(!guard.judge_in(black_box(view), false).is_drop());
        }
    });
    rows.push(("filter, in", judge));
    let judge = nanos(5000, || {
        for view in &views {
            assert!(!guard.judge_out(black_box(view), false).is_drop());
        }
    });
    rows.push(("filter, out", judge));
    rows.extend(fitting(&packets));

    println!("| stage | ns/packet | of the bare seal |\n|---|---|---|");
    for (name, nanos) in rows {
        println!(
            "| {name} | {:.1} | {:.2} |",
            nanos / COUNT as f64,
            nanos / bare
        );
    }
}

/// What it costs that packets are fitted to their way: each packet is looked at, openings of connections are changed, and what is too long is
/// answered. Nanoseconds for as many as there are.
fn fitting(packets: &[Vec<u8>]) -> [(&'static str, f64); 3] {
    const LIMIT: usize = 1200;
    let mut passing = packets.to_vec();
    let look = nanos(5000, || {
        for packet in &mut passing {
            assert!(!mss::clamp(black_box(packet), LIMIT, true));
        }
    });
    let opening = opening(1460);
    let mut changed: Vec<Vec<u8>> = packets.iter().map(|_| opening.clone()).collect();
    let copy = nanos(5000, || {
        for packet in &mut changed {
            packet.copy_from_slice(black_box(&opening));
        }
    });
    let clamp = nanos(5000, || {
        for packet in &mut changed {
            packet.copy_from_slice(black_box(&opening));
            assert!(mss::clamp(packet, LIMIT, true));
        }
    });
    let answer = nanos(1000, || {
        for packet in packets {
            let view = IpView::parse(black_box(packet)).expect("IP");
            let told = icmp::error(&view, view.dst(), icmp::Error::TooBig(LIMIT as u16));
            assert!(told.is_some());
        }
    });
    [
        ("longest segment, not an opening", look),
        ("longest segment, lowered", clamp - copy),
        ("packet too big, told", answer),
    ]
}

/// The opening of a TCP connection that takes segments of `longest` bytes.
fn opening(longest: u16) -> Vec<u8> {
    let mut packet = tcp(
        0,
        7,
        &[[2, 4].as_slice(), &longest.to_be_bytes()].concat(),
        true,
    );
    // Those four bytes are no payload but options, and it is an opening: the checksum is right for that when it is made anew.
    let (offset_at, flags_at, sum_at) = (20 + 12, 20 + 13, 20 + 16);
    (packet[offset_at], packet[flags_at]) = (0x60, 0x02);
    packet[sum_at..sum_at + 2].fill(0);
    let pseudo = checksum::pseudo_header(ip(0), ip(1), Proto::TCP, packet.len() - 20);
    let sum = checksum::finish(checksum::add(pseudo, &packet[20..]));
    packet[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Batches of the comparison, and what each is.
const BATCHES: usize = 100;

/// What the network would bring the second side.
fn recorded(a: &mut Side) -> Vec<(Vec<u8>, Vec<UdpRx>)> {
    let batch = |_| {
        let trains = a.send(&[(super_packet(), gso(SIZE as u16), PARTIAL)], start());
        let (mut bytes, mut read) = (Vec::new(), Vec::new());
        for train in trains {
            read.push(UdpRx {
                off: bytes.len() as u32,
                len: train.data.len() as u32,
                stride: train.stride,
                from: place(0),
                to: None,
                ecn: train.ecn,
            });
            bytes.extend_from_slice(&train.data);
        }
        (bytes, read)
    };
    (0..BATCHES).map(batch).collect()
}

/// The workers, with all that they do.
#[inline(never)]
fn everything_on(
    a: &mut Side,
    b: &mut Side,
    out: &mut [Vec<u8>],
    inn: &mut [(Vec<u8>, Vec<UdpRx>)],
) {
    for bytes in out {
        let read = TunRx {
            off: 0,
            len: bytes.len() as u32,
            gso: gso(SIZE as u16),
            csum: PARTIAL,
        };
        a.transmitter.batch(bytes, &[read], start());
    }
    for (bytes, read) in inn {
        b.receiver.batch(bytes, read, start());
    }
}

/// The same packets moved by the same means: no filter, no flows, no masquerade, no counters, nothing told to anybody.
#[inline(never)]
fn everything_off(
    a: &mut Side,
    b: &mut Side,
    out: &mut [Vec<u8>],
    inn: &mut [(Vec<u8>, Vec<UdpRx>)],
) {
    let (mut outgoing, sockets) = (Outgoing::default(), a.shared.sockets.load_full());
    for bytes in out {
        let mut splitter = Splitter::new(bytes, gso(SIZE as u16), PARTIAL).expect("a super-packet");
        let count = splitter.count() as u32;
        let mut counters = a.session.reserve(start(), count).expect("counters");
        while let (Some(packet), Some(counter)) = (splitter.next(), counters.next()) {
            let (way, padded) = ((place(1), Ecn(0)), padded_len(packet.len(), MTU));
            outgoing
                .push_unsealed(way, &a.session, counter, packet, padded)
                .expect("laid out");
        }
        sockets.send(0, &mut outgoing);
        outgoing.clear();
    }
    let mut coalescer = Coalescer::new(Limits {
        tcp: true,
        udp: true,
    });
    let (mut ranges, mut opened) = (Vec::new(), Vec::new());
    for (bytes, read) in inn {
        ranges.clear();
        opened.clear();
        coalescer.clear();
        for train in read {
            let end = (train.off + train.len) as usize;
            let starts = (train.off as usize..end).step_by(usize::from(train.stride));
            ranges.extend(starts.map(|at| at..(at + usize::from(train.stride)).min(end)));
        }
        b.session
            .open_batch(start(), bytes, &ranges, &mut opened)
            .expect("opened");
        b.session.accept_batch(&mut opened);
        for opening in &opened {
            if !coalescer.extend(bytes, opening.plaintext.clone()) {
                coalescer.start(bytes, opening.plaintext.clone());
            }
        }
        coalescer.finish(bytes);
        let mut pieces = [IoSlice::new(&[]); MAX_SEGMENTS];
        for run in coalescer.runs() {
            let mut count = 0;
            for (place, range) in pieces.iter_mut().zip(coalescer.pieces(run)) {
                *place = IoSlice::new(&bytes[range]);
                count += 1;
            }
            let (gso, csum, iov) = (run.gso, run.csum, &pieces[..count]);
            b.device.send(&[TunTx { gso, csum, iov }]);
        }
    }
}

type Mover = fn(&mut Side, &mut Side, &mut [Vec<u8>], &mut [(Vec<u8>, Vec<UdpRx>)]);

/// Nanoseconds for all batches, and what the device got.
fn through(way: Mover) -> (f64, usize) {
    let [mut a, mut b] = scene();
    let mut inn = recorded(&mut a);
    let mut out = vec![super_packet(); BATCHES];
    a.wire.discards.store(true, Ordering::Relaxed);
    b.device.discards.store(true, Ordering::Relaxed);
    let before = rt::now();
    way(&mut a, &mut b, &mut out, &mut inn);
    let nanos = rt::now().since(before).as_nanos() as f64;
    let moved = a.wire.bytes.load(Ordering::Relaxed) + b.device.bytes.load(Ordering::Relaxed);
    (nanos, moved)
}

#[test]
#[ignore = "measures: see cargo xtask bench micro"]
fn what_it_costs_that_everything_is_on() {
    let (mut on, mut off) = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS * 2 {
        let (nanos, moved) = through(everything_on);
        let (without, moved_without) = through(everything_off);
        assert_eq!(moved, moved_without);
        (on, off) = (on.min(nanos), off.min(without));
    }
    let packets = (2 * BATCHES * COUNT) as f64;
    println!("| filter, flows, masquerade, counters | ns/packet |\n|---|---|");
    println!(
        "| on | {:.1} |\n| off | {:.1} |\n| on/off | {:.3} |",
        on / packets,
        off / packets,
        on / off
    );
}
