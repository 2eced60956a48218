use proptest::prelude::*;
use serde_json::json;

use super::*;

fn read<T: for<'de> serde::Deserialize<'de>>(text: &str) -> T {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_register_request_reads_as_go_wrote_it() {
    // Shape of `tailcfg.RegisterRequest` as Go's encoder writes a first registration with an auth key.
    let request = RegisterRequest {
        version: 113,
        auth: Some(Box::new(RegisterAuth {
            auth_key: go::Secret::new("tskey-auth-x".into()),
            ..RegisterAuth::default()
        })),
        hostinfo: Some(Box::new(Hostinfo {
            os: "linux".into(),
            container: Some(false),
            ..Hostinfo::default()
        })),
        ephemeral: true,
        ..RegisterRequest::default()
    };
    let zeros = "0".repeat(64);
    assert_eq!(
        go::to_string(&request).unwrap(),
        format!(
            r#"{{"Version":113,"NodeKey":"nodekey:{zeros}","OldNodeKey":"nodekey:{zeros}","NLKey":"nlpub:{zeros}","Auth":{{"AuthKey":"tskey-auth-x"}},"Expiry":"0001-01-01T00:00:00Z","Followup":"","Hostinfo":{{"OS":"linux","Container":false}},"Ephemeral":true,"NodeKeySignature":null}}"#
        )
    );
    assert!(!format!("{request:?}").contains("tskey"));
}

#[test]
fn a_register_response_of_headscale_reads() {
    let response: RegisterResponse = read(
        r#"{"User":{"ID":1,"DisplayName":"a","Created":"0001-01-01T00:00:00Z"},"Login":{"ID":1,"Provider":"","LoginName":"a@b","DisplayName":"a"},"NodeKeyExpired":false,"MachineAuthorized":true,"AuthURL":"","NodeKeySignature":null,"Error":""}"#,
    );
    assert_eq!(response.login.login_name, "a@b");
    assert!(response.machine_authorized && response.node_key_signature.0.is_empty());
}

#[test]
fn what_deltas_need_is_told_apart() {
    let empty: MapResponse = read("{}");
    assert_eq!(empty, MapResponse::default());
    assert_eq!(go::to_string(&empty).unwrap(), "{}");
    let response: MapResponse = read(
        r#"{"PacketFilter":[],"PacketFilters":{"*":null,"a":[],"b":[{"SrcIPs":["*"]}]},"Health":[],"DisplayMessages":{"*":null},
            "PeersChangedPatch":[null,{"NodeID":1,"Endpoints":[]},{"NodeID":2,"Endpoints":null,"CapMap":{}}],
            "OnlineChange":{"7":true},"PeerSeenChange":{"8":false},"PeersRemoved":null,
            "DERPMap":{"Regions":{"1":null,"900":{"RegionID":900,"Nodes":[null]}},"HomeParams":{"RegionScore":{}}}}"#,
    );
    assert_eq!(response.packet_filter, Some(vec![]));
    let filters = response.packet_filters.unwrap();
    assert_eq!(filters["*"], None);
    assert_eq!(filters["a"], Some(vec![]));
    assert_eq!(response.health, Some(vec![]));
    assert_eq!(response.display_messages.unwrap()["*"], None);
    let patches = response.peers_changed_patch;
    assert_eq!(patches.len(), 2);
    assert_eq!(patches[0].endpoints, Some(vec![]));
    assert_eq!(
        (&patches[1].endpoints, patches[1].cap_map.is_some()),
        (&None, true)
    );
    assert!(response.online_change[&7] && !response.peer_seen_change[&8]);
    let regions = response.derp_map.as_ref().unwrap().regions.clone().unwrap();
    assert_eq!(regions[&1], None);
    assert_eq!(regions[&900].as_ref().unwrap().nodes, []);
    let params = response.derp_map.unwrap().home_params.unwrap();
    assert_eq!(params.region_score, Some([].into()));
}

