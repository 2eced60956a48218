use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use metrics::{DropReason, Path};
use packet::tsmp::{self, RejectReason};
use packet::{IpView, Proto};
use proptest::prelude::*;

use super::world::*;
use crate::core::Command;
use crate::streams::{Incoming, TcpStream};
use crate::{EngineEvent, PingError, PingKind};

const ALL: [PingKind; 3] = [PingKind::Disco, PingKind::Tsmp, PingKind::Icmp];

fn poll<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn tcp_syn(from: usize, to: usize, port: u16) -> Vec<u8> {
    let mut header = [0u8; 20];
    header[..2].copy_from_slice(&4000u16.to_be_bytes());
    header[2..4].copy_from_slice(&port.to_be_bytes());
    header[12] = 5 << 4;
    header[13] = packet::TcpFlags::SYN;
    packet::ip_packet(ip(from), ip(to), Proto::TCP, &header).unwrap()
}

#[test]
fn pings_of_all_kinds_are_answered() {
    let mut world = World::new(2);
    for kind in ALL {
        let pong = world.ping(0, 1, kind, SEC).unwrap().unwrap();
        assert!(
            pong.latency >= MS * 10 && pong.latency < MS * 100,
            "{kind:?} {pong:?}"
        );
        let region = if kind == PingKind::Disco { 900 } else { 0 };
        assert_eq!(pong.derp_region, region);
    }
}

#[test]
fn pings_that_cannot_work_say_why() {
    let mut world = World::new(2);
    world.command(0, Command::RemovePeer(id(1)));
    for kind in ALL {
        assert_eq!(world.ping(0, 1, kind, MS), Some(Err(PingError::NoSuchPeer)));
    }
    world.loss = 1000;
    assert_eq!(world.ping(1, 0, PingKind::Tsmp, MS * 9999), None);
    assert_eq!(
        world.ping(1, 0, PingKind::Icmp, MS * 10_001),
        Some(Err(PingError::TimedOut))
    );
    assert_eq!(
        world.ping(1, 0, PingKind::Disco, MS * 5001),
        Some(Err(PingError::TimedOut))
    );
}

#[test]
fn tsmp_pong_tells_the_peerapi_port() {
    let mut world = World::new(2);
    world.nodes[1].network.peerapi_port_v4 = 4321;
    world.configure(1);
    let pong = world.ping(0, 1, PingKind::Tsmp, SEC).unwrap().unwrap();
    assert_eq!(pong.peerapi_port, 4321);
}

#[test]
fn both_may_open_at_the_same_time() {
    let mut world = World::new(2);
    for (from, to) in [(0, 1), (1, 0)] {
        let request = crate::PingRequest {
            peer: id(to),
            address: ip(to),
            kind: PingKind::Tsmp,
            size: 0,
        };
        let (reply, _answer) = tokio::sync::oneshot::channel();
        world.command(from, Command::Ping(request, reply));
    }
    world.run(SEC * 12);
    assert!(world.ping(0, 1, PingKind::Tsmp, SEC).unwrap().is_ok());
    assert!(world.ping(1, 0, PingKind::Tsmp, SEC).unwrap().is_ok());
}

#[test]
fn an_idle_engine_has_no_timers_and_sends_nothing() {
    let mut world = World::new(2);
    world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
    world.run(SEC * 700);
    let sent = world.tape.len();
    world.run(SEC * 3600);
    assert_eq!(world.tape.len(), sent);
    for node in &world.nodes {
        assert_eq!(node.core.next_timeout(false), None);
    }
    assert!(world.status(0).peers.values().all(|peer| !peer.in_engine));
    world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
}

#[test]
fn sessions_are_renewed_under_traffic_without_a_gap() {
    let mut world = World::new(2);
    for _ in 0..120 {
        world.ping(0, 1, PingKind::Tsmp, SEC * 5).unwrap().unwrap();
    }
    let initiations = world
        .tape
        .iter()
        .filter(|(_, _, p)| p.first() == Some(&1))
        .count();
    assert!(
        (4..=8).contains(&initiations),
        "{initiations} handshakes in 10 minutes"
    );
    let status = world.status(0);
    let peer = status.peers.values().next().unwrap();
    assert!(peer.last_handshake.is_some() && peer.active && peer.rx_bytes > 1000);
}

