use std::time::Duration;

use host::{Lan, Router as _, RouterConfig};
use ipnet::IpNet;
use os::netlink::route::{Action, TABLE_MAIN, THROW, UNICAST};
use os::netlink::{Address, Netlink, Protocol, Route, Rule};
use os::router::LinuxRouter;

use crate::{in_namespace, run};

fn netlink() -> Netlink {
    Netlink::open(Protocol::Route).unwrap()
}

fn config(addresses: &[&str], routes: &[&str]) -> RouterConfig {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    RouterConfig {
        addresses: nets(addresses),
        routes: nets(routes),
        ..RouterConfig::default()
    }
}

fn full() -> RouterConfig {
    config(
        &["100.64.0.1/32", "fd7a:115c:a1e0::1/128"],
        &["100.64.0.2/32", "10.7.0.0/16", "fd7a:115c:a1e0::/48"],
    )
}

/// Addresses of the device, destinations of table 52, priorities of rules.
fn seen() -> (Vec<IpNet>, Vec<IpNet>, Vec<u32>) {
    let mut netlink = netlink();
    let link = netlink.link_named("tst0").unwrap().map(|link| link.index);
    let mut addresses: Vec<IpNet> = netlink
        .addresses()
        .unwrap()
        .into_iter()
        .filter(|address| Some(address.link) == link)
        .map(|address| address.net)
        .filter(|net| !net.to_string().starts_with("fe80"))
        .collect();
    addresses.sort();
    let routes = netlink.routes().unwrap();
    let mut routes: Vec<IpNet> = routes
        .into_iter()
        .filter(|route| route.table == 52)
        .map(|route| route.to)
        .collect();
    routes.sort();
    let rules = netlink.rules().unwrap();
    let ours = rules
        .iter()
        .map(|rule| rule.priority)
        .filter(|priority| (5200..5300).contains(priority));
    let mut rules: Vec<u32> = ours.collect();
    rules.sort_unstable();
    (addresses, routes, rules)
}

fn sorted(mut nets: Vec<IpNet>) -> Vec<IpNet> {
    nets.sort();
    nets
}

fn assert_set(want: &RouterConfig) {
    let rules = [5210, 5210, 5230, 5230, 5250, 5250, 5270, 5270];
    let wanted = (
        sorted(want.addresses.clone()),
        sorted(want.routes.clone()),
        rules.to_vec(),
    );
    assert_eq!(seen(), wanted);
}

#[test]
fn what_is_wanted_is_what_the_kernel_has() {
    in_namespace("what_is_wanted_is_what_the_kernel_has", async || {
        let _device = os::tun::open("tst0", 1280).unwrap();
        let mut router = LinuxRouter::new("tst0").unwrap();
        for want in [
            full(),
            full(),
            config(&["100.64.0.9/32"], &["100.64.0.3/32", "0.0.0.0/0", "::/0"]),
            full(),
        ] {
            assert_eq!(router.apply(&want).failures, Vec::<String>::new());
            assert_set(&want);
        }
        assert_eq!(
            router.apply(&RouterConfig::default()).failures,
            Vec::<String>::new()
        );
        assert_eq!(seen(), (vec![], vec![], vec![]));
        router.apply(&full());
        assert_eq!(router.cleanup().failures, Vec::<String>::new());
        assert_eq!(seen(), (vec![], vec![], vec![]));
    });
}

#[test]
fn rules_are_as_the_originals() {
    in_namespace("rules_are_as_the_originals", async || {
        let _device = os::tun::open("tst0", 1280).unwrap();
        let mut router = LinuxRouter::new("tst0").unwrap();
        router.apply(&full());
        let mark = Some((0x80000, 0xff0000));
        for v6 in [false, true] {
            let rules = netlink().rules().unwrap();
            let ours = rules
                .into_iter()
                .filter(|rule| rule.v6 == v6 && (5200..5300).contains(&rule.priority));
            let rule = |priority, mark, action| Rule {
                v6,
                priority,
                mark,
                action,
            };
            assert_eq!(
                ours.collect::<Vec<_>>(),
                [
                    rule(5210, mark, Action::Lookup(254)),
                    rule(5230, mark, Action::Lookup(253)),
                    rule(5250, mark, Action::Unreachable),
                    rule(5270, None, Action::Lookup(52)),
                ]
            );
        }
    });
}

