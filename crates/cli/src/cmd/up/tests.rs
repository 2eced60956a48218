//! Cases of the original's `TestCheckForAccidentalSettingReverts`, `TestPrefsFromUpArgs` and `TestUpdatePrefs`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use goflag::Parsed;
use ipn::{NetfilterMode, PeerStatus, Persist, Prefs, Status};

use super::flags::{Os, SETTINGS, UpArgs, set_flags, setting, up_flags_on};
use super::plan::{Plan, Risk, Situation, plan};
use super::prefs::from_args;

const LOGGED_IN: &str = "https://controlplane.tailscale.com";

/// What is stored in most cases: the defaults, for somebody who is logged in.
fn stored(edit: impl FnOnce(&mut Prefs)) -> Prefs {
    let mut prefs = Prefs::new();
    prefs.control_url = LOGGED_IN.to_owned();
    let mut persist = Persist::default();
    persist.user_profile.login_name = "janet".to_owned();
    prefs.persist = Some(Arc::new(persist));
    edit(&mut prefs);
    prefs
}

struct Case {
    os: Os,
    synology: bool,
    user: &'static str,
    state: &'static str,
    exit_node: Option<IpAddr>,
    ssh: bool,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            os: Os::Linux,
            synology: false,
            user: "",
            state: "Running",
            exit_node: None,
            ssh: false,
        }
    }
}

impl Case {
    fn parse(&self, args: &[&str]) -> Parsed {
        up_flags_on(self.os)
            .once()
            .read(args.iter().copied())
            .expect("good flags")
    }

    fn plan(&self, current: &Prefs, args: &[&str]) -> Result<(Plan, Vec<Risk>), String> {
        let parsed = self.parse(args);
        let up = UpArgs::new(&parsed, self.os);
        let (new, _) = from_args(&up, &Status::default(), self.os)?;
        let situation = Situation {
            os: self.os,
            synology: self.synology,
            user: self.user,
            state: self.state,
            exit_node: self.exit_node,
            ssh_over_tailscale: self.ssh,
        };
        plan(
            new,
            current,
            &up,
            &parsed,
            &up_flags_on(self.os),
            &situation,
        )
    }

    /// `want` is the rest of the command line that the refusal prints; empty if there is none.
    #[track_caller]
    fn check(&self, current: &Prefs, args: &[&str], want: &str) {
        let got = match self.plan(current, args) {
            Ok(_) => String::new(),
            Err(text) => {
                let (before, after) = text
                    .split_once("\ttailscale up")
                    .expect("the command to run");
                assert!(before.starts_with("Error: changing settings via 'tailscale up' requires mentioning all\nnon-default flags."));
                after.trim_end().to_owned()
            }
        };
        assert_eq!(got, want, "{args:?}");
    }
}

fn check(edit: impl FnOnce(&mut Prefs), args: &[&str], want: &str) {
    Case::default().check(&stored(edit), args, want);
}

fn nets(list: &[&str]) -> Vec<ipnet::IpNet> {
    list.iter().map(|n| n.parse().expect("a prefix")).collect()
}

#[test]
fn a_setting_is_not_lost_by_accident() {
    check(|p| p.hostname = "foo".into(), &[], "");
    check(
        |p| p.hostname = "foo".into(),
        &["--accept-dns"],
        " --accept-dns --hostname=foo",
    );
    check(|p| p.hostname = "foo".into(), &["--hostname=bar"], "");
    check(|p| p.hostname = "foo".into(), &["--hostname="], "");
    check(
        |p| p.hostname = "it's a host".into(),
        &["--accept-dns"],
        " --accept-dns --hostname='it'\\''s a host'",
    );
    check(
        |p| p.posture_checking = true,
        &["--accept-dns"],
        " --accept-dns --report-posture",
    );
    check(|p| p.profile_name = "foo".into(), &["--hostname=foo"], "");
    check(|p| p.logged_out = true, &["--hostname=foo"], "");
    check(
        |p| p.no_stateful_filtering = Some(false),
        &["--hostname=foo"],
        "",
    );
    check(|p| p.no_stateful_filtering = None, &["--hostname=foo"], "");
    check(
        |p| p.no_snat = true,
        &["--hostname=foo"],
        " --hostname=foo --snat-subnet-routes=false",
    );
    check(
        |p| p.control_url = "http://127.0.0.1:80".into(),
        &["--shields-up", "--force-reauth"],
        " --force-reauth --shields-up --login-server=http://127.0.0.1:80",
    );
}

