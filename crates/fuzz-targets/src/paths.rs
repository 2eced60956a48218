//! The path machine, driven by a script of bytes.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use host::{Instant, PeerConfig};
use keys::nacl::SharedKey;
use keys::{DiscoPrivate, DiscoPublic, NodePublic};
use magicsock::{BoundPorts, LinkId, Magicsock, Output, PingId, PingScope};
use packet::{PeerId, disco};
use rand::rngs::StdRng;

const DERP_MAP: &str = r#"{"Regions":{
    "1":{"RegionID":1,"RegionCode":"a","Nodes":[{"Name":"1a","RegionID":1,"HostName":"a.example.com","IPv4":"192.0.2.1"}]},
    "2":{"RegionID":2,"RegionCode":"b","Nodes":[{"Name":"2a","RegionID":2,"HostName":"b.example.com","STUNPort":-1}]}}}"#;

/// Commands of one byte, each with what it needs behind it. Datagrams go only by links that are open, and time never stands
/// still: what is due at an instant can be done at that instant.
pub(crate) fn magicsock(data: &[u8]) {
    let mut world = World::new();
    let mut script = Script(data);
    for _ in 0..400 {
        let Some(command) = script.byte() else { break };
        world.step(command, &mut script);
        world.drain();
    }
}

/// A few addresses, some of which nobody can have.
fn address(number: u8) -> SocketAddr {
    match number {
        0 => ([0, 0, 0, 0], 0).into(),
        1 => ([127, 3, 3, 40], 1).into(),
        number if number < 100 => ([198, 51, 100, number], 41641).into(),
        number => (
            Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number)),
            41641,
        )
            .into(),
    }
}

struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn number(&mut self) -> u8 {
        self.byte().unwrap_or(0)
    }

    /// Bytes behind their length.
    fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.number()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }
}

struct World {
    magic: Magicsock,
    rng: StdRng,
    now: Instant,
    theirs: DiscoPrivate,
    /// Every link that was ever opened, and those that still are.
    known: Vec<LinkId>,
    open: BTreeSet<LinkId>,
    running: bool,
}

impl World {
    fn new() -> Self {
        let mut rng = crate::rng();
        let ours = DiscoPrivate::generate(&mut rng);
        let theirs = DiscoPrivate::generate(&mut rng);
        let wire = serde_json::from_str(DERP_MAP).expect("a map");
        let now = Instant::from_nanos(1_000_000_000);
        let mut magic = Magicsock::new(ours, &mut rng);
        magic.set_derp_map(Some(Arc::new(netmap::derp_map_from_wire(&wire))), now);
        magic.set_node_key(Some(NodePublic::from_bytes([9; 32])), now);
        magic.set_running(true, now);
        let mut this = Self {
            magic,
            rng,
            now,
            theirs,
            known: Vec::new(),
            open: BTreeSet::new(),
            running: true,
        };
        this.upsert(1, 1, 0);
        this.upsert(2, 2, 0);
        this.drain();
        this
    }

    /// Peer 1 and 2 share the disco key that signs the script's datagrams; others have another one each.
    fn upsert(&mut self, id: u8, home: u8, disco: u8) {
        let key = match disco {
            0 => self.theirs.public(),
            other => DiscoPublic::from_bytes([other; 32]),
        };
        self.magic.upsert_peer(&PeerConfig {
            id: PeerId(id.into()),
            key: NodePublic::from_bytes([id; 32]),
            disco: key,
            home_derp: home.into(),
            endpoints: (0..disco).map(address).collect(),
            addresses: Vec::new(),
            sources: Vec::new(),
            routes: Vec::new(),
            jailed: false,
            masquerade: host::Masquerade::default(),
        });
    }

