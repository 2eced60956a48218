//! The firewall in a real kernel, listed by the tools that people use.

use std::time::Duration;

use host::{CgnatGuard, FirewallConfig, FirewallKind, NetfilterMode, Router as _, RouterConfig};
use os::router::LinuxRouter;

use crate::{in_namespace, run};

fn ruleset() -> String {
    run("nft --stateless list ruleset")
}

fn config(firewall: FirewallConfig) -> RouterConfig {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    RouterConfig {
        addresses: nets(&["100.64.0.1/32", "fd7a:115c:a1e0::1/128"]),
        routes: nets(&["100.64.0.2/32"]),
        firewall,
        ..RouterConfig::default()
    }
}

fn on(kind: FirewallKind) -> FirewallConfig {
    FirewallConfig {
        mode: NetfilterMode::On,
        kind,
        snat: true,
        stateful: true,
        cgnat: CgnatGuard::Drop,
        port_v4: 41641,
        port_v6: 41642,
    }
}

fn foreign_rules() {
    for line in [
        "iptables -P FORWARD DROP",
        "iptables -A INPUT -p tcp --dport 22 -j ACCEPT",
        "iptables -N DOCKER-USER",
        "iptables -A FORWARD -j DOCKER-USER",
        "iptables -t nat -A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE",
        "nft add table inet mine",
        "nft add chain inet mine in { type filter hook input priority 0 ; }",
        "nft add rule inet mine in tcp dport 23 drop",
    ] {
        run(line);
    }
}

#[test]
fn iptables_lists_our_rules_as_its_own() {
    in_namespace("iptables_lists_our_rules_as_its_own", async || {
        let _device = os::tun::open("tst0", 1280).unwrap();
        let mut router = LinuxRouter::new("tst0").unwrap();
        let applied = router.apply(&config(on(FirewallKind::Iptables)));
        assert_eq!(applied.failures, Vec::<String>::new());
        let lines = |command: &str| -> Vec<String> {
            let text = run(command);
            let ours = text.lines().filter(|line| !line.starts_with("-P"));
            ours.map(str::to_owned).collect()
        };
        assert_eq!(
            lines("iptables -S"),
            [
                "-N ts-forward",
                "-N ts-input",
                "-A INPUT -j ts-input",
                "-A FORWARD -j ts-forward",
                "-A ts-forward -i tst0 -j MARK --set-xmark 0x40000/0xff0000",
                "-A ts-forward -m mark --mark 0x40000/0xff0000 -j ACCEPT",
                "-A ts-forward -s 100.64.0.0/10 -o tst0 -j DROP",
                "-A ts-forward -o tst0 -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP",
                "-A ts-forward -o tst0 -j ACCEPT",
                "-A ts-input -s 100.64.0.1/32 -i lo -j ACCEPT",
                "-A ts-input -i tst0 -j ACCEPT",
                "-A ts-input -p udp -m udp --dport 41641 -j ACCEPT",
                "-A ts-input -s 100.115.92.0/23 ! -i tst0 -j RETURN",
                "-A ts-input -s 100.64.0.0/10 ! -i tst0 -j DROP",
            ]
        );
        let masquerade = [
            "-N ts-postrouting",
            "-A POSTROUTING -j ts-postrouting",
            "-A ts-postrouting -m mark --mark 0x40000/0xff0000 -j MASQUERADE",
        ];
        assert_eq!(lines("iptables -t nat -S"), masquerade);
        assert_eq!(lines("ip6tables -t nat -S"), masquerade);
        assert_eq!(
            lines("iptables -t mangle -S"),
            [
                "-A PREROUTING -m conntrack --ctstate RELATED,ESTABLISHED -m connmark ! --mark 0x0/0xff0000 -j CONNMARK \
                 --restore-mark --nfmask 0xff0000 --ctmask 0xff0000",
                "-A OUTPUT -m conntrack --ctstate NEW -m mark ! --mark 0x0/0xff0000 -j CONNMARK --save-mark --nfmask 0xff0000 \
                 --ctmask 0xff0000",
            ]
        );
        assert_eq!(
            lines("ip6tables -S ts-input"),
            [
                "-N ts-input",
                "-A ts-input -s fd7a:115c:a1e0::1/128 -i lo -j ACCEPT",
                "-A ts-input -i tst0 -j ACCEPT",
                "-A ts-input -p udp -m udp --dport 41642 -j ACCEPT",
            ]
        );
        run("iptables -C ts-forward -o tst0 -m conntrack ! --ctstate ESTABLISHED,RELATED -j DROP");
    });
}