#[test]
fn a_fresh_node_has_nothing_to_lose() {
    let case = Case {
        state: "NeedsLogin",
        ..Case::default()
    };
    case.check(
        &Prefs::new(),
        &["--authkey=x".replace("authkey", "auth-key").as_str()],
        "",
    );
    case.check(&Prefs::new(), &[], "");
    case.check(&stored(|p| p.corp_dns = false), &[], " --accept-dns=false");
}

#[test]
fn exit_node_and_routes_are_one_setting_with_two_flags() {
    let both = |p: &mut Prefs| p.advertise_routes = nets(&["10.0.42.0/24", "0.0.0.0/0", "::/0"]);
    let routes = |p: &mut Prefs| p.advertise_routes = nets(&["1.2.0.0/16"]);
    check(
        both,
        &["--advertise-routes=10.0.42.0/24"],
        " --advertise-routes=10.0.42.0/24 --advertise-exit-node",
    );
    check(
        both,
        &[
            "--advertise-routes=10.0.42.0/24",
            "--advertise-exit-node=false",
        ],
        "",
    );
    check(
        both,
        &["--advertise-routes=11.1.43.0/24,0.0.0.0/0,::/0"],
        "",
    );
    check(|_| {}, &["--advertise-exit-node"], "");
    check(
        routes,
        &["--advertise-exit-node"],
        " --advertise-exit-node --advertise-routes=1.2.0.0/16",
    );
    check(
        both,
        &["--operator=expbits"],
        " --operator=expbits --advertise-exit-node --advertise-routes=10.0.42.0/24",
    );
    check(
        both,
        &["--operator=expbits", "--advertise-routes=10.0.42.0/24"],
        " --advertise-routes=10.0.42.0/24 --operator=expbits --advertise-exit-node",
    );
}

#[test]
fn all_settings_are_listed_in_the_order_of_their_text() {
    let full = |p: &mut Prefs| {
        p.route_all = true;
        p.exit_node_ip.0 = "100.64.5.6".parse().ok();
        p.corp_dns = false;
        p.shields_up = true;
        p.advertise_tags = vec!["tag:foo".into(), "tag:bar".into()];
        p.hostname = "myhostname".into();
        p.force_daemon = true;
        p.advertise_routes = nets(&["10.0.0.0/16", "0.0.0.0/0", "::/0"]);
        p.netfilter_mode = NetfilterMode::NO_DIVERT;
        p.operator_user = "alice".into();
    };
    let rest = "--accept-dns=false --accept-routes --advertise-exit-node --advertise-routes=10.0.0.0/16 \
                --advertise-tags=tag:foo,tag:bar --exit-node=100.64.5.6";
    let eve = Case {
        user: "eve",
        ..Case::default()
    };
    eve.check(
        &stored(full),
        &["--force-reauth"],
        &format!(" --force-reauth {rest} --hostname=myhostname --netfilter-mode=nodivert --operator=alice --shields-up"),
    );
    eve.check(
        &stored(full),
        &["--hostname=newhostname"],
        &format!(
            " --hostname=newhostname {rest} --netfilter-mode=nodivert --operator=alice --shields-up"
        ),
    );
}

