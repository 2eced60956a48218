//! Two stacks over a link that loses, doubles, delays and reorders.
#![allow(
    clippy::unwrap_used,
    reason = "a failure here is a failure of the test"
)]

mod sim;

use std::time::Duration;

use netstack::{Closed, Config, Event, Recv, Transport};
use proptest::prelude::*;
use sim::{A, App, B, LinkConfig, Sim, address, config, transfer};

const MS: Duration = Duration::from_millis(1);

#[test]
fn bytes_cross_a_clean_link_both_ways_and_nothing_stays() {
    for v6 in [false, true] {
        let mut sim = Sim::new(1, LinkConfig::default());
        transfer(&mut sim, v6, 3_000_000, 1_000_000);
        sim.run_for(Duration::from_secs(15));
        for side in [A, B] {
            assert_eq!(sim.stacks[side].stats().tcp_flows, 0);
            assert_eq!(sim.stacks[side].next_timeout(), None);
            assert_eq!(sim.stacks[side].stats().retransmits, 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn bytes_cross_any_link(
        seed: u64, v6: bool,
        loss in 0.0..0.2f64, duplicate in 0.0..0.1f64, jitter in 0u32..30, latency in 0u32..60,
        from_a in 0usize..400_000, from_b in 0usize..100_000,
    ) {
        let link = LinkConfig {
            latency: MS * latency, jitter: MS * jitter, loss, duplicate, ..LinkConfig::default()
        };
        let mut sim = Sim::new(seed, link);
        transfer(&mut sim, v6, from_a, from_b);
        sim.run_for(Duration::from_secs(400));
        prop_assert_eq!(sim.stacks[A].stats().tcp_flows, 0);
        prop_assert_eq!(sim.stacks[B].stats().tcp_flows, 0);
        prop_assert_eq!(sim.stacks[A].next_timeout(), None);
        prop_assert_eq!(sim.stacks[B].next_timeout(), None);
    }
}

#[test]
fn a_lossy_long_link_still_carries() {
    // 1 % loss and 50 ms: far less than the link, but no collapse.
    let link = LinkConfig {
        latency: MS * 25,
        loss: 0.01,
        rate: 12_500_000,
        ..LinkConfig::default()
    };
    let mut sim = Sim::new(7, link);
    let took = transfer(&mut sim, false, 4_000_000, 0);
    assert!(took < Duration::from_secs(40), "{took:?}");
}

#[test]
fn a_bottleneck_is_filled_and_overflow_is_repaired() {
    let link = LinkConfig {
        latency: MS * 10,
        rate: 12_500_000,
        queue: 250_000,
        ..LinkConfig::default()
    };
    let mut sim = Sim::new(8, link);
    let took = transfer(&mut sim, false, 15_000_000, 0);
    // 1.2 s at line rate.
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(sim.stacks[B].stats().retransmits, 0);
}

#[test]
fn the_caller_gets_no_answer_before_the_accept_and_a_reset_after_a_refusal() {
    let mut sim = Sim::new(2, LinkConfig::default());
    let a = sim.connect(false, 80);
    let b = sim.incoming();
    let before = sim.stacks[B].stats();
    sim.run_for(Duration::from_millis(900));
    assert!(sim.events[A].is_empty());
    assert_eq!(sim.events[B].len(), 0, "a repeated SYN is no second caller");
    assert_eq!(before, sim.stacks[B].stats());
    sim.stacks[B].refuse(b);
    sim.run_for(MS * 100);
    assert_eq!(sim.closed(A, a), Some(Closed::Refused));
    assert_eq!(sim.stacks[B].stats().tcp_flows, 0);
}

#[test]
fn a_caller_that_gives_up_is_noticed_before_the_accept() {
    let mut sim = Sim::new(3, LinkConfig::default());
    let a = sim.connect(true, 80);
    let b = sim.incoming();
    sim.stacks[A].abort(a);
    sim.run_for(MS * 100);
    assert_eq!(sim.closed(B, b), Some(Closed::Reset));
    assert!(!sim.stacks[B].accept(b, sim.now, &mut sim.rng));
}

#[test]
fn nobody_there_is_a_timeout() {
    let mut sim = Sim::new(4, LinkConfig::default());
    sim.cut = true;
    let a = sim.connect(false, 80);
    sim.run_for(Duration::from_secs(300));
    assert_eq!(sim.closed(A, a), Some(Closed::TimedOut));
    assert_eq!(sim.stacks[A].next_timeout(), None);
}

#[test]
fn one_direction_may_end_long_before_the_other() {
    let mut sim = Sim::new(5, LinkConfig::default());
    let (a, b) = sim.open(false);
    sim.stacks[A].send(a, b"question");
    sim.stacks[A].shutdown(a);
    sim.run_for(Duration::from_secs(3600));
    let mut buffer = [0; 64];
    assert_eq!(sim.stacks[B].recv(b, &mut buffer), Recv::Data(8));
    assert_eq!(sim.stacks[B].recv(b, &mut buffer), Recv::Eof);
    assert_eq!(sim.stacks[A].recv(a, &mut buffer), Recv::Empty);
    assert_eq!(sim.stacks[B].send(b, b"answer"), 6);
    sim.run_for(Duration::from_secs(1));
    assert_eq!(sim.stacks[A].recv(a, &mut buffer), Recv::Data(6));
    sim.stacks[B].shutdown(b);
    sim.run_for(Duration::from_secs(1));
    assert_eq!(sim.closed(A, a), Some(Closed::Finished));
    assert_eq!(sim.closed(B, b), Some(Closed::Finished));
}

#[test]
fn what_arrived_before_the_end_is_still_read() {
    let mut sim = Sim::new(6, LinkConfig::default());
    let (a, b) = sim.open(false);
    sim.stacks[A].send(a, b"last words");
    sim.stacks[A].shutdown(a);
    sim.stacks[B].shutdown(b);
    sim.run_for(Duration::from_secs(60));
    assert_eq!(sim.closed(B, b), None);
    let mut buffer = [0; 64];
    assert_eq!(sim.stacks[B].recv(b, &mut buffer), Recv::Data(10));
    sim.drain();
    assert_eq!(sim.closed(B, b), Some(Closed::Finished));
    assert_eq!(sim.stacks[B].stats().tcp_flows, 0);
}

#[test]
fn a_queue_is_filled_up_to_its_limit() {
    let mut sim = Sim::new(18, LinkConfig::default());
    let (a, b) = sim.open(false);
    let data: Vec<u8> = (0..30_000u32).map(|at| (at / 7) as u8).collect();
    sim.stacks[A].send(a, &data);
    sim.stacks[A].shutdown(a);
    sim.run_for(Duration::from_secs(1));
    let mut queue = std::collections::VecDeque::new();
    let mut read = |limit| sim.stacks[B].recv_into(b, &mut queue, limit);
    assert_eq!(read(10_000), Recv::Data(10_000));
    assert_eq!(read(10_000), Recv::Empty);
    assert_eq!(read(25_000), Recv::Data(15_000));
    assert_eq!(read(usize::MAX), Recv::Data(5000));
    assert_eq!(read(usize::MAX), Recv::Eof);
    assert!(queue == data);
    // Into an empty one, everything at once.
    sim.stacks[B].send(b, &data);
    sim.run_for(Duration::from_secs(1));
    queue.clear();
    assert_eq!(
        sim.stacks[A].recv_into(a, &mut queue, 30_000),
        Recv::Data(30_000)
    );
    assert!(queue == data);
}

#[test]
fn an_abort_is_a_reset_for_the_other() {
    let mut sim = Sim::new(9, LinkConfig::default());
    let (a, b) = sim.open(false);
    sim.stacks[A].abort(a);
    sim.run_for(MS * 100);
    assert_eq!(sim.closed(B, b), Some(Closed::Reset));
    assert_eq!(
        (
            sim.stacks[A].stats().tcp_flows,
            sim.stacks[B].stats().tcp_flows
        ),
        (0, 0)
    );
}

#[test]
fn a_closed_end_delivers_what_it_had_and_resets_what_comes() {
    let mut sim = Sim::new(10, LinkConfig::default());
    let (a, b) = sim.open(false);
    sim.stacks[A].send(a, &[7; 50_000]);
    sim.stacks[A].close(a, sim.now);
    sim.run_for(Duration::from_secs(2));
    let mut buffer = vec![0; 60_000];
    assert_eq!(sim.stacks[B].recv(b, &mut buffer), Recv::Data(50_000));
    assert_eq!(sim.stacks[B].recv(b, &mut buffer), Recv::Eof);
    sim.stacks[B].send(b, b"too late");
    sim.run_for(Duration::from_secs(2));
    assert_eq!(sim.closed(B, b), Some(Closed::Reset));
    assert_eq!(sim.stacks[A].stats().tcp_flows, 0);
}

#[test]
fn an_orphan_does_not_wait_for_ever() {
    let mut sim = Sim::new(11, LinkConfig::default());
    let (a, _b) = sim.open(false);
    sim.stacks[A].close(a, sim.now);
    sim.run_for(Duration::from_secs(130));
    assert_eq!(sim.stacks[A].stats().tcp_flows, 0);
    assert!(
        sim.events[A]
            .iter()
            .all(|event| !matches!(event, Event::Closed { .. }))
    );
}

#[test]
fn a_slow_reader_stops_the_sender_and_bounds_memory() {
    let mut sim = Sim::new(
        12,
        LinkConfig {
            loss: 0.02,
            ..LinkConfig::default()
        },
    );
    let (a, b) = sim.open(false);
    let mut sender = App::new(A, a, 2_000_000);
    for _ in 0..2000 {
        sender.turn(&mut sim);
        sim.run_for(MS * 10);
    }
    assert!(sender.sent < 400_000, "{}", sender.sent);
    let mut reader = App::new(B, b, 0);
    reader.portion = 10_000;
    for _ in 0..100_000 {
        sender.turn(&mut sim);
        reader.turn(&mut sim);
        if reader.eof {
            break;
        }
        assert!(sim.step());
    }
    assert_eq!(reader.received, 2_000_000);
}

#[test]
fn a_dead_peer_is_found_by_keep_alives() {
    let quick = |side| Config {
        keep_alive_idle: Duration::from_secs(30),
        keep_alive_interval: Duration::from_secs(5),
        ..config(side)
    };
    let mut sim = Sim::with(13, LinkConfig::default(), [quick(A), quick(B)]);
    let (a, b) = sim.open(false);
    sim.run_for(Duration::from_secs(600));
    assert_eq!((sim.closed(A, a), sim.closed(B, b)), (None, None));
    sim.cut = true;
    sim.run_for(Duration::from_secs(30 + 9 * 5 + 6));
    assert_eq!(
        (sim.closed(A, a), sim.closed(B, b)),
        (Some(Closed::TimedOut), Some(Closed::TimedOut))
    );
}

#[test]
fn idle_connections_are_silent() {
    let mut sim = Sim::new(14, LinkConfig::default());
    let (a, b) = sim.open(false);
    sim.stacks[A].send(a, &[1; 10_000]);
    sim.run_for(Duration::from_secs(1));
    let mut buffer = vec![0; 20_000];
    assert_eq!(sim.stacks[B].recv(b, &mut buffer), Recv::Data(10_000));
    sim.run_for(Duration::from_secs(10));
    let before = sim.packets;
    sim.run_for(Duration::from_secs(7000));
    assert_eq!(sim.packets, before);
}

#[test]
fn too_many_callers_are_turned_away() {
    let few = Config {
        max_pending: 4,
        max_pending_per_source: 2,
        ..config(B)
    };
    let mut sim = Sim::with(15, LinkConfig::default(), [config(A), few]);
    let flows: Vec<_> = (0..3).map(|n| sim.connect(false, 80 + n)).collect();
    sim.run_for(MS * 100);
    let refused = flows
        .iter()
        .filter(|id| sim.closed(A, **id) == Some(Closed::Refused))
        .count();
    assert_eq!(refused, 1);
    assert_eq!(sim.stacks[B].stats().dropped_attempts_per_source, 1);
    // One that is answered makes room for another.
    let id = sim.incoming();
    sim.accept(id);
    let more = sim.connect(false, 90);
    sim.run_for(MS * 100);
    assert_eq!(sim.closed(A, more), None);
}

#[test]
fn a_stack_talks_to_itself() {
    let mut sim = Sim::new(16, LinkConfig::default());
    let own = address(A, false);
    let remote = std::net::SocketAddr::new(own, 80);
    let out = sim.stacks[A]
        .connect(own, remote, sim.now, &mut sim.rng)
        .unwrap();
    sim.drain();
    let Some(Event::Incoming {
        id,
        transport: Transport::Tcp,
        local,
        ..
    }) = sim.events[A].pop_front()
    else {
        panic!("no caller")
    };
    assert_eq!(local, remote);
    assert!(sim.stacks[A].accept(id, sim.now, &mut sim.rng));
    sim.drain();
    assert_eq!(sim.stacks[A].send(out, b"hello"), 5);
    sim.drain();
    let mut buffer = [0; 10];
    assert_eq!(sim.stacks[A].recv(id, &mut buffer), Recv::Data(5));
    assert_eq!(sim.packets, 0, "nothing leaves");
}

#[test]
fn losing_the_address_ends_what_used_it() {
    let mut sim = Sim::new(17, LinkConfig::default());
    let (a, _b) = sim.open(false);
    sim.stacks[A].set_addresses(&[address(A, true)]);
    sim.drain();
    assert_eq!(sim.closed(A, a), Some(Closed::Aborted));
}
