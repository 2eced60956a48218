//! Deltas against a model that applies them to plain nodes, and hostile responses.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use tailcfg::go::GoTime;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Upsert(i64, String, u8, Option<i64>),
    Remove(Vec<i64>),
    Online(i64, bool),
    Seen(i64, bool),
    Patch(i64, i32, Option<i64>, Option<u16>),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0i64..40;
    let expiry = prop::option::of(0i64..400);
    prop_oneof![
        (id.clone(), "[a-c]{1,2}", 0u8..30, expiry.clone())
            .prop_map(|(a, b, c, d)| Step::Upsert(a, b, c, d)),
        prop::collection::vec(id.clone(), 0..4).prop_map(Step::Remove),
        (id.clone(), any::<bool>()).prop_map(|(a, b)| Step::Online(a, b)),
        (id.clone(), any::<bool>()).prop_map(|(a, b)| Step::Seen(a, b)),
        (id, 0i32..4, expiry, prop::option::of(1u16..9))
            .prop_map(|(a, b, c, d)| Step::Patch(a, b, c, d)),
    ]
}

fn at(secs: i64) -> GoTime {
    GoTime::from_unix_secs(NOW.as_unix_secs() + secs)
}

fn upserted(id: i64, name: &str, host: u8, expiry: Option<i64>) -> Node {
    Node {
        addresses: vec![format!("100.64.0.{host}/32").parse().unwrap()],
        key_expiry: expiry.map(at).unwrap_or_default(),
        key: keys::NodePublic::from_bytes([host; 32]),
        ..node(id, &format!("{name}.x.net."))
    }
}

/// The response for a step, and the step done to the model.
fn perform(step: &Step, model: &mut BTreeMap<i64, Node>, now: Wall) -> MapResponse {
    match step {
        Step::Upsert(id, name, host, expiry) => {
            let node = upserted(*id, name, *host, *expiry);
            model.insert(*id, node.clone());
            MapResponse {
                peers_changed: vec![node],
                ..MapResponse::default()
            }
        }
        Step::Remove(ids) => {
            model.retain(|id, _| !ids.contains(id));
            MapResponse {
                peers_removed: ids.clone(),
                ..MapResponse::default()
            }
        }
        Step::Online(id, online) => {
            model
                .entry(*id)
                .and_modify(|node| node.online = Some(*online));
            MapResponse {
                online_change: [(*id, *online)].into(),
                ..MapResponse::default()
            }
        }
        Step::Seen(id, seen) => {
            let time = seen.then(|| GoTime::from_unix_nanos(now.as_unix_nanos()));
            model.entry(*id).and_modify(|node| node.last_seen = time);
            MapResponse {
                peer_seen_change: [(*id, *seen)].into(),
                ..MapResponse::default()
            }
        }
        Step::Patch(id, region, expiry, port) => {
            let endpoints = port.map(|port| vec![([10, 0, 0, 1], port).into()]);
            model.entry(*id).and_modify(|node| {
                if *region != 0 {
                    node.home_derp = *region;
                }
                if let Some(expiry) = expiry {
                    node.key_expiry = at(*expiry);
                }
                if let Some(endpoints) = &endpoints {
                    node.endpoints.clone_from(endpoints);
                }
            });
            let change = tailcfg::PeerChange {
                node_id: *id,
                derp_region: *region,
                key_expiry: expiry.map(at),
                endpoints,
                ..tailcfg::PeerChange::default()
            };
            MapResponse {
                peers_changed_patch: vec![change],
                ..MapResponse::default()
            }
        }
    }
}

fn check_indexes(map: &NetMap) {
    for peer in map.peers.iter() {
        for ip in peer.ips() {
            let found = map.peers.by_ip(ip).unwrap();
            assert!(found.id <= peer.id && found.ips().any(|other| other == ip));
        }
        // A peer without a name cannot be found by it.
        if !peer.name.is_empty() {
            let found = map.peers.by_fqdn(&peer.fqdn()).unwrap();
            assert!(found.id <= peer.id && found.fqdn() == peer.fqdn());
        }
    }
    let next = map
        .peers
        .iter()
        .filter(|p| !p.expired)
        .filter_map(|p| p.key_expiry)
        .min();
    assert_eq!(map.peers.next_expiry().map(|(at, _)| at), next);
}

