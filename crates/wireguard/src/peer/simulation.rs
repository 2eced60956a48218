//! Two peers on a link that loses, repeats, delays and reorders, from a seed.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::message::DATA;
use crate::testing::{Pair, Refusal, Time};
use crate::{HandshakeError, OpenError, Output, State};

#[derive(Debug, Clone, Copy)]
struct Link {
    loss: f64,
    repeat: f64,
    delay_ms: u64,
}

struct Flight {
    arrives: host::Instant,
    to_a: bool,
    datagram: Vec<u8>,
}

struct World {
    pair: Pair,
    link: Link,
    rng: StdRng,
    flights: Vec<Flight>,
    /// Receiver index and counter of every data message ever sent, per direction.
    used: BTreeSet<(bool, u32, u64)>,
}

impl World {
    fn new(seed: u64, link: Link) -> Self {
        Self {
            pair: Pair::new(seed),
            link,
            rng: StdRng::seed_from_u64(seed),
            flights: Vec::new(),
            used: BTreeSet::new(),
        }
    }

    fn launch(&mut self, datagrams: Vec<Vec<u8>>, to_a: bool) {
        for datagram in datagrams {
            if datagram[0] == DATA {
                let index = u32::from_le_bytes(datagram[4..8].try_into().expect("4 bytes"));
                let counter = u64::from_le_bytes(datagram[8..16].try_into().expect("8 bytes"));
                assert!(
                    self.used.insert((to_a, index, counter)),
                    "counter {counter} of {index:08x} used twice"
                );
            }
            let copies = 1 + u32::from(self.rng.random_bool(self.link.repeat));
            for _ in 0..copies {
                if self.rng.random_bool(self.link.loss) {
                    continue;
                }
                let delay = self.rng.random_range(0..=self.link.delay_ms);
                self.flights.push(Flight {
                    arrives: self.pair.at.now + Duration::from_millis(delay),
                    to_a,
                    datagram: datagram.clone(),
                });
            }
        }
    }

    /// Goes to the next thing that happens, at most to `end`.
    fn step(&mut self, end: Time) {
        let next = self
            .flights
            .iter()
            .map(|flight| flight.arrives)
            .chain(self.pair.next_timeout())
            .min()
            .map_or(end.now, |next| next.clamp(self.pair.at.now, end.now));
        self.pair.at = self.pair.at.after(next.since(self.pair.at.now));
        let at = self.pair.at;
        let due = self.flights.iter().position(|f| f.arrives <= at.now);
        if let Some(due) = due {
            let flight = self.flights.swap_remove(due);
            let (node, from) = if flight.to_a {
                (&mut self.pair.a, self.pair.b.source)
            } else {
                (&mut self.pair.b, self.pair.a.source)
            };
            let out = node.receive(&flight.datagram, from, at);
            self.launch(out, !flight.to_a);
            return;
        }
        let (a, b) = (self.pair.a.tick(at), self.pair.b.tick(at));
        self.launch(a, false);
        self.launch(b, true);
    }

    fn run(&mut self, span: Duration, packets_per_second: f64) {
        let end = self.pair.at.after(span);
        let mut next_packet = self.pair.at;
        while self.pair.at.now < end.now {
            if self.pair.at.now >= next_packet.now {
                let gap = self.rng.random_range(0.0..2.0 / packets_per_second);
                next_packet = self.pair.at.after(Duration::from_secs_f64(gap));
                let packet = self.rng.random::<u128>().to_le_bytes();
                if self.rng.random() {
                    let out = self.pair.a.send(&packet, self.pair.at);
                    self.launch(out, false);
                } else {
                    let out = self.pair.b.send(&packet, self.pair.at);
                    self.launch(out, true);
                }
            }
            let until = if next_packet.now < end.now {
                next_packet
            } else {
                end
            };
            self.step(until);
        }
    }
}

/// What a bad network may cause; anything else is a mistake of ours.
fn expected(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Handshake(error) => matches!(
            error,
            HandshakeError::Replayed
                | HandshakeError::TooSoon
                | HandshakeError::Unexpected
                // A late cookie reply answers a message that others followed.
                | HandshakeError::Forged
        ),
        Refusal::Data(error) => matches!(error, OpenError::Replayed | OpenError::Expired),
        Refusal::Index | Refusal::Gate => true,
        Refusal::NotOurs => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn wg_two_peers_always_converge(
        seed: u64,
        loss in 0.0..0.6_f64,
        repeat in 0.0..0.5_f64,
        delay_ms in 0..3000_u64,
        rate in 0.02..4.0_f64,
    ) {
        let seed = seed >> 1;
        let mut world = World::new(seed, Link { loss, repeat, delay_ms });
        world.run(Duration::from_secs(400), rate);
        for node in [&world.pair.a, &world.pair.b] {
            prop_assert!(node.refused.iter().all(expected), "{:?}", node.refused);
            prop_assert!(node.indices.len() <= 4, "{} indices", node.indices.len());
        }
        // Each packet arrives at most once.
        for inbox in [&world.pair.a.inbox, &world.pair.b.inbox] {
            let unique: BTreeSet<_> = inbox.iter().collect();
            prop_assert_eq!(unique.len(), inbox.len());
        }

        // The link recovers: within a few retries both directions work again.
        world.link = Link { loss: 0.0, repeat: 0.0, delay_ms: 20 };
        world.run(Duration::from_secs(60), 1.0);
        world.pair.a.inbox.clear();
        world.pair.b.inbox.clear();
        let out = world.pair.a.send(b"to b after all", world.pair.at);
        world.launch(out, false);
        let out = world.pair.b.send(b"to a after all", world.pair.at);
        world.launch(out, true);
        world.run(Duration::from_secs(10), 1.0);
        let has = |inbox: &[Vec<u8>], text: &[u8]| inbox.iter().any(|p| p.starts_with(text));
        prop_assert!(has(&world.pair.a.inbox, b"to a after all"));
        prop_assert!(has(&world.pair.b.inbox, b"to b after all"));
        prop_assert_eq!(world.pair.a.peer.state(), State::Established);

        // And left alone, both forget everything.
        world.pair.pass(Duration::from_secs(1200));
        for node in [&world.pair.a, &world.pair.b] {
            prop_assert!(node.indices.is_empty());
            prop_assert_eq!(node.events.last(), Some(&Output::Idle));
        }
    }
}
