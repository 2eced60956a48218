//! Direct paths, and those who would lead us astray.

use std::net::SocketAddr;

use keys::{DiscoPrivate, NodePrivate};
use packet::disco::{self, Message, Ping, Pong, TxId};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::net::{Nat, PORT};
use super::world::*;
use crate::{Output, PingId, PingScope};

/// Two nodes behind routers, that have a direct path to each other.
fn direct_pair(seed: u64) -> World {
    let mut world = World::new(seed, &[1, 1, 1], &[(1, 30)]);
    for node in 0..3 {
        let site = world.net.add(Nat::Easy, MS * 10);
        world.place(node, site);
    }
    world.run(SEC * 3);
    world.send(0, 1, &[4, 0]);
    // One side has nothing to say, so the other must ask twice.
    world.run(SEC * 8);
    assert!(world.direct(0, 1).is_some());
    world
}

fn somewhere() -> SocketAddr {
    "198.51.100.77:7".parse().unwrap()
}

/// Whatever a node has to send, by address.
fn udp_sent(world: &mut World, node: usize) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    while let Some(output) = world.nodes[node].ms.poll_output() {
        if let Output::SendUdp { to, .. } = output {
            all.push(to);
        }
    }
    all
}

fn seal(world: &mut World, from: &DiscoPrivate, to: usize, message: &Message) -> Vec<u8> {
    let key = disco::shared_key(from, &world.nodes[to].ms.disco_key()).unwrap();
    disco::seal(message, &from.public(), &key, &mut world.rng)
}

/// A node of which the test holds the disco key.
fn puppet(world: &mut World, node: usize) -> DiscoPrivate {
    let private = DiscoPrivate::generate(&mut StdRng::seed_from_u64(4711));
    let mut config = world.peer(node, 1);
    config.disco = private.public();
    config.endpoints.clear();
    for other in (0..world.nodes.len()).filter(|other| *other != node) {
        world.nodes[other].ms.upsert_peer(&config);
        world.drain(other);
    }
    private
}

fn ping(tx: u8) -> Message {
    Message::Ping(Ping {
        tx: TxId([tx; 12]),
        node_key: Default::default(),
        padding: 0,
    })
}

#[test]
fn the_first_packet_opens_a_direct_path_both_ways() {
    let mut world = direct_pair(1);
    world.send(1, 0, &[4, 1]);
    world.run(SEC);
    let inside = |node: usize, world: &World| world.nodes[node].place.unwrap().1;
    assert_ne!(world.direct(0, 1), Some(inside(1, &world)));
    assert!(world.direct(1, 0).is_some());
    // From then on nothing goes by the relay.
    let route = world.nodes[0].ms.route(id(1), world.now).unwrap();
    assert!(route.relay.is_none() && route.direct.is_some());
}

#[test]
fn a_path_stays_while_there_is_traffic_and_is_doubted_when_it_rests() {
    let mut world = direct_pair(2);
    for _ in 0..40 {
        world.run(SEC);
        world.send(0, 1, &[4, 0]);
    }
    assert!(world.direct(0, 1).is_some());
    world.run(SEC * 60);
    assert_eq!(world.direct(0, 1), None);
    let route = world.nodes[0].ms.route(id(1), world.now).unwrap();
    assert!(
        route.relay.is_some() && route.direct.is_some(),
        "both until it is known to work"
    );
    world.drain(0);
    world.run(SEC);
    assert!(world.direct(0, 1).is_some());
}

#[test]
fn a_ping_of_people_tells_the_way_it_took() {
    let mut world = direct_pair(3);
    world.ping(0, 1, 5);
    world.run(SEC);
    assert_eq!(world.nodes[0].pongs(), [(5, Ok(0))]);
    // Without a trusted path the fastest answer counts, and there is only one.
    world.ping(0, 2, 6);
    world.run(SEC * 10);
    let pongs = world.nodes[0].pongs();
    assert_eq!(pongs.len(), 2);
    assert!(pongs[1].1.is_ok());
    world.udp_loss = 1000;
    world.loss = 1000;
    world.run(SEC * 60);
    world.ping(0, 2, 7);
    world.run(SEC * 6);
    let timed_out = (7, Err(crate::PingFailure::TimedOut));
    assert_eq!(world.nodes[0].pongs()[2..], [timed_out]);
}