#[test]
fn what_nobody_asked_for_is_not_missed() {
    let operator = |p: &mut Prefs| p.operator_user = "alice".into();
    Case {
        user: "eve",
        ..Case::default()
    }
    .check(
        &stored(operator),
        &["--hostname=foo"],
        " --hostname=foo --operator=alice",
    );
    Case {
        user: "alice",
        ..Case::default()
    }
    .check(&stored(operator), &["--hostname=foo"], "");
    let synonym = |p: &mut Prefs| p.control_url = "https://login.tailscale.com".into();
    check(
        synonym,
        &["--login-server=https://controlplane.tailscale.com"],
        "",
    );
    check(synonym, &["--hostname=foo"], "");
    let routed = stored(|p| p.route_all = true);
    Case {
        synology: true,
        ..Case::default()
    }
    .check(&routed, &["--hostname=foo"], "");
    Case::default().check(
        &routed,
        &["--hostname=foo"],
        " --hostname=foo --accept-routes",
    );
    let windows = Case {
        os: Os::Windows,
        ..Case::default()
    };
    windows.check(
        &stored(|p| (p.route_all, p.no_snat) = (true, true)),
        &["--advertise-exit-node"],
        "",
    );
    let bsd = Case {
        os: Os::Other,
        ..Case::default()
    };
    bsd.check(
        &stored(|p| p.netfilter_mode = NetfilterMode::NO_DIVERT),
        &["--accept-dns"],
        "",
    );
}

#[test]
fn an_exit_node_known_by_id_is_shown_by_address() {
    let by_id = stored(|p| p.exit_node_id = "some_stable_id".into());
    let case = Case {
        exit_node: "100.64.5.7".parse().ok(),
        ..Case::default()
    };
    case.check(
        &by_id,
        &["--hostname=foo"],
        " --hostname=foo --exit-node=100.64.5.7",
    );
    case.check(&by_id, &["--exit-node="], "");
    let with_lan = stored(|p| (p.exit_node_id, p.exit_node_allow_lan_access) = ("x".into(), true));
    case.check(
        &with_lan,
        &["--hostname=foo"],
        " --hostname=foo --exit-node-allow-lan-access --exit-node=100.64.5.7",
    );
}

#[test]
fn up_alone_only_turns_on() {
    let current = stored(|p| p.hostname = "foo".into());
    for state in ["Stopped", "Starting", "NeedsMachineAuth"] {
        let (plan, _) = Case {
            state,
            ..Case::default()
        }
        .plan(&current, &[])
        .expect("a plan");
        assert_eq!(plan, Plan::TurnOn, "{state}");
    }
    let (plan, _) = Case {
        state: "NeedsLogin",
        ..Case::default()
    }
    .plan(&Prefs::new(), &[])
    .expect("a plan");
    assert!(matches!(plan, Plan::Start(_)));
}

