use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// The vectors of the originals' `TestUpgradeNode`.
#[test]
fn nodes_of_old_servers_are_completed() {
    let with_derp = |home_derp, legacy: &str| {
        Peer::from_wire(tailcfg::Node {
            home_derp,
            legacy_derp: legacy.into(),
            ..tailcfg::Node::default()
        })
        .home_derp
    };
    assert_eq!(with_derp(1, "127.3.3.40:2"), 1);
    assert_eq!(with_derp(0, "127.3.3.40:2"), 2);
    assert_eq!(with_derp(2, ""), 2);
    for junk in [
        "127.3.3.41:2",
        "127.3.3.40",
        "127.3.3.40:x",
        "127.3.3.40:70000",
        ":",
        "127.3.3.40:-1",
    ] {
        assert_eq!(with_derp(0, junk), 0, "{junk}");
    }
    assert_eq!(with_derp(70_000, ""), 0);

    let own = vec![net("0.0.0.1/32"), net("0.0.0.2/32")];
    let more = vec![net("0.0.0.1/32"), net("0.0.0.2/32"), net("0.0.0.3/32")];
    let allowed = |allowed_ips: Option<Vec<IpNet>>, unsigned| {
        Peer::from_wire(tailcfg::Node {
            addresses: own.clone(),
            allowed_ips,
            unsigned_peer_api_only: unsigned,
            ..tailcfg::Node::default()
        })
        .allowed_ips
        .to_vec()
    };
    assert_eq!(allowed(Some(more.clone()), false), more);
    assert_eq!(allowed(None, false), own);
    assert_eq!(allowed(Some(vec![]), false), []);
    assert_eq!(allowed(Some(more), true), own);
    assert_eq!(allowed(Some(own.clone()), true), own);
}

#[test]
fn a_peer_gives_its_node_back() {
    let text = r#"{"ID":2,"StableID":"s2","Name":"b.x.net.","User":1,"Key":"nodekey:50d20b455ecf12bc453f83c2cfdb2a24925d06cf2598dcaa54e91af82ce9f765","KeyExpiry":"2030-01-01T00:00:00Z","KeySignature":"AwQ=","DiscoKey":"discokey:50d20b455ecf12bc453f83c2cfdb2a24925d06cf2598dcaa54e91af82ce9f765","Addresses":["100.64.0.2/32"],"AllowedIPs":["100.64.0.2/32","10.0.0.0/8"],"Endpoints":["10.0.0.1:41641"],"HomeDERP":999,"Hostinfo":{"OS":"linux","Hostname":"B_host"},"Created":"2024-01-01T00:00:00Z","Cap":113,"Tags":["tag:x"],"PrimaryRoutes":["10.0.0.0/8"],"LastSeen":"2024-01-01T00:00:00Z","Online":false,"MachineAuthorized":true,"Capabilities":["a"],"CapMap":{"funnel":null},"ComputedName":"b","ComputedNameWithHost":"b (b-host)","SelfNodeV4MasqAddrForThisPeer":"100.64.9.9","IsJailed":true,"ExitNodeDNSResolvers":[{"Addr":"1.1.1.1"}]}"#;
    let node: tailcfg::Node = serde_json::from_str(text).unwrap();
    let peer = Peer::from_wire(node);
    assert!(peer.has_cap("a") && peer.has_cap("funnel") && !peer.has_cap("b"));
    let again = tailcfg::go::to_string(&peer.to_wire("x.net")).unwrap();
    assert_eq!(again, text);
}

#[test]
fn an_expired_peer_cannot_be_reached() {
    let peer = Peer::from_wire(tailcfg::Node {
        key: NodePublic::from_bytes([7; 32]),
        endpoints: vec!["10.0.0.1:1".parse().unwrap()],
        home_derp: 3,
        ..tailcfg::Node::default()
    })
    .into_expired();
    assert!(peer.expired && peer.endpoints.is_empty() && peer.home_derp == 0);

    assert_eq!(
        peer.key.as_bytes()[..7],
        [0x6d, 0xa7, 0x74, 0xd5, 0xd7, 0x74, 7]
    );
    assert_eq!(peer.key.short(), "[bad01]");
}

#[test]
fn names_for_people() {
    let named = |name: &str, hostname: &str| {
        Peer::from_wire(tailcfg::Node {
            name: name.into(),
            hostinfo: HostinfoText::from(&Hostinfo {
                hostname: hostname.into(),
                ..Hostinfo::default()
            }),
            ..tailcfg::Node::default()
        })
        .display_names("Tail.ts.net")
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(named("foo.tail.ts.net.", "Foo.local"), pair("foo", "foo"));
    assert_eq!(
        named("foo-1.tail.ts.net.", "foo"),
        pair("foo-1", "foo-1 (foo)")
    );
    assert_eq!(
        named("foo.other.net.", "foo"),
        pair("foo.other.net", "foo.other.net (foo)")
    );
    assert_eq!(named("", "foo"), pair("foo", "foo"));
    assert_eq!(
        named("xtail.ts.net.", ""),
        pair("xtail.ts.net", "xtail.ts.net")
    );
    assert!(named("", "").0.starts_with("nodekey:"));
}

#[test]
fn hostnames_fit_dns() {
    for (hostname, want) in [
        ("Foo Bar", "foo-bar"),
        ("my.laptop.lan", "my-laptop"),
        ("--a--", "a"),
        ("é", ""),
        ("Bob's Mac", "bobs-mac"),
        (&"x".repeat(100), &"x".repeat(63)),
        ("", ""),
    ] {
        assert_eq!(sanitize_hostname(hostname), want);
    }
}