#[test]
fn leftovers_are_removed_and_the_property_of_others_is_not() {
    in_namespace(
        "leftovers_are_removed_and_the_property_of_others_is_not",
        async || {
            let mut kernel = netlink();
            let foreign_rule = Rule {
                v6: false,
                priority: 5205,
                mark: None,
                action: Action::Lookup(TABLE_MAIN),
            };
            kernel.request(foreign_rule.add()).unwrap();
            let _other = os::tun::open("other0", 1280).unwrap();
            let other = kernel.link_named("other0").unwrap().unwrap().index;
            kernel
                .request(os::netlink::route::set_link_up(other, true))
                .unwrap();
            let route = |to: &str, table, kind, link| Route {
                to: to.parse().unwrap(),
                table,
                kind,
                link,
                gateway: None,
                metric: 0,
            };
            let foreign_route = route("192.0.2.0/24", 52, UNICAST, Some(other));
            kernel.request(foreign_route.add()).unwrap();
            // As after a kill: rules and exceptions outlive the device.
            {
                let _device = os::tun::open("tst0", 1280).unwrap();
                LinuxRouter::new("tst0").unwrap().apply(&full());
            }
            kernel
                .request(route("127.0.0.0/8", 52, THROW, None).add())
                .unwrap();
            assert_eq!(os::router::cleanup("tst0").failures, Vec::<String>::new());
            assert_eq!(seen(), (vec![], vec![foreign_route.to], vec![5205]));
            // A device that outlived its process, with an address of another login and one of somebody else's.
            let _device = os::tun::open("tst0", 1280).unwrap();
            let link = kernel.link_named("tst0").unwrap().unwrap().index;
            for net in ["100.99.0.1/32", "192.0.2.9/32"] {
                let net = net.parse().unwrap();
                kernel.request(Address { link, net }.add()).unwrap();
            }
            let mut router = LinuxRouter::new("tst0").unwrap();
            router.apply(&config(&["100.64.0.1/32"], &[]));
            let wanted = ["100.64.0.1/32", "192.0.2.9/32"].map(|net| net.parse().unwrap());
            assert_eq!(seen().0, wanted);
        },
    );
}

#[test]
fn what_somebody_else_removes_is_noticed_and_comes_back() {
    in_namespace(
        "what_somebody_else_removes_is_noticed_and_comes_back",
        async || {
            let _device = os::tun::open("tst0", 1280).unwrap();
            let mut router = LinuxRouter::new("tst0").unwrap();
            let mut kernel = netlink();
            let link = kernel.link_named("tst0").unwrap().unwrap().index;
            router.apply(&full());
            let own = tokio::time::timeout(Duration::from_secs(1), router.drifted());
            assert!(own.await.is_err(), "what we do ourselves is no drift");

            let rules = kernel.rules().unwrap();
            for rule in rules.iter().filter(|rule| rule.v6 && rule.priority == 5270) {
                kernel.request(rule.remove()).unwrap();
            }
            router.drifted().await;
            router.apply(&full());
            assert_set(&full());

            let net = "100.64.0.1/32".parse().unwrap();
            kernel.request(Address { link, net }.remove()).unwrap();
            router.drifted().await;
            router.apply(&full());
            assert_set(&full());
        },
    );
}

#[test]
fn without_ipv6_the_rest_works() {
    in_namespace("without_ipv6_the_rest_works", async || {
        // Narrower than IPv6 allows: the kernel gives the device none.
        let _device = os::tun::open("tst0", 1000).unwrap();
        let mut router = LinuxRouter::new("tst0").unwrap();
        assert_eq!(router.apply(&full()).failures, Vec::<String>::new());
        let (addresses, routes, rules) = seen();
        assert_eq!((addresses.len(), routes.len(), rules.len()), (1, 2, 4));
    });
}