proptest! {
    #[test]
    fn deltas_equal_a_full_resend(steps in prop::collection::vec((step(), 0i64..20), 0..120)) {
        let mut session = session(vec![]);
        let mut model = BTreeMap::new();
        let mut mirror: BTreeMap<i64, Arc<Peer>> = BTreeMap::new();
        let mut now = NOW;
        for (step, wait) in steps {
            now = Wall::from_unix_secs(now.as_unix_secs() + wait);
            let response = perform(&step, &mut model, now);
            match session.apply(response, now).unwrap() {
                Some(NetMapChange::Patch(patch)) => {
                    for peer in patch.changed {
                        mirror.insert(peer.id.0, peer);
                    }
                    for id in patch.removed {
                        prop_assert!(mirror.remove(&id.0).is_some());
                    }
                }
                Some(NetMapChange::Full(_)) => prop_assert!(false, "full"),
                None => {}
            }
            let map = session.map().unwrap();
            check_indexes(map);
            prop_assert!(map.peers.iter().eq(mirror.values()), "the patches tell all");
        }
        let mut fresh = MapSession::new();
        fresh.apply(first(model.into_values().collect()), now).unwrap();
        // Keys may run out without a response, so let the clock be noticed.
        let map = session.map().unwrap();
        let map = map.expire(now).map_or_else(|| Arc::clone(map), |patch| patch.map);
        prop_assert_eq!(&map.peers, &fresh.map().unwrap().peers);
    }

    #[test]
    fn mutated_responses_do_no_harm(edits in prop::collection::vec((any::<prop::sample::Index>(), junk()), 1..8)) {
        let mut value: Value = serde_json::from_str(RICH).unwrap();
        for (index, junk) in edits {
            let count = count(&value);
            replace(&mut value, &mut index.index(count), junk);
        }
        let mut session = session(vec![node(1, "a.x.net."), node(2, "b.x.net.")]);
        if let Ok(response) = serde_json::from_value::<MapResponse>(value.clone()) {
            let _ = session.apply(response, NOW);
        }
        if let Ok(response) = serde_json::from_str::<MapResponse>(&value.to_string()) {
            let _ = session.apply(response, NOW);
        }
        let map = session.map().unwrap();
        check_indexes(map);
        let _ = (map.resolve("a"), map.next_expiry(NOW), map.expire(NOW), map.self_expired(NOW));
        for peer in map.peers.iter() {
            let _ = (peer.hostinfo(), peer.to_wire(map.suffix()));
        }
    }
}

/// A response with some of everything.
const RICH: &str = r#"{"Node":{"ID":1000,"StableID":"s","Name":"self.x.net.","KeyExpiry":"2030-01-01T00:00:00Z","Addresses":["100.64.0.10/32"],"Capabilities":["a"],"CapMap":{"b":[1]}},
 "Peers":[{"ID":5,"Name":"p.x.net.","Addresses":["100.64.0.5/32"],"AllowedIPs":null,"DERP":"127.3.3.40:4","Hostinfo":{"OS":"linux","Services":[{"Proto":"tcp","Port":1}]}}],
 "PeersChanged":[{"ID":1,"Name":"q.x.net.","KeyExpiry":"2023-11-14T22:13:20Z","Online":true}],"PeersRemoved":[2],
 "PeersChangedPatch":[{"NodeID":1,"DERPRegion":3,"Endpoints":["1.2.3.4:5"],"DiscoKey":"discokey:50d20b455ecf12bc453f83c2cfdb2a24925d06cf2598dcaa54e91af82ce9f765","Online":false,"LastSeen":"2023-01-01T00:00:00Z","CapMap":{"x":null}}],
 "PeerSeenChange":{"1":true},"OnlineChange":{"1":false},"DERPMap":{"HomeParams":{"RegionScore":{"1":0.5}},"Regions":{"1":{"RegionID":1,"Nodes":[{"Name":"1a","IPv4":"127.0.0.1","STUNPort":1}]}}},
 "DNSConfig":{"Proxied":true,"Routes":{"x.net":null},"ExtraRecords":[{"Name":"e","Value":"1.2.3.4"}]},"Domain":"x","PacketFilter":[{"SrcIPs":["*"],"DstPorts":[{"IP":"*","Ports":{"First":0,"Last":65535}}]}],
 "PacketFilters":{"*":null,"a":[{"SrcIPs":["*"],"CapGrant":[{"Dsts":["100.64.0.0/10"],"CapMap":{"c":[{}]}}]}]},"UserProfiles":[{"ID":1,"LoginName":"u"}],"Health":["h"],
 "DisplayMessages":{"m":{"Title":"t"}},"ControlTime":"2023-11-14T22:13:20Z","TKAInfo":{"Head":"","Disabled":true},"KeepAlive":false}"#;

fn junk() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!([])),
        Just(json!({})),
        Just(json!("")),
        Just(json!(true)),
        Just(json!([null])),
        Just(json!({"1": null})),
        Just(json!("0001-01-01T00:00:00Z")),
        Just(json!("9999-12-31T23:59:59.999999999Z")),
        Just(json!("0.0.0.0/0")),
        any::<i64>().prop_map(|n| json!(n)),
        ".{0,10}".prop_map(|text| json!(text)),
    ]
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// Replaces the value with this number in depth-first order.
fn replace(value: &mut Value, number: &mut usize, junk: Value) -> bool {
    if *number == 0 {
        *value = junk;
        return true;
    }
    *number -= 1;
    let mut children: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(fields) => fields.values_mut().collect(),
        _ => Vec::new(),
    };
    children
        .iter_mut()
        .any(|child| replace(child, number, junk.clone()))
}