#[test]
fn a_restarted_relay_delays_but_breaks_nothing() {
    let mut world = World::new(2);
    world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
    world.kill_relay();
    assert_eq!(world.ping(0, 1, PingKind::Icmp, SEC * 3), None);
    let down = EngineEvent::DerpConnected {
        region: 900,
        connected: false,
    };
    assert!(world.nodes[0].events.contains(&down));
    world.relay_up = true;
    world.run(SEC * 2);
    world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
}

#[test]
fn a_restarted_peer_is_reached_at_once_when_control_tells() {
    let mut world = World::new(2);
    world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
    world.restart(1, true);
    world.run(SEC);
    world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
}

#[test]
fn a_peer_that_comes_late_is_reached_soon() {
    let mut world = World::new(2);
    world.command(1, Command::SetDerpRunning(false));
    assert_eq!(world.ping(0, 1, PingKind::Icmp, MS * 1500), None);
    world.command(1, Command::SetDerpRunning(true));
    world.run(MS * 1200);
    let status = world.status(0).peers;
    let peer = &status[&world.nodes[1].key.public()];
    assert!(
        peer.last_handshake.is_some(),
        "no need to wait for the next initiation"
    );
    assert!(world.ping(0, 1, PingKind::Icmp, MS * 50).unwrap().is_ok());
}

#[test]
fn a_peer_that_never_comes_is_given_up() {
    let mut world = World::new(2);
    world.command(1, Command::SetDerpRunning(false));
    assert!(
        world
            .ping(0, 1, PingKind::Icmp, SEC * 100)
            .unwrap()
            .is_err()
    );
    world.run(SEC * 700);
    assert_eq!(world.nodes[0].core.next_timeout(false), None);
    assert!(world.status(0).peers.values().all(|peer| !peer.in_engine));
}

#[test]
fn a_restarted_peer_that_speaks_first_is_reached_without_control() {
    let mut world = World::new(2);
    world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
    world.restart(1, false);
    world.run(SEC);
    world.ping(1, 0, PingKind::Tsmp, SEC).unwrap().unwrap();
    world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
    let key = world.nodes[1].core.disco_key();
    let told = EngineEvent::DiscoAdvertised { peer: id(1), key };
    assert!(world.nodes[0].events.contains(&told));
    // Control follows, and must not cost the fresh session.
    let handshake = world.status(0).peers[&world.nodes[1].key.public()].last_handshake;
    let peer = world.peer(1);
    world.command(0, Command::UpsertPeer(Arc::new(peer)));
    assert_eq!(
        world.status(0).peers[&world.nodes[1].key.public()].last_handshake,
        handshake
    );
}

#[test]
fn a_peer_with_a_new_key_is_a_new_peer() {
    let mut world = World::new(2);
    world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
    let key = keys::NodePrivate::generate(&mut world.rng);
    world.nodes[1].key = key;
    world.configure(1);
    world.run(SEC);
    assert_eq!(
        world.ping(0, 1, PingKind::Icmp, SEC),
        None,
        "the old key reaches nobody"
    );
    let peer = world.peer(1);
    world.command(0, Command::UpsertPeer(Arc::new(peer)));
    world.run(SEC);
    world.ping(0, 1, PingKind::Icmp, SEC * 6).unwrap().unwrap();
}

#[test]
fn without_a_filter_nothing_but_the_engines_own_comes_in() {
    let mut world = World::new(2);
    world.command(1, Command::SetFirewall(Default::default()));
    assert!(world.ping(0, 1, PingKind::Tsmp, SEC).unwrap().is_ok());
    assert_eq!(world.ping(0, 1, PingKind::Icmp, SEC), None);
    assert_eq!(world.nodes[1].metrics.inbound.dropped(DropReason::Acl), 1);
    assert!(
        world.ping(1, 0, PingKind::Icmp, SEC).unwrap().is_ok(),
        "its own ping is answered"
    );
}

