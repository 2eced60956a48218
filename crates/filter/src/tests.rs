use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use packet::{IpView, Proto, ip_packet};
use proptest::prelude::*;
use tailcfg::{CapGrant, FilterRule, NetPortRange, PortRange};

use crate::rules::IpSet;
use crate::{
    DropReason, Filter, Flows, Hooks, LocalSet, ParseProblem, PeerCaps, Rules, Verdict, model,
    no_caps,
};

const ALLOWED: u8 = 116;
const DENIED: u8 = 127;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts
        .iter()
        .map(|text| match text.parse::<IpAddr>() {
            Ok(ip) => ip.into(),
            Err(_) => text.parse().expect("a prefix"),
        })
        .collect()
}

/// `address:first-last`, `address:port` or `address:*`.
fn dst(text: &str) -> NetPortRange {
    let (ip, ports) = text.rsplit_once(':').expect("a port");
    let (first, last) = match ports.split_once('-') {
        Some((first, last)) => (first, last),
        None if ports == "*" => ("0", "65535"),
        None => (ports, ports),
    };
    NetPortRange {
        ip: ip.into(),
        ports: PortRange {
            first: first.parse().expect("a port"),
            last: last.parse().expect("a port"),
        },
        ..NetPortRange::default()
    }
}

fn rule(srcs: &[&str], dsts: &[&str], protos: &[u8]) -> FilterRule {
    FilterRule {
        src_ips: srcs.iter().map(|s| (*s).to_owned()).collect(),
        dst_ports: dsts.iter().map(|d| dst(d)).collect(),
        ip_proto: protos.iter().map(|p| i64::from(*p)).collect(),
        ..FilterRule::default()
    }
}

fn parse(rules: &[FilterRule]) -> Rules {
    let (rules, problems) = Rules::parse(rules);
    assert_eq!(problems, []);
    rules
}

/// The rules and addresses of the originals' `TestFilter`.
fn filter() -> Filter {
    let rules = parse(&[
        rule(
            &["8.1.1.1", "8.2.2.2"],
            &["1.2.3.4:22", "5.6.7.8:23-24"],
            &[],
        ),
        rule(
            &["9.1.1.1", "9.2.2.2"],
            &["1.2.3.4:22", "5.6.7.8:23-24"],
            &[132],
        ),
        rule(&["8.1.1.1", "8.2.2.2"], &["5.6.7.8:27-28"], &[]),
        rule(&["2.2.2.2"], &["8.1.1.1:22"], &[]),
        rule(&["0.0.0.0/0"], &["100.122.98.50:*"], &[]),
        rule(&["0.0.0.0/0"], &["0.0.0.0/0:443"], &[]),
        rule(
            &["153.1.1.1", "153.1.1.2", "153.3.3.3"],
            &["1.2.3.4:999"],
            &[],
        ),
        rule(&["::1", "::2"], &["2001::1:22", "2001::2:22"], &[]),
        rule(&["::/0"], &["::/0:443"], &[]),
        rule(&["0.0.0.0/0"], &["0.0.0.0/0:*"], &[ALLOWED]),
        rule(&["::/0"], &["::/0:*"], &[ALLOWED]),
        rule(&["cap:cap-hit-1234-ssh"], &["1.2.3.4:22"], &[]),
    ]);
    Filter::new(rules, local(), Arc::new(Flows::new()))
}

fn local() -> LocalSet {
    LocalSet::new(nets(&[
        "100.122.98.50",
        "1.2.3.4",
        "5.6.7.8",
        "102.102.102.102",
        "119.119.119.119",
        "8.1.0.0/16",
        "2001::/16",
    ]))
}

fn caps(src: IpAddr, cap: &str) -> bool {
    cap == "cap-hit-1234-ssh" && src == ip("10.0.0.1")
}

