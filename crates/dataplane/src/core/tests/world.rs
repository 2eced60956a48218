//! Engines without threads, relays without sockets, one virtual clock.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use derp::{DerpMap, FrameType, Node as RelayNode, Region};
use filter::{Filter, Flows, LocalSet, Rules};
use host::{Instant, LinkState, PeerConfig, Waker, Wall};
use ipnet::IpNet;
use keys::{NodePrivate, NodePublic};
use magicsock::{BoundPorts, LinkId};
use metrics::UserMetrics;
use packet::PeerId;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tailcfg::{FilterRule, NetPortRange, PortRange};
use tokio::sync::oneshot;

use crate::core::{Clocks, Command, Core, Effect};
use crate::link::{LinkEvent, Packets};
use crate::sockets::{Datagrams, Outgoing};
use crate::streams::{Dialer, FlowHub, IncomingFlows};
use crate::tun::FromHost;
use crate::{EngineEvent, EngineStatus, Firewall, Network, PingError, PingKind, PingRequest, Pong};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SEC: Duration = Duration::from_secs(1);
const REGION: u16 = 900;
const DELAY: Duration = Duration::from_millis(5);

pub(crate) struct Node {
    pub(crate) core: Core,
    pub(crate) key: NodePrivate,
    pub(crate) metrics: Arc<UserMetrics>,
    pub(crate) dialer: Dialer,
    pub(crate) incoming: IncomingFlows,
    pub(crate) events: Vec<EngineEvent>,
    link: Option<(LinkId, bool)>,
    pub(crate) network: Network,
    pub(crate) flows: Arc<Flows>,
    /// What came out of its TUN device.
    pub(crate) to_host: Vec<Vec<u8>>,
}

enum Happens {
    Datagram {
        node: usize,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    Connected {
        node: usize,
        link: LinkId,
    },
    Packet {
        to: NodePublic,
        src: NodePublic,
        packet: Vec<u8>,
    },
}

pub(crate) struct World {
    /// What every way carries.
    pub(crate) path_mtu: usize,
    pub(crate) now: Instant,
    pub(crate) rng: StdRng,
    pub(crate) nodes: Vec<Node>,
    pub(crate) relay_up: bool,
    /// Whether datagrams arrive.
    pub(crate) udp_up: bool,
    /// How many were sent straight.
    pub(crate) direct: usize,
    /// Per mille of relayed packets that get lost.
    pub(crate) loss: u32,
    /// All WireGuard datagrams that the relay passed on, to be replayed.
    pub(crate) tape: Vec<(NodePublic, NodePublic, Vec<u8>)>,
    queue: BTreeMap<(Instant, u64), Happens>,
    seq: u64,
}

pub(crate) fn ip(node: usize) -> IpAddr {
    IpAddr::from([100, 64, 0, node as u8 + 1])
}

/// Where a node's socket is.
pub(crate) fn place(node: usize) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, node as u8 + 1], 41641))
}

pub(crate) fn id(node: usize) -> PeerId {
    PeerId(node as i64 + 1)
}

impl World {
    /// Nodes that know and trust each other, each at home in one region.
    pub(crate) fn new(count: usize) -> Self {
        let mut world = Self {
            path_mtu: 1500,
            now: Instant::ZERO + SEC * 5000,
            rng: StdRng::seed_from_u64(7),
            nodes: Vec::new(),
            relay_up: true,
            udp_up: false,
            direct: 0,
            loss: 0,
            tape: Vec::new(),
            queue: BTreeMap::new(),
            seq: 0,
        };
        for node in 0..count {
            let key = NodePrivate::generate(&mut world.rng);
            world.add(node, key);
        }
        for node in 0..count {
            world.nodes[node].network = world.network(node);
            world.configure(node);
            world.command(node, Command::SetMapStreaming(true));
            world.command(node, Command::SetDerpRunning(true));
        }
        world.run(SEC * 5);
        world
    }

    fn add(&mut self, node: usize, key: NodePrivate) {
        let metrics = Arc::new(UserMetrics::default());
        let (hub, dialer, incoming) = FlowHub::new(Waker::new(|| {}));
        let rng = Box::new(StdRng::from_rng(&mut self.rng));
        let core = Core::new(metrics.clone(), hub, rng, self.clocks());
        let made = Node {
            core,
            key,
            metrics,
            dialer,
            incoming,
            events: Vec::new(),
            link: None,
            network: Network::default(),
            flows: Arc::new(Flows::new()),
            to_host: Vec::new(),
        };
        if node < self.nodes.len() {
            self.nodes[node] = made;
        } else {
            self.nodes.push(made);
        }
    }