#[test]
fn a_refused_opening_is_answered_with_a_tsmp_reject() {
    let mut world = World::new(2);
    let firewall = world.firewall(1, &[rule(0, 1, 80)]);
    world.command(1, Command::SetFirewall(firewall));
    world.send_ip(0, &tcp_syn(0, 1, 81));
    world.run(SEC);
    assert_eq!(world.nodes[1].metrics.inbound.dropped(DropReason::Acl), 1);
    let before = world.nodes[0].metrics.inbound.packets(Path::Derp);
    world.send_ip(0, &tcp_syn(0, 1, 81));
    world.run(SEC);
    assert_eq!(
        world.nodes[0].metrics.inbound.packets(Path::Derp),
        before + 1
    );
    let reject = tsmp::Reject::of(
        &IpView::parse(&tcp_syn(0, 1, 81)).unwrap(),
        RejectReason::ACL,
    );
    assert_eq!(reject.src, at(0, 4000));
}

#[test]
fn inner_sources_must_belong_to_the_peer() {
    let mut world = World::new(3);
    world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
    let ping = |from: usize| tsmp::Message::Ping([9; 8]).packet(ip(from), ip(1)).unwrap();
    let answers = |world: &World| world.nodes[1].metrics.outbound.packets(Path::Derp);
    let before = answers(&world);
    world.send_ip(0, &ping(2));
    world.run(SEC);
    assert_eq!(answers(&world), before, "node 0 may not speak as node 2");
    world.send_ip(0, &ping(0));
    world.run(SEC);
    assert_eq!(answers(&world), before + 1);
}

#[test]
fn replayed_and_forged_datagrams_change_nothing() {
    let mut world = World::new(3);
    world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
    world.run(SEC * 30);
    let status = world.status(1).peers;
    let sent = world.tape.len();
    let (zero, one, two) = (0, 1, 2).into_keys(&world);
    for (src, to, packet) in world.tape.clone() {
        if (src, to) != (zero, one) {
            continue;
        }
        world.inject(zero, 1, packet.clone());
        world.inject(two, 1, packet.clone());
        for cut in [1, 4, 16, 31, packet.len() - 1] {
            world.inject(zero, 1, packet[..cut].to_vec());
        }
        for flip in 0..packet.len() {
            let mut forged = packet.clone();
            forged[flip] ^= 1;
            world.inject(zero, 1, forged);
        }
    }
    world.run(SEC);
    let answers: Vec<u8> = world.tape[sent..].iter().map(|(_, _, p)| p[0]).collect();
    assert!(
        answers.iter().all(|kind| *kind == 3),
        "only cookies may be given out: {answers:?}"
    );
    let after = world.status(1).peers;
    assert_eq!(after[&zero].last_handshake, status[&zero].last_handshake);
    assert!(!after.contains_key(&two) || after[&two].last_handshake.is_none());
    world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
}

#[test]
fn another_node_cannot_use_up_a_captured_datagram() {
    let mut world = World::new(3);
    world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
    let (zero, _, two) = (0, 1, 2).into_keys(&world);
    world.loss = 1000;
    assert_eq!(world.ping(0, 1, PingKind::Tsmp, MS), None);
    world.loss = 0;
    let (_, _, captured) = world.tape.last().unwrap().clone();
    let answers = |world: &World| world.nodes[1].metrics.outbound.packets(Path::Derp);
    let before = answers(&world);
    world.inject(two, 1, captured.clone());
    world.run(SEC);
    assert_eq!(answers(&world), before);
    world.inject(zero, 1, captured);
    world.run(SEC);
    assert_eq!(answers(&world), before + 1, "its sender can still use it");
}

trait IntoKeys {
    fn into_keys(self, world: &World) -> (keys::NodePublic, keys::NodePublic, keys::NodePublic);
}

impl IntoKeys for (usize, usize, usize) {
    fn into_keys(self, world: &World) -> (keys::NodePublic, keys::NodePublic, keys::NodePublic) {
        let key = |node: usize| world.nodes[node].key.public();
        (key(self.0), key(self.1), key(self.2))
    }
}

/// Opens a connection from node 0 to node 1 and accepts it.
fn connect(world: &mut World) -> (TcpStream, TcpStream) {
    let dialer = world.nodes[0].dialer.clone();
    let mut dial = Box::pin(async move { dialer.tcp(at(1, 80)).await });
    assert!(poll(&mut dial).is_pending());
    world.run(SEC);
    let Poll::Ready(Some(Incoming::Tcp(caller))) = poll(world.nodes[1].incoming.recv()) else {
        panic!("nobody calls");
    };
    assert_eq!((caller.local, caller.remote.ip()), (at(1, 80), ip(0)));
    let mut accept = Box::pin(caller.accept());
    assert!(poll(&mut accept).is_pending());
    world.run(SEC);
    let (Poll::Ready(Ok(ours)), Poll::Ready(Ok(theirs))) = (poll(&mut dial), poll(&mut accept))
    else {
        panic!("no connection");
    };
    (ours, theirs)
}

