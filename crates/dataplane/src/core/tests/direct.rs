//! Direct paths: what comes by datagram, from whomever.

use metrics::Path;
use wireguard::{Message, classify};

use super::world::*;
use crate::core::Command;
use crate::{EngineEvent, PingKind};

fn direct(count: usize) -> World {
    let mut world = World::new(count);
    world.open_sockets();
    world
}

/// Sends until there is a direct path both ways.
fn warm(world: &mut World) {
    for _ in 0..8 {
        world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
    }
}

#[test]
fn data_goes_straight_once_the_path_is_known_to_work() {
    let mut world = direct(2);
    warm(&mut world);
    let relayed = world.tape.len();
    for _ in 0..20 {
        world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
    }
    assert_eq!(world.tape.len(), relayed, "nothing by the relay");
    let out = &world.nodes[0].metrics.outbound;
    assert!(out.packets(Path::DirectIpv4) >= 20);
    assert!(world.nodes[1].metrics.inbound.packets(Path::DirectIpv4) >= 20);
    let pong = world.ping(0, 1, PingKind::Disco, SEC).unwrap().unwrap();
    assert_eq!((pong.endpoint, pong.derp_region), (Some(place(1)), 0));
    let key = world.nodes[1].key.public();
    assert_eq!(world.status(0).peers[&key].cur_addr, Some(place(1)));
}

#[test]
fn a_path_that_is_cut_is_left_for_the_relay_and_taken_again() {
    let mut world = direct(2);
    warm(&mut world);
    world.udp_up = false;
    // As long as a path is trusted, what goes there is lost.
    let mut lost = 0;
    for _ in 0..12 {
        if world.ping(0, 1, PingKind::Icmp, SEC).is_none() {
            lost += 1;
        }
    }
    assert!(lost <= 7, "{lost} s of silence");
    world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
    let key = world.nodes[1].key.public();
    assert_eq!(world.status(0).peers[&key].cur_addr, None);
    world.udp_up = true;
    for _ in 0..10 {
        world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
    }
    assert_eq!(world.status(0).peers[&key].cur_addr, Some(place(1)));
}

#[test]
fn a_direct_path_needs_no_relay_to_stay() {
    let mut world = direct(2);
    warm(&mut world);
    world.kill_relay();
    for _ in 0..200 {
        world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
    }
}

#[test]
fn what_comes_by_datagram_from_anywhere_is_taken_if_it_is_real_but_moves_nothing() {
    let mut world = direct(2);
    warm(&mut world);
    // A handshake that went by the relay, replayed from somewhere else.
    let initiation = world
        .tape
        .iter()
        .find(|(_, _, packet)| matches!(classify(packet), Ok(Message::Initiation(_))))
        .cloned()
        .unwrap();
    let elsewhere = "203.0.113.9:9".parse().unwrap();
    world.inject_datagram(elsewhere, 1, initiation.2);
    for (_, _, packet) in world.tape.clone() {
        for node in 0..2 {
            world.inject_datagram(elsewhere, node, packet.clone());
        }
    }
    let key = world.nodes[1].key.public();
    assert_eq!(world.status(0).peers[&key].cur_addr, Some(place(1)));
    world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
}

#[test]
fn a_session_is_used_whatever_way_its_data_comes() {
    let mut world = direct(2);
    warm(&mut world);
    // Only one side may send straight from here on: its datagrams come from an address that the other never heard of.
    let clocks_moved = world.nodes[1].metrics.inbound.packets(Path::DirectIpv4);
    let peer = {
        let mut peer = world.peer(0);
        peer.endpoints = vec![];
        peer
    };
    world.command(1, Command::UpsertPeer(std::sync::Arc::new(peer)));
    for _ in 0..10 {
        world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
    }
    assert!(world.nodes[1].metrics.inbound.packets(Path::DirectIpv4) > clocks_moved);
}

#[test]
fn rubbish_is_dropped() {
    let mut world = direct(2);
    warm(&mut world);
    let from = "203.0.113.9:9".parse().unwrap();
    let mut rubbish: Vec<Vec<u8>> = vec![vec![], vec![0], vec![1; 148], vec![2; 92], vec![4; 40]];
    for kind in 0..=5u8 {
        for len in [4usize, 20, 31, 32, 64, 92, 148, 1500, 65_535] {
            let mut bytes = vec![0; len];
            bytes[0] = kind;
            rubbish.push(bytes);
        }
    }
    rubbish.push(packet::disco::MAGIC.to_vec());
    rubbish.push([&packet::disco::MAGIC[..], &[7; 100]].concat());
    let stun = netcheck::stun::response(netcheck::stun::TxId([1; 12]), from);
    rubbish.push(stun);
    for bytes in rubbish {
        for node in 0..2 {
            world.inject_datagram(from, node, bytes.clone());
        }
    }
    world.ping(0, 1, PingKind::Icmp, SEC).unwrap().unwrap();
}

#[test]
fn our_endpoints_are_told_once() {
    let world = direct(1);
    let told = world.nodes[0].events.iter();
    let told: Vec<_> = told
        .filter_map(|event| match event {
            EngineEvent::Endpoints(all) => Some(all.iter().map(|e| e.addr).collect::<Vec<_>>()),
            _ => None,
        })
        .collect();
    assert_eq!(told, [[place(0)]]);
}

#[test]
fn an_idle_engine_with_sockets_has_no_timers_either() {
    let mut world = direct(2);
    warm(&mut world);
    world.run(SEC * 700);
    let before = world.direct;
    world.run(SEC * 3600);
    assert_eq!(world.direct, before);
    for node in &world.nodes {
        assert_eq!(node.core.next_timeout(false), None);
    }
}
