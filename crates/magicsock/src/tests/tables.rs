use std::net::SocketAddr;
use std::time::Duration;

use host::Instant;
use netcheck::Report;
use packet::disco::TxId;

use super::world::{MS, SEC};
use crate::candidates::{Candidates, Heard, MAX, MAX_LISTED};
use crate::endpoints::{BoundPorts, EndpointKind, Endpoints};
use crate::paths::{Paths, TRUST};
use crate::quality::Quality;

const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn quality(addr: &str, ms: u64) -> Quality {
    Quality {
        addr: at(addr),
        latency: Duration::from_millis(ms),
    }
}

#[test]
fn faster_and_nearer_addresses_are_better() {
    let (public, other, private) = ("198.51.100.1:1", "198.51.100.2:1", "192.168.0.1:1");
    let (v6, link_local, loopback) = ("[2001:db8::1]:1", "169.254.0.1:1", "127.0.0.1:1");
    let table = [
        // The same one is no better, however fast.
        ((public, 1), (public, 100), false),
        // Speed decides, but not a hair's breadth of it.
        ((public, 10), (other, 20), true),
        ((public, 20), (other, 10), false),
        ((public, 99), (other, 100), false),
        ((public, 98), (other, 100), true),
        // A private address may be a little slower, a loopback one much.
        ((private, 100), (public, 91), true),
        ((private, 100), (public, 79), false),
        ((public, 91), (private, 100), false),
        ((link_local, 100), (private, 95), true),
        ((loopback, 100), (private, 72), true),
        ((loopback, 100), (private, 69), false),
        // IPv6 is preferred where about as fast.
        ((v6, 100), (public, 95), true),
        ((v6, 100), (public, 85), false),
        // What answered in no time at all is as fast as it gets.
        ((public, 10), (other, 0), false),
        ((public, 0), (other, 10), true),
        ((public, 0), (other, 0), false),
    ];
    for ((a, a_ms), (b, b_ms), want) in table {
        let (a, b) = (quality(a, a_ms), quality(b, b_ms));
        assert_eq!(a.is_better_than(&b), want, "{a:?} {b:?}");
    }
}

#[test]
fn a_path_is_trusted_until_its_time_is_over_and_dropped_when_it_fails_then() {
    let (a, b) = (at("198.51.100.1:1"), at("198.51.100.2:1"));
    let mut paths = Paths::default();
    paths.configure(&[a, b]);
    assert!(paths.answered(a, MS * 20, NOW));
    let trusted = |paths: &Paths, now| {
        let choice = paths.choose(now);
        choice.direct.filter(|_| choice.trusted)
    };
    assert_eq!(trusted(&paths, NOW + TRUST), Some(a));
    assert_eq!(trusted(&paths, NOW + TRUST + MS), None);
    // A slower one does not displace it while it is trusted, and does after that.
    assert!(!paths.answered(b, MS * 30, NOW + SEC));
    assert!(
        !paths.unanswered(a, NOW + TRUST),
        "one lost ping is no reason"
    );
    assert!(paths.answered(b, MS * 30, NOW + TRUST + MS));
    // The other way round it needs to be better.
    assert!(paths.answered(a, MS * 20, NOW + TRUST + MS * 2));
    assert!(paths.unanswered(a, NOW + TRUST * 3));
    assert_eq!(paths.choose(NOW).direct, None);
}

#[test]
fn an_address_that_was_withdrawn_is_not_used_any_more() {
    let a = at("198.51.100.1:1");
    let mut paths = Paths::default();
    paths.configure(&[a]);
    assert!(paths.answered(a, MS, NOW));
    paths.configure(&[]);
    assert_eq!(paths.choose(NOW).direct, None);
    assert!(!paths.answered(a, MS, NOW), "a late pong changes nothing");
}

#[test]
fn candidates_come_and_go_by_where_they_are_from() {
    let [map, called, heard] = ["198.51.100.1:1", "198.51.100.2:1", "198.51.100.3:1"].map(at);
    let mut all = Candidates::default();
    assert!(all.configure(&[map]));
    assert!(!all.configure(&[map]));
    all.call(&[called, map]);
    assert_eq!(all.hear(heard, TxId([1; 12]), NOW), Heard::New);
    assert_eq!(all.hear(heard, TxId([1; 12]), NOW), Heard::Copy);
    assert_eq!(all.hear(map, TxId([2; 12]), NOW), Heard::Known);
    assert_eq!(all.take_due(NOW, false), [map, called, heard]);
    assert_eq!(all.take_due(NOW + SEC * 4, false), []);
    assert_eq!(all.take_due(NOW + SEC * 5, false), [map, called, heard]);
    // A call-me-maybe makes all of them worth a ping at once; one that does not list an address withdraws it.
    all.call(&[map]);
    assert_eq!(all.take_due(NOW + SEC * 6, false), [map, heard]);
    // The map withdraws it, the call-me-maybe still stands.
    all.configure(&[]);
    assert_eq!(all.take_due(NOW + SEC * 50, true), [map]);
    all.call(&[]);
    assert_eq!(all.take_due(NOW + SEC * 50, true), []);
}

