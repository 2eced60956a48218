//! Our engine in a tailnet of the originals: headscale, Go's derper and a Go node, which has no other path than the relay.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use control::{C2nRouter, Client, ClientConfig, Event, LoginRequest, MapParams};
use dataplane::{
    Engine, EngineConfig, EngineEvent, Firewall, Incoming, IncomingFlows, Network, PingKind,
    PingRequest, RelayDialer,
};
use filter::{Filter, Flows, LocalSet, Rules};
use host::PeerConfig;
use keys::{LockPublic, MachinePrivate, NodePrivate, NodePublic};
use metrics::UserMetrics;
use netmap::NetMap;
use packet::PeerId;
use rt::Task;
use tailcfg::go::Secret;
use tailcfg::{Hostinfo, NetInfo};
use testkit::originals::{
    Daemon, HeadscaleOptions, TailscaledOptions, go_cli, go_derper, go_tailscaled, headscale,
};
use testkit::wait_until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use transport::derp::DerpDialOptions;

const PATIENCE: Duration = Duration::from_secs(60);

/// What the brain of a whole node would do, as far as the engine needs it.
struct Joined {
    engine: Engine,
    incoming: IncomingFlows,
    map: watch::Receiver<Option<Arc<NetMap>>>,
    _tasks: [Task; 2],
}

fn hostinfo(home: u16) -> Arc<Hostinfo> {
    let net_info = NetInfo {
        preferred_derp: i32::from(home),
        working_udp: Some(true),
        ..NetInfo::default()
    };
    Arc::new(Hostinfo {
        backend_log_id: "00".repeat(32),
        hostname: "ours".to_owned(),
        os: "linux".to_owned(),
        ipn_version: "1.103.0".to_owned(),
        net_info: Some(Box::new(net_info)),
        ..Hostinfo::default()
    })
}

fn network(map: &NetMap, flows: &Arc<Flows>) -> Network {
    let peers = map.peers.iter().map(|peer| PeerConfig {
        id: peer.id,
        key: peer.key,
        disco: peer.disco,
        home_derp: peer.home_derp,
        endpoints: Vec::new(),
        addresses: peer.addresses.iter().map(|net| net.addr()).collect(),
        sources: peer.allowed_ips.to_vec(),
        routes: peer.allowed_ips.to_vec(),
        jailed: peer.is_jailed,
        masquerade: host::Masquerade::default(),
    });
    let (rules, problems) = Rules::parse(&map.filter_rules);
    assert_eq!(problems, []);
    let local = LocalSet::new(map.self_node.addresses.iter().copied());
    Network {
        self_addresses: map
            .self_node
            .addresses
            .iter()
            .map(|net| net.addr())
            .collect(),
        peers: Some(peers.map(Arc::new).collect()),
        derp_map: Some(map.derp_map.clone()),
        firewall: Firewall {
            filter: Some(Arc::new(Filter::new(rules, local, flows.clone()))),
            ..Firewall::default()
        },
        ..Network::default()
    }
}

impl Joined {
    fn join(url: String, auth_key: String) -> Self {
        let dialer = Arc::new(transport::Dialer::new(transport::DialConfig::default()));
        let (engine, mut events, incoming) = Engine::start(EngineConfig {
            tun: None,
            udp: Arc::new(os::udp::PlainBinder),
            port: 0,
            workers: 1,
            ignore_path_mtu: false,
            relay_only: true,
            relays: Arc::new(RelayDialer::new(dialer.clone(), DerpDialOptions::default())),
            metrics: Arc::new(UserMetrics::default()),
        })
        .unwrap();
        let (client, mut control) = Client::start(ClientConfig {
            server_url: url,
            machine_key: MachinePrivate::generate(&mut rt::OsRng),
            dialer,
            paused: false,
            force_443: false,
            disco_key: engine.disco_key(),
            c2n: C2nRouter::new(),
            dial_plan: control::DialPlan::default(),
        })
        .unwrap();
        let client = Arc::new(client);
        let private = NodePrivate::generate(&mut rt::OsRng);
        let key = private.public();
        client.login(LoginRequest {
            node_key: key,
            old_node_key: NodePublic::ZERO,
            lock_key: LockPublic::default(),
            auth_key: Some(Secret::new(auth_key)),
            hostinfo: hostinfo(0),
            ephemeral: false,
        });
        engine.set_keys(Some(private));
        let (maps, map) = watch::channel(None);
        let (handle, teller) = (engine.clone(), client.clone());
        let follow = Task::spawn("control events", async move {
            let flows = Arc::new(Flows::new());
            while let Some(event) = control.recv().await {
                match event {
                    Event::Registered(_) => teller.start_map(MapParams {
                        node_key: key,
                        hostinfo: hostinfo(0),
                    }),
                    Event::Map(change) => {
                        handle.set_network(Some(Arc::new(network(change.map(), &flows))));
                        handle.set_map_streaming(true);
                        handle.set_derp_running(true);
                        maps.send_replace(Some(change.map().clone()));
                    }
                    _ => {}
                }
            }
        });
        let tell = Task::spawn("engine events", async move {
            while let Some(event) = events.recv().await {
                if let EngineEvent::HomeDerp(home) = event {
                    client.set_hostinfo(hostinfo(home));
                }
            }
        });
        Self {
            engine,
            incoming,
            map,
            _tasks: [follow, tell],
        }
    }

