//! UDP flows, echo, and packets that nobody should send.
#![allow(
    clippy::unwrap_used,
    reason = "a failure here is a failure of the test"
)]

mod sim;

use std::net::SocketAddr;
use std::time::Duration;

use netstack::{Closed, Error, Event, Transport};
use proptest::prelude::*;
use sim::{A, B, LinkConfig, Sim, address};

const MS: Duration = Duration::from_millis(1);

fn udp_pair(v6: bool) -> (Sim, netstack::FlowId, netstack::FlowId) {
    let mut sim = Sim::new(1, LinkConfig::default());
    let remote = SocketAddr::new(address(B, v6), 5353);
    let a = sim.stacks[A]
        .udp_connect(address(A, v6), remote, &mut sim.rng)
        .unwrap();
    sim.stacks[A].udp_send(a, b"one", sim.now).unwrap();
    sim.stacks[A].udp_send(a, b"", sim.now).unwrap();
    sim.run_for(MS * 20);
    let Some(Event::Incoming {
        id: b,
        transport: Transport::Udp,
        local,
        ..
    }) = sim.events[B].pop_front()
    else {
        panic!("no datagram")
    };
    assert_eq!(local, remote);
    (sim, a, b)
}

#[test]
fn datagrams_keep_their_edges_both_ways() {
    for v6 in [false, true] {
        let (mut sim, a, b) = udp_pair(v6);
        assert_eq!(sim.stacks[B].udp_recv(b), None, "not before the accept");
        assert!(sim.stacks[B].accept(b, sim.now, &mut sim.rng));
        assert_eq!(sim.stacks[B].udp_recv(b).as_deref(), Some(&b"one"[..]));
        assert_eq!(sim.stacks[B].udp_recv(b).as_deref(), Some(&b""[..]));
        assert_eq!(sim.stacks[B].udp_recv(b), None);
        sim.stacks[B].udp_send(b, b"answer", sim.now).unwrap();
        sim.run_for(MS * 20);
        assert_eq!(sim.events[A].pop_front(), Some(Event::Progress { id: a }));
        assert_eq!(sim.stacks[A].udp_recv(a).as_deref(), Some(&b"answer"[..]));
        // What is longer than a packet travels in fragments.
        let most = 65535 - 8 - if v6 { 0 } else { 20 };
        for len in [1252, 1253, 8000, most] {
            let data: Vec<u8> = (0..len).map(|at| at as u8).collect();
            assert_eq!(sim.stacks[A].udp_send(a, &data, sim.now), Ok(()));
            sim.run_for(MS * 20);
            assert_eq!(sim.stacks[B].udp_recv(b), Some(data));
        }
        let long = vec![0; most + 1];
        assert_eq!(
            sim.stacks[A].udp_send(a, &long, sim.now),
            Err(Error::TooLarge)
        );
    }
}

#[test]
fn flows_that_others_opened_end_when_they_are_idle() {
    let (mut sim, a, b) = udp_pair(false);
    assert!(sim.stacks[B].accept(b, sim.now, &mut sim.rng));
    sim.run_for(Duration::from_secs(100));
    sim.stacks[A].udp_send(a, b"again", sim.now).unwrap();
    sim.run_for(Duration::from_secs(100));
    assert_eq!(sim.closed(B, b), None);
    sim.run_for(Duration::from_secs(30));
    assert_eq!(sim.closed(B, b), Some(Closed::Idle));
    assert_eq!(sim.stacks[B].stats().udp_flows, 0);
    assert_eq!(
        sim.stacks[A].stats().udp_flows,
        1,
        "ours lives until we close it"
    );
    sim.stacks[A].close(a, sim.now);
    assert_eq!(sim.stacks[A].stats().udp_flows, 0);
}

#[test]
fn a_refused_datagram_is_forgotten() {
    let (mut sim, a, b) = udp_pair(false);
    sim.stacks[B].refuse(b);
    sim.stacks[A].udp_send(a, b"again", sim.now).unwrap();
    sim.run_for(MS * 20);
    assert!(matches!(
        sim.events[B].pop_front(),
        Some(Event::Incoming { .. })
    ));
    assert!(sim.events[A].is_empty(), "no word of it to the caller");
}

#[test]
fn unread_datagrams_are_bounded() {
    let (mut sim, a, b) = udp_pair(false);
    assert!(sim.stacks[B].accept(b, sim.now, &mut sim.rng));
    for _ in 0..2000 {
        sim.stacks[A].udp_send(a, &[1; 1000], sim.now).unwrap();
        sim.drain();
    }
    sim.run_for(MS * 20);
    let mut read = 0;
    while sim.stacks[B].udp_recv(b).is_some() {
        read += 1;
    }
    assert!((200..=512).contains(&read), "{read}");
    assert!(sim.stacks[B].stats().queue_full > 1000);
}

#[test]
fn the_output_queue_is_bounded() {
    let (mut sim, a, _) = udp_pair(false);
    let sent = (0..2000)
        .filter(|_| sim.stacks[A].udp_send(a, &[1; 100], sim.now).is_ok())
        .count();
    assert_eq!(sent, 512);
}

