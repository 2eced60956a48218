//! Random networks with traffic, and something that goes wrong: in the end the best way that the network allows is in use,
//! and while any way works, none is silent for longer than a path is trusted.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::net::{Nat, can_be_direct};
use super::world::*;
use crate::paths::TRUST;

/// Between two packets of a pair.
const PACE: Duration = Duration::from_millis(500);
/// How long after a change the best way must be in use. Two heartbeats may pass before a lost path is given up, and another
/// few until a call-me-maybe and its answers are through, each of which may be lost.
const SETTLE: Duration = Duration::from_secs(30);
const NETWORKS: u64 = 300;

struct Trial {
    seed: u64,
    world: World,
    rng: StdRng,
    pairs: Vec<(usize, usize)>,
    /// How many packets each pair has sent.
    sent: u32,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let nodes = rng.random_range(2..=4);
        let delays: Vec<(u16, u64)> = (1..=rng.random_range(1..=3))
            .map(|region| (region, rng.random_range(5..80)))
            .collect();
        let mut world = World::new(seed, &vec![1; nodes], &delays);
        for node in 0..nodes {
            let site = new_site(&mut world, &mut rng, node);
            world.place(node, site);
        }
        // Some networks lose datagrams, some lose nothing.
        if rng.random_range(0..3) == 0 {
            world.udp_loss = rng.random_range(1..150);
        }
        let mut pairs = Vec::new();
        for from in 0..nodes {
            for to in (0..nodes).filter(|to| *to != from) {
                // Traffic may go one way only.
                if from < to || rng.random_range(0..4) > 0 {
                    pairs.push((from, to));
                }
            }
        }
        Self {
            seed,
            world,
            rng,
            pairs,
            sent: 0,
        }
    }

    fn traffic(&mut self, time: Duration) {
        let end = self.world.now + time;
        while self.world.now < end {
            self.sent += 1;
            for (from, to) in self.pairs.clone() {
                if self.world.nodes[from].asleep {
                    continue;
                }
                let mut packet = vec![4, from as u8];
                packet.extend_from_slice(&self.sent.to_be_bytes());
                self.world.send(from, to, &packet);
                // Who has nothing to say says so now and then, as WireGuard does.
                if self.sent.is_multiple_of(20) && !self.world.nodes[to].asleep {
                    self.world.send(to, from, &[4, 0xff]);
                }
            }
            self.world.run(PACE);
        }
    }

    /// Something goes wrong.
    fn disturb(&mut self) -> &'static str {
        let node = self.rng.random_range(0..self.world.nodes.len());
        match self.rng.random_range(0..7) {
            0 => {
                let site = new_site(&mut self.world, &mut self.rng, node);
                self.world.place(node, site);
                "a node has moved"
            }
            1 => {
                self.world.control_up = false;
                let site = new_site(&mut self.world, &mut self.rng, node);
                self.world.place(node, site);
                "a node has moved while control is away"
            }
            2 => {
                let (site, _) = self.world.nodes[node].place.unwrap();
                self.world.net.reboot(site);
                "a router has forgotten everything"
            }
            3 => {
                let regions: Vec<u16> = self.world.delays.keys().copied().collect();
                for region in regions {
                    self.world.restart_relay(region);
                }
                "all relays were restarted"
            }
            4 => {
                let time = SEC * self.rng.random_range(1..100);
                self.world.nodes[node].asleep = true;
                self.traffic(time);
                self.world.nodes[node].asleep = false;
                "a node has slept"
            }
            5 => {
                let year = SEC * 365 * 24 * 3600;
                self.world.now += year;
                "the clock has jumped by a year"
            }
            _ => {
                self.world.rebind(node);
                "a node has new sockets"
            }
        }
    }

    /// What each pair's receiver has.
    fn received(&self, from: usize, to: usize) -> Vec<u32> {
        let data = self.world.nodes[to].data.iter();
        let mut numbers: Vec<u32> = data
            .filter(|(_, packet)| packet[1] == from as u8)
            .map(|(_, packet)| u32::from_be_bytes(packet[2..6].try_into().unwrap()))
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// The longest time from `since` to `until` in which nothing of a pair arrived.
    fn longest_gap(&self, from: usize, to: usize, since: u32, until: u32) -> Duration {
        let mut last = since;
        let mut longest = 0;
        let numbers = self.received(from, to);
        for number in numbers
            .into_iter()
            .filter(|n| (since..until).contains(n))
            .chain([until])
        {
            longest = longest.max(number - last);
            last = number;
        }
        PACE * longest
    }

    /// In a network that loses datagrams, a path is without trust now and then; but it must come back.
    fn check_paths(&mut self, what: &str) {
        let mut unseen = self.pairs.clone();
        let tries = if self.world.udp_loss > 0 { 60 } else { 1 };
        for _ in 0..tries {
            unseen.retain(|(from, to)| !self.is_on_the_best_way(*from, *to));
            if unseen.is_empty() {
                return;
            }
            self.traffic(PACE);
        }
        let place = |node: usize| {
            let (site, _) = self.world.nodes[node].place.unwrap();
            (site, self.world.net.sites[site].nat)
        };
        let places: Vec<_> = (0..self.world.nodes.len()).map(place).collect();
        panic!(
            "seed {}, {what}: {unseen:?} are not on the best way in {places:?}, {} ‰ lost",
            self.seed, self.world.udp_loss
        );
    }

    fn is_on_the_best_way(&self, from: usize, to: usize) -> bool {
        let place = |node: usize| {
            let (site, _) = self.world.nodes[node].place.unwrap();
            (site, self.world.net.sites[site].nat)
        };
        let (a, b) = (place(from), place(to));
        let inside = self.world.nodes[to].place.unwrap().1;
        match self.world.direct(from, to) {
            None => !can_be_direct(a, b),
            // Neighbours do not go by their router.
            Some(direct) if a.0 == b.0 => direct == inside,
            Some(_) => can_be_direct(a, b),
        }
    }

    fn check_gaps(&self, what: &str, since: u32) {
        // One more packet may have left just before.
        let slack = PACE * 2 + SEC / 2;
        let lossy = if self.world.udp_loss > 0 {
            TRUST
        } else {
            Duration::ZERO
        };
        for (from, to) in &self.pairs {
            let gap = self.longest_gap(*from, *to, since, self.sent - 2);
            let seed = self.seed;
            assert!(
                gap <= TRUST + slack + lossy,
                "seed {seed}, {what}: nothing from {from} to {to} for {gap:?}"
            );
        }
    }
}