/// A packet as its sender would make it: TCP opens a connection, ICMP is an echo request.
fn packet(proto: u8, src: &str, dst: &str, src_port: u16, dst_port: u16) -> Vec<u8> {
    let mut body = vec![0; 40];
    match Proto(proto) {
        Proto::TCP | Proto::UDP | Proto::SCTP => {
            body[..2].copy_from_slice(&src_port.to_be_bytes());
            body[2..4].copy_from_slice(&dst_port.to_be_bytes());
            body[12] = 0x50;
            body[13] = 0x02;
        }
        Proto::ICMP4 => body[0] = 8,
        Proto::ICMP6 => body[0] = 128,
        _ => {}
    }
    ip_packet(ip(src), ip(dst), Proto(proto), &body).expect("one family")
}

fn judge(filter: &Filter, packet: &[u8]) -> Verdict {
    match IpView::parse(packet) {
        Ok(view) => filter.judge_in(&view, &caps),
        Err(unparsed) => unparsed.into(),
    }
}

const TCP: u8 = Proto::TCP.0;
const UDP: u8 = Proto::UDP.0;
const SCTP: u8 = Proto::SCTP.0;
const ICMP4: u8 = Proto::ICMP4.0;
const ICMP6: u8 = Proto::ICMP6.0;

/// `TestFilter` of the originals: protocol, source, destination, ports, whether it may pass.
#[test]
fn rules_judge_as_the_originals() {
    let filter = filter();
    for (proto, src, dst, dst_port, pass) in [
        (TCP, "8.1.1.1", "1.2.3.4", 22, true),
        (ICMP4, "8.1.1.1", "1.2.3.4", 0, true),
        (TCP, "8.1.1.1", "1.2.3.4", 0, false),
        (TCP, "8.1.1.1", "1.2.3.4", 21, false),
        (TCP, "8.2.2.2", "1.2.3.4", 22, true),
        (TCP, "8.2.2.2", "1.2.3.4", 23, false),
        (TCP, "8.3.3.3", "1.2.3.4", 22, false),
        (TCP, "8.1.1.1", "5.6.7.8", 23, true),
        (TCP, "8.1.1.1", "5.6.7.8", 24, true),
        (TCP, "8.1.1.3", "5.6.7.8", 24, false),
        (TCP, "8.1.1.1", "5.6.7.8", 22, false),
        (TCP, "17.34.51.68", "8.1.34.51", 443, true),
        (TCP, "17.34.51.68", "8.1.34.51", 444, false),
        (TCP, "17.34.51.68", "100.122.98.50", 999, true),
        (TCP, "17.34.51.68", "100.122.98.50", 0, true),
        (TCP, "::1", "2001::1", 22, true),
        (ICMP6, "::1", "2001::1", 0, true),
        (TCP, "::2", "2001::1", 22, true),
        (TCP, "::2", "2001::2", 22, true),
        (TCP, "::1", "2001::1", 23, false),
        (TCP, "::1", "2001::3", 22, false),
        (TCP, "::3", "2001::1", 22, false),
        (TCP, "::1", "2001::1", 443, true),
        (TCP, "::1", "2001::1", 444, false),
        (TCP, "8.1.1.1", "16.32.48.64", 443, false),
        (TCP, "1::", "2602::1", 443, false),
        (SCTP, "8.1.1.1", "1.2.3.4", 22, false),
        (SCTP, "9.1.1.1", "1.2.3.4", 22, true),
        (ALLOWED, "1.2.3.4", "5.6.7.8", 0, true),
        (ALLOWED, "2001::1", "2001::2", 0, true),
        (DENIED, "1.2.3.4", "5.6.7.8", 0, false),
        (DENIED, "2001::1", "2001::2", 0, false),
        (TCP, "10.0.0.1", "1.2.3.4", 22, true),
        (TCP, "10.0.0.2", "1.2.3.4", 22, false),
    ] {
        let got = judge(&filter, &packet(proto, src, dst, 999, dst_port));
        assert_eq!(
            !got.is_drop(),
            pass,
            "{proto} {src} {dst}:{dst_port} {got:?}"
        );
        if proto == TCP {
            let got = judge(&filter, &packet(UDP, src, dst, 999, dst_port));
            assert_eq!(!got.is_drop(), pass, "UDP {src} {dst}:{dst_port} {got:?}");
            let to = SocketAddr::new(ip(dst), dst_port);
            let got = filter.check(Proto::TCP, ip(src), to, &caps);
            assert_eq!(!got.is_drop(), pass, "check {src} {dst}:{dst_port} {got:?}");
        }
    }
}

