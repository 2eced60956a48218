//! What follows from the tailnet and the user's wishes.

use ipnet::IpNet;
use keys::DiscoPublic;
use tailcfg::go::OptAddr;

use super::*;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn peer(id: i64, allowed: &[&str]) -> Arc<Peer> {
    let id_byte = u8::try_from(id).unwrap();
    Arc::new(Peer::from_wire(Node {
        id,
        stable_id: format!("peer{id}"),
        name: format!("p{id}.tail.example."),
        user: 1,
        key: NodePublic::from_bytes([id_byte; 32]),
        disco_key: DiscoPublic::from_bytes([id_byte; 32]),
        home_derp: 1,
        addresses: vec![format!("100.64.0.{id}/32").parse().unwrap()],
        allowed_ips: Some([nets(&[&format!("100.64.0.{id}/32")]), nets(allowed)].concat()),
        online: Some(true),
        machine_authorized: true,
        ..Node::default()
    }))
}

fn world_with(peers: &[Arc<Peer>]) -> World {
    let mut world = World::new();
    world.bring_up("node1", 1);
    let change = world.map("node1", 1, |_, map| {
        for peer in peers {
            map.peers.insert(Arc::clone(peer));
        }
    });
    world.control(ControlEvent::NetMap(change));
    world
}

fn routes(world: &World, id: i64) -> Vec<IpNet> {
    world.peers[&PeerId(id)].routes.clone()
}

#[test]
fn subnets_and_exits_only_on_request() {
    let mut world = world_with(&[
        peer(2, &["10.0.0.0/8", "0.0.0.0/0", "::/0"]),
        peer(3, &["10.0.0.0/8", "192.168.0.1/16"]),
    ]);
    assert_eq!(routes(&world, 2), nets(&["100.64.0.2/32"]));
    world.edit(|edit| {
        edit.route_all_set = true;
        edit.prefs.route_all = true;
    });
    assert_eq!(routes(&world, 2), nets(&["10.0.0.0/8", "100.64.0.2/32"]));
    assert_eq!(
        routes(&world, 3),
        nets(&["100.64.0.3/32"]),
        "another has it, and host bits mean nothing"
    );
    let sources = world.peers[&PeerId(3)].sources.clone();
    assert_eq!(
        sources,
        nets(&["10.0.0.0/8", "100.64.0.3/32"]),
        "it may still send from there"
    );

    world.edit(|edit| {
        edit.exit_node_ip_set = true;
        edit.prefs.exit_node_ip = OptAddr(Some([100, 64, 0, 2].into()));
    });
    assert_eq!(world.brain.snapshot().prefs.exit_node_id, "peer2");
    assert!(routes(&world, 2).contains(&"0.0.0.0/0".parse().unwrap()));
    let os = world.router.clone().unwrap().routes;
    assert!(os.contains(&"::/0".parse().unwrap()));
}

#[test]
fn one_route_for_all_peers_where_the_server_wants_it() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    for (wanted, peers, route) in [
        (true, 2, "100.64.0.0/10"),
        (false, 2, "100.64.0.3/32"),
        (true, 1, "100.64.0.2/32"),
    ] {
        let change = world.map("node1", 1, |own, map| {
            if wanted {
                own.cap_map.insert(tailcfg::cap::ONE_CGNAT.to_owned(), None);
            }
            for id in 2..2 + peers {
                map.peers.insert(peer(id, &[]));
            }
        });
        world.control(ControlEvent::NetMap(change));
        let os = world.router.clone().unwrap().routes;
        let tailnet: IpNet = "100.64.0.0/10".parse().unwrap();
        assert!(os.contains(&route.parse().unwrap()), "{os:?}");
        assert_eq!(os.contains(&tailnet), route == "100.64.0.0/10");
    }
}

#[test]
fn an_exit_node_that_is_unknown_blocks_instead_of_leaking() {
    let mut world = world_with(&[]);
    world.edit(|edit| {
        edit.exit_node_id_set = true;
        edit.prefs.exit_node_id = "gone".into();
    });
    let os = world.router.clone().unwrap().routes;
    assert!(os.contains(&"0.0.0.0/0".parse().unwrap()) && os.contains(&"::/0".parse().unwrap()));
}