#[test]
fn a_ping_from_anywhere_moves_nothing() {
    let mut world = direct_pair(4);
    let before = world.direct(0, 1);
    let private = puppet(&mut world, 2);
    let packet = seal(&mut world, &private, 0, &ping(1));
    world.inject_udp(somewhere(), 0, packet);
    world.run(SEC);
    assert_eq!(world.direct(0, 1), before);
    assert_eq!(world.direct(0, 2), None, "only our own ping proves a path");
}

#[test]
fn a_replayed_ping_is_answered_once_per_address_and_leads_nowhere() {
    let mut world = direct_pair(5);
    let private = puppet(&mut world, 2);
    let packet = seal(&mut world, &private, 0, &ping(1));
    let (now, from) = (world.now, somewhere());
    let node = &mut world.nodes[0].ms;
    let mut rng = StdRng::seed_from_u64(1);
    for _ in 0..3 {
        node.handle_direct_disco(from, &packet, now, &mut rng);
    }
    assert_eq!(udp_sent(&mut world, 0), [from]);
}

#[test]
fn forged_and_mutilated_datagrams_are_ignored() {
    let mut world = direct_pair(6);
    let private = puppet(&mut world, 2);
    let good = seal(&mut world, &private, 0, &ping(1));
    let stranger = DiscoPrivate::generate(&mut StdRng::seed_from_u64(1));
    let strange = seal(&mut world, &stranger, 0, &ping(2));
    let (now, from) = (world.now, somewhere());
    let mut rng = StdRng::seed_from_u64(1);
    let node = &mut world.nodes[0].ms;
    node.handle_direct_disco(from, &strange, now, &mut rng);
    for len in 0..good.len() {
        node.handle_direct_disco(from, &good[..len], now, &mut rng);
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        node.handle_direct_disco(from, &bad, now, &mut rng);
    }
    assert_eq!(udp_sent(&mut world, 0), []);
}

#[test]
fn our_own_datagrams_coming_back_are_ignored() {
    let mut world = direct_pair(7);
    let now = world.now;
    let mut rng = StdRng::seed_from_u64(1);
    let node = &mut world.nodes[0].ms;
    node.ping(PingId(1), id(1), PingScope::All, 0, now, &mut rng);
    let mut packets = Vec::new();
    while let Some(output) = node.poll_output() {
        if let Output::SendUdp { packet, .. } | Output::SendDerp { packet, .. } = output {
            packets.push(packet);
        }
    }
    assert!(!packets.is_empty());
    let other = world.nodes[1].key;
    for packet in packets {
        let node = &mut world.nodes[0].ms;
        node.handle_direct_disco(somewhere(), &packet, now, &mut rng);
        let (_, link) = node.links().next().unwrap();
        node.handle_disco(link, &other, &packet, now, &mut rng);
    }
    assert_eq!(udp_sent(&mut world, 0), []);
}

/// The transactions of the pings that a node sends.
fn pings_to(world: &mut World, node: usize, private: &DiscoPrivate) -> Vec<TxId> {
    let key = disco::shared_key(private, &world.nodes[node].ms.disco_key()).unwrap();
    let mut all = Vec::new();
    while let Some(output) = world.nodes[node].ms.poll_output() {
        let (Output::SendUdp { packet, .. } | Output::SendDerp { packet, .. }) = output else {
            continue;
        };
        let opened = disco::Envelope::parse(&packet).and_then(|e| e.open(&key).ok());
        if let Some(Message::Ping(ping)) = opened {
            all.push(ping.tx);
        }
    }
    all
}