#[test]
fn ten_thousand_routes() {
    in_namespace("ten_thousand_routes", async || {
        let _device = os::tun::open("tst0", 1280).unwrap();
        let mut router = LinuxRouter::new("tst0").unwrap();
        let routes = (0..10_000u32).map(|n| {
            let ip = std::net::Ipv4Addr::from_bits(u32::from_be_bytes([100, 65, 0, 0]) + n);
            IpNet::from(std::net::IpAddr::from(ip))
        });
        let want = RouterConfig {
            addresses: config(&["100.64.0.1/32"], &[]).addresses,
            routes: routes.collect(),
            ..RouterConfig::default()
        };
        assert_eq!(router.apply(&want).failures, Vec::<String>::new());
        assert_eq!(seen().1, want.routes);
    });
}

/// Destinations of table 52, each with whether it leads into the tunnel.
fn table() -> Vec<(String, bool)> {
    let routes = netlink().routes().unwrap();
    let ours = routes.into_iter().filter(|route| route.table == 52);
    let mut table: Vec<(String, bool)> = ours
        .map(|route| (route.to.to_string(), route.kind == UNICAST))
        .collect();
    table.sort();
    table
}

fn expected(routes: &[(&str, bool)]) -> Vec<(String, bool)> {
    let owned = routes
        .iter()
        .map(|(to, is_tunnel)| ((*to).to_owned(), *is_tunnel));
    let mut owned: Vec<_> = owned.collect();
    owned.sort();
    owned
}

/// A network around the machine: a cable with an address at our end.
fn plug_in(net: &str) {
    for line in [
        "ip link add lan0 type veth peer name lan1",
        "ip link set lan1 up",
        "ip link set lan0 up",
        &format!("ip addr add {net} dev lan0"),
    ] {
        run(line);
    }
}

#[test]
fn the_network_around_us_wins_over_a_peers_route_until_it_is_gone() {
    in_namespace(
        "the_network_around_us_wins_over_a_peers_route_until_it_is_gone",
        async || {
            let _device = os::tun::open("tst0", 1280).unwrap();
            let mut router = LinuxRouter::new("tst0").unwrap();
            let want = config(
                &["100.64.0.1/32"],
                &[
                    "192.168.7.0/24",
                    "192.168.0.0/16",
                    "192.168.7.128/25",
                    "0.0.0.0/0",
                ],
            );
            let all_in = [
                ("192.168.7.0/24", true),
                ("192.168.0.0/16", true),
                ("192.168.7.128/25", true),
                ("0.0.0.0/0", true),
            ];
            assert_eq!(router.apply(&want).notes, Vec::<String>::new());
            assert_eq!(table(), expected(&all_in));

            plug_in("192.168.7.2/24");
            router.drifted().await;
            let applied = router.apply(&want);
            assert_eq!(applied.failures, Vec::<String>::new());
            assert!(
                applied.notes[0].contains("192.168.7.0/24"),
                "{:?}",
                applied.notes
            );
            let mut kept_out = all_in;
            kept_out[0].1 = false;
            assert_eq!(table(), expected(&kept_out));

            // The cable is pulled; its address stays.
            run("ip link set lan1 down");
            router.drifted().await;
            router.apply(&want);
            assert_eq!(table(), expected(&all_in));

            run("ip link set lan1 up");
            router.drifted().await;
            router.apply(&want);
            assert_eq!(table(), expected(&kept_out));

            let yields = RouterConfig {
                lan: Lan::Yields,
                ..want
            };
            assert_eq!(router.apply(&yields).notes, Vec::<String>::new());
            assert_eq!(table(), expected(&all_in));
        },
    );
}