#[test]
fn who_cannot_be_reached_gets_nothing() {
    let mut lost = Peer::clone(&peer(2, &[]));
    lost.disco = DiscoPublic::ZERO;
    lost.home_derp = 0;
    let world = world_with(&[
        Arc::new(lost),
        Arc::new(Peer::clone(&peer(3, &[])).into_expired()),
    ]);
    assert!(world.peers.is_empty());
}

#[test]
fn rules_that_admit_the_unsigned_are_refused() {
    let mut unsigned = Peer::clone(&peer(2, &[]));
    unsigned.unsigned_peer_api_only = true;
    let rule: tailcfg::FilterRule = serde_json::from_str(
        r#"{"SrcIPs":["*"],"DstPorts":[{"IP":"*","Ports":{"First":0,"Last":65535}}]}"#,
    )
    .unwrap();
    let mut world = world_with(&[]);
    for (peer, admitted, raised) in [(peer(2, &[]), 1, false), (Arc::new(unsigned), 0, true)] {
        let rules = Arc::from([rule.clone()]);
        let change = world.map("node1", 1, |_, map| {
            map.peers.insert(peer);
            map.filter_rules = rules;
        });
        world.control(ControlEvent::NetMap(change));
        assert_eq!(world.network.as_ref().unwrap().filter.rules.len(), admitted);
        let texts = world.brain.snapshot().health_texts.clone();
        assert_eq!(
            texts
                .iter()
                .any(|text| text.contains("invalid packet filter")),
            raised
        );
    }
}

#[test]
fn status_whois_and_names() {
    let world = world_with(&[peer(2, &["10.0.0.0/8"])]);
    let snapshot = world.brain.snapshot();
    let facts = status::EngineFacts {
        tun: false,
        endpoints: vec![([192, 0, 2, 1], 41641).into()],
        peers: [(
            NodePublic::from_bytes([2; 32]),
            status::PeerFacts {
                rx_bytes: 7,
                active: true,
                ..Default::default()
            },
        )]
        .into(),
    };
    let full = status::compose(&snapshot, &facts, true);
    let peer = full.peer.as_ref().unwrap().values().next().unwrap();
    assert_eq!((peer.rx_bytes, peer.active, peer.online), (7, true, true));
    assert_eq!(peer.dns_name, "p2.tail.example.");
    let own = full.self_status.as_ref().unwrap();
    assert_eq!(own.addrs, Some(vec!["192.0.2.1:41641".to_owned()]));
    assert_eq!(full.magic_dns_suffix, "tail.example");
    assert_eq!(full.tailscale_ips, Some(vec![[100, 64, 0, 1].into()]));
    assert!(status::compose(&snapshot, &facts, false).peer.is_none());

    let who = status::whois(&snapshot, [100, 64, 0, 2].into()).unwrap();
    assert_eq!(who.node.unwrap().id, 2);
    assert_eq!(who.user_profile.unwrap().login_name, "user1");
    assert!(status::whois(&snapshot, [100, 64, 0, 9].into()).is_none());
    assert!(status::whois_key(&snapshot, &NodePublic::from_bytes([2; 32])).is_some());
    assert_eq!(
        status::resolve(&snapshot, "p2"),
        Some(vec![[100, 64, 0, 2].into()])
    );
}

#[test]
fn who_follows_peers_is_told_of_them() {
    let mut world = world_with(&[]);
    let told = |world: &mut World, peers: &[Arc<Peer>]| {
        let change = world.map("node1", 1, |_, map| {
            for peer in peers {
                map.peers.insert(Arc::clone(peer));
            }
        });
        let event = Event::Control {
            client: world.client,
            event: ControlEvent::NetMap(change),
        };
        world
            .brain
            .handle(event, world.now, world.wall, &mut world.rng);
        let mut names = Vec::new();
        while let Some(effect) = world.brain.poll_effect() {
            if let Effect::Notify(message) = effect {
                names.extend(message.peers_changed.iter().map(|node| node.name.clone()));
                assert!(message.user_profiles.is_empty() || message.user_profiles.contains_key(&1));
            }
        }
        names
    };
    assert_eq!(told(&mut world, &[peer(2, &[])]), Vec::<String>::new());
    world.send(Event::PeerWatchers(true));
    assert_eq!(told(&mut world, &[peer(2, &[])]), ["p2.tail.example."]);
}