    /// The node's process ends and starts again: same key, fresh everything else.
    pub(crate) fn restart(&mut self, node: usize, tell_others: bool) {
        let key = self.nodes[node].key.clone();
        let network = self.nodes[node].network.clone();
        self.add(node, key);
        self.nodes[node].network = network;
        self.configure(node);
        self.command(node, Command::SetMapStreaming(true));
        self.command(node, Command::SetDerpRunning(true));
        if tell_others {
            for other in (0..self.nodes.len()).filter(|other| *other != node) {
                let peer = self.peer(node);
                self.command(other, Command::UpsertPeer(Arc::new(peer)));
            }
        }
    }

    pub(crate) fn peer(&self, node: usize) -> PeerConfig {
        let host = IpNet::from(ip(node));
        PeerConfig {
            id: id(node),
            key: self.nodes[node].key.public(),
            disco: self.nodes[node].core.disco_key(),
            home_derp: REGION,
            endpoints: Vec::new(),
            addresses: vec![ip(node)],
            sources: vec![host],
            routes: vec![host],
            jailed: false,
            masquerade: host::Masquerade::default(),
        }
    }

    fn network(&self, node: usize) -> Network {
        let relay = RelayNode {
            name: "900a".into(),
            stun_port: None,
            ..RelayNode::default()
        };
        let region = Region {
            id: REGION,
            nodes: vec![relay],
            ..Region::default()
        };
        let map = DerpMap {
            regions: BTreeMap::from([(REGION, region)]),
            ..DerpMap::default()
        };
        let others = (0..self.nodes.len()).filter(|other| *other != node);
        Network {
            self_addresses: vec![ip(node)],
            peers: Some(others.map(|other| Arc::new(self.peer(other))).collect()),
            derp_map: Some(Arc::new(map)),
            firewall: self.firewall(node, &[FilterRule::allow_all()]),
            peerapi_port_v4: 0,
            peerapi_port_v6: 0,
            avoid: host::Avoid::default(),
        }
    }

    pub(crate) fn firewall(&self, node: usize, rules: &[FilterRule]) -> Firewall {
        let flows = self.nodes[node].flows.clone();
        let (rules, problems) = Rules::parse(rules);
        assert_eq!(problems, []);
        let local = LocalSet::new([IpNet::from(ip(node))]);
        Firewall {
            filter: Some(Arc::new(Filter::new(rules, local.clone(), flows.clone()))),
            jailed: Some(Arc::new(Filter::shields_up(local, flows))),
            ..Firewall::default()
        }
    }

    pub(crate) fn configure(&mut self, node: usize) {
        let network = Arc::new(self.nodes[node].network.clone());
        let key = self.nodes[node].key.clone();
        self.command(node, Command::SetKeys(Some(key)));
        self.command(node, Command::SetNetwork(Some(network)));
    }

    fn clocks(&self) -> Clocks {
        let wall =
            Wall::from_unix_nanos(1_800_000_000_000_000_000 + i128::from(self.now.as_nanos()));
        Clocks {
            now: self.now,
            wall,
        }
    }

    pub(crate) fn command(&mut self, node: usize, command: Command) {
        let clocks = self.clocks();
        let core = &mut self.nodes[node].core;
        core.set_clocks(clocks);
        core.handle_command(command);
        self.settle(node);
    }

    /// Pings, lets `wait` pass, and takes the answer.
    pub(crate) fn ping(
        &mut self,
        from: usize,
        to: usize,
        kind: PingKind,
        wait: Duration,
    ) -> Option<Result<Pong, PingError>> {
        let request = PingRequest {
            peer: id(to),
            address: ip(to),
            kind,
            size: 0,
        };
        let (reply, mut answer) = oneshot::channel();
        self.command(from, Command::Ping(request, reply));
        self.run(wait);
        answer.try_recv().ok()
    }

    pub(crate) fn status(&mut self, node: usize) -> EngineStatus {
        let (reply, mut answer) = oneshot::channel();
        self.command(node, Command::Status(reply));
        answer.try_recv().unwrap()
    }

    /// Has the node send an IP packet, as its stack would.
    pub(crate) fn send_ip(&mut self, node: usize, packet: &[u8]) {
        let clocks = self.clocks();
        self.nodes[node].core.set_clocks(clocks);
        self.nodes[node].core.send_ip(packet);
        self.settle(node);
    }