/// `TestUDPState` of the originals.
#[test]
fn replies_to_what_we_sent_come_in() {
    let filter = filter();
    for (us, them) in [
        ("102.102.102.102", "119.119.119.119"),
        ("2001::1", "2001::2"),
    ] {
        let incoming = packet(UDP, them, us, 4242, 4343);
        let outgoing = packet(UDP, us, them, 4343, 4242);
        assert_eq!(judge(&filter, &incoming), Verdict::Drop(DropReason::NoRule));
        let view = IpView::parse(&outgoing).expect("a packet");
        assert_eq!(filter.judge_out(&view), Verdict::Accept);
        assert_eq!(judge(&filter, &incoming), Verdict::Accept);
        let other = packet(UDP, them, us, 4242, 4344);
        assert!(judge(&filter, &other).is_drop(), "another port");
    }
}

#[test]
fn flows_outlive_a_change_of_rules() {
    let flows = Arc::new(Flows::new());
    let first = Filter::new(Rules::default(), local(), Arc::clone(&flows));
    let outgoing = packet(UDP, "1.2.3.4", "9.9.9.9", 1, 2);
    first.judge_out(&IpView::parse(&outgoing).expect("a packet"));
    let second = Filter::new(parse(&[rule(&["*"], &["*:1"], &[6])]), local(), flows);
    let reply = packet(UDP, "9.9.9.9", "1.2.3.4", 2, 1);
    assert_eq!(judge(&second, &reply), Verdict::Accept);
    let shields = Filter::shields_up(local(), Arc::default());
    assert_eq!(
        judge(&shields, &reply),
        Verdict::Drop(DropReason::ShieldsUp)
    );
}

#[test]
fn the_least_recently_used_flow_is_forgotten() {
    let flows = Flows::new();
    let flow = |port: u16| crate::Flow {
        proto: Proto::UDP,
        src: SocketAddr::new(ip("1.1.1.1"), port),
        dst: SocketAddr::new(ip("2.2.2.2"), 53),
    };
    for port in 0..512 {
        flows.allow(flow(port));
    }
    assert!(flows.allows(&flow(0)), "used, so the next to go is 1");
    flows.allow(flow(512));
    assert!(flows.allows(&flow(0)));
    assert!(!flows.allows(&flow(1)));
    assert!(flows.allows(&flow(2)));
}

#[test]
fn shields_up_lets_only_replies_in() {
    let filter = Filter::shields_up(local(), Arc::default());
    let syn = packet(TCP, "8.1.1.1", "1.2.3.4", 999, 22);
    assert_eq!(judge(&filter, &syn), Verdict::Drop(DropReason::ShieldsUp));
    let mut syn_ack = syn.clone();
    syn_ack[20 + 13] = 0x12;
    assert_eq!(judge(&filter, &syn_ack), Verdict::Accept);
    let ping = packet(ICMP4, "8.1.1.1", "1.2.3.4", 0, 0);
    assert!(judge(&filter, &ping).is_drop());
    let mut pong = ping.clone();
    pong[20] = 0;
    assert_eq!(judge(&filter, &pong), Verdict::Accept);
    let tsmp = packet(Proto::TSMP.0, "8.1.1.1", "1.2.3.4", 0, 0);
    assert_eq!(judge(&filter, &tsmp), Verdict::Accept);
}

