use std::net::IpAddr;

use packet::PeerId;

use super::*;

fn with_addresses(id: i64, name: &str, addresses: &[&str]) -> Node {
    Node {
        addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
        ..node(id, name)
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tailnet() -> MapSession {
    let mut session = MapSession::new();
    let mut response = first(vec![
        with_addresses(
            1,
            "Alpha.x.net.",
            &["fd7a:115c:a1e0::1/128", "100.64.0.1/32"],
        ),
        with_addresses(2, "beta.x.net.", &["fd7a:115c:a1e0::2/128"]),
        with_addresses(3, "gamma.other.net.", &["100.64.0.3/32", "10.0.0.0/8"]),
        with_addresses(4, "", &["100.64.0.3/32"]),
    ]);
    response.node = Some(Box::new(with_addresses(
        1000,
        "self.x.net.",
        &["100.64.0.10/32", "fd7a:115c:a1e0::a/128"],
    )));
    session.apply(response, NOW).unwrap();
    session
}

#[test]
fn names_resolve_short_and_long() {
    let mut session = tailnet();
    let map = Arc::clone(session.map().unwrap());
    assert_eq!(map.suffix(), "x.net");
    for name in ["alpha", "ALPHA", "alpha.x.net", "alpha.x.net.", "alpha."] {
        assert_eq!(map.resolve(name), Some(vec![ip("100.64.0.1")]), "{name}");
    }
    assert_eq!(map.resolve("beta"), Some(vec![ip("fd7a:115c:a1e0::2")]));
    assert_eq!(map.resolve("self"), Some(vec![ip("100.64.0.10")]));
    assert_eq!(map.resolve("gamma.other.net"), Some(vec![ip("100.64.0.3")]));
    for name in [
        "",
        ".",
        "..",
        "gamma",
        "x.net",
        "alphax.net",
        "alpha..x.net",
    ] {
        assert_eq!(map.resolve(name), None, "{name}");
    }
    let map = map_after(
        &mut session,
        read(
            r#"{"DNSConfig":{"ExtraRecords":[{"Name":"svc.x.net.","Value":"100.64.0.99"},{"Name":"svc.x.net","Type":"TXT","Value":"1.2.3.4"},{"Name":"alpha","Value":"1.1.1.1"}]}}"#,
        ),
    );
    assert_eq!(map.resolve("SVC.x.net"), Some(vec![ip("100.64.0.99")]));
    assert_eq!(
        map.resolve("alpha"),
        Some(vec![ip("100.64.0.1")]),
        "nodes come first"
    );
    let map = map_after(
        &mut session,
        read(r#"{"PeersChanged":[{"ID":1,"Name":"delta.x.net.","Addresses":["100.64.0.5/32"]}]}"#),
    );
    assert_eq!(
        (map.resolve("delta"), map.resolve("alpha")),
        (Some(vec![ip("100.64.0.5")]), Some(vec![ip("1.1.1.1")]))
    );
    assert!(map.by_ip(ip("100.64.0.1")).is_none());
}

#[test]
fn ipv6_is_offered_when_asked_for() {
    let mut session = tailnet();
    let map = map_after(
        &mut session,
        read(
            r#"{"Node":{"ID":1000,"Name":"self.x.net.","Addresses":["100.64.0.10/32"],"CapMap":{"magicdns-aaaa":null}}}"#,
        ),
    );
    assert_eq!(map.resolve("alpha").unwrap().len(), 2);
    let map = map_after(
        &mut session,
        read(r#"{"Node":{"ID":1000,"Name":"self.x.net.","Addresses":["fd7a::1/128"]}}"#),
    );
    assert_eq!(map.resolve("alpha"), Some(vec![ip("fd7a:115c:a1e0::1")]));
    assert_eq!(map.resolve("gamma.other.net"), Some(vec![]));
}

#[test]
fn addresses_find_their_nodes() {
    let session = tailnet();
    let map = session.map().unwrap();
    let id = |text| map.by_ip(ip(text)).map(|peer| peer.id.0);
    assert_eq!(id("100.64.0.10"), Some(1000));
    assert_eq!(id("::ffff:100.64.0.1"), Some(1));
    assert_eq!(id("fd7a:115c:a1e0::2"), Some(2));
    assert_eq!(id("100.64.0.3"), Some(3), "the lowest number wins");
    assert_eq!(id("10.0.0.0"), None);
    assert_eq!(id("100.64.0.77"), None);
    assert_eq!(
        map.peers.by_key(&keys::NodePublic::ZERO).map(|p| p.id),
        Some(PeerId(1))
    );
}