    /// Gives the node a TUN device.
    pub(crate) fn use_tun(&mut self, node: usize) {
        self.nodes[node].core.use_tun(1280);
        self.configure(node);
    }

    /// Has the host behind the node's TUN device send a packet.
    pub(crate) fn send_from_host(&mut self, node: usize, packet: &[u8]) {
        let clocks = self.clocks();
        self.nodes[node].core.set_clocks(clocks);
        self.nodes[node]
            .core
            .handle_from_host(&FromHost::of(packet));
        self.settle(node);
    }

    /// Has the node send any bytes through its tunnel.
    pub(crate) fn send_raw(&mut self, node: usize, to: usize, packet: &[u8]) {
        let clocks = self.clocks();
        self.nodes[node].core.set_clocks(clocks);
        self.nodes[node].core.send_to_peer(id(to), packet);
        self.settle(node);
    }

    /// Puts a datagram into the relay as if `src` had sent it.
    pub(crate) fn inject(&mut self, src: NodePublic, to: usize, packet: Vec<u8>) {
        let to = self.nodes[to].key.public();
        self.push(self.now + DELAY, Happens::Packet { to, src, packet });
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        for node in 0..self.nodes.len() {
            self.settle(node);
        }
        loop {
            let event = self.queue.keys().next().map(|(at, _)| *at);
            let timers = self
                .nodes
                .iter()
                .filter_map(|node| node.core.next_timeout(false));
            let Some(next) = timers.chain(event).min().filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            for node in 0..self.nodes.len() {
                let due = self.nodes[node].core.next_timeout(false);
                if due.is_some_and(|at| at <= self.now) {
                    self.settle(node);
                }
            }
            while let Some(entry) = self.queue.first_entry().filter(|e| e.key().0 <= self.now) {
                let happens = entry.remove();
                self.happen(happens);
            }
        }
        self.now = end;
        for node in 0..self.nodes.len() {
            self.settle(node);
        }
    }

    fn happen(&mut self, happens: Happens) {
        match happens {
            Happens::Connected { node, link } => {
                let event = match self.relay_up {
                    true => LinkEvent::Connected,
                    false => LinkEvent::Down("connection refused".into()),
                };
                if !self.relay_up {
                    self.push(self.now + SEC, Happens::Connected { node, link });
                }
                if let Some((current, up)) = &mut self.nodes[node].link
                    && *current == link
                {
                    *up = self.relay_up;
                    self.link(node, link, event);
                }
            }
            Happens::Datagram { node, from, bytes } => self.inject_datagram(from, node, bytes),
            Happens::Packet { to, src, packet } => {
                let Some(node) = self.nodes.iter().position(|n| n.key.public() == to) else {
                    return;
                };
                let Some((link, true)) = self.nodes[node].link else {
                    return;
                };
                let mut packets = Packets::default();
                packets.push(src, &packet);
                self.link(node, link, LinkEvent::Packets(packets));
            }
        }
    }

    fn link(&mut self, node: usize, link: LinkId, event: LinkEvent) {
        let clocks = self.clocks();
        self.nodes[node].core.set_clocks(clocks);
        self.nodes[node].core.handle_link(link, event);
        self.settle(node);
    }

    /// The relay dies: what is under way is lost, all links go down.
    pub(crate) fn kill_relay(&mut self) {
        self.relay_up = false;
        self.queue
            .retain(|_, happens| !matches!(happens, Happens::Packet { .. }));
        for node in 0..self.nodes.len() {
            if let Some((link, up)) = &mut self.nodes[node].link
                && std::mem::replace(up, false)
            {
                let link = *link;
                self.link(node, link, LinkEvent::Down("unexpected end of file".into()));
                self.push(self.now + SEC, Happens::Connected { node, link });
            }
        }
    }

