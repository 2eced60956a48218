use proptest::prelude::*;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn the_longest_prefix_wins() {
    let mut map: PrefixMap<&str> = [
        (net("0.0.0.0/0"), "default"),
        (net("10.0.0.0/8"), "ten"),
        (net("10.1.0.0/16"), "ten-one"),
        (net("10.1.2.3/32"), "host"),
        (net("fd00::/8"), "six"),
    ]
    .into_iter()
    .collect();
    assert_eq!(map.len(), 5);
    assert_eq!(map.lookup(ip("10.1.2.3")), Some(&"host"));
    assert_eq!(map.lookup(ip("10.1.9.9")), Some(&"ten-one"));
    assert_eq!(map.lookup(ip("10.9.9.9")), Some(&"ten"));
    assert_eq!(map.lookup(ip("9.9.9.9")), Some(&"default"));
    assert_eq!(map.lookup(ip("fd12::1")), Some(&"six"));
    assert_eq!(map.lookup(ip("::1")), None, "families are apart");
    let all: Vec<_> = map.matches(ip("10.1.2.3")).copied().collect();
    assert_eq!(all, ["host", "ten-one", "ten", "default"]);
    assert_eq!(map.remove(&net("10.1.2.3/32")), Some("host"));
    assert_eq!(map.lookup(ip("10.1.2.3")), Some(&"ten-one"));
    assert_eq!(
        map.insert(net("10.7.0.0/8"), "again"),
        Some("ten"),
        "host bits are ignored"
    );
    let prefixes: Vec<String> = map.iter().map(|(net, _)| net.to_string()).collect();
    assert_eq!(
        prefixes,
        ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "fd00::/8"]
    );
}

fn some_net() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (0..4_u32, 0..=32_u8).prop_map(|(low, len)| {
            IpNet::new(
                std::net::Ipv4Addr::from(0x0a00_0000 + (low << 7)).into(),
                len,
            )
            .expect("valid")
        }),
        (0..4_u128, 0..=128_u8).prop_map(|(low, len)| {
            IpNet::new(std::net::Ipv6Addr::from(low << 63).into(), len).expect("valid")
        }),
    ]
}

proptest! {
    #[test]
    fn lookup_agrees_with_a_scan(
        nets in proptest::collection::vec(some_net(), 0..24),
        gone in proptest::collection::vec(any::<bool>(), 24),
        asks in proptest::collection::vec(some_net(), 1..12),
    ) {
        let mut map = PrefixMap::new();
        let mut list: Vec<(IpNet, usize)> = Vec::new();
        for (n, net) in nets.iter().enumerate() {
            map.insert(*net, n);
            list.retain(|(old, _)| *old != net.trunc());
            list.push((net.trunc(), n));
        }
        for (net, gone) in nets.iter().zip(gone) {
            if gone {
                map.remove(net);
                list.retain(|(old, _)| *old != net.trunc());
            }
        }
        prop_assert_eq!(map.len(), list.len());
        for ask in asks {
            let ip = ask.addr();
            let want = list
                .iter()
                .filter(|(net, _)| net.contains(&ip))
                .max_by_key(|(net, _)| net.prefix_len())
                .map(|(_, n)| n);
            prop_assert_eq!(map.lookup(ip), want);
        }
        let mut listed: Vec<_> = map.iter().map(|(net, n)| (net, *n)).collect();
        listed.sort();
        list.sort();
        prop_assert_eq!(listed, list);
    }
}