    fn step(&mut self, command: u8, script: &mut Script<'_>) {
        let now = self.now;
        let peer = script.number() % 4;
        let id = PeerId(peer.into());
        let key = NodePublic::from_bytes([peer; 32]);
        match command % 16 {
            0 => {
                let link = self.link(script);
                let datagram = self.sealed(script.bytes());
                self.magic
                    .handle_disco(link, &key, &datagram, now, &mut self.rng);
            }
            1 => {
                let link = self.link(script);
                let datagram = [&disco::MAGIC, script.bytes()].concat();
                self.magic
                    .handle_disco(link, &key, &datagram, now, &mut self.rng);
            }
            2 => self.pass(Duration::from_millis(u64::from(script.number()) * 500)),
            3 => {
                let link = self.link(script);
                self.magic.handle_link_down(link, now);
            }
            4 => {
                let link = self.link(script);
                self.magic.handle_peer_gone(link, &key);
            }
            5 => {
                if let Some(route) = self.magic.route(id, now) {
                    self.drain();
                    assert!(route.relay.is_some() || route.direct.is_some());
                    let is_open = |link| self.open.contains(&link);
                    let relay = route.relay.map(|relay| relay.link);
                    assert!(relay.is_none_or(is_open), "a route by a closed link");
                }
            }
            6 => {
                let size = usize::from(script.number()) * 300;
                let ping = PingId(script.number().into());
                let scope = match script.number() % 2 {
                    0 => PingScope::All,
                    _ => PingScope::Paths,
                };
                self.magic.ping(ping, id, scope, size, now, &mut self.rng);
            }
            7 => {
                let (home, disco) = (script.number() % 4, script.number() % 3);
                self.upsert(peer, home, disco);
            }
            8 => self.magic.remove_peer(id),
            9 => {
                let link = self.link(script);
                let _ = self.magic.heard(link, &key);
            }
            10 => self.magic.handle_stun(script.bytes(), now, &mut self.rng),
            11 => {
                self.running = !self.running;
                self.magic.set_running(self.running, now);
            }
            12 => {
                let from = address(script.number());
                let datagram = self.sealed(script.bytes());
                self.magic
                    .handle_direct_disco(from, &datagram, now, &mut self.rng);
            }
            13 => {
                let from = address(script.number());
                let datagram = [&disco::MAGIC, script.bytes()].concat();
                self.magic
                    .handle_direct_disco(from, &datagram, now, &mut self.rng);
            }
            14 => {
                let ports = BoundPorts {
                    v4: Some(script.number().into()).filter(|port| *port != 0),
                    v6: Some(script.number().into()).filter(|port| *port != 0),
                    wanted: script.number().into(),
                };
                self.magic.set_ports(ports, now);
            }
            _ => self.magic.handle_unreachable(address(script.number())),
        }
    }

    fn link(&self, script: &mut Script<'_>) -> LinkId {
        let number = usize::from(script.number());
        let known = self.known.get(number % self.known.len().max(1));
        known.copied().unwrap_or(LinkId(0))
    }

    /// A true envelope around anything.
    fn sealed(&mut self, inner: &[u8]) -> Vec<u8> {
        let ours = self.magic.disco_key();
        let shared = SharedKey::new(self.theirs.expose_bytes(), ours.as_bytes());
        let sealed = shared.expect("good keys").seal(&mut self.rng, inner);
        let sender = self.theirs.public();
        [&disco::MAGIC[..], sender.as_bytes(), &sealed].concat()
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..10_000 {
            let Some(next) = self.magic.next_timeout().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            self.magic.handle_timeout(self.now, &mut self.rng);
            self.drain();
        }
        panic!("the machine never comes to rest");
    }

    fn drain(&mut self) {
        while let Some(output) = self.magic.poll_output() {
            match output {
                Output::OpenLink { link, .. } => {
                    assert!(!self.known.contains(&link), "a link's name is used twice");
                    self.known.push(link);
                    self.open.insert(link);
                }
                Output::CloseLink { link, .. } => {
                    assert!(self.open.remove(&link), "closed what was not open");
                }
                Output::NotePreferred { link, .. } => assert!(self.open.contains(&link)),
                Output::SendDerp { link, packet, .. } => {
                    assert!(self.open.contains(&link), "sent by a closed link");
                    assert!(disco::looks_like(&packet));
                }
                Output::SendUdp { packet, .. } => assert!(disco::looks_like(&packet)),
                Output::HomeChanged(_)
                | Output::PathChanged { .. }
                | Output::EndpointsChanged(_)
                | Output::Probe(_)
                | Output::Report(_)
                | Output::PeerRestarted(_)
                | Output::PingDone { .. } => {}
            }
        }
    }
}