#[test]
fn with_an_exit_node_the_network_around_us_is_captured_unless_it_is_wanted() {
    in_namespace(
        "with_an_exit_node_the_network_around_us_is_captured_unless_it_is_wanted",
        async || {
            run("ip link set lo up");
            plug_in("192.168.7.2/24");
            let _device = os::tun::open("tst0", 1280).unwrap();
            let mut router = LinuxRouter::new("tst0").unwrap();
            let want = |lan| RouterConfig {
                lan,
                ..config(&["100.64.0.1/32"], &["0.0.0.0/0"])
            };
            for (lan, lan_is_tunnel) in [(Lan::Captured, true), (Lan::Kept, false)] {
                let applied = router.apply(&want(lan));
                assert_eq!(applied.failures, Vec::<String>::new());
                let routes = [
                    ("0.0.0.0/0", true),
                    ("127.0.0.0/8", false),
                    ("192.168.7.0/24", lan_is_tunnel),
                ];
                assert_eq!(table(), expected(&routes));
            }
            router.cleanup();
            assert_eq!(table(), []);
        },
    );
}

/// The machine's way to `to`, as the kernel says; `None` if there is none.
fn way(to: &str, mark: &str) -> Option<String> {
    let output = crate::try_run(&format!("ip route get {to} mark {mark}"));
    let said = String::from_utf8(output.stdout).unwrap();
    let device = said.split(" dev ").nth(1)?;
    Some(device.split(' ').next()?.to_owned())
}

#[test]
fn nothing_leaves_beside_an_exit_node_while_the_device_is_gone() {
    in_namespace(
        "nothing_leaves_beside_an_exit_node_while_the_device_is_gone",
        async || {
            run("ip link set lo up");
            plug_in("192.168.7.2/24");
            run("ip -6 addr add 2001:db8::2/64 dev lan0 nodad");
            run("ip route add default via 192.168.7.1");
            run("ip -6 route add default via 2001:db8::1");
            let ways = |mark| {
                ["192.0.2.1", "2001:db9::1", "192.168.7.9", "2001:db8::9"].map(|to| way(to, mark))
            };
            let lan = || Some("lan0".to_owned());
            let tunnel = || Some("tst0".to_owned());
            assert_eq!(ways("0"), [lan(), lan(), lan(), lan()]);

            // Who names his link gets it, with its router: leases are renewed so.
            let bound = || {
                for (to, router) in [("192.0.2.1", "192.168.7.1"), ("2001:db9::1", "2001:db8::1")] {
                    let way = run(&format!("ip route get {to} oif lan0"));
                    assert!(way.contains(&format!("via {router} dev lan0")), "{way}");
                }
            };
            bound();

            let device = os::tun::open("tst0", 1280).unwrap();
            let mut router = LinuxRouter::new("tst0").unwrap();
            let want = RouterConfig {
                lan: Lan::Kept,
                is_guarded: true,
                ..config(
                    &["100.64.0.1/32", "fd7a:115c:a1e0::1/128"],
                    &["0.0.0.0/0", "::/0"],
                )
            };
            assert_eq!(router.apply(&want).failures, Vec::<String>::new());
            assert_eq!(ways("0"), [tunnel(), tunnel(), lan(), lan()]);
            let bypass = "0x80000";
            assert_eq!(ways(bypass), [lan(), lan(), lan(), lan()]);
            bound();
            // Nothing is left to do, for either family.
            assert_eq!(router.differences(&want).unwrap(), []);

            // As when the daemon is killed: its device and all routes to it go.
            drop(device);
            assert_eq!(ways("0"), [Some("lo".to_owned()), None, lan(), lan()]);
            bound();
            assert_eq!(ways(bypass), [lan(), lan(), lan(), lan()]);

            os::router::cleanup("tst0");
            assert_eq!(ways("0"), [lan(), lan(), lan(), lan()]);
            assert_eq!((table(), seen().2), (vec![], vec![]));
        },
    );
}