#[test]
fn a_pong_counts_only_from_the_peer_that_was_pinged_and_by_the_way_that_was_pinged() {
    let mut world = direct_pair(8);
    let private = puppet(&mut world, 2);
    let now = world.now;
    let mut rng = StdRng::seed_from_u64(1);
    let call_me_maybe = Message::CallMeMaybe(vec![somewhere()]);
    let packet = seal(&mut world, &private, 0, &call_me_maybe);
    let (key, other) = (world.nodes[2].key, world.nodes[1].key);
    let (_, link) = world.nodes[0].ms.links().next().unwrap();
    world.nodes[0]
        .ms
        .handle_disco(link, &key, &packet, now, &mut rng);
    let txs = pings_to(&mut world, 0, &private);
    let pong = |tx| {
        Message::Pong(Pong {
            tx,
            src: somewhere(),
        })
    };
    let direct = |world: &World| world.direct(0, 2);
    assert_eq!(txs.len(), 1);
    // By the relay, although the ping went straight.
    let packet = seal(&mut world, &private, 0, &pong(txs[0]));
    let node = &mut world.nodes[0].ms;
    node.handle_disco(link, &key, &packet, now, &mut rng);
    node.handle_disco(link, &other, &packet, now, &mut rng);
    assert_eq!(direct(&world), None);
    // For a ping that was never sent.
    let packet = seal(&mut world, &private, 0, &pong(TxId([9; 12])));
    let node = &mut world.nodes[0].ms;
    node.handle_direct_disco(somewhere(), &packet, now, &mut rng);
    assert_eq!(direct(&world), None);
    // The right one, even from another address: what was pinged is what works.
    let packet = seal(&mut world, &private, 0, &pong(txs[0]));
    let from = "198.51.100.78:8".parse().unwrap();
    let node = &mut world.nodes[0].ms;
    node.handle_direct_disco(from, &packet, now, &mut rng);
    assert_eq!(direct(&world), Some(somewhere()));
    // Again: it is spent.
    world.run(SEC * 20);
    let node = &mut world.nodes[0].ms;
    node.handle_direct_disco(from, &packet, world.now, &mut rng);
    assert_eq!(direct(&world), None);
}

#[test]
fn a_call_me_maybe_counts_only_from_the_peer_itself_and_by_a_relay() {
    let mut world = direct_pair(9);
    let private = puppet(&mut world, 2);
    let packet = {
        let call_me_maybe = Message::CallMeMaybe(vec![somewhere()]);
        seal(&mut world, &private, 0, &call_me_maybe)
    };
    let now = world.now;
    let mut rng = StdRng::seed_from_u64(1);
    let (key, other) = (world.nodes[2].key, world.nodes[1].key);
    let stranger = NodePrivate::generate(&mut rng).public();
    let (_, link) = world.nodes[0].ms.links().next().unwrap();
    let node = &mut world.nodes[0].ms;
    node.handle_direct_disco(somewhere(), &packet, now, &mut rng);
    node.handle_disco(link, &other, &packet, now, &mut rng);
    node.handle_disco(link, &stranger, &packet, now, &mut rng);
    assert_eq!(udp_sent(&mut world, 0), []);
    let node = &mut world.nodes[0].ms;
    node.handle_disco(link, &key, &packet, now, &mut rng);
    assert_eq!(udp_sent(&mut world, 0), [somewhere()]);
}

#[test]
fn what_a_peer_can_make_us_send_has_an_end() {
    let mut world = direct_pair(10);
    let private = puppet(&mut world, 2);
    let key = world.nodes[2].key;
    let now = world.now;
    let mut rng = StdRng::seed_from_u64(1);
    let (_, link) = world.nodes[0].ms.links().next().unwrap();
    for round in 0..100u8 {
        let addrs = (1..=3000u16).map(|port| SocketAddr::from(([198, 51, round, 1], port)));
        let packet = seal(
            &mut world,
            &private,
            0,
            &Message::CallMeMaybe(addrs.collect()),
        );
        let node = &mut world.nodes[0].ms;
        node.handle_disco(link, &key, &packet, now, &mut rng);
    }
    assert!(udp_sent(&mut world, 0).len() <= crate::pings::MAX_OF_PEER);
    // Others are none the worse for it.
    assert!(world.direct(0, 1).is_some());
    world.ping(0, 1, 77);
    world.run(SEC);
    assert_eq!(world.nodes[0].pongs(), [(77, Ok(0))]);
}