#[test]
fn what_never_belongs_in_a_tunnel_is_dropped_both_ways() {
    let allow_all = parse(&[FilterRule::allow_all()]);
    let everything = LocalSet::new(nets(&["0.0.0.0/0", "::/0"]));
    let filter = Filter::new(allow_all, everything, Arc::default());
    for (dst, want) in [
        ("224.0.0.1", Verdict::Drop(DropReason::Multicast)),
        ("169.254.1.1", Verdict::Drop(DropReason::LinkLocalUnicast)),
        ("169.254.169.254", Verdict::Accept),
        ("1.1.1.1", Verdict::Accept),
    ] {
        let bytes = packet(UDP, "8.8.8.8", dst, 1, 2);
        let view = IpView::parse(&bytes).expect("a packet");
        assert_eq!(filter.judge_in(&view, &no_caps), want, "{dst}");
        assert_eq!(filter.judge_out(&view), want, "{dst}");
    }
    for (dst, want) in [
        ("ff02::1", Verdict::Drop(DropReason::Multicast)),
        ("fe80::1", Verdict::Drop(DropReason::LinkLocalUnicast)),
    ] {
        let bytes = packet(UDP, "2001::1", dst, 1, 2);
        assert_eq!(judge(&filter, &bytes), want, "{dst}");
    }
    assert_eq!(judge(&filter, &[]), Verdict::Accept, "a keepalive");
    assert_eq!(
        judge(&filter, &[0x45; 19]),
        Verdict::Drop(DropReason::TooShort)
    );
    assert_eq!(
        judge(&filter, &[0x45; 40]),
        Verdict::Drop(DropReason::UnknownProtocol)
    );
}

#[test]
fn later_fragments_pass_and_overlapping_ones_do_not() {
    let filter = Filter::new(Rules::default(), local(), Arc::default());
    let mut bytes = packet(UDP, "8.8.8.8", "1.2.3.4", 1, 2);
    for (blocks, want) in [
        (9_u16, Verdict::Drop(DropReason::UnknownProtocol)),
        (10, Verdict::Accept),
        (0, Verdict::Drop(DropReason::NoRule)),
    ] {
        bytes[6..8].copy_from_slice(&(blocks | 0x2000).to_be_bytes());
        assert_eq!(judge(&filter, &bytes), want, "{blocks}");
    }
}

#[test]
fn icmp_ignores_ports_and_protocols() {
    let rules = parse(&[rule(&["8.8.8.8"], &["1.2.3.4:22"], &[TCP])]);
    let filter = Filter::new(rules, local(), Arc::default());
    let ping = |src| judge(&filter, &packet(ICMP4, src, "1.2.3.4", 0, 0));
    assert_eq!(ping("8.8.8.8"), Verdict::Accept);
    assert!(ping("8.8.8.9").is_drop());
}

#[test]
fn icmp_by_capability_ignores_the_destination() {
    let filter = filter();
    let ping = |src, dst| judge(&filter, &packet(ICMP4, src, dst, 0, 0));
    // 10.0.0.1 may also ping by the rule for port 443, so take a filter with nothing else.
    assert_eq!(ping("10.0.0.1", "5.6.7.8"), Verdict::Accept);
    let rules = parse(&[rule(&["cap:cap-hit-1234-ssh"], &["1.2.3.4:22"], &[])]);
    let filter = Filter::new(rules, local(), Arc::default());
    let ping = |src, dst, proto| judge(&filter, &packet(proto, src, dst, 0, 0));
    assert_eq!(ping("10.0.0.1", "5.6.7.8", ICMP4), Verdict::Accept);
    assert!(ping("10.0.0.2", "5.6.7.8", ICMP4).is_drop());
    assert!(ping("::1", "2001::1", ICMP6).is_drop());
}

