use std::net::SocketAddr;

use keys::{DiscoPrivate, NodePrivate, NodePublic};
use packet::disco::{self, Message, Ping, Pong, TxId};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::world::*;
use crate::{Output, PingFailure, PingId};

fn ready(seed: u64) -> World {
    let mut world = World::new(seed, &[1, 1, 1], &[(1, 5)]);
    world.run(SEC * 2);
    world
}

fn ping_from(private: &DiscoPrivate, world: &World, to: usize) -> Vec<u8> {
    let key = disco::shared_key(private, &world.nodes[to].ms.disco_key()).unwrap();
    let ping = Message::Ping(Ping {
        tx: TxId([7; 12]),
        node_key: NodePublic::ZERO,
        padding: 0,
    });
    disco::seal(
        &ping,
        &private.public(),
        &key,
        &mut StdRng::seed_from_u64(1),
    )
}

#[test]
fn a_ping_is_answered_over_the_relay() {
    let mut world = ready(1);
    world.ping(0, 1, 42);
    world.run(SEC);
    assert_eq!(world.nodes[0].pongs(), [(42, Ok(1))]);
    let latency = world.nodes[0].log.iter().find_map(|o| match o {
        Output::PingDone {
            result: Ok(pong), ..
        } => Some(pong.latency),
        _ => None,
    });
    assert_eq!(latency, Some(MS * 20));
}

#[test]
fn a_ping_without_answer_fails_after_five_seconds() {
    let mut world = ready(2);
    world.loss = 1000;
    world.ping(0, 1, 1);
    world.run(MS * 4999);
    assert_eq!(world.nodes[0].pongs(), []);
    world.run(MS);
    assert_eq!(world.nodes[0].pongs(), [(1, Err(PingFailure::TimedOut))]);
}

#[test]
fn pings_that_cannot_be_sent_say_why() {
    let mut world = ready(3);
    world.ping(0, 7, 1);
    let mut mute = world.peer(1, 1);
    mute.disco = Default::default();
    world.nodes[0].ms.upsert_peer(&mute);
    world.ping(0, 1, 2);
    let now = world.now;
    world.nodes[0].ms.ping(
        PingId(3),
        id(2),
        crate::PingScope::All,
        65508,
        now,
        &mut world.rng,
    );
    world.nodes[0].ms.set_running(false, now);
    world.ping(0, 2, 4);
    let failures = [
        (1, Err(PingFailure::NoSuchPeer)),
        (2, Err(PingFailure::NoDisco)),
        (3, Err(PingFailure::TooBig)),
        (4, Err(PingFailure::NoPath)),
    ];
    assert_eq!(world.nodes[0].pongs(), failures);
}

