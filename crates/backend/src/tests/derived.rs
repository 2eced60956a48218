//! What follows from the tailnet and the user's wishes.

use host::{DnsConfig, SystemDns};
use ipnet::IpNet;
use keys::DiscoPublic;
use tailcfg::Resolver;
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

/// A resolver that asks one server of the network here.
fn system(splits: bool) -> SystemDns {
    SystemDns {
        splits,
        nameservers: vec!["192.0.2.1".parse().unwrap()],
        search: vec!["lan.example".into()],
        ..SystemDns::default()
    }
}

fn dns_of(world: &mut World, settings: tailcfg::DnsConfig) -> DnsConfig {
    let change = world.map("node1", 1, |_, map| map.dns = Arc::new(settings));
    world.control(ControlEvent::NetMap(change));
    world.dns.clone().unwrap_or_default()
}

fn asks(addresses: &[&str], search: &[&str], matching: &[&str]) -> DnsConfig {
    let all = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    DnsConfig {
        nameservers: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        search: all(search),
        matching: all(matching),
    }
}

fn resolvers(addresses: &[&str]) -> Vec<Resolver> {
    let resolver = |address: &&str| Resolver {
        addr: (*address).to_owned(),
        ..Resolver::default()
    };
    addresses.iter().map(resolver).collect()
}

#[test]
fn what_the_resolver_is_told_follows_from_what_it_can() {
    const OURS: &[&str] = &["100.100.100.100"];
    let only_search = tailcfg::DnsConfig {
        domains: vec!["tail.example.".into()],
        ..tailcfg::DnsConfig::default()
    };
    let routed = |servers: &[&str]| tailcfg::DnsConfig {
        routes: [("corp.example.".to_owned(), Some(resolvers(servers)))].into(),
        ..only_search.clone()
    };
    let named = tailcfg::DnsConfig {
        proxied: true,
        resolvers: resolvers(&["192.0.2.9"]),
        ..only_search.clone()
    };
    let search = &["tail.example"][..];
    let mixed = &["tail.example", "lan.example"][..];
    for (settings, split, whole) in [
        (
            tailcfg::DnsConfig::default(),
            DnsConfig::default(),
            DnsConfig::default(),
        ),
        // A file without servers would leave the machine without.
        (
            only_search.clone(),
            asks(&[], search, &[]),
            asks(&["192.0.2.1"], mixed, &[]),
        ),
        (
            routed(&["192.0.2.5"]),
            asks(&["192.0.2.5"], search, &["corp.example"]),
            asks(OURS, mixed, &[]),
        ),
        (
            routed(&["192.0.2.5:5353"]),
            asks(OURS, search, &["corp.example"]),
            asks(OURS, mixed, &[]),
        ),
        (named, asks(OURS, search, &[]), asks(OURS, search, &[])),
    ] {
        for (splits, expected) in [(true, split), (false, whole)] {
            let mut world = world_with(&[]);
            world.send(Event::SystemDns(Ok(Arc::new(system(splits)))));
            assert_eq!(
                dns_of(&mut world, settings.clone()),
                expected,
                "{settings:?}"
            );
        }
    }
}

#[test]
fn whom_the_machine_asked_is_asked_where_it_asks_us_for_all() {
    let mut world = world_with(&[]);
    let change = world.map("node1", 1, |_, map| {
        map.dns = Arc::new(tailcfg::DnsConfig {
            proxied: true,
            ..tailcfg::DnsConfig::default()
        });
    });
    world.control(ControlEvent::NetMap(change));
    let snapshot = world.brain.snapshot();
    let server = |splits| {
        let (zones, problems) =
            dns_zones(snapshot.netmap.as_deref(), &snapshot.prefs, &system(splits));
        assert!(problems.is_empty(), "{problems:?}");
        zones.servers(&"www.example".parse().unwrap()).to_vec()
    };
    assert_eq!(server(false), [dns::Server::named("192.0.2.1").unwrap()]);
    assert!(server(true).is_empty());
}

#[test]
fn a_resolver_that_cannot_be_read_is_left_alone() {
    let mut world = world_with(&[]);
    world.send(Event::SystemDns(Err("no".into())));
    let settings = tailcfg::DnsConfig {
        proxied: true,
        ..tailcfg::DnsConfig::default()
    };
    dns_of(&mut world, settings.clone());
    assert_eq!(world.dns, None);
    world.send(Event::SystemDns(Ok(Arc::new(system(false)))));
    let told = world.dns.clone();
    assert!(told.is_some_and(|told| told.search == ["lan.example"]));
    // What it was is what it is taken for.
    world.dns = None;
    world.send(Event::SystemDns(Err("no".into())));
    assert_eq!(world.dns, None);
}

#[test]
fn an_exit_node_is_for_the_internet() {
    let mut world = world_with(&[]);
    world.send(Event::Link(Arc::new(LinkState {
        up: true,
        networks: nets(&["198.51.100.7/24", "10.0.0.5/24", "2001:db8::5/64"]),
        ..LinkState::default()
    })));
    let filter = |world: &World| world.network.as_ref().unwrap().filter.clone();
    assert_eq!(filter(&world).all_but, [None, None]);
    world.edit(|edit| {
        edit.advertise_routes_set = true;
        edit.prefs.advertise_routes = nets(&["0.0.0.0/0", "::/0"]);
    });
    let open = filter(&world);
    let [v4, v6] = open.all_but.map(Option::unwrap);
    for closed in [
        "10.0.0.0/8",
        "198.51.100.0/24",
        "169.254.0.0/16",
        "100.64.0.0/10",
    ] {
        assert!(v4.contains(&closed.parse().unwrap()), "{closed}");
    }
    for closed in ["2001:db8::/64", "fe80::/10", "fd7a:115c:a1e0::/48"] {
        assert!(v6.contains(&closed.parse().unwrap()), "{closed}");
    }
    // Its own addresses on the Internet are on the Internet; those of a private network are not.
    let is_open = |ip: &str| open.local.contains(&ip.parse().unwrap());
    assert!(is_open("198.51.100.7/32") && is_open("2001:db8::5/128"));
    assert!(!is_open("10.0.0.5/32"));
}