#[test]
fn tcp_carries_bytes_both_ways_through_loss() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let mut world = World::new(2);
    let (mut ours, mut theirs) = connect(&mut world);
    world.loss = 20;
    let data: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    let mut got = Vec::new();
    let mut sent = 0;
    let mut buffer = vec![0; 50_000];
    for _ in 0..4000 {
        if sent < data.len()
            && let Poll::Ready(n) = poll(ours.write(&data[sent..]))
        {
            sent += n.unwrap();
        }
        while let Poll::Ready(n) = poll(theirs.read(&mut buffer)) {
            got.extend_from_slice(&buffer[..n.unwrap()]);
        }
        world.run(MS * 20);
        if got.len() == data.len() {
            break;
        }
    }
    assert!(got == data, "{} of {} bytes", got.len(), data.len());
    world.loss = 0;
    assert!(matches!(poll(theirs.write(b"answer")), Poll::Ready(Ok(6))));
    world.run(SEC);
    assert!(matches!(poll(ours.read(&mut buffer)), Poll::Ready(Ok(6))));
    assert_eq!(&buffer[..6], b"answer");
}

#[test]
fn a_tcp_connection_outlives_the_relay_and_the_session() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let mut world = World::new(2);
    let (mut ours, mut theirs) = connect(&mut world);
    world.kill_relay();
    assert!(matches!(poll(ours.write(b"late")), Poll::Ready(Ok(4))));
    world.run(SEC * 5);
    world.relay_up = true;
    world.run(SEC * 10);
    let mut buffer = [0; 16];
    assert!(matches!(poll(theirs.read(&mut buffer)), Poll::Ready(Ok(4))));
    world.run(SEC * 400);
    assert!(matches!(poll(theirs.write(b"later")), Poll::Ready(Ok(5))));
    world.run(SEC * 2);
    assert!(matches!(poll(ours.read(&mut buffer)), Poll::Ready(Ok(5))));
}

#[test]
fn datagrams_go_both_ways_and_answers_need_no_rule() {
    let mut world = World::new(2);
    let firewall = world.firewall(0, &[]);
    world.command(0, Command::SetFirewall(firewall));
    let dialer = world.nodes[0].dialer.clone();
    let mut dial = Box::pin(async move { dialer.udp(at(1, 53)).await });
    assert!(poll(&mut dial).is_pending());
    world.run(MS);
    let Poll::Ready(Ok(ours)) = poll(&mut dial) else {
        panic!("no flow");
    };
    assert!(matches!(poll(ours.send(b"question")), Poll::Ready(Ok(_))));
    world.run(SEC);
    let Poll::Ready(Some(Incoming::Udp(caller))) = poll(world.nodes[1].incoming.recv()) else {
        panic!("nobody calls");
    };
    let mut accept = Box::pin(caller.accept());
    assert!(poll(&mut accept).is_pending());
    world.run(MS);
    let Poll::Ready(Ok(theirs)) = poll(&mut accept) else {
        panic!("not accepted");
    };
    let mut buffer = [0; 64];
    assert!(matches!(poll(theirs.recv(&mut buffer)), Poll::Ready(Ok(8))));
    assert_eq!(&buffer[..8], b"question");
    assert!(matches!(poll(theirs.send(b"answer")), Poll::Ready(Ok(_))));
    world.run(SEC);
    assert!(matches!(poll(ours.recv(&mut buffer)), Poll::Ready(Ok(6))));
    assert_eq!(&buffer[..6], b"answer");
}

#[test]
fn a_jailed_peer_may_only_answer() {
    let mut world = World::new(2);
    let mut peer = world.peer(0);
    peer.jailed = true;
    world.command(1, Command::UpsertPeer(Arc::new(peer)));
    assert_eq!(world.ping(0, 1, PingKind::Icmp, SEC), None);
    world.send_ip(0, &tcp_syn(0, 1, 80));
    world.run(SEC);
    assert!(poll(world.nodes[1].incoming.recv()).is_pending());
    assert!(world.ping(1, 0, PingKind::Icmp, SEC).unwrap().is_ok());
}

