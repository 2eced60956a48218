//! A few machines and relays in one simulated world with a virtual clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use derp::{DerpMap, FamilyAddr, Node as Relay, Region};
use host::{Instant, PeerConfig};
use keys::{DiscoPrivate, DiscoPublic, NodePrivate, NodePublic};
use netcheck::{Action, stun};
use packet::{PeerId, disco};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use crate::{LinkId, Magicsock, Output};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SEC: Duration = Duration::from_secs(1);

pub(crate) struct Node {
    pub(crate) ms: Magicsock,
    pub(crate) key: NodePublic,
    pub(crate) links: BTreeMap<LinkId, u16>,
    /// All outputs but disco and probes, in order.
    pub(crate) log: Vec<Output>,
    /// WireGuard-like packets that arrived.
    pub(crate) data: Vec<(PeerId, Vec<u8>)>,
    /// How many disco packets it sent.
    pub(crate) disco_sent: usize,
    pub(crate) probes: usize,
}

enum Event {
    Packet {
        region: u16,
        to: NodePublic,
        src: NodePublic,
        packet: Vec<u8>,
    },
    Stun {
        node: usize,
        datagram: Vec<u8>,
    },
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) rng: StdRng,
    pub(crate) nodes: Vec<Node>,
    /// Region and its one-way delay.
    pub(crate) delays: BTreeMap<u16, Duration>,
    pub(crate) down: BTreeSet<u16>,
    /// Per mille of relayed packets that get lost.
    pub(crate) loss: u32,
    /// Relayed packets take up to this much longer, so they overtake each other.
    pub(crate) jitter: Duration,
    queue: BTreeMap<(Instant, u64), Event>,
    seq: u64,
}

impl World {
    /// Nodes 0..n know each other; node i's home, as configured with the others, is `homes[i]`.
    pub(crate) fn new(seed: u64, homes: &[u16], delays: &[(u16, u64)]) -> Self {
        let mut world = Self {
            now: Instant::ZERO + SEC * 1000,
            rng: StdRng::seed_from_u64(seed),
            nodes: Vec::new(),
            delays: delays
                .iter()
                .map(|(region, ms)| (*region, MS * *ms as u32))
                .collect(),
            down: BTreeSet::new(),
            loss: 0,
            jitter: Duration::ZERO,
            queue: BTreeMap::new(),
            seq: 0,
        };
        for _ in homes {
            let key = NodePrivate::generate(&mut world.rng).public();
            let ms = Magicsock::new(DiscoPrivate::generate(&mut world.rng), &mut world.rng);
            world.nodes.push(Node {
                ms,
                key,
                links: BTreeMap::new(),
                log: Vec::new(),
                data: Vec::new(),
                disco_sent: 0,
                probes: 0,
            });
        }
        for i in 0..homes.len() {
            for j in (0..homes.len()).filter(|j| *j != i) {
                let config = world.peer(j, homes[j]);
                world.nodes[i].ms.upsert_peer(&config);
            }
            let map = world.map();
            let now = world.now;
            let node = &mut world.nodes[i];
            node.ms.set_node_key(Some(node.key), now);
            node.ms.set_derp_map(Some(map), now);
            node.ms.set_map_streaming(true);
            node.ms.set_running(true, now);
        }
        world
    }

    pub(crate) fn map(&self) -> Arc<DerpMap> {
        let regions = self.delays.keys().map(|id| {
            let relay = Relay {
                name: format!("{id}a"),
                host: format!("derp{id}.example"),
                ipv4: FamilyAddr::Ip(Ipv4Addr::new(192, 0, 2, *id as u8)),
                ipv6: FamilyAddr::None,
                ..Relay::default()
            };
            let region = Region {
                id: *id,
                nodes: vec![relay],
                ..Region::default()
            };
            (*id, region)
        });
        Arc::new(DerpMap {
            regions: regions.collect(),
            ..DerpMap::default()
        })
    }

    pub(crate) fn peer(&self, node: usize, home: u16) -> PeerConfig {
        PeerConfig {
            id: id(node),
            key: self.nodes[node].key,
            disco: self.nodes[node].ms.disco_key(),
            home_derp: home,
            endpoints: Vec::new(),
            addresses: vec![IpAddr::from([100, 64, 0, node as u8 + 1])],
            sources: Vec::new(),
            routes: Vec::new(),
            jailed: false,
            masquerade: host::Masquerade::default(),
        }
    }

    /// Sends a WireGuard-like packet.
    pub(crate) fn send(&mut self, from: usize, to: usize, packet: &[u8]) -> bool {
        let now = self.now;
        let Some(route) = self.nodes[from].ms.route(id(to), now) else {
            return false;
        };
        self.drain(from);
        self.relay(from, route.link, route.to, packet.to_vec());
        true
    }

    pub(crate) fn ping(&mut self, from: usize, to: usize, ping: u64) {
        let now = self.now;
        self.nodes[from]
            .ms
            .ping(crate::PingId(ping), id(to), 0, now, &mut self.rng);
        self.drain(from);
    }

