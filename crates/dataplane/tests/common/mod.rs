//! Two engines and a relay in one process, over real sockets on loopback.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dataplane::{
    Engine, EngineConfig, EngineEvent, Events, Firewall, IncomingFlows, Network, RelayDialer,
};
use derp::{DerpMap, FamilyAddr, Node as RelayNode, NodeCert, Region};
use derpserver::{Certificate, Config, Server};
use filter::{Filter, Flows, LocalSet, Rules};
use host::PeerConfig;
use ipnet::IpNet;
use keys::NodePrivate;
use metrics::UserMetrics;
use packet::PeerId;
use rt::OsRng;
use tailcfg::FilterRule;
use tokio::time::timeout;
use transport::derp::DerpDialOptions;
use transport::{DialConfig, Dialer};

pub(crate) const REGION: u16 = 900;

pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) events: Events,
    pub(crate) incoming: IncomingFlows,
    pub(crate) key: NodePrivate,
    pub(crate) metrics: Arc<UserMetrics>,
}

pub(crate) fn ip(node: usize) -> IpAddr {
    IpAddr::from([100, 64, 0, node as u8 + 1])
}

pub(crate) fn id(node: usize) -> PeerId {
    PeerId(node as i64 + 1)
}

/// A relay with TLS and STUN; 0 takes any port.
pub(crate) async fn relay(key: &NodePrivate, listen: SocketAddr, cert: &SharedCert) -> Server {
    let mut config = Config::new(key.clone());
    config.listen = listen;
    config.certificate = Some(cert.make());
    config.stun = Some(SocketAddr::new(listen.ip(), 0));
    Server::start(config).await.unwrap()
}

/// A certificate that a restarted relay shows again.
pub(crate) struct SharedCert(tempfile::TempDir);

impl SharedCert {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn make(&self) -> Certificate {
        Certificate::load(self.0.path(), "127.0.0.1", rt::wall()).unwrap()
    }
}

pub(crate) fn map(server: &Server) -> Arc<DerpMap> {
    let node = RelayNode {
        name: "900a".into(),
        host: "127.0.0.1".into(),
        cert_name: NodeCert::Sha256(server.pin.unwrap()),
        ipv4: FamilyAddr::Ip([127, 0, 0, 1].into()),
        ipv6: FamilyAddr::None,
        stun_port: server.stun_addr.map(|addr| addr.port()),
        derp_port: server.addr.port(),
        ..RelayNode::default()
    };
    let region = Region {
        id: REGION,
        code: "test".into(),
        nodes: vec![node],
        ..Region::default()
    };
    Arc::new(DerpMap {
        regions: BTreeMap::from([(REGION, region)]),
        ..DerpMap::default()
    })
}

/// Engines that know and trust each other.
pub(crate) async fn nodes(count: usize, map: &Arc<DerpMap>) -> Vec<Node> {
    let mut nodes: Vec<Node> = (0..count).map(|_| start()).collect();
    let peers: Vec<PeerConfig> = (0..count).map(|node| peer(node, &nodes[node])).collect();
    for (index, node) in nodes.iter_mut().enumerate() {
        node.engine.set_keys(Some(node.key.clone()));
        let others = peers.iter().filter(|peer| peer.id != id(index));
        let network = Network {
            self_addresses: vec![ip(index)],
            peers: Some(others.cloned().map(Arc::new).collect()),
            derp_map: Some(map.clone()),
            firewall: allow_all(index),
            ..Network::default()
        };
        node.engine.set_network(Some(Arc::new(network)));
        node.engine.set_map_streaming(true);
        node.engine.set_derp_running(true);
    }
    for node in &mut nodes {
        wait_for(node, |event| *event == EngineEvent::HomeDerp(REGION)).await;
        wait_for(node, connected(true)).await;
    }
    nodes
}

/// An engine without peers.
pub(crate) fn lone_node(map: &Arc<DerpMap>) -> Node {
    let node = start();
    node.engine.set_keys(Some(node.key.clone()));
    let network = Network {
        derp_map: Some(map.clone()),
        ..Network::default()
    };
    node.engine.set_network(Some(Arc::new(network)));
    node.engine.set_derp_running(true);
    node
}

pub(crate) fn connected(connected: bool) -> impl Fn(&EngineEvent) -> bool {
    let region = REGION;
    move |event| *event == EngineEvent::DerpConnected { region, connected }
}

fn start() -> Node {
    let metrics = Arc::new(UserMetrics::default());
    let dialer = Arc::new(Dialer::new(DialConfig::default()));
    let relays = RelayDialer::new(dialer, DerpDialOptions::default());
    let config = EngineConfig {
        tun: None,
        udp: Arc::new(os::udp::PlainBinder),
        port: 0,
        workers: 1,
        ignore_path_mtu: false,
        relay_only: true,
        relays: Arc::new(relays),
        metrics: metrics.clone(),
    };
    let (engine, events, incoming) = Engine::start(config).unwrap();
    Node {
        engine,
        events,
        incoming,
        key: NodePrivate::generate(&mut OsRng),
        metrics,
    }
}

pub(crate) fn peer(index: usize, node: &Node) -> PeerConfig {
    let host = IpNet::from(ip(index));
    PeerConfig {
        id: id(index),
        key: node.key.public(),
        disco: node.engine.disco_key(),
        home_derp: REGION,
        endpoints: Vec::new(),
        addresses: vec![ip(index)],
        sources: vec![host],
        routes: vec![host],
        jailed: false,
        masquerade: host::Masquerade::default(),
    }
}

fn allow_all(index: usize) -> Firewall {
    let (rules, _) = Rules::parse(&[FilterRule::allow_all()]);
    let local = LocalSet::new([IpNet::from(ip(index))]);
    Firewall {
        filter: Some(Arc::new(Filter::new(rules, local, Arc::new(Flows::new())))),
        ..Firewall::default()
    }
}

/// Waits for an event; others before it are passed over.
pub(crate) async fn wait_for(node: &mut Node, wanted: impl Fn(&EngineEvent) -> bool) {
    let found = async {
        while let Some(event) = node.events.recv().await {
            if wanted(&event) {
                return;
            }
        }
        panic!("the engine has stopped");
    };
    timeout(Duration::from_secs(20), found)
        .await
        .expect("the event comes");
}