#[test]
fn echo_is_answered_and_heard() {
    for v6 in [false, true] {
        let mut sim = Sim::new(2, LinkConfig::default());
        sim.stacks[A]
            .send_echo(address(A, v6), address(B, v6), 7, 9, b"ping")
            .unwrap();
        sim.run_for(MS * 20);
        let heard = Event::EchoReply {
            local: address(A, v6),
            remote: address(B, v6),
            ident: 7,
            seq: 9,
        };
        assert_eq!(sim.events[A].pop_front(), Some(heard));
        // Somebody else's address is not ours to answer for.
        let other = if v6 {
            "fd7a:115c:a1e0::9"
        } else {
            "100.64.0.9"
        };
        sim.stacks[A]
            .send_echo(address(A, v6), other.parse().unwrap(), 7, 9, b"ping")
            .unwrap();
        sim.run_for(MS * 20);
        assert!(sim.events[A].is_empty());
    }
}

/// Repairs the checksums, so that what is behind them is reached.
fn seal(packet: &mut [u8]) {
    use packet::{IpView, Proto, checksum};
    if packet.first().is_some_and(|b| b >> 4 == 4) && packet.len() >= 20 {
        let header = (usize::from(packet[0] & 15) * 4).clamp(20, packet.len());
        packet[10..12].fill(0);
        let sum = checksum::of(&packet[..header]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let Ok(view) = IpView::parse(packet) else {
        return;
    };
    let at = match view.proto() {
        Proto::TCP => 16,
        Proto::UDP => 6,
        Proto::ICMP4 | Proto::ICMP6 => 2,
        _ => return,
    };
    let start = view.transport_offset();
    let end = view.bytes().len();
    let pseudo = match view.proto() {
        Proto::ICMP4 => 0,
        proto => checksum::pseudo_header(view.src(), view.dst(), proto, end - start),
    };
    if end < start + at + 2 {
        return;
    }
    packet[start + at..start + at + 2].fill(0);
    let sum = checksum::finish(checksum::add(pseudo, &packet[start..end]));
    packet[start + at..start + at + 2].copy_from_slice(&sum.to_be_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..50)) {
        let mut sim = Sim::new(3, LinkConfig::default());
        for packet in packets {
            sim.stacks[A].handle_packet(&packet, sim.now);
            sim.drain();
        }
    }

    /// Real conversations in which packets are bent, with right checksums, and mixed with ones that a peer could make up.
    #[test]
    fn bent_packets_are_survived(
        seed: u64, v6: bool,
        bends in prop::collection::vec((0usize..200, 0usize..80, any::<u8>()), 1..200),
        made_up in prop::collection::vec((any::<i16>(), any::<i16>(), 0u8..64, any::<u16>(), 0usize..1300), 0..200),
    ) {
        let mut sim = Sim::new(seed, LinkConfig { loss: 0.05, ..LinkConfig::default() });
        sim.seen = Some(Vec::new());
        let (a, b) = sim.open(v6);
        sim.stacks[A].send(a, &[1; 30_000]);
        sim.stacks[B].send(b, &[2; 30_000]);
        let mut buffer = vec![0; 5000];
        let mut made_up = made_up.into_iter();
        for (which, at, value) in bends {
            sim.step();
            let seen = sim.seen.as_ref().unwrap();
            let (side, mut packet) = seen[seen.len().saturating_sub(1 + which % seen.len())].clone();
            if let Some((seq, ack, flags, window, len)) = made_up.next() {
                let start = if v6 { 40 } else { 20 };
                let near = |field: std::ops::Range<usize>, by: i16, packet: &mut Vec<u8>| {
                    let old = u32::from_be_bytes(packet[field.clone()].try_into().unwrap());
                    packet[field].copy_from_slice(&old.wrapping_add_signed(i32::from(by)).to_be_bytes());
                };
                near(start + 4..start + 8, seq, &mut packet);
                near(start + 8..start + 12, ack, &mut packet);
                packet[start + 13] = flags;
                packet[start + 14..start + 16].copy_from_slice(&window.to_be_bytes());
                packet.resize(packet.len().max(start + 20 + len), 3);
                let total = packet.len();
                match v6 {
                    true => packet[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes()),
                    false => packet[2..4].copy_from_slice(&(total as u16).to_be_bytes()),
                }
            } else {
                let len = packet.len();
                packet[at % len] = value;
            }
            seal(&mut packet);
            let now = sim.now;
            sim.stacks[1 - side].handle_packet(&packet, now);
            let _ = sim.stacks[A].recv(a, &mut buffer);
            let _ = sim.stacks[B].recv(b, &mut buffer);
        }
        sim.stacks[A].close(a, sim.now);
        sim.stacks[B].close(b, sim.now);
        sim.run_for(Duration::from_secs(3600 * 3));
        // What the bent packets opened was never accepted; everything else is over.
        for side in [A, B] {
            prop_assert_eq!(sim.stacks[side].stats().tcp_flows, 0);
        }
    }
}