    /// Puts bytes into a relay as if `src` had sent them.
    pub(crate) fn inject(&mut self, region: u16, src: NodePublic, to: usize, packet: Vec<u8>) {
        let to = self.nodes[to].key;
        self.push(
            self.now,
            Event::Packet {
                region,
                to,
                src,
                packet,
            },
        );
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            for node in 0..self.nodes.len() {
                self.drain(node);
            }
            let event = self.queue.keys().next().map(|(at, _)| *at);
            let timer = self.nodes.iter().filter_map(|n| n.ms.next_timeout()).min();
            let next = [event, timer].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    fn step(&mut self) {
        let now = self.now;
        for node in 0..self.nodes.len() {
            if self.nodes[node]
                .ms
                .next_timeout()
                .is_some_and(|at| at <= now)
            {
                self.nodes[node].ms.handle_timeout(now, &mut self.rng);
                self.drain(node);
                let next = self.nodes[node].ms.next_timeout();
                assert!(
                    next.is_none_or(|at| at > now),
                    "a timer stays due: {next:?} at {now:?}"
                );
            }
        }
        while let Some(entry) = self.queue.first_entry().filter(|e| e.key().0 <= now) {
            match entry.remove() {
                Event::Packet {
                    region,
                    to,
                    src,
                    packet,
                } => self.deliver(region, to, src, packet),
                Event::Stun { node, datagram } => {
                    self.nodes[node]
                        .ms
                        .handle_stun(&datagram, now, &mut self.rng);
                    self.drain(node);
                }
            }
        }
    }

    fn deliver(&mut self, region: u16, to: NodePublic, src: NodePublic, packet: Vec<u8>) {
        let now = self.now;
        if self.down.contains(&region) {
            return;
        }
        let Some(index) = self.nodes.iter().position(|node| node.key == to) else {
            return;
        };
        let node = &mut self.nodes[index];
        let link = node
            .links
            .iter()
            .find(|(_, r)| **r == region)
            .map(|(link, _)| *link);
        let Some(link) = link else {
            // The relay tells the sender, as the originals' does for disco.
            let sender = self.nodes.iter_mut().find(|node| node.key == src);
            if let Some(sender) = sender.filter(|_| disco::looks_like(&packet)) {
                let links: Vec<LinkId> = sender
                    .links
                    .iter()
                    .filter(|(_, r)| **r == region)
                    .map(|(l, _)| *l)
                    .collect();
                for link in links {
                    sender.ms.handle_peer_gone(link, &to);
                }
            }
            return;
        };
        node.ms.note_frame(link, now);
        if disco::looks_like(&packet) {
            node.ms
                .handle_disco(link, &src, &packet, now, &mut self.rng);
        } else if let Some(peer) = node.ms.heard(link, &src) {
            node.data.push((peer, packet));
        }
        self.drain(index);
    }

    pub(crate) fn restart_relay(&mut self, region: u16) {
        let now = self.now;
        self.queue
            .retain(|_, event| !matches!(event, Event::Packet { region: r, .. } if *r == region));
        for node in &mut self.nodes {
            let links: Vec<LinkId> = node
                .links
                .iter()
                .filter(|(_, r)| **r == region)
                .map(|(l, _)| *l)
                .collect();
            for link in links {
                node.ms.handle_link_down(link, now);
            }
        }
    }

    pub(crate) fn drain(&mut self, index: usize) {
        while let Some(output) = self.nodes[index].ms.poll_output() {
            match output {
                Output::OpenLink { link, region, .. } => {
                    self.nodes[index].links.insert(link, region);
                    self.nodes[index].log.push(output);
                }
                Output::CloseLink { link, .. } => {
                    self.nodes[index].links.remove(&link);
                    self.nodes[index].log.push(output);
                }
                Output::SendDerp { link, to, packet } => {
                    self.nodes[index].disco_sent += 1;
                    self.relay(index, link, to, packet);
                }
                Output::Probe(action) => self.probe(index, action),
                other => self.nodes[index].log.push(other),
            }
        }
    }

    fn relay(&mut self, from: usize, link: LinkId, to: NodePublic, packet: Vec<u8>) {
        let region = self.nodes[from].links[&link];
        let src = self.nodes[from].key;
        if self.rng.random_range(0..1000) < self.loss {
            return;
        }
        let jitter = self.jitter.as_millis() as u64;
        let extra = MS
            * if jitter == 0 {
                0
            } else {
                (self.rng.next_u64() % jitter) as u32
            };
        let at = self.now + self.delays[&region] * 2 + extra;
        self.push(
            at,
            Event::Packet {
                region,
                to,
                src,
                packet,
            },
        );
    }

    fn probe(&mut self, index: usize, action: Action) {
        self.nodes[index].probes += 1;
        match action {
            Action::Send {
                family,
                to,
                datagram,
            } => {
                self.nodes[index].ms.handle_probe_sent(family, true);
                let IpAddr::V4(ip) = to.ip() else { return };
                let region = u16::from(ip.octets()[3]);
                if self.down.contains(&region) {
                    return;
                }
                let tx = stun::parse_request(&datagram).unwrap();
                let datagram = stun::response(tx, "198.51.100.1:1234".parse().unwrap());
                let at = self.now + self.delays[&region] * 2;
                self.push(
                    at,
                    Event::Stun {
                        node: index,
                        datagram,
                    },
                );
            }
            Action::Resolve { .. } => panic!("all relays have addresses"),
            Action::MeasureHttps { regions } => {
                let now = self.now;
                for region in regions {
                    self.nodes[index]
                        .ms
                        .handle_https(region, None, now, &mut self.rng);
                }
            }
        }
    }

    fn push(&mut self, at: Instant, event: Event) {
        self.seq += 1;
        self.queue.insert((at, self.seq), event);
    }
}

impl Node {
    pub(crate) fn pongs(&self) -> Vec<(u64, Result<u16, crate::PingFailure>)> {
        let done = self.log.iter().filter_map(|output| match output {
            Output::PingDone { id, result } => Some((id.0, result.map(|pong| pong.region))),
            _ => None,
        });
        done.collect()
    }

    pub(crate) fn regions(&self) -> Vec<u16> {
        self.ms.links().map(|(region, _)| region).collect()
    }
}

pub(crate) fn id(node: usize) -> PeerId {
    PeerId(node as i64 + 1)
}

pub(crate) fn other_disco(seed: u64) -> DiscoPublic {
    DiscoPrivate::generate(&mut StdRng::seed_from_u64(seed)).public()
}