#[test]
fn rules_decide_by_source_and_port() {
    let mut world = World::new(3);
    let firewall = world.firewall(1, &[rule(0, 1, 80)]);
    world.command(1, Command::SetFirewall(firewall));
    for (from, port, comes_in) in [(0, 81, false), (2, 80, false), (0, 80, true)] {
        let dialer = world.nodes[from].dialer.clone();
        let mut dial = Box::pin(async move { dialer.tcp(at(1, port)).await });
        assert!(poll(&mut dial).is_pending());
        world.run(SEC);
        let called = poll(world.nodes[1].incoming.recv()).is_ready();
        assert_eq!(called, comes_in, "{from} to {port}");
    }
}

#[test]
fn running_is_reported_once_the_first_attempt_has_ended() {
    let mut world = World::new(1);
    let live = |world: &World| {
        let events = world.nodes[0].events.iter();
        let counts = events.filter_map(|event| match event {
            EngineEvent::DerpLinks { live, connected } => Some((*live, *connected)),
            _ => None,
        });
        counts.collect::<Vec<_>>()
    };
    assert_eq!(live(&world), [(1, 1)]);
    assert!(world.nodes[0].events.contains(&EngineEvent::HomeDerp(900)));
    world.kill_relay();
    assert_eq!(live(&world), [(1, 1), (1, 0)]);
    world.command(0, Command::SetDerpRunning(false));
    assert_eq!(live(&world).last(), Some(&(0, 0)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever a relay and a peer send, the engine lives, answers nothing that is not authentic, and goes on.
    #[test]
    fn junk_of_any_kind_changes_nothing(
        junk in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20),
        kinds in proptest::collection::vec(0u8..5, 20),
        inner in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let mut world = World::new(2);
        world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
        let from = world.nodes[0].key.public();
        for (mut packet, kind) in junk.into_iter().zip(kinds) {
            if let Some(head) = packet.first_chunk_mut::<4>() {
                *head = [kind, 0, 0, 0];
            }
            world.inject(from, 1, packet);
        }
        // An authentic peer with a broken stack.
        world.send_raw(0, 1, &inner);
        let mut nearly = inner.clone();
        if let Some(first) = nearly.first_mut() {
            *first = 0x45;
        }
        world.send_raw(0, 1, &nearly);
        world.run(SEC);
        prop_assert!(world.ping(0, 1, PingKind::Icmp, SEC).unwrap().is_ok());
        prop_assert!(world.ping(1, 0, PingKind::Tsmp, SEC).unwrap().is_ok());
    }
}

#[test]
fn a_peer_that_knows_us_by_another_address_talks_to_us() {
    let mut world = World::new(2);
    let mask = [100, 99, 0, 1];
    let mut masked = world.peer(1);
    masked.masquerade.v4 = Some(mask.into());
    let mut known = world.peer(0);
    let net = ipnet::IpNet::from(std::net::IpAddr::from(mask));
    known.addresses = vec![mask.into()];
    (known.sources, known.routes) = (vec![net], vec![net]);
    world.command(1, Command::UpsertPeer(Arc::new(known)));
    let ping = |world: &mut World, kind| {
        let request = crate::PingRequest {
            peer: id(0),
            address: mask.into(),
            kind,
            size: 0,
        };
        let (reply, mut answer) = tokio::sync::oneshot::channel();
        world.command(1, Command::Ping(request, reply));
        world.run(SEC);
        answer.try_recv().ok().map(|pong| pong.is_ok())
    };
    let lost = ping(&mut world, PingKind::Icmp);
    assert_eq!(lost, None, "neither knows the address of the other");
    world.command(0, Command::UpsertPeer(Arc::new(masked)));
    for kind in [PingKind::Tsmp, PingKind::Icmp] {
        assert_eq!(ping(&mut world, kind), Some(true), "{kind:?}");
        world.ping(0, 1, kind, SEC).unwrap().unwrap();
    }
    // And our own address is as good as before for who uses it.
    let plain = world.peer(1);
    world.command(0, Command::UpsertPeer(Arc::new(plain)));
    assert_eq!(ping(&mut world, PingKind::Icmp), None);
}