#[test]
fn what_was_there_stays_and_what_is_ours_leaves_no_trace() {
    in_namespace(
        "what_was_there_stays_and_what_is_ours_leaves_no_trace",
        async || {
            let empty = ruleset();
            for has_foreign in [false, true] {
                if has_foreign {
                    foreign_rules();
                }
                let before = ruleset();
                for kind in [FirewallKind::Nftables, FirewallKind::Iptables] {
                    for mode in [NetfilterMode::On, NetfilterMode::NoDivert] {
                        let _device = os::tun::open("tst0", 1280).unwrap();
                        let firewall = FirewallConfig { mode, ..on(kind) };
                        let mut router = LinuxRouter::new("tst0").unwrap();
                        let applied = router.apply(&config(firewall));
                        assert_eq!(applied.failures, Vec::<String>::new());
                        assert_ne!(ruleset(), before);
                        // As after a kill: another process cleans up.
                        drop(router);
                        let cleaned = os::router::cleanup("tst0");
                        assert_eq!(cleaned.failures, Vec::<String>::new());
                        assert_eq!(ruleset(), before);
                    }
                }
            }
            assert_eq!(empty, "");
        },
    );
}

#[test]
fn a_flushed_firewall_comes_back() {
    in_namespace("a_flushed_firewall_comes_back", async || {
        let _device = os::tun::open("tst0", 1280).unwrap();
        let mut router = LinuxRouter::new("tst0").unwrap();
        let config = config(on(FirewallKind::Nftables));
        router.apply(&config);
        let wanted = ruleset();
        run("nft add table inet other");
        let idle = tokio::time::timeout(Duration::from_secs(2), router.drifted());
        assert!(
            idle.await.is_err(),
            "what others do with theirs is no drift"
        );
        for line in [
            "nft flush ruleset",
            "nft delete table ip filter",
            "nft flush chain ip filter INPUT",
            "nft flush chain ip filter ts-forward",
        ] {
            run(line);
            router.drifted().await;
            assert_eq!(
                router.apply(&config).failures,
                Vec::<String>::new(),
                "{line}"
            );
            let sorted = |text: &str| {
                let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            let seen = ruleset().replace("table inet other {\n}\n", "");
            assert_eq!(sorted(&seen), sorted(&wanted), "{line}");
        }
    });
}

#[test]
fn the_carriers_range_is_guarded_no_further_than_it_must_where_the_machine_lives_in_it() {
    in_namespace(
        "the_carriers_range_is_guarded_no_further_than_it_must_where_the_machine_lives_in_it",
        async || {
            let _device = os::tun::open("tst0", 1280).unwrap();
            let mut router = LinuxRouter::new("tst0").unwrap();
            let firewall = FirewallConfig {
                cgnat: CgnatGuard::Narrow,
                ..on(FirewallKind::Iptables)
            };
            let config = config(firewall);
            let guard = || -> Vec<String> {
                let text = run("iptables -S ts-input");
                let lines = text.lines().filter(|line| line.contains("! -i tst0"));
                lines.map(str::to_owned).collect()
            };
            router.apply(&config);
            assert_eq!(
                guard().last().unwrap(),
                "-A ts-input -s 100.64.0.0/10 ! -i tst0 -j DROP"
            );
            for line in [
                "ip link add up0 type veth peer name up1",
                "ip link set up1 up",
                "ip link set up0 up",
                "ip addr add 100.100.0.2/20 dev up0",
            ] {
                run(line);
            }
            router.drifted().await;
            router.apply(&config);
            assert_eq!(
                guard(),
                [
                    "-A ts-input -s 100.64.0.1/32 ! -i tst0 -j DROP",
                    "-A ts-input -s 100.64.0.2/32 ! -i tst0 -j DROP",
                ]
            );
        },
    );
}