#[test]
fn what_cannot_be_an_address_of_a_peer_is_not_tried() {
    let mut all = Candidates::default();
    let bad = [
        "0.0.0.0:1",
        "[::]:1",
        "198.51.100.1:0",
        "224.0.0.1:1",
        "255.255.255.255:1",
        "[ff02::1]:1",
        "[fe80::1]:1",
        "127.3.3.40:1",
        "[::ffff:127.3.3.40]:1",
    ];
    all.call(&bad.map(at));
    assert_eq!(all.addrs(), []);
    all.call(&[at("[::ffff:198.51.100.1]:1")]);
    assert_eq!(all.addrs(), [at("198.51.100.1:1")]);
}

#[test]
fn thousands_of_addresses_are_too_many() {
    let many = |net: u8| -> Vec<SocketAddr> {
        (1..=5000u16)
            .map(|port| SocketAddr::from(([198, 51, net, 1], port)))
            .collect()
    };
    let mut all = Candidates::default();
    all.configure(&many(1));
    assert_eq!(all.addrs().len(), MAX_LISTED);
    all.call(&many(2));
    assert_eq!(all.addrs().len(), MAX);
    for addr in many(3) {
        assert_eq!(all.hear(addr, TxId([1; 12]), NOW), Heard::Refused);
    }
    all.configure(&[]);
    for addr in many(3) {
        assert_eq!(all.hear(addr, TxId([1; 12]), NOW), Heard::New);
    }
    assert_eq!(all.addrs().len(), MAX);
    // What the map says displaces what merely pinged us.
    all.configure(&many(4)[..MAX - MAX_LISTED]);
    assert!(all.contains(many(4)[MAX - MAX_LISTED - 1]));
    assert_eq!(all.addrs().len(), MAX);
}

fn endpoints(wanted: u16) -> Endpoints {
    let mut endpoints = Endpoints::default();
    endpoints.local = vec!["192.168.0.2".parse().unwrap()];
    endpoints.ports.v4 = Some(41641);
    endpoints.ports.wanted = wanted;
    endpoints
}

fn seen(addrs: &[&str]) -> Report {
    let v4 = addrs.iter().map(|addr| addr.parse().unwrap());
    let v4: Vec<std::net::SocketAddrV4> = v4.collect();
    Report {
        global_v4: v4.first().copied(),
        mapping_varies_by_dest_ip: Some(v4.len() > 1),
        ..Report::default()
    }
}

fn told(endpoints: &Endpoints) -> Vec<(String, EndpointKind)> {
    let all = endpoints.current().iter();
    all.map(|e| (e.addr.to_string(), e.kind)).collect()
}

#[test]
fn we_are_where_others_see_us_and_where_our_interfaces_are() {
    use EndpointKind::{Local, Stun, StunLocalPort};
    let mut ours = endpoints(0);
    assert!(ours.refresh(&seen(&["203.0.113.1:1000"]), NOW));
    let expected = [
        ("203.0.113.1:1000".into(), Stun),
        ("192.168.0.2:41641".into(), Local),
    ];
    assert_eq!(told(&ours), expected);
    assert!(!ours.refresh(&seen(&["203.0.113.1:1000"]), NOW + SEC));
    // A port that was asked for may be forwarded by a router whose mappings vary.
    let mut ours = endpoints(41641);
    assert!(ours.refresh(&seen(&["203.0.113.1:1000", "203.0.113.1:1001"]), NOW));
    let expected = [
        ("203.0.113.1:1000".into(), Stun),
        ("203.0.113.1:41641".into(), StunLocalPort),
        ("192.168.0.2:41641".into(), Local),
    ];
    assert_eq!(told(&ours), expected);
}

#[test]
fn an_address_seen_once_is_told_for_five_minutes_but_not_too_many_ports_of_it() {
    let mut ours = endpoints(0);
    for port in 1..=9u32 {
        let report = seen(&[&format!("203.0.113.1:{port}")]);
        ours.refresh(&report, NOW + SEC * port);
    }
    let stun = |ours: &Endpoints| {
        let all = ours.current().iter();
        let ports: Vec<u16> = all
            .filter(|e| e.kind == EndpointKind::Stun)
            .map(|e| e.addr.port())
            .collect();
        ports
    };
    assert_eq!(stun(&ours), [9, 8, 7, 6, 5, 4]);
    ours.refresh(&seen(&[]), NOW + SEC * (310 + 7));
    assert_eq!(stun(&ours), [9, 8, 7]);
    ours.forget();
    ours.refresh(&seen(&[]), NOW + SEC * 318);
    assert_eq!(
        told(&ours),
        [("192.168.0.2:41641".into(), EndpointKind::Local)]
    );
}

#[test]
fn loopback_is_told_only_if_there_is_nothing_else() {
    let mut ours = endpoints(0);
    ours.local = vec!["127.0.0.1".parse().unwrap()];
    ours.refresh(&seen(&[]), NOW);
    assert_eq!(
        told(&ours),
        [("127.0.0.1:41641".into(), EndpointKind::Local)]
    );
    ours.refresh(&seen(&["203.0.113.1:1000"]), NOW);
    assert_eq!(
        told(&ours),
        [("203.0.113.1:1000".into(), EndpointKind::Stun)]
    );
    // Without sockets we are nowhere.
    ours.forget();
    ours.ports = BoundPorts::default();
    ours.refresh(&seen(&["203.0.113.1:1000"]), NOW);
    assert_eq!(told(&ours), []);
}