#[test]
fn a_running_node_is_edited() {
    let marked = |args: &[&str]| match Case::default()
        .plan(&stored(|_| {}), args)
        .expect("a plan")
        .0
    {
        Plan::Edit(edit) => edit.names(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        marked(&["--hostname=foo", "--advertise-exit-node", "--json"]),
        ["WantRunning", "Hostname", "AdvertiseRoutes"]
    );
    assert_eq!(
        marked(&["--exit-node=auto:any"]),
        ["ExitNodeID", "ExitNodeIP", "AutoExitNode", "WantRunning"]
    );
    let all = marked(&["--reset"]);
    assert_eq!(all.len(), 18, "{all:?}");
    for args in [
        &["--auth-key=x"][..],
        &["--force-reauth"],
        &["--advertise-tags=foo"],
    ] {
        let (plan, _) = Case::default().plan(&stored(|_| {}), args).expect("a plan");
        assert!(matches!(plan, Plan::Start(_)), "{args:?}");
    }
}

#[test]
fn the_server_of_a_running_node_changes_only_with_a_new_login() {
    let current = stored(|_| {});
    let server = "--login-server=https://localhost:1000";
    assert_eq!(
        Case::default().plan(&current, &[server]),
        Err("can't change --login-server without --force-reauth".into())
    );
    assert!(
        Case::default()
            .plan(&current, &[server, "--force-reauth"])
            .is_ok()
    );
    assert!(
        Case {
            state: "Stopped",
            ..Case::default()
        }
        .plan(&current, &[server])
        .is_ok()
    );
}

#[test]
fn who_sits_at_tailscale_ssh_is_asked() {
    let names = |edit: fn(&mut Prefs), args: &[&str]| {
        let (_, risks) = Case {
            ssh: true,
            ..Case::default()
        }
        .plan(&stored(edit), args)
        .expect("a plan");
        risks.len()
    };
    assert_eq!(names(|_| {}, &["--ssh"]), 1);
    assert_eq!(names(|p| p.run_ssh = true, &["--ssh=false"]), 1);
    assert_eq!(names(|p| p.run_ssh = true, &["--ssh"]), 0);
    assert_eq!(names(|_| {}, &["--force-reauth"]), 1);
    assert!(
        Case::default()
            .plan(&stored(|_| {}), &["--ssh"])
            .expect("a plan")
            .1
            .is_empty()
    );
}

fn wanted(args: &[&str], status: &Status) -> Result<(Prefs, Vec<String>), String> {
    let parsed = Case::default().parse(args);
    from_args(&UpArgs::new(&parsed, Os::Linux), status, Os::Linux)
}

#[test]
fn flags_become_settings() {
    let (prefs, warnings) = wanted(&[], &Status::default()).expect("defaults");
    let mut defaults = Prefs::new();
    (defaults.control_url, defaults.want_running) = (LOGGED_IN.to_owned(), true);
    assert_eq!((prefs, warnings.len()), (defaults, 0));
    let (prefs, _) = wanted(
        &[
            "--advertise-exit-node",
            "--advertise-routes=10.0.0.0/8,1.2.0.0/16",
        ],
        &Status::default(),
    )
    .expect("routes");
    assert_eq!(
        prefs.advertise_routes,
        nets(&["0.0.0.0/0", "::/0", "10.0.0.0/8", "1.2.0.0/16"])
    );
    let (prefs, _) = wanted(&["--advertise-tags=tag:foo,bar"], &Status::default()).expect("tags");
    assert_eq!(prefs.advertise_tags, ["tag:foo", "tag:bar"]);
    for site in ["bb", "aabb"] {
        let route = format!("--advertise-routes=fd7a:115c:a1e0:b1a::{site}:10.0.0.0/112");
        assert!(wanted(&[&route], &Status::default()).is_ok(), "{route}");
    }
    let (prefs, warnings) =
        wanted(&["--netfilter-mode=nodivert"], &Status::default()).expect("a mode");
    assert_eq!(prefs.netfilter_mode, NetfilterMode::NO_DIVERT);
    assert_eq!(
        warnings,
        ["netfilter=nodivert; add iptables calls to ts-* chains manually."]
    );
    let (_, warnings) = wanted(&["--netfilter-mode=off"], &Status::default()).expect("a mode");
    assert_eq!(warnings, ["netfilter=off; configure iptables yourself."]);
}

#[test]
fn mistakes_in_values_are_told_in_the_originals_words() {
    let long = "a".repeat(63) + ".";
    let hosts = [
        format!("--hostname={}", long.repeat(4)),
        format!("--hostname={}.example.com", "a".repeat(64)),
    ];
    for (arg, want) in [
        (
            "--advertise-routes=foo",
            "\"foo\" is not a valid IP address or CIDR prefix",
        ),
        (
            "--advertise-routes=1.2.3.4/16",
            "1.2.3.4/16 has non-address bits set; expected 1.2.0.0/16",
        ),
        (
            "--advertise-routes=0.0.0.0/0",
            "0.0.0.0/0 advertised without its IPv6 counterpart, please also advertise ::/0",
        ),
        (
            "--advertise-routes=fd7a:115c:a1e0:b1a::/64",
            "fd7a:115c:a1e0:b1a::/64 4-in-6 prefix must be at least a /96",
        ),
        (
            "--advertise-routes=fd7a:115c:a1e0:b1a:1234:5678::/112",
            "route fd7a:115c:a1e0:b1a:1234:5678::/112 contains invalid site ID 12345678; must be 0xffff or less",
        ),
        (
            "--exit-node=foo",
            "cannot resolve exit node by hostname while Tailscale is starting up; please use its Tailscale IP address instead",
        ),
        (
            "--exit-node-allow-lan-access",
            "--exit-node-allow-lan-access can only be used with --exit-node",
        ),
        (
            "--advertise-tags=notatag:foo",
            "tag: \"notatag:foo\": tags must start with 'tag:'",
        ),
        (
            "--advertise-tags=1x",
            "tag: \"tag:1x\": tag names must start with a letter, after 'tag:'",
        ),
        ("--netfilter-mode=", "invalid value --netfilter-mode=\"\""),
        (
            "--netfilter-mode=bogus",
            "invalid value --netfilter-mode=\"bogus\"",
        ),
        (
            &hosts[0],
            &format!(
                "\"{}\" is too long to be a DNS name",
                long.repeat(4).trim_end_matches('.')
            ),
        ),
        (
            &hosts[1],
            &format!("\"{}\" is not a valid DNS label", "a".repeat(64)),
        ),
    ] {
        assert_eq!(wanted(&[arg], &Status::default()).expect_err(arg), want);
    }
}

#[test]
fn an_exit_node_must_be_a_peer_that_offers_it() {
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let peer = |name: &str, address: &str, offers| PeerStatus {
        dns_name: name.to_owned(),
        tailscale_ips: Some(vec![ip(address)]),
        exit_node_option: offers,
        ..PeerStatus::default()
    };
    let mut status = Status {
        tailscale_ips: Some(vec![ip("100.105.106.107")]),
        magic_dns_suffix: "net.test".to_owned(),
        backend_state: "Running".to_owned(),
        ..Status::default()
    };
    let key = |n: u8| keys::NodePublic::from_bytes([n; 32]);
    let peers = [
        peer("exit.net.test.", "100.64.0.1", true),
        peer("plain.net.test.", "100.64.0.2", false),
    ];
    status.peer = Some(
        peers
            .into_iter()
            .zip(1..)
            .map(|(p, n)| (key(n), p))
            .collect::<BTreeMap<_, _>>(),
    );
    for (name, want) in [
        (
            "100.105.106.107",
            "cannot use 100.105.106.107 as an exit node as it is a local IP address to this machine; did you mean --advertise-exit-node?",
        ),
        ("100.64.0.9", "no node found in netmap with IP 100.64.0.9"),
        (
            "100.64.0.2",
            "node 100.64.0.2 is not advertising an exit node",
        ),
        ("plain", "node \"plain\" is not advertising an exit node"),
        (
            "foo",
            "invalid value \"foo\" for --exit-node; must be IP or peer hostname",
        ),
    ] {
        assert_eq!(
            wanted(&[&format!("--exit-node={name}")], &status).expect_err(name),
            want
        );
    }
    for name in ["100.64.0.1", "exit", "EXIT.net.test", "exit.net.test."] {
        let (prefs, _) = wanted(&[&format!("--exit-node={name}")], &status).expect(name);
        assert_eq!(prefs.exit_node_ip.0, Some(ip("100.64.0.1")), "{name}");
    }
}

#[test]
fn every_setting_has_its_flag() {
    let flags: Vec<String> = [Os::Linux, Os::Windows]
        .iter()
        .flat_map(|os| {
            up_flags_on(*os)
                .iter()
                .map(|f| f.name.to_owned())
                .collect::<Vec<_>>()
        })
        .chain(set_flags().iter().map(|f| f.name.to_owned()))
        .collect();
    for setting in SETTINGS {
        assert!(
            flags.iter().any(|flag| flag == setting.flag),
            "{}",
            setting.flag
        );
    }
}

/// What `set` shows and changes is what its flags name; the rest is about asking.
#[test]
fn every_flag_of_set_is_a_setting() {
    for flag in set_flags()
        .iter()
        .filter(|flag| !matches!(flag.name, "accept-risk" | "dry-run"))
    {
        assert!(setting(flag.name).is_some(), "{}", flag.name);
    }
}