    fn settle(&mut self, node: usize) {
        let clocks = self.clocks();
        self.nodes[node].core.set_clocks(clocks);
        loop {
            let effects = self.nodes[node].core.run(false);
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.perform(node, effect);
            }
        }
    }

    fn perform(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::OpenLink { link, region, .. } => {
                assert_eq!(region.id, REGION);
                self.nodes[node].link = Some((link, false));
                self.push(self.now + DELAY * 4, Happens::Connected { node, link });
            }
            Effect::CloseLink { .. } => self.nodes[node].link = None,
            Effect::NotePreferred { .. }
            | Effect::CheckLinks { .. }
            | Effect::Avoid(_)
            | Effect::Rebind => {}
            Effect::AllowFragments => {}
            Effect::AskMtu { peer, to } => {
                let mtu = self.path_mtu;
                self.nodes[node].core.handle_path_mtu(peer, to, mtu);
            }
            Effect::ToHost(packets) => {
                let packets = packets.packets().map(<[u8]>::to_vec);
                self.nodes[node].to_host.extend(packets);
            }
            Effect::Send(outgoing) => self.send_datagrams(node, &outgoing),
            Effect::Push { batch, .. } => self.relay(node, &batch.frames),
            Effect::Event(event) => self.nodes[node].events.push(event),
            Effect::Probe(action) => {
                if let netcheck::Action::MeasureHttps { regions } = action {
                    for region in regions {
                        let answer = crate::probe::ProbeAnswer::Https(region, None);
                        self.nodes[node].core.handle_probe(answer);
                    }
                }
            }
        }
    }

    /// The network between the nodes' sockets: all of them reach each other.
    fn send_datagrams(&mut self, node: usize, outgoing: &Outgoing) {
        for (to, datagram) in outgoing.datagrams() {
            let receiver = (0..self.nodes.len()).find(|node| place(*node) == to);
            if let Some(receiver) = receiver.filter(|_| self.udp_up) {
                let (from, bytes) = (place(node), datagram.to_vec());
                self.direct += 1;
                self.push(
                    self.now + MS,
                    Happens::Datagram {
                        node: receiver,
                        from,
                        bytes,
                    },
                );
            }
        }
    }

    /// Gives all nodes sockets, and tells them where the others are.
    pub(crate) fn open_sockets(&mut self) {
        for node in 0..self.nodes.len() {
            let ports = BoundPorts {
                v4: Some(place(node).port()),
                v6: None,
                wanted: 0,
            };
            let links = LinkState {
                up: true,
                addresses: vec![place(node).ip()],
                ..LinkState::default()
            };
            self.command(node, Command::SetLinks(Arc::new(links)));
            self.nodes[node].core.handle_bound(ports);
            for other in (0..self.nodes.len()).filter(|other| *other != node) {
                let mut peer = self.peer(other);
                peer.endpoints = vec![place(other)];
                self.command(node, Command::UpsertPeer(Arc::new(peer)));
            }
        }
        self.udp_up = true;
        self.run(SEC * 6);
    }

    /// Has a datagram come to a node's socket.
    pub(crate) fn inject_datagram(&mut self, from: SocketAddr, node: usize, bytes: Vec<u8>) {
        let clocks = self.clocks();
        self.nodes[node].core.set_clocks(clocks);
        self.nodes[node]
            .core
            .handle_datagrams(Datagrams::of(from, bytes));
        self.settle(node);
    }

    fn relay(&mut self, node: usize, mut frames: &[u8]) {
        let src = self.nodes[node].key.public();
        while let Some((header, rest)) = frames.split_first_chunk::<5>() {
            assert_eq!(header[0], FrameType::SEND_PACKET.0);
            let len = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
            let (body, behind) = rest.split_at(len);
            frames = behind;
            let (to, packet) = body.split_first_chunk::<32>().unwrap();
            let to = NodePublic::from_bytes(*to);
            if !packet::disco::looks_like(packet) {
                self.tape.push((src, to, packet.to_vec()));
            }
            let connected = matches!(self.nodes[node].link, Some((_, true)));
            if !connected || self.rng.random_range(0..1000) < self.loss {
                continue;
            }
            let packet = packet.to_vec();
            self.push(self.now + DELAY, Happens::Packet { to, src, packet });
        }
    }

    fn push(&mut self, at: Instant, happens: Happens) {
        self.seq += 1;
        self.queue.insert((at, self.seq), happens);
    }
}

/// A rule that lets `src` reach TCP, UDP and ICMP of `dst` on `port`.
pub(crate) fn rule(src: usize, dst: usize, port: u16) -> FilterRule {
    FilterRule {
        src_ips: vec![ip(src).to_string()],
        dst_ports: vec![NetPortRange {
            ip: ip(dst).to_string(),
            bits: None,
            ports: PortRange {
                first: port,
                last: port,
            },
        }],
        ..FilterRule::default()
    }
}

pub(crate) fn at(node: usize, port: u16) -> SocketAddr {
    SocketAddr::new(ip(node), port)
}
