use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn node_addresses() {
    for (text, want) in [
        ("100.64.0.0", true),
        ("100.127.255.255", true),
        ("100.128.0.0", false),
        ("100.63.255.255", false),
        ("100.115.92.0", false),
        ("100.115.93.255", false),
        ("100.115.94.0", true),
        ("100.115.91.255", true),
        ("::ffff:100.64.0.1", true),
        ("fd7a:115c:a1e0::1", true),
        ("fd7a:115c:a1e1::1", false),
    ] {
        assert_eq!(is_tailscale_ip(ip(text)), want, "{text}");
    }
    assert!(is_service_ip(ip("100.100.100.100")));
    assert!(is_service_ip(ip("fd7a:115c:a1e0::53")));
}

#[test]
fn four_in_six() {
    let v4 = Ipv4Addr::new(100, 101, 102, 103);
    let v6 = v6_from_v4(v4).expect("a node's address");
    assert_eq!(v6.to_string(), "fd7a:115c:a1e0:ab12:4843:cd96:6265:6667");
    assert_eq!(v4_from_v6(v6), Some(v4));
    assert_eq!(v6_from_v4(Ipv4Addr::new(1, 2, 3, 4)), None);
    assert_eq!(v4_from_v6(SERVICE_V6), None);
}

/// `tailscale debug via 7 10.1.2.0/24`.
#[test]
fn four_via_six() {
    let net: Ipv4Net = "10.1.2.0/24".parse().expect("a prefix");
    let via = via(7, net);
    assert_eq!(via.to_string(), "fd7a:115c:a1e0:b1a:0:7:a01:200/120");
    assert_eq!(unvia_net(via), Some((7, net)));
    assert_eq!(
        unvia("fd7a:115c:a1e0:b1a:0:7:a01:203".parse().expect("v6")),
        Some((7, Ipv4Addr::new(10, 1, 2, 3)))
    );
    assert_eq!(unvia(SERVICE_V6), None);
    assert_eq!(
        unvia("fd7a:115c:a1e0:b1a:1:7:a01:203".parse().expect("v6")),
        None,
        "site numbers have 16 bits"
    );
    assert_eq!(
        unvia_net("fd7a:115c:a1e0:b1a::/64".parse().expect("a prefix")),
        None
    );
}