#[test]
fn hooks_make_exceptions() {
    let hooks = Hooks {
        ingress: vec![Arc::new(|view: &IpView<'_>| view.dst_port() == 7)],
        link_local: vec![Arc::new(|view: &IpView<'_>| view.dst_port() == 7)],
    };
    let filter =
        Filter::new(Rules::default(), LocalSet::default(), Arc::default()).with_hooks(hooks);
    let to = |dst, port| judge(&filter, &packet(UDP, "8.8.8.8", dst, 1, port));
    assert_eq!(to("3.3.3.3", 7), Verdict::Accept);
    assert_eq!(to("3.3.3.3", 8), Verdict::Drop(DropReason::NotLocal));
    assert_eq!(to("169.254.0.1", 7), Verdict::Accept);
    assert!(to("169.254.0.1", 8).is_drop());
    assert!(to("224.0.0.1", 7).is_drop(), "no exception for multicast");
}

#[test]
fn nothing_is_let_in_without_a_network() {
    let filter = Filter::allow_none();
    let bytes = packet(Proto::TSMP.0, "8.1.1.1", "1.2.3.4", 0, 0);
    assert_eq!(judge(&filter, &bytes), Verdict::Drop(DropReason::NotLocal));
}

#[test]
fn exit_nodes_receive_for_the_internet_only() {
    let local = LocalSet::new(nets(&["10.1.0.0/16"]))
        .with_all_but(false, nets(&["10.0.0.0/8", "100.64.0.0/10"]));
    assert!(local.contains(ip("8.8.8.8")));
    assert!(!local.contains(ip("10.2.0.1")));
    assert!(local.contains(ip("10.1.0.1")), "advertised by itself");
    assert!(!local.contains(ip("2001::1")));
}

/// `TestParseIPSet` of the originals.
#[test]
fn address_texts() {
    let parsed = |text: &str| match IpSet::parse(text) {
        Ok(IpSet::Nets(nets)) => Ok(nets),
        Ok(IpSet::Cap(cap)) => panic!("a capability {cap}"),
        Err(problem) => Err(problem.to_string()),
    };
    for (text, want) in [
        ("8.8.8.8", vec!["8.8.8.8/32"]),
        ("1::2", vec!["1::2/128"]),
        ("8.8.8.0/24", vec!["8.8.8.0/24"]),
        ("1.0.0.0-1.255.255.255", vec!["1.0.0.0/8"]),
        (
            "1.0.0.0-2.1.2.3",
            vec!["1.0.0.0/8", "2.0.0.0/16", "2.1.0.0/23", "2.1.2.0/30"],
        ),
        ("0.0.0.0-255.255.255.255", vec!["0.0.0.0/0"]),
        ("1.2.3.4-1.2.3.4", vec!["1.2.3.4/32"]),
        ("2eff::1-2eff::2", vec!["2eff::1/128", "2eff::2/128"]),
        ("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", vec!["::/0"]),
        ("*", vec!["0.0.0.0/0", "::/0"]),
    ] {
        assert_eq!(parsed(text), Ok(nets(&want)), "{text}");
    }
    for (text, want) in [
        ("8.8.8.8/24", "8.8.8.8/24 contains non-network bits set"),
        ("1.0.0.2-1.0.0.1", "invalid IP range \"1.0.0.2-1.0.0.1\""),
        ("1.0.0.2-::1", "invalid IP range \"1.0.0.2-::1\""),
        ("", "invalid IP address \"\""),
        ("1-2-3", "invalid IP address \"1-2-3\""),
        ("1.2.3.4/33", "invalid IP address \"1.2.3.4/33\""),
    ] {
        assert_eq!(parsed(text), Err(want.to_owned()), "{text}");
    }
    for (text, want) in [
        ("cap:foo", "foo"),
        ("cap:people-in-8.8.8.0/24", "people-in-8.8.8.0/24"),
    ] {
        assert_eq!(IpSet::parse(text), Ok(IpSet::Cap(want.into())));
    }
}

#[test]
fn what_cannot_be_read_is_left_out_and_reported() {
    let (rules, problems) = Rules::parse(&[
        rule(&["nonsense", "8.1.1.1"], &["1.2.3.4:22", "cap:x:1"], &[]),
        rule(&["8.1.1.2"], &["5.6.7.8/8:22"], &[]),
    ]);
    assert_eq!(
        problems,
        [
            ParseProblem::InvalidAddress("nonsense".into()),
            ParseProblem::CapInDestination("x".into()),
            ParseProblem::HostBits("5.6.7.8/8".into()),
        ]
    );
    let filter = Filter::new(rules, local(), Arc::default());
    let tcp = |src, dst| judge(&filter, &packet(TCP, src, dst, 1, 22));
    assert_eq!(tcp("8.1.1.1", "1.2.3.4"), Verdict::Accept);
    assert!(tcp("8.1.1.2", "5.6.7.8").is_drop());

    let mut retired = rule(&["*"], &["*:*"], &[]);
    retired.dst_ports[0].bits = Some(8);
    let (rules, problems) = Rules::parse(&[retired, FilterRule::allow_all()]);
    assert!(rules.is_empty(), "fail closed");
    assert_eq!(problems, [ParseProblem::RetiredBits]);
}

#[test]
fn protocol_numbers_out_of_range_are_ignored() {
    let mut only_bad = rule(&["*"], &["*:*"], &[]);
    only_bad.ip_proto = vec![-1, 256, 70_000];
    let filter = Filter::new(parse(&[only_bad]), local(), Arc::default());
    assert!(judge(&filter, &packet(TCP, "8.1.1.1", "1.2.3.4", 1, 2)).is_drop());
}

/// `TestPeerCaps` of the originals.
#[test]
fn capabilities_of_a_peer() {
    let grant = |src: &str, dst: &str, caps: &[&str]| FilterRule {
        src_ips: vec![src.into()],
        cap_grant: vec![CapGrant {
            dsts: nets(&[dst]),
            caps: caps.iter().map(|c| (*c).to_owned()).collect(),
            ..CapGrant::default()
        }],
        ..FilterRule::default()
    };
    let rules = parse(&[
        grant("*", "0.0.0.0/0", &["is_ipv4"]),
        grant("*", "::/0", &["is_ipv6"]),
        grant(
            "100.199.0.0/16",
            "100.200.0.0/16",
            &["some_super_admin", ""],
        ),
    ]);
    let filter = Filter::new(rules, local(), Arc::default());
    for (src, dst, want) in [
        ("1.2.3.4", "2.4.5.5", vec!["is_ipv4"]),
        ("1::1", "2::2", vec!["is_ipv6"]),
        (
            "100.199.1.2",
            "100.200.3.4",
            vec!["is_ipv4", "some_super_admin"],
        ),
        ("100.198.1.2", "100.200.3.4", vec!["is_ipv4"]),
        ("100.199.1.2", "100.201.3.4", vec!["is_ipv4"]),
    ] {
        let caps = filter.caps_of(ip(src), ip(dst));
        assert_eq!(caps.keys().collect::<Vec<_>>(), want, "{src} {dst}");
    }
    assert!(
        judge(&filter, &packet(TCP, "1.2.3.4", "1.2.3.4", 1, 2)).is_drop(),
        "a grant opens no port"
    );
}

#[test]
fn capability_values_are_collected_in_order() {
    let grant = |src: &str, dsts: &[&str], value: &str| {
        let text = format!(
            r#"{{"SrcIPs":["{src}"],"CapGrant":[{{"Dsts":[{}],"CapMap":{{"c":[{value}]}}}}]}}"#,
            dsts.iter()
                .map(|d| format!("\"{d}\""))
                .collect::<Vec<_>>()
                .join(",")
        );
        serde_json::from_str::<FilterRule>(&text).expect("a rule")
    };
    let rules = parse(&[
        grant("*", &["1.2.3.4/32"], "1"),
        grant("9.0.0.0/8", &["1.2.3.4/32", "5.6.7.8/32"], r#"{"x":2}"#),
        grant("8.0.0.0/8", &["1.2.3.4/32"], "3"),
    ]);
    let filter = Filter::new(rules, local(), Arc::default());
    let caps = filter.caps_of(ip("9.9.9.9"), ip("1.2.3.4"));
    assert_eq!(
        serde_json::to_string(&caps).expect("json"),
        r#"{"c":[1,{"x":2}]}"#
    );
}

#[test]
fn rules_that_admit_a_prefix_are_found() {
    let rules = parse(&[rule(&["100.64.0.0/24"], &["*:*"], &[])]);
    let admits = |text: &str| rules.admit_from(&text.parse().expect("a prefix"));
    assert!(admits("100.64.0.7/32"));
    assert!(admits("100.0.0.0/8"));
    assert!(!admits("100.64.1.0/24"));
}

/// Few addresses, so that rules and packets meet often.
fn some_ip() -> impl Strategy<Value = String> {
    prop_oneof![
        (0..3_u8, 0..3_u8).prop_map(|(a, b)| format!("10.0.{a}.{b}")),
        (0..3_u8, 0..3_u8).prop_map(|(a, b)| format!("fd00::{a}:{b}")),
        Just("169.254.169.254".to_owned()),
        Just("224.0.0.1".to_owned()),
        Just("fe80::1".to_owned()),
    ]
}

fn some_set() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => some_ip(),
        1 => Just("*".to_owned()),
        2 => (0..3_u8, 22..=32_u8).prop_map(|(a, len)| {
            let net: IpNet = format!("10.0.{a}.0/{len}").parse().expect("a prefix");
            net.trunc().to_string()
        }),
        1 => (0..3_u8).prop_map(|a| format!("fd00::{a}:0/112")),
        1 => (0..3_u8, 0..3_u8).prop_map(|(a, b)| format!("10.0.{a}.1-10.0.2.{b}")),
        1 => (0..2_u8).prop_map(|n| format!("cap:{n}")),
    ]
}

fn some_rule() -> impl Strategy<Value = FilterRule> {
    let ports = prop_oneof![Just((0, 65535)), (0..4_u16, 0..4_u16), Just((1, 65535)),];
    let dst = (some_set(), ports).prop_map(|(ip, (first, last))| NetPortRange {
        ip,
        ports: PortRange { first, last },
        ..NetPortRange::default()
    });
    let proto = prop_oneof![
        Just(1_i64),
        Just(6),
        Just(17),
        Just(58),
        Just(132),
        Just(47),
        Just(300)
    ];
    (
        proptest::collection::vec(some_set(), 0..4),
        proptest::collection::vec(dst, 0..4),
        proptest::collection::vec(proto, 0..3),
    )
        .prop_map(|(src_ips, dst_ports, ip_proto)| FilterRule {
            src_ips,
            dst_ports,
            ip_proto,
            ..FilterRule::default()
        })
}

fn some_packet() -> impl Strategy<Value = Vec<u8>> {
    let proto = prop_oneof![
        Just(1_u8),
        Just(6),
        Just(6),
        Just(17),
        Just(58),
        Just(132),
        Just(47),
        Just(99),
        Just(2)
    ];
    let frag = prop_oneof![8 => Just(0_u16), 1 => Just(0x2000), 1 => 1..20_u16];
    (
        some_ip(),
        some_ip(),
        proto,
        0..5_u16,
        any::<[u8; 16]>(),
        frag,
    )
        .prop_filter_map("one family", |(src, dst, proto, port, noise, frag)| {
            let mut body = noise.repeat(3);
            body[2..4].copy_from_slice(&port.to_be_bytes());
            let mut bytes = ip_packet(ip(&src), ip(&dst), Proto(proto), &body)?;
            if bytes[0] >> 4 == 4 {
                bytes[6..8].copy_from_slice(&frag.to_be_bytes());
            }
            Some(bytes)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_index_agrees_with_the_naive_reading(
        rules in proptest::collection::vec(some_rule(), 0..8),
        local in proptest::collection::vec(some_set(), 0..4),
        holders in any::<[bool; 2]>(),
        packets in proptest::collection::vec(some_packet(), 1..12),
    ) {
        let (rules, _) = Rules::parse(&rules);
        let local = LocalSet::new(local.iter().filter_map(|text| match IpSet::parse(text) {
            Ok(IpSet::Nets(nets)) => Some(nets),
            _ => None,
        }).flatten());
        let has = |src: IpAddr, cap: &str| {
            let number: usize = cap.parse().unwrap_or(0);
            holders[number] && src == ip("10.0.1.1")
        };
        let caps: PeerCaps<'_> = &has;
        let filter = Filter::new(rules.clone(), local.clone(), Arc::default());
        for bytes in packets {
            let Ok(view) = IpView::parse(&bytes) else { continue };
            let want = model::accepts(&rules, &local, &view, caps);
            let got = filter.judge_in(&view, caps);
            prop_assert_eq!(!got.is_drop(), want, "{:?} {:?}", view, got);
        }
    }
}