#[test]
fn padding_makes_the_datagram_as_large_as_asked() {
    let mut world = ready(4);
    let now = world.now;
    for (size, want) in [(0, 124), (124, 124), (125, 125), (1300, 1300)] {
        world.nodes[0].ms.ping(
            PingId(1),
            id(1),
            crate::PingScope::All,
            size,
            now,
            &mut world.rng,
        );
        match world.nodes[0].ms.poll_output() {
            Some(Output::SendDerp { packet, .. }) => assert_eq!(packet.len(), want),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn strangers_are_not_answered() {
    let mut world = ready(5);
    let private = DiscoPrivate::generate(&mut StdRng::seed_from_u64(99));
    let stranger = NodePrivate::generate(&mut StdRng::seed_from_u64(98)).public();
    let known = world.nodes[1].key;
    // An unknown disco key, from an unknown and from a known node.
    let packet = ping_from(&private, &world, 0);
    world.inject(1, stranger, 0, packet.clone());
    world.inject(1, known, 0, packet);
    // A known disco key that did not seal the box.
    let mut forged = ping_from(&private, &world, 0);
    forged[6..38].copy_from_slice(world.nodes[1].ms.disco_key().as_bytes());
    world.inject(1, known, 0, forged);
    world.run(SEC);
    assert_eq!(world.nodes[0].disco_sent, 0);
}

#[test]
fn a_known_disco_key_through_an_unknown_node_is_not_answered() {
    let mut world = ready(6);
    world.ping(1, 0, 1);
    world.run(SEC);
    let answered = world.nodes[0].disco_sent;
    let private = DiscoPrivate::generate(&mut StdRng::seed_from_u64(97));
    let mut config = world.peer(1, 1);
    config.disco = private.public();
    world.nodes[0].ms.upsert_peer(&config);
    let stranger = NodePrivate::generate(&mut StdRng::seed_from_u64(96)).public();
    let packet = ping_from(&private, &world, 0);
    world.inject(1, stranger, 0, packet.clone());
    world.run(SEC);
    assert_eq!(world.nodes[0].disco_sent, answered);
    let known = world.nodes[1].key;
    world.inject(1, known, 0, packet);
    world.run(SEC);
    assert_eq!(world.nodes[0].disco_sent, answered + 1);
}

#[test]
fn a_pong_from_another_disco_key_does_not_count() {
    let mut world = ready(7);
    let privates: Vec<DiscoPrivate> = (0..2)
        .map(|seed| DiscoPrivate::generate(&mut StdRng::seed_from_u64(seed)))
        .collect();
    for (node, private) in [1, 2].into_iter().zip(&privates) {
        let mut config = world.peer(node, 1);
        config.disco = private.public();
        world.nodes[0].ms.upsert_peer(&config);
    }
    world.drain(0);
    let now = world.now;
    world.nodes[0].ms.ping(
        PingId(1),
        id(1),
        crate::PingScope::All,
        0,
        now,
        &mut world.rng,
    );
    let Some(Output::SendDerp { packet, .. }) = world.nodes[0].ms.poll_output() else {
        panic!("no ping was sent");
    };
    let ours = world.nodes[0].ms.disco_key();
    let keys: Vec<_> = privates
        .iter()
        .map(|private| disco::shared_key(private, &ours).unwrap())
        .collect();
    let Ok(Message::Ping(ping)) = disco::Envelope::parse(&packet).unwrap().open(&keys[0]) else {
        panic!("the ping does not open");
    };
    let src: SocketAddr = "127.3.3.40:1".parse().unwrap();
    let pong = Message::Pong(Pong { tx: ping.tx, src });
    for (index, want) in [(1, 0), (0, 1), (0, 1)] {
        let packet = disco::seal(
            &pong,
            &privates[index].public(),
            &keys[index],
            &mut world.rng,
        );
        let from = world.nodes[index + 1].key;
        world.inject(1, from, 0, packet);
        world.run(SEC);
        assert_eq!(world.nodes[0].pongs().len(), want);
    }
}

#[test]
fn a_new_disco_key_means_a_restart_unless_the_peer_said_so_itself() {
    let mut world = ready(8);
    let mut config = world.peer(1, 1);
    let restarted = |world: &mut World| {
        let mut found = false;
        while let Some(output) = world.nodes[0].ms.poll_output() {
            found |= output == Output::PeerRestarted(id(1));
        }
        found
    };
    world.nodes[0].ms.upsert_peer(&config);
    assert!(!restarted(&mut world));
    config.disco = other_disco(1);
    world.nodes[0].ms.upsert_peer(&config);
    assert!(restarted(&mut world));
    config.disco = other_disco(2);
    world.nodes[0].ms.handle_advertised(id(1), config.disco);
    world.nodes[0].ms.upsert_peer(&config);
    assert!(!restarted(&mut world));
    config.disco = other_disco(3);
    world.nodes[0].ms.upsert_peer(&config);
    assert!(restarted(&mut world));
    // Control repeats what it knew before the peer spoke to us: no news.
    world.nodes[0].ms.handle_advertised(id(1), other_disco(4));
    world.nodes[0].ms.upsert_peer(&config);
    assert!(!restarted(&mut world));
}

#[test]
fn a_peer_that_told_us_its_new_key_is_pinged_with_it() {
    let mut world = ready(10);
    let mut stale = world.peer(1, 1);
    stale.disco = other_disco(1);
    world.nodes[0].ms.upsert_peer(&stale);
    world.drain(0);
    world.ping(0, 1, 1);
    world.run(SEC * 6);
    let key = world.nodes[1].ms.disco_key();
    world.nodes[0].ms.handle_advertised(id(1), key);
    world.nodes[0].ms.upsert_peer(&stale);
    world.ping(0, 1, 2);
    world.run(SEC);
    let pongs = [(1, Err(PingFailure::TimedOut)), (2, Ok(1))];
    assert_eq!(world.nodes[0].pongs(), pongs);
}

#[test]
fn call_me_maybe_is_accepted_and_ignored() {
    let mut world = ready(9);
    world.run(SEC * 60);
    let private = DiscoPrivate::generate(&mut StdRng::seed_from_u64(94));
    let mut config = world.peer(1, 1);
    config.disco = private.public();
    world.nodes[0].ms.upsert_peer(&config);
    world.drain(0);
    let key = disco::shared_key(&private, &world.nodes[0].ms.disco_key()).unwrap();
    let message = Message::CallMeMaybe(vec!["192.0.2.1:41641".parse().unwrap()]);
    let packet = disco::seal(&message, &private.public(), &key, &mut world.rng);
    let from = world.nodes[1].key;
    world.inject(1, from, 0, packet);
    world.run(SEC);
    assert_eq!(world.nodes[0].disco_sent, 0);
    assert_eq!(world.nodes[0].ms.next_timeout(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the relay loses, delays and reorders, each ping ends exactly once.
    #[test]
    fn each_ping_ends_once(seed: u64, loss in 0u32..1000, jitter in 0u64..8000) {
        let mut world = World::new(seed, &[1, 2, 3], &[(1, 5), (2, 20), (3, 40)]);
        world.run(SEC * 2);
        world.loss = loss;
        world.jitter = MS * jitter as u32;
        for ping in 0..20 {
            world.ping((ping % 3) as usize, ((ping + 1) % 3) as usize, ping);
            if ping == 10 {
                world.restart_relay(2);
            }
            world.run(MS * 300);
        }
        world.run(SEC * 20);
        let mut ended: Vec<u64> = world.nodes.iter().flat_map(|n| n.pongs()).map(|(id, _)| id).collect();
        ended.sort_unstable();
        prop_assert_eq!(ended, (0..20).collect::<Vec<_>>());
    }

    /// Junk and truncations of real messages change nothing and crash nothing.
    #[test]
    fn junk_is_ignored(seed: u64, junk in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..130) {
        let mut world = ready(seed);
        let private = DiscoPrivate::generate(&mut StdRng::seed_from_u64(seed));
        let mut config = world.peer(1, 1);
        config.disco = private.public();
        world.nodes[0].ms.upsert_peer(&config);
        let from = world.nodes[1].key;
        let mut packet = ping_from(&private, &world, 0);
        packet.truncate(cut.min(packet.len() - 1));
        world.inject(1, from, 0, packet);
        let mut dressed = disco::MAGIC.to_vec();
        dressed.extend_from_slice(private.public().as_bytes());
        dressed.extend_from_slice(&junk);
        world.inject(1, from, 0, dressed);
        world.inject(1, from, 0, junk);
        world.run(SEC);
        prop_assert_eq!(world.nodes[0].disco_sent, 0);
    }

    /// At most one link per region, only regions of the map, and timers end: whatever the order of sends and outages.
    #[test]
    fn links_stay_bounded(seed: u64, steps in proptest::collection::vec((0usize..3, 0usize..3, 0u64..40_000, 0u16..5), 1..40)) {
        let mut world = World::new(seed, &[1, 2, 3], &[(1, 5), (2, 20), (3, 40)]);
        for (from, to, wait, region) in steps {
            if from != to {
                world.send(from, to, b"x");
            }
            if region > 0 {
                world.restart_relay(region);
            }
            world.run(MS * wait as u32);
            for node in &world.nodes {
                prop_assert_eq!(node.links.len(), node.regions().len());
                prop_assert!(node.regions().iter().all(|r| (1..=3).contains(r)));
            }
        }
        world.run(SEC * 200);
        for node in &world.nodes {
            prop_assert_eq!(node.regions(), [node.ms.home()]);
            prop_assert_eq!(node.ms.next_timeout(), None);
        }
    }
}
