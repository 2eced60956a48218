use std::net::IpAddr;

use super::{Known, name, read, server, zones};
use crate::{Kind, Lookup, Query, Rcode, Server, look_up};

fn known() -> Known {
    let mut known = Known::default()
        .with("one.tail1.ts.net", &["100.64.0.1", "fd7a:115c:a1e0::1"])
        .with("four.tail1.ts.net", &["100.64.0.4"])
        .with("extra.example", &["192.0.2.77"]);
    known.below.push(name("four.tail1.ts.net"));
    known
}

fn ask(text: &str, kind: Kind) -> (Rcode, u16, u16, Vec<u8>) {
    let query = Query::new(7, &name(text), kind);
    match look_up(&query, &known(), &zones(), 1_800_000_000) {
        Lookup::Answer(reply) => read(&reply, &query),
        Lookup::Ask(servers) => panic!("{text} is asked of {servers:?}"),
    }
}

fn asked_of(text: &str, kind: Kind) -> Vec<Server> {
    let query = Query::new(7, &name(text), kind);
    match look_up(&query, &known(), &zones(), 1) {
        Lookup::Answer(reply) => panic!("{text}: {reply:?}"),
        Lookup::Ask(servers) => servers,
    }
}

fn bytes(ip: &str) -> Vec<u8> {
    match ip.parse().unwrap() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

#[test]
fn nodes_have_addresses_of_both_families() {
    let cases = [
        ("one.tail1.ts.net", Kind::A, "100.64.0.1"),
        ("ONE.Tail1.TS.net", Kind::AAAA, "fd7a:115c:a1e0::1"),
        ("one.tail1.ts.net", Kind::ANY, "100.64.0.1"),
        ("extra.example", Kind::A, "192.0.2.77"),
        ("a.b.four.tail1.ts.net", Kind::A, "100.64.0.4"),
        (
            "magicdns.localhost-tailscale-daemon",
            Kind::A,
            "100.100.100.100",
        ),
        (
            "magicdns.localhost-tailscale-daemon",
            Kind::AAAA,
            "fd7a:115c:a1e0::53",
        ),
        (
            "10-1-1-3-via-7",
            Kind::AAAA,
            "fd7a:115c:a1e0:b1a:0:7:a01:103",
        ),
        (
            "10-1-1-3-via-0x1ff.x.ts.net",
            Kind::AAAA,
            "fd7a:115c:a1e0:b1a:0:1ff:a01:103",
        ),
        (
            "10-1-1-3-via-07.x.tailscale.net",
            Kind::ANY,
            "fd7a:115c:a1e0:b1a:0:7:a01:103",
        ),
    ];
    for (text, kind, ip) in cases {
        assert_eq!(
            ask(text, kind),
            (Rcode::NO_ERROR, 1, 0, bytes(ip)),
            "{text} {kind:?}"
        );
    }
}

#[test]
fn what_a_name_has_not_is_no_error_and_what_is_no_name_is() {
    let (rcode, answers, authorities, data) = ask("four.tail1.ts.net", Kind::AAAA);
    assert_eq!((rcode, answers, authorities), (Rcode::NO_ERROR, 0, 1));
    // Its zone says so, and for how long that may be kept.
    assert!(data.ends_with(&10_u32.to_be_bytes()));
    assert!(data.starts_with(b"\x05tail1\x02ts\x03net\0"));
    let (rcode, answers, authorities, _) = ask("none.tail1.ts.net", Kind::A);
    assert_eq!((rcode, answers, authorities), (Rcode::NX_DOMAIN, 0, 1));
    // Only some have names below them.
    assert_eq!(ask("a.one.tail1.ts.net", Kind::A).0, Rcode::NX_DOMAIN);
    assert_eq!(
        ask("one.tail1.ts.net", Kind(16)),
        (Rcode::NO_ERROR, 0, 0, vec![])
    );
    for kind in [Kind::NS, Kind::SOA, Kind::AXFR, Kind::HINFO] {
        assert_eq!(ask("one.tail1.ts.net", kind).0, Rcode::NOT_IMP);
    }
    assert_eq!(
        ask("10-1-1-3-via-7", Kind::A),
        (Rcode::NO_ERROR, 0, 0, vec![])
    );
    assert_eq!(
        ask("secret.onion", Kind::A),
        (Rcode::NX_DOMAIN, 0, 0, vec![])
    );
    assert_eq!(asked_of("10-1-1-300-via-7.ts.net", Kind::AAAA), [server(9)]);
    assert_eq!(asked_of("10-1-1-3-via-7.ts.net", Kind::AAAA), [server(9)]);
    assert_eq!(asked_of("10-1-1-3-via-x.x.ts.net", Kind::AAAA), [server(9)]);
    assert_eq!(asked_of("10-1-1-3-via-7.example", Kind::AAAA), [server(9)]);
}

#[test]
fn addresses_have_names() {
    let reply = |text: &str| ask(text, Kind::PTR);
    let one = b"\x03one\x05tail1\x02ts\x03net\0".to_vec();
    assert_eq!(
        reply("1.0.64.100.in-addr.arpa"),
        (Rcode::NO_ERROR, 1, 0, one.clone())
    );
    let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.e.1.a.c.5.1.1.a.7.d.f.ip6.arpa";
    // One digit is missing.
    assert_eq!(reply(&v6[2..]).0, Rcode::NX_DOMAIN);
    assert_eq!(reply(v6), (Rcode::NO_ERROR, 1, 0, one));
    let symbolic = reply("100.100.100.100.in-addr.arpa");
    assert_eq!((symbolic.0, symbolic.1), (Rcode::NO_ERROR, 1));
    assert!(symbolic.3.starts_with(b"\x08magicdns"));
    assert_eq!(reply("9.9.64.100.in-addr.arpa").0, Rcode::NX_DOMAIN);
    assert_eq!(asked_of("1.2.0.192.in-addr.arpa", Kind::PTR), [server(9)]);
    assert_eq!(
        reply("lb._dns-sd._udp.0.2.0.192.in-addr.arpa").0,
        Rcode::NX_DOMAIN
    );
}

#[test]
fn the_longest_suffix_says_who_is_asked() {
    assert_eq!(asked_of("x.corp.example", Kind::A), [server(1)]);
    assert_eq!(asked_of("corp.example", Kind::A), [server(1)]);
    assert_eq!(
        asked_of("x.deep.corp.example", Kind::A),
        [server(2), server(3)]
    );
    assert_eq!(asked_of("notcorp.example", Kind::A), [server(9)]);
    // Whom to ask is known, but he cannot be: it is not the root's affair.
    assert_eq!(asked_of("x.mute.example", Kind::A), []);
}