#[test]
fn a_node_keeps_what_it_came_with() {
    let text = r#"{"ID":2,"StableID":"s2","Name":"b.x.net.","User":1,"Key":"nodekey:50d20b455ecf12bc453f83c2cfdb2a24925d06cf2598dcaa54e91af82ce9f765","KeySignature":"AwQ=","Addresses":["100.64.0.2/32","fd7a:115c:a1e0::2/128"],"AllowedIPs":[],"Endpoints":["[::1]:41641","10.0.0.1:41641"],"HomeDERP":999,"Hostinfo":{"OS":"linux","Hostname":"b","Services":[{"Proto":"peerapi4","Port":1}],"Unknown":1},"Created":"2024-01-01T00:00:00.000000001Z","Cap":113,"Online":false,"MachineAuthorized":true,"CapMap":{"funnel":null,"x":[1,null]}}"#;
    let node: Node = read(text);
    assert_eq!(node.allowed_ips, Some(vec![]));
    assert_eq!(node.hostinfo.parse().services[0].port, 1);
    assert_eq!(node.cap_map["funnel"], None);
    assert_eq!(go::to_string(&node).unwrap(), text);
}

#[test]
fn a_host_info_that_makes_no_sense_is_empty() {
    let node: Node = read(r#"{"Hostinfo":{"OS":7}}"#);
    assert_eq!(node.hostinfo.parse(), Hostinfo::default());
    let node: Node = read(r#"{"Hostinfo":null}"#);
    assert_eq!(node.hostinfo.get(), None);
}

#[test]
fn unusual_names_match_in_any_case() {
    // Other clients write `HostInfo` and `PopBrowserUrl`.
    let response: MapResponse = read(r#"{"PopBrowserUrl":"https://x"}"#);
    assert_eq!(response.pop_browser_url, "https://x");
    let request: MapRequest = read(r#"{"HostInfo":{"os":"linux"}}"#);
    assert_eq!(request.hostinfo.unwrap().os, "linux");
}

/// Any JSON, with names that occur in the protocol.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|v| json!(v)),
        (-3i64..1 << 40).prop_map(|v| json!(v)),
        any::<f64>().prop_map(|v| json!(v)),
        "[a-z0-9:./<&\u{2028}]{0,12}".prop_map(|v| json!(v)),
        Just(json!("100.64.0.1/32")),
        Just(json!("2024-01-01T00:00:00Z")),
    ];
    let name = prop::sample::select(vec![
        "Node",
        "Peers",
        "PeersChanged",
        "PeersRemoved",
        "ID",
        "1",
        "900",
        "Addresses",
        "AllowedIPs",
        "Hostinfo",
        "Services",
        "DERPMap",
        "Regions",
        "Nodes",
        "PacketFilters",
        "SrcIPs",
        "CapGrant",
        "CapMap",
        "Health",
        "Debug",
        "PeersChangedPatch",
        "Endpoints",
        "OnlineChange",
        "KeyExpiry",
        "DNSConfig",
        "Routes",
        "*",
    ]);
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|v| json!(v)),
            prop::collection::btree_map(name.clone(), inner, 0..6).prop_map(|v| json!(v)),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_decodes_or_fails_cleanly(value in any_json()) {
        let text = value.to_string();
        if let Ok(response) = serde_json::from_str::<MapResponse>(&text) {
            let again = go::to_string(&response).unwrap();
            prop_assert_eq!(read::<MapResponse>(&again), response);
        }
        let _ = serde_json::from_str::<Node>(&text);
        let _ = serde_json::from_str::<RegisterRequest>(&text);
        let _ = serde_json::from_str::<MapRequest>(&text);
        let _ = serde_json::from_str::<Hostinfo>(&text);
    }

    #[test]
    fn any_text_decodes_or_fails_cleanly(text in ".{0,200}") {
        let _ = serde_json::from_str::<MapResponse>(&text);
    }

    #[test]
    fn floats_survive(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
        let text = go::to_string(&value).unwrap();
        prop_assert_eq!(text.parse::<f64>().unwrap(), value);
    }
}