#[test]
fn without_sockets_everything_goes_by_the_relay() {
    let mut world = direct_pair(11);
    let now = world.now;
    world.nodes[0].ms.set_ports(Default::default(), now);
    let sent = world.nodes[0].udp_sent;
    world.send(0, 1, &[4, 0]);
    world.run(SEC * 10);
    let route = world.nodes[0].ms.route(id(1), world.now).unwrap();
    assert!(route.direct.is_none() && route.relay.is_some());
    assert_eq!(world.nodes[0].udp_sent, sent);
}

#[test]
fn an_address_to_which_there_is_no_way_is_given_up_at_once() {
    let mut world = direct_pair(12);
    let direct = world.direct(0, 1).unwrap();
    world.nodes[0].ms.handle_unreachable(direct);
    assert_eq!(world.direct(0, 1), None);
    let route = world.nodes[0].ms.route(id(1), world.now).unwrap();
    assert!(route.direct.is_none() && route.relay.is_some());
}

#[test]
fn addresses_of_a_family_that_we_lack_are_not_tried_and_a_ping_to_nobody_ends_at_once() {
    let mut world = direct_pair(14);
    let mut config = world.peer(1, 0);
    config.endpoints = vec!["[2001:db8::1]:1".parse().unwrap()];
    world.nodes[0].ms.upsert_peer(&config);
    world.run(SEC * 60);
    world.restart_relay(1);
    world.ping(0, 1, 9);
    let failed = (9, Err(crate::PingFailure::NoPath));
    assert_eq!(world.nodes[0].pongs().last(), Some(&failed));
}

#[test]
fn a_path_that_is_cut_is_doubted_after_one_heartbeat() {
    let mut world = direct_pair(15);
    let second = |world: &mut World| {
        for (from, to) in [(0, 1), (1, 0)] {
            world.send(from, to, &[4, from as u8]);
        }
        world.run(SEC);
    };
    (0..10).for_each(|_| second(&mut world));
    world.udp_loss = 1000;
    (0..5).for_each(|_| second(&mut world));
    assert_eq!((world.direct(0, 1), world.direct(1, 0)), (None, None));
    world.udp_loss = 0;
    (0..8).for_each(|_| second(&mut world));
    assert!(world.direct(0, 1).is_some() && world.direct(1, 0).is_some());
}

#[test]
fn a_lost_heartbeat_is_no_reason_to_doubt_while_data_comes() {
    let mut world = direct_pair(16);
    // The last pong is no older than a heartbeat, and then nothing of disco comes any more.
    world.ping(0, 1, 1);
    world.run(SEC);
    world.udp_loss = 1000;
    for _ in 0..9 {
        let now = world.now;
        world.nodes[0].ms.note_direct_data(id(1), now);
        world.send(0, 1, &[4, 0]);
        world.run(SEC / 2);
    }
    assert!(world.direct(0, 1).is_some(), "trusted for its whole time");
}

#[test]
fn foreign_stun_answers_are_ignored() {
    let mut world = direct_pair(13);
    let before = world.nodes[0].endpoints.clone();
    let mut rng = StdRng::seed_from_u64(1);
    for _ in 0..100 {
        let tx = netcheck::stun::TxId::generate(&mut rng);
        let forged = netcheck::stun::response(tx, somewhere());
        world.inject_udp(somewhere(), 0, forged);
    }
    for _ in 0..60 {
        world.send(0, 1, &[4, 0]);
        world.run(SEC);
    }
    assert_eq!(world.nodes[0].endpoints, before);
    assert!(before.iter().any(|addr| addr.port() != PORT));
}
