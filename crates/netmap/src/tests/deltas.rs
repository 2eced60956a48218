use std::collections::BTreeMap;

use keys::{DiscoPublic, NodePublic};
use packet::PeerId;
use tailcfg::go::{Bytes, GoTime};
use tailcfg::{DerpHomeParams, DerpMap, DerpNode, DerpRegion, PeerChange};

use super::*;

fn apply(prev: Vec<Node>, response: MapResponse) -> (Vec<Node>, Option<NetMapChange>) {
    let mut session = session(prev);
    let change = session.apply(response, Wall::from_unix_secs(123)).unwrap();
    let plain = |peer: &Arc<Peer>| Node {
        computed_name: String::new(),
        computed_name_with_host: String::new(),
        allowed_ips: None,
        ..peer.to_wire("")
    };
    let peers = session.map().unwrap().peers.iter().map(plain).collect();
    (peers, change)
}

fn patched(was: Node, change: PeerChange) -> Node {
    let response = MapResponse {
        peers_changed_patch: vec![change],
        ..MapResponse::default()
    };
    let (peers, change) = apply(vec![was], response);
    let Some(NetMapChange::Patch(patch)) = change else {
        panic!("not a patch");
    };
    assert_eq!((patch.changed.len(), patch.removed.len()), (1, 0));
    peers.into_iter().next().unwrap()
}

fn two() -> Vec<Node> {
    vec![node(1, "foo"), node(2, "bar")]
}

fn with(base: Node, edit: impl FnOnce(&mut Node)) -> Node {
    let mut base = base;
    edit(&mut base);
    base
}