    /// The peer with this host name, once it has told its home, and our own address.
    async fn sees(&mut self, name: &str) -> (PeerId, IpAddr, IpAddr) {
        let seen = self.map.wait_for(|map| {
            let peers = map.iter().flat_map(|map| map.peers.iter());
            peers
                .into_iter()
                .any(|peer| peer.name.starts_with(name) && peer.home_derp != 0)
        });
        let map = timeout(PATIENCE, seen)
            .await
            .expect("the peer comes")
            .unwrap()
            .clone();
        let map = map.unwrap();
        let peer = map
            .peers
            .iter()
            .find(|peer| peer.name.starts_with(name))
            .unwrap();
        let own = map.self_node.addresses[0].addr();
        (peer.id, peer.addresses[0].addr(), own)
    }

    async fn pings(&self, peer: PeerId, address: IpAddr) {
        for kind in [PingKind::Disco, PingKind::Tsmp, PingKind::Icmp] {
            let request = PingRequest {
                peer,
                address,
                kind,
                size: 0,
            };
            let answered = async {
                loop {
                    if let Ok(pong) = self.engine.ping(request).await {
                        return pong;
                    }
                }
            };
            let pong = timeout(PATIENCE, answered).await.expect("a pong");
            println!("{kind:?}: {pong:?}");
        }
    }
}