/// A new site for a node, or one that others are in already.
fn new_site(world: &mut World, rng: &mut StdRng, node: usize) -> usize {
    let shared: Vec<usize> = (0..world.net.sites.len())
        .filter(|site| world.net.sites[*site].nat != Nat::None)
        .collect();
    if !shared.is_empty() && rng.random_range(0..4) == 0 {
        return shared[rng.random_range(0..shared.len())];
    }
    let kinds = [Nat::None, Nat::Easy, Nat::Easy, Nat::Hard, Nat::Blocked];
    let nat = kinds[rng.random_range(0..kinds.len())];
    let delay = MS * rng.random_range(1..40) + MS * node as u32;
    world.net.add(nat, delay)
}

// Two halves, for two processors.
#[test]
fn random_networks_find_the_best_way_and_never_fall_silent() {
    try_networks(0..NETWORKS / 2);
}

#[test]
fn more_random_networks_find_the_best_way_and_never_fall_silent() {
    try_networks(NETWORKS / 2..NETWORKS);
}

fn try_networks(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut trial = Trial::new(seed);
        trial.world.run(SEC * 6);
        trial.traffic(SETTLE);
        trial.check_paths("at first");
        let before = trial.sent;
        let what = trial.disturb();
        let after = if what == "a node has slept" {
            trial.sent
        } else {
            before
        };
        trial.traffic(SETTLE + SEC * 10);
        trial.check_gaps(what, after);
        trial.check_paths(what);
    }
}

#[test]
fn an_idle_network_is_silent() {
    for seed in 0..20 {
        let mut trial = Trial::new(seed);
        trial.traffic(SEC * 5);
        trial.world.run(SEC * 120);
        let sent = |world: &World| -> usize {
            let all = world.nodes.iter();
            all.map(|node| node.disco_sent + node.udp_sent).sum()
        };
        let before = sent(&trial.world);
        trial.world.run(SEC * 3600);
        assert_eq!(sent(&trial.world), before, "seed {seed}");
        for node in &trial.world.nodes {
            assert_eq!(node.ms.next_timeout(), None, "seed {seed}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_network() {
    let run = |seed| {
        let mut trial = Trial::new(seed);
        trial.traffic(SETTLE);
        let all = trial.world.nodes.iter();
        all.map(|node| (node.disco_sent, node.udp_sent, node.data.len()))
            .collect::<Vec<_>>()
    };
    assert_eq!(run(7), run(7));
}