/// The rows of the originals' `TestUpdatePeersStateFromResponse` that concern lists.
#[test]
fn peers_come_and_go() {
    let (peers, change) = apply(
        vec![node(9, "old")],
        MapResponse {
            peers: two(),
            peers_removed: vec![2],
            ..MapResponse::default()
        },
    );
    assert_eq!(peers, two(), "a full list ignores deltas");
    assert!(matches!(change, Some(NetMapChange::Full(_))));

    let (peers, _) = apply(
        two(),
        MapResponse {
            peers_changed: vec![node(0, "zero"), node(2, "bar2"), node(3, "three")],
            ..MapResponse::default()
        },
    );
    assert_eq!(
        peers,
        [
            node(0, "zero"),
            node(1, "foo"),
            node(2, "bar2"),
            node(3, "three")
        ]
    );

    let (peers, change) = apply(
        two(),
        MapResponse {
            peers_removed: vec![1, 3, 4],
            ..MapResponse::default()
        },
    );
    assert_eq!(peers, [node(2, "bar")]);
    assert!(matches!(change, Some(NetMapChange::Patch(patch)) if patch.removed == [PeerId(1)]));

    let (peers, _) = apply(
        two(),
        MapResponse {
            peers_changed: vec![node(1, "foo2")],
            peers_removed: vec![2],
            ..MapResponse::default()
        },
    );
    assert_eq!(peers, [node(1, "foo2")]);

    for nothing in [
        "{}",
        r#"{"Peers":[]}"#,
        r#"{"PeersRemoved":[7]}"#,
        r#"{"PeersChanged":null}"#,
    ] {
        let (peers, change) = apply(two(), read(nothing));
        assert_eq!(peers, two());
        assert!(change.is_none(), "{nothing}");
    }
    let (peers, _) = apply(
        two(),
        read(r#"{"OnlineChange":{"1":false,"2":true,"404":true}}"#),
    );
    assert_eq!(
        peers.iter().map(|peer| peer.online).collect::<Vec<_>>(),
        [Some(false), Some(true)]
    );

    let seen = |at| Some(GoTime::from_unix_secs(at));
    let prev = vec![
        with(node(1, "foo"), |n| n.last_seen = seen(111)),
        node(2, "bar"),
    ];
    let (peers, _) = apply(prev, read(r#"{"PeerSeenChange":{"1":false,"2":true}}"#));
    assert_eq!(
        peers.iter().map(|peer| peer.last_seen).collect::<Vec<_>>(),
        [None, seen(123)]
    );
}

/// The rows of the originals' `TestUpdatePeersStateFromResponse` that concern patches.
#[test]
fn patches_overwrite_what_they_name() {
    let was = with(node(1, "foo"), |n| {
        n.home_derp = 3;
        n.endpoints = vec!["1.2.3.4:111".parse().unwrap()];
        n.cap_map = BTreeMap::from([("a".into(), None)]);
    });
    let change = PeerChange {
        node_id: 1,
        ..PeerChange::default()
    };
    let got = patched(
        was.clone(),
        PeerChange {
            derp_region: 4,
            ..change.clone()
        },
    );
    assert_eq!(got, with(was.clone(), |n| n.home_derp = 4));
    let eps = vec!["1.2.3.4:56".parse().unwrap()];
    let got = patched(
        was.clone(),
        PeerChange {
            endpoints: Some(eps.clone()),
            ..change.clone()
        },
    );
    assert_eq!(got, with(was.clone(), |n| n.endpoints = eps));
    let got = patched(
        was.clone(),
        PeerChange {
            endpoints: Some(vec![]),
            ..change.clone()
        },
    );
    assert_eq!(got, with(was.clone(), |n| n.endpoints = vec![]));
    let key = NodePublic::from_bytes([65; 32]);
    let got = patched(
        was.clone(),
        PeerChange {
            key: Some(key),
            ..change.clone()
        },
    );
    assert_eq!(got, with(was.clone(), |n| n.key = key));
    let signature = Bytes(vec![3, 4]);
    let got = patched(
        was.clone(),
        PeerChange {
            key_signature: signature.clone(),
            ..change.clone()
        },
    );
    assert_eq!(got, with(was.clone(), |n| n.key_signature = signature));
    let disco = DiscoPublic::from_bytes([65; 32]);
    let got = patched(
        was.clone(),
        PeerChange {
            disco_key: Some(disco),
            ..change.clone()
        },
    );
    assert_eq!(got, with(was.clone(), |n| n.disco_key = disco));
    let got = patched(
        was.clone(),
        PeerChange {
            online: Some(true),
            ..change.clone()
        },
    );
    assert_eq!(got, with(was.clone(), |n| n.online = Some(true)));
    let at = GoTime::from_unix_secs(123);
    let got = patched(
        was.clone(),
        PeerChange {
            last_seen: Some(at),
            ..change.clone()
        },
    );
    assert_eq!(got, with(was.clone(), |n| n.last_seen = Some(at)));
    let got = patched(
        was.clone(),
        PeerChange {
            key_expiry: Some(at),
            ..change.clone()
        },
    );
    assert_eq!(got, with(was.clone(), |n| n.key_expiry = at));
    let got = patched(
        was.clone(),
        PeerChange {
            cap: 9,
            ..change.clone()
        },
    );
    assert_eq!(got, with(was.clone(), |n| n.cap = 9));
    let got = patched(
        was.clone(),
        PeerChange {
            cap_map: Some(BTreeMap::new()),
            ..change
        },
    );
    assert_eq!(got, with(was, |n| n.cap_map.clear()));
    let (_, change) = apply(
        two(),
        read(r#"{"PeersChangedPatch":[{"NodeID":404,"Cap":1}]}"#),
    );
    assert!(change.is_none());
}

/// The originals' `TestDeltaDERPMap`.
#[test]
fn relay_maps_merge() {
    let regions = |ipv4: &str| {
        let node = DerpNode {
            name: "derp1a".into(),
            region_id: 1,
            host_name: "derp1a.invalid".into(),
            ipv4: ipv4.into(),
            ipv6: "none".into(),
            ..DerpNode::default()
        };
        Some(BTreeMap::from([(
            1,
            Some(DerpRegion {
                region_id: 1,
                nodes: vec![node],
                ..DerpRegion::default()
            }),
        )]))
    };
    let (one, two) = (regions("169.254.169.254"), regions("127.0.0.1"));
    let map = |regions: &Option<_>, score: Option<Option<BTreeMap<i32, f64>>>| DerpMap {
        regions: Option::clone(regions),
        home_params: score.map(|region_score| DerpHomeParams { region_score }),
        ..DerpMap::default()
    };
    let half = Some(Some(BTreeMap::from([(1, 0.5)])));
    let steps: [&[(DerpMap, DerpMap)]; 4] = [
        &[
            (map(&one, None), map(&one, None)),
            (map(&None, None), map(&one, None)),
        ],
        &[
            (map(&one, None), map(&one, None)),
            (map(&two, None), map(&two, None)),
        ],
        &[
            (map(&one, None), map(&one, None)),
            (map(&None, half.clone()), map(&one, half.clone())),
        ],
        &[
            (map(&one, half.clone()), map(&one, half.clone())),
            (map(&None, Some(None)), map(&one, half)),
            (
                map(&None, Some(Some(BTreeMap::new()))),
                map(&one, Some(Some(BTreeMap::new()))),
            ),
        ],
    ];
    for steps in steps {
        let mut session = session(vec![]);
        for (got, want) in steps {
            let response = MapResponse {
                derp_map: Some(Box::new(got.clone())),
                ..MapResponse::default()
            };
            session.apply(response, NOW).unwrap();
            assert_eq!(session.map().unwrap().derp_map_wire.as_deref(), Some(want));
        }
    }
}

#[test]
fn relay_maps_are_made_safe() {
    let mut session = session(vec![]);
    let map = map_after(
        &mut session,
        read(
            r#"{"DERPMap":{"Regions":{"1":null,"0":{},"-1":{},"70000":{},"900":{"RegionID":7,"Nodes":[null,{"STUNPort":-1,"DERPPort":99999}]}},
                "HomeParams":{"RegionScore":{"1":0.5,"2":-1,"3":0}}}}"#,
        ),
    );
    assert_eq!(map.derp_map.regions.keys().collect::<Vec<_>>(), [&900]);
    let node = &map.derp_map.regions[&900].nodes[0];
    assert_eq!((node.stun_port, node.derp_port), (None, 443));
    assert_eq!(map.derp_map.region_score, BTreeMap::from([(1, 0.5)]));
}

/// The originals' `TestRemoveUnwantedDiscoUpdates`.
#[test]
fn stale_disco_keys_are_told_from_fresh_ones() {
    for (from_peer, was_online, same_key, newer, accepted) in [
        (true, true, true, true, false),
        (false, true, true, true, true),
        (true, false, true, true, true),
        (true, true, false, true, true),
        (true, true, true, false, false),
        (false, true, false, false, false),
    ] {
        let key = |n| DiscoPublic::from_bytes([n; 32]);
        let was = with(node(1, "foo"), |n| {
            n.disco_key = key(1);
            n.online = Some(was_online);
            n.last_seen = Some(GoTime::from_unix_secs(1));
        });
        let mut session = session(vec![was]);
        let change = PeerChange {
            node_id: 1,
            disco_key: Some(key(if same_key { 1 } else { 2 })),
            online: Some(false),
            last_seen: Some(GoTime::from_unix_secs(if newer { 2 } else { 0 })),
            ..PeerChange::default()
        };
        let got = if from_peer {
            session.apply_learned(change, NOW)
        } else {
            let response = MapResponse {
                peers_changed_patch: vec![change],
                ..MapResponse::default()
            };
            session.apply(response, NOW).unwrap()
        };
        assert_eq!(got.is_some(), accepted);
    }
}

#[test]
fn a_full_list_keeps_disco_keys_that_were_seen_later() {
    let key = |n| DiscoPublic::from_bytes([n; 32]);
    let seen = |n: &mut Node, disco, at, online| {
        n.disco_key = key(disco);
        n.last_seen = Some(GoTime::from_unix_secs(at));
        n.online = Some(online);
    };
    let was = with(node(1, "foo"), |n| seen(n, 1, 100, false));
    for (disco, at, online, want) in [
        (2, 50, false, 1),
        (2, 150, false, 2),
        (2, 50, true, 2),
        (0, 50, false, 0),
    ] {
        let next = with(node(1, "foo"), |n| seen(n, disco, at, online));
        let mut session = session(vec![was.clone()]);
        let map = map_after(
            &mut session,
            MapResponse {
                peers: vec![next],
                ..MapResponse::default()
            },
        );
        assert_eq!(map.peers.get(PeerId(1)).unwrap().disco, key(want));
    }
}

#[test]
fn filters_have_names_and_an_order() {
    let mut session = session(vec![]);
    let sources = |session: &MapSession| {
        let rules = &session.map().unwrap().filter_rules;
        rules
            .iter()
            .map(|rule| rule.src_ips[0].clone())
            .collect::<Vec<_>>()
    };
    for (json, want) in [
        (r#"{"PacketFilter":[{"SrcIPs":["m"]}]}"#, &["m"][..]),
        (
            r#"{"PacketFilters":{"z":[{"SrcIPs":["z"]}],"a":[{"SrcIPs":["a"]}]}}"#,
            &["a", "m", "z"],
        ),
        (
            r#"{"PacketFilters":{"base":[{"SrcIPs":["n"]}],"z":null,"q":null}}"#,
            &["a", "n"],
        ),
        (r#"{"PacketFilter":null,"PacketFilters":null}"#, &["a", "n"]),
        (
            r#"{"PacketFilters":{"*":null,"y":[{"SrcIPs":["y"]}]}}"#,
            &["y"],
        ),
        (r#"{"PacketFilter":[]}"#, &["y"]),
        (r#"{"PacketFilters":{"y":[]}}"#, &[]),
    ] {
        session.apply(read(json), NOW).unwrap();
        assert_eq!(sources(&session), want, "{json}");
    }
}

#[test]
fn absent_parts_are_unchanged() {
    let mut session = session(vec![node(1, "a.x.net.")]);
    let json = r#"{"Domain":"x.net","DNSConfig":{"Proxied":true},"Health":["bad"],"CollectServices":true,
        "UserProfiles":[{"ID":5,"LoginName":"u"}],"SSHPolicy":{"rules":[]},"DomainDataPlaneAuditLogID":"l"}"#;
    let Some(NetMapChange::Patch(patch)) = session.apply(read(json), NOW).unwrap() else {
        panic!("not a patch");
    };
    let want = Parts {
        domain: true,
        dns: true,
        messages: true,
        collect_services: true,
        users: true,
        ssh_policy: true,
        ..Parts::default()
    };
    assert_eq!(patch.parts, want);
    assert!(
        session.apply(read(json), NOW).unwrap().is_none(),
        "saying it again changes nothing"
    );
    assert!(session.apply(read("{}"), NOW).unwrap().is_none());
    let map = session.map().unwrap();
    assert!(map.dns.proxied && map.collect_services);
    assert_eq!(
        (&*map.domain, map.users.get(&5).map(|u| &*u.login_name)),
        ("x.net", Some("u"))
    );
    let map = map_after(
        &mut session,
        read(r#"{"Node":{"ID":1000,"Name":"me.x.net."}}"#),
    );
    assert_eq!(&*map.self_node.name, "me.x.net.");
}

#[test]
fn messages_are_patched_and_beat_health_texts() {
    let mut session = session(vec![]);
    let map = map_after(&mut session, read(r#"{"Health":["bad"]}"#));
    // SHA-256 of `bad`.
    let id = "health-2f05d4b689d270cafb02285f35f44866f7dc8a2d368a3f9d1124373eeab31fb1";
    let (got, message) = map.messages.first_key_value().unwrap();
    assert_eq!(got, id);
    assert!(message.text.ends_with(": bad"));
    assert_eq!(message.severity, "medium");
    let keys = |map: &NetMap| map.messages.keys().cloned().collect::<Vec<_>>();
    let map = map_after(
        &mut session,
        read(r#"{"DisplayMessages":{"a":{"Title":"A"},"b":{"Title":"B"}}}"#),
    );
    assert_eq!(keys(&map), ["a", "b"]);
    let map = map_after(&mut session, read(r#"{"DisplayMessages":{"a":null}}"#));
    assert_eq!(keys(&map), ["b"]);
    let map = map_after(
        &mut session,
        read(r#"{"DisplayMessages":{"*":null,"c":{"Title":"C"}}}"#),
    );
    assert_eq!(keys(&map), ["c"]);
    let map = map_after(&mut session, read(r#"{"DisplayMessages":{"*":null}}"#));
    assert_eq!(map.messages.len(), 1, "the health text is back");
    let map = map_after(&mut session, read(r#"{"Health":[]}"#));
    assert!(map.messages.is_empty());
}

#[test]
fn a_stream_starts_with_ourselves() {
    let mut session = MapSession::new();
    assert!(
        session
            .apply(read(r#"{"KeepAlive":true}"#), NOW)
            .unwrap()
            .is_none()
    );
    let response = MapResponse {
        peers: two(),
        ..MapResponse::default()
    };
    assert_eq!(
        session.apply(response, NOW).unwrap_err(),
        MapError::NoSelfNode
    );
    assert!(session.map().is_none());
    assert!(session.apply(first(two()), NOW).unwrap().is_some());
    let ignored = read(r#"{"KeepAlive":true,"PeersRemoved":[1],"Node":{"ID":3}}"#);
    assert!(session.apply(ignored, NOW).unwrap().is_none());
}

#[test]
fn a_locked_tailnet_has_no_peers() {
    let mut session = session(two());
    let map = map_after(&mut session, read(r#"{"TKAInfo":{"Head":"ABC"}}"#));
    assert!(map.locked && map.peers.is_empty());
    let message = &map.messages["tailnet-lock-not-built"];
    assert!(message.impacts_connectivity && message.severity == "high");
    assert!(
        session
            .apply(read(r#"{"PeersChanged":[{"ID":3,"Name":"x"}]}"#), NOW)
            .unwrap()
            .is_none()
    );
    let Some(NetMapChange::Full(map)) = session
        .apply(read(r#"{"TKAInfo":{"Disabled":true}}"#), NOW)
        .unwrap()
    else {
        panic!("not full");
    };
    assert!(!map.locked && map.messages.is_empty());
    assert_eq!(map.peers.len(), 3);
}

#[test]
fn keys_run_out_by_the_servers_clock() {
    let at = |secs: i64| GoTime::from_unix_secs(1_700_000_000 + secs);
    let peers = (1..=3).map(|id| {
        with(node(id, "n"), |n| {
            n.key_expiry = at(id * 100);
            n.key = NodePublic::from_bytes([7; 32]);
            n.home_derp = 1;
        })
    });
    let mut session = session(peers.collect());
    let expired = |map: &NetMap| map.peers.iter().map(|p| p.expired).collect::<Vec<_>>();
    let wall = |secs: i64| Wall::from_unix_secs(1_700_000_000 + secs);
    let map = Arc::clone(session.map().unwrap());
    assert_eq!(map.next_expiry(NOW), Some(wall(100)));
    assert!(map.expire(wall(99)).is_none());
    let patch = map.expire(wall(200)).unwrap();
    assert_eq!(expired(&patch.map), [true, true, false]);
    assert_eq!(patch.changed.len(), 2);
    assert_eq!(patch.map.next_expiry(wall(200)), Some(wall(300)));
    assert!(patch.map.expire(wall(200)).is_none());

    // The server is 150 s ahead: one is gone already.
    let json = format!(r#"{{"KeepAlive":true,"ControlTime":"{}"}}"#, at(150));
    let Some(NetMapChange::Patch(patch)) = session.apply(read(&json), NOW).unwrap() else {
        panic!("not a patch");
    };
    assert!(patch.parts.clock);
    assert_eq!(expired(&patch.map), [true, false, false]);
    assert_eq!(patch.map.next_expiry(NOW), Some(wall(50)));
    // A longer life brings the peer back with the key that it had.
    let json = format!(
        r#"{{"PeersChangedPatch":[{{"NodeID":1,"KeyExpiry":"{}"}}]}}"#,
        at(1000)
    );
    let map = map_after(&mut session, read(&json));
    assert_eq!(expired(&map), [false, false, false]);
    let peer = map.peers.get(PeerId(1)).unwrap();
    assert_eq!(
        (peer.key, peer.home_derp),
        (NodePublic::from_bytes([7; 32]), 1)
    );
    // An absurd clock is not believed at all.
    let map = map_after(
        &mut session,
        read(r#"{"ControlTime":"2020-01-01T00:00:00Z"}"#),
    );
    assert_eq!(map.next_expiry(NOW), None);
    assert!(!map.self_expired(NOW));
}

#[test]
fn a_change_of_one_peer_shares_the_rest() {
    let many = (1..=10_000)
        .map(|id| node(id, &format!("n{id}.x.net.")))
        .collect();
    let mut session = session(many);
    let before = Arc::clone(session.map().unwrap());
    let after = map_after(&mut session, read(r#"{"OnlineChange":{"5000":true}}"#));
    assert_eq!(before.peers.get(PeerId(5000)).unwrap().online, None);
    assert_eq!(after.peers.get(PeerId(5000)).unwrap().online, Some(true));
    let shared = before
        .peers
        .iter()
        .zip(after.peers.iter())
        .filter(|(a, b)| Arc::ptr_eq(a, b))
        .count();
    assert_eq!(shared, 9_999);
    assert!(Arc::ptr_eq(&before.self_node, &after.self_node));
}