fn cli(test: &str, node: &Daemon, args: &[&str]) -> String {
    let output = go_cli(test, &node.socket(), args).unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Go's command line pings us in all ways.
fn go_pings(test: &str, go: &Daemon, ours: IpAddr) {
    for kind in ["--verbose", "--tsmp", "--icmp"] {
        let to = ours.to_string();
        let args = [
            "ping",
            kind,
            "--c=1",
            "--timeout=3s",
            "--until-direct=false",
            &to,
        ];
        let text = wait_until("a pong of ours", || {
            Some(cli(test, go, &args)).filter(|text| text.contains("pong from"))
        });
        println!("{text}");
    }
}

fn byte(i: usize) -> u8 {
    (i % 251) as u8 ^ (i / 65_537) as u8
}

/// The originals end both directions with the first one that ends, so lengths are agreed on.
async fn write_all(stream: &mut (impl tokio::io::AsyncWrite + Unpin), len: usize) {
    let data: Vec<u8> = (0..len).map(byte).collect();
    stream.write_all(&data).await.unwrap();
    stream.flush().await.unwrap();
}

async fn read_all(stream: &mut (impl tokio::io::AsyncRead + Unpin), len: usize) {
    let mut got = vec![0; len];
    stream.read_exact(&mut got).await.unwrap();
    assert!(got.iter().enumerate().all(|(i, got)| *got == byte(i)));
}

/// Whoever has everything says so, or the other's last bytes could be lost with the connection.
async fn say_done(stream: &mut (impl tokio::io::AsyncWrite + Unpin)) {
    stream.write_all(b".").await.unwrap();
    stream.flush().await.unwrap();
}

async fn hear_done(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    stream.read_exact(&mut [0]).await.unwrap();
}

/// A connection through a node's SOCKS5 port (RFC 1928).
async fn socks(proxy: u16, to: SocketAddr) -> TcpStream {
    let IpAddr::V4(ip) = to.ip() else {
        panic!("{to} is not IPv4")
    };
    let mut stream = TcpStream::connect(("127.0.0.1", proxy)).await.unwrap();
    stream.write_all(&[5, 1, 0]).await.unwrap();
    let mut method = [0; 2];
    stream.read_exact(&mut method).await.unwrap();
    let mut request = vec![5, 1, 0, 1];
    request.extend_from_slice(&ip.octets());
    request.extend_from_slice(&to.port().to_be_bytes());
    stream.write_all(&request).await.unwrap();
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!(reply[1], 0, "the proxy refuses");
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_go_node_and_our_engine_talk_by_gos_relay() {
    const TEST: &str = "a_go_node_and_our_engine_talk_by_gos_relay";
    let Some(mut relay) = go_derper(TEST) else {
        return;
    };
    let options = HeadscaleOptions {
        derp_map: Some(relay.derp_map_yaml()),
        ..HeadscaleOptions::default()
    };
    let Some(control) = headscale(TEST, &options) else {
        return;
    };
    let key = control.auth_key(&control.create_user("u"), &[]);
    let only_relay = TailscaledOptions {
        env: vec![("TS_DEBUG_ALWAYS_USE_DERP".to_owned(), "1".to_owned())],
        ..TailscaledOptions::default()
    };
    let Some(mut go) = go_tailscaled(TEST, &only_relay) else {
        return;
    };
    let (login, auth) = (
        format!("--login-server={}", control.url()),
        format!("--auth-key={key}"),
    );
    if go_cli(
        TEST,
        &go.socket(),
        &["up", &login, &auth, "--hostname=go", "--timeout=30s"],
    )
    .is_none()
    {
        return;
    }
    let mut ours = Joined::join(control.url(), key);
    let (peer, go_ip, our_ip) = ours.sees("go").await;
    ours.pings(peer, go_ip).await;
    go_pings(TEST, &go, our_ip);

    // From Go to us: its SOCKS5 proxy dials our address.
    const LEN: usize = 5 << 20;
    let serve = async {
        match ours.incoming.recv().await {
            Some(Incoming::Tcp(caller)) => {
                assert_eq!(caller.local.port(), 8080);
                let mut stream = caller.accept().await.unwrap();
                read_all(&mut stream, LEN).await;
                write_all(&mut stream, LEN).await;
                hear_done(&mut stream).await;
            }
            other => panic!("{other:?}"),
        }
    };
    let call = async {
        let mut stream = socks(go.proxy_port(), SocketAddr::new(our_ip, 8080)).await;
        write_all(&mut stream, LEN).await;
        read_all(&mut stream, LEN).await;
        say_done(&mut stream).await;
        stream
    };
    let started = rt::now();
    timeout(PATIENCE, async { tokio::join!(serve, call) })
        .await
        .expect("all bytes");
    println!(
        "from go: {} MiB in {:?}",
        2 * (LEN >> 20),
        rt::now().since(started)
    );

    // From us to Go, which forwards to a server on loopback.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_all(&mut stream, LEN).await;
        write_all(&mut stream, LEN).await;
        hear_done(&mut stream).await;
    };
    let dialer = ours.engine.dialer().clone();
    let call = async {
        let mut stream = dialer.tcp(SocketAddr::new(go_ip, port)).await.unwrap();
        write_all(&mut stream, LEN).await;
        read_all(&mut stream, LEN).await;
        say_done(&mut stream).await;
        stream
    };
    let started = rt::now();
    timeout(PATIENCE, async { tokio::join!(serve, call) })
        .await
        .expect("all bytes");
    println!(
        "to go: {} MiB in {:?}",
        2 * (LEN >> 20),
        rt::now().since(started)
    );

    relay.kill();
    relay.start_again();
    ours.pings(peer, go_ip).await;
    go_pings(TEST, &go, our_ip);

    go.kill();
    go.start_again();
    ours.pings(peer, go_ip).await;
    go_pings(TEST, &go, our_ip);
}
