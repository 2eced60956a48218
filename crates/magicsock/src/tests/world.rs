//! A few machines and relays in one simulated world with a virtual clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use derp::{DerpMap, FamilyAddr, Node as Relay, Region};
use host::{Instant, LinkState, PeerConfig};
use keys::{DiscoPrivate, DiscoPublic, NodePrivate, NodePublic};
use netcheck::{Action, stun};
use packet::{PeerId, disco};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use super::net::{End, Net, PORT};
use crate::{BoundPorts, LinkId, Magicsock, Output, PingScope, Via};

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
    /// The site it is in and its socket there; none if it has none.
    pub(crate) place: Option<(usize, SocketAddr)>,
    /// Where it says that it is.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// Nothing reaches it, and its timers do not fire.
    pub(crate) asleep: bool,
    pub(crate) udp_sent: usize,
}

enum Event {
    Datagram {
        node: usize,
        from: SocketAddr,
        packet: Vec<u8>,
    },
    /// A node learns from control where another is.
    Told {
        node: usize,
        about: usize,
    },
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
    pub(crate) net: Net,
    /// Per mille of direct datagrams that get lost.
    pub(crate) udp_loss: u32,
    /// Whether nodes learn from control where the others are.
    pub(crate) control_up: bool,
    homes: Vec<u16>,
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
            net: Net::default(),
            udp_loss: 0,
            control_up: true,
            homes: homes.to_vec(),
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
                place: None,
                endpoints: Vec::new(),
                asleep: false,
                udp_sent: 0,
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
            endpoints: self.nodes[node].endpoints.clone(),
            addresses: vec![IpAddr::from([100, 64, 0, node as u8 + 1])],
            sources: Vec::new(),
            routes: Vec::new(),
            jailed: false,
            masquerade: host::Masquerade::default(),
        }
    }

    /// Gives a node a socket in a site, or takes it elsewhere.
    pub(crate) fn place(&mut self, node: usize, site: usize) {
        let inside = SocketAddr::new(self.net.address(site, node), PORT);
        self.nodes[node].place = Some((site, inside));
        self.rebind(node);
    }

    pub(crate) fn rebind(&mut self, node: usize) {
        let now = self.now;
        let ports = BoundPorts {
            v4: Some(PORT),
            v6: None,
            wanted: 0,
        };
        let links = LinkState {
            up: true,
            addresses: vec![self.nodes[node].place.unwrap().1.ip()],
            ..LinkState::default()
        };
        self.nodes[node].ms.set_links(&links);
        self.nodes[node].ms.set_ports(ports, now);
        self.nodes[node].ms.handle_link_change(true, now);
        self.drain(node);
    }

    /// Sends a WireGuard-like packet by all ways that the route names. Says whether there was one.
    pub(crate) fn send(&mut self, from: usize, to: usize, packet: &[u8]) -> bool {
        let now = self.now;
        let Some(route) = self.nodes[from].ms.route(id(to), now) else {
            return false;
        };
        self.drain(from);
        if let Some(relay) = route.relay {
            self.relay(from, relay.link, relay.to, packet.to_vec());
        }
        if let Some(addr) = route.direct {
            self.udp(from, addr, packet.to_vec());
        }
        true
    }

    pub(crate) fn ping(&mut self, from: usize, to: usize, ping: u64) {
        let now = self.now;
        self.nodes[from].ms.ping(
            crate::PingId(ping),
            id(to),
            PingScope::All,
            0,
            now,
            &mut self.rng,
        );
        self.drain(from);
    }

    /// The direct path from one node to another that is in use and trusted.
    pub(crate) fn direct(&self, from: usize, to: usize) -> Option<SocketAddr> {
        self.nodes[from].ms.peer_view(id(to), self.now)?.direct
    }

    /// Has a datagram come to a node's socket from anywhere.
    pub(crate) fn inject_udp(&mut self, from: SocketAddr, node: usize, packet: Vec<u8>) {
        self.push(self.now, Event::Datagram { node, from, packet });
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
            let awake = self.nodes.iter().filter(|n| !n.asleep);
            let timer = awake.filter_map(|n| n.ms.next_timeout()).min();
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
            if !self.nodes[node].asleep
                && self.nodes[node]
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
                Event::Datagram { node, from, packet } => self.arrive(node, from, &packet),
                Event::Told { node, about } => {
                    let config = self.peer(about, self.homes[about]);
                    self.nodes[node].ms.upsert_peer(&config);
                    self.drain(node);
                }
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
        if node.asleep {
            return;
        }
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

    fn arrive(&mut self, node: usize, from: SocketAddr, packet: &[u8]) {
        let now = self.now;
        let peers = self.nodes.len();
        let node_state = &mut self.nodes[node];
        if node_state.asleep {
            return;
        }
        if stun::is_stun(packet) {
            node_state.ms.handle_stun(packet, now, &mut self.rng);
        } else if disco::looks_like(packet) {
            node_state
                .ms
                .handle_direct_disco(from, packet, now, &mut self.rng);
        } else if let Some(sender) = packet.get(1).filter(|n| usize::from(**n) < peers) {
            // Data says whose it is, as a session's index does.
            let sender = id(usize::from(*sender));
            node_state.ms.note_direct_data(sender, now);
            node_state.data.push((sender, packet.to_vec()));
        }
        self.drain(node);
    }

    /// Sends a datagram from a node's socket.
    pub(crate) fn udp(&mut self, node: usize, to: SocketAddr, packet: Vec<u8>) {
        let Some((site, inside)) = self.nodes[node].place else {
            return;
        };
        self.nodes[node].udp_sent += 1;
        let (end, from) = self.net.send(site, inside, to, self.now);
        let delay = self.net.sites[site].delay;
        if self.rng.random_range(0..1000) < self.udp_loss {
            return;
        }
        match end {
            End::Lost => {}
            End::Internet => self.answer_stun(from, to, delay, &packet),
            End::Host {
                site: other,
                inside,
            } => {
                let hosts = self.nodes.iter();
                let mut found = hosts
                    .enumerate()
                    .filter(|(_, n)| n.place == Some((other, inside)));
                let Some((receiver, _)) = found.next() else {
                    return;
                };
                let way = match other == site {
                    true => MS,
                    false => delay + self.net.sites[other].delay,
                };
                let node = receiver;
                self.push(self.now + way, Event::Datagram { node, from, packet });
            }
        }
    }

    fn answer_stun(
        &mut self,
        from: SocketAddr,
        server: SocketAddr,
        delay: Duration,
        packet: &[u8],
    ) {
        let IpAddr::V4(ip) = server.ip() else { return };
        let region = u16::from(ip.octets()[3]);
        let (Ok(tx), Some(far)) = (stun::parse_request(packet), self.delays.get(&region)) else {
            return;
        };
        if self.down.contains(&region) {
            return;
        }
        let at = self.now + (delay + *far) * 2;
        let Some(site) = self.net.site_of(from) else {
            return;
        };
        // The answer meets the router as it is when the request leaves: good enough here.
        if let End::Host { inside, .. } = self.net.enter(site, server, from, self.now)
            && let Some(node) = self
                .nodes
                .iter()
                .position(|n| n.place == Some((site, inside)))
        {
            let packet = stun::response(tx, from);
            self.push(
                at,
                Event::Datagram {
                    node,
                    from: server,
                    packet,
                },
            );
        }
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
                Output::SendUdp { to, packet } => {
                    self.nodes[index].disco_sent += 1;
                    self.udp(index, to, packet);
                }
                Output::EndpointsChanged(endpoints) => {
                    self.nodes[index].endpoints = endpoints.iter().map(|e| e.addr).collect();
                    self.tell_about(index);
                }
                Output::HomeChanged(region) if self.nodes[index].place.is_some() => {
                    self.homes[index] = region;
                    self.tell_about(index);
                }
                Output::Probe(action) => self.probe(index, action),
                other => self.nodes[index].log.push(other),
            }
        }
    }

    fn tell_about(&mut self, about: usize) {
        for node in (0..self.nodes.len()).filter(|node| *node != about) {
            if self.control_up {
                self.push(self.now + MS * 50, Event::Told { node, about });
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
                if self.nodes[index].place.is_some() {
                    return self.udp(index, to, datagram.to_vec());
                }
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
    /// How pings ended, by relays if they did.
    pub(crate) fn pongs(&self) -> Vec<(u64, Result<u16, crate::PingFailure>)> {
        let region = |via: Via| match via {
            Via::Relay(region) => region,
            Via::Direct(_) => 0,
        };
        let done = self.log.iter().filter_map(|output| match output {
            Output::PingDone { id, result } => Some((id.0, result.map(|pong| region(pong.via)))),
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
