//! `login`, `switch`, `set`, `get`, `wait` and `whoami` at a daemon that answers from a list.

#![cfg(unix)]

#[macro_use]
mod common;

use common::canned::{Answer, CannedDaemon, answer, stream};
use common::story::{BUS, OWN_STATUS, PATCH, PREFS, STATUS, daemon, env, run, run_in};

const EMPTY_PROFILE: &str = "PUT /localapi/v0/profiles/";
const FIRST_STATE: &str = "GET /localapi/v0/watch-ipn-bus?mask=2";

tells!(
    login_makes_an_account,
    daemon(
        "NeedsLogin",
        vec![
            answer(EMPTY_PROFILE, 201, ""),
            stream(
                BUS,
                &[
                    r#"{"BrowseToURL":"https://login.test/a"}"#,
                    r#"{"State":6}"#
                ]
            ),
        ]
    ),
    [
        "login",
        "--login-server=https://control.test",
        "--hostname=box",
        "--nickname=work",
        "--advertise-tags=a",
    ]
);
tells!(
    login_draws_the_url,
    daemon(
        "NeedsLogin",
        vec![
            answer(EMPTY_PROFILE, 201, ""),
            stream(
                BUS,
                &[
                    r#"{"BrowseToURL":"https://login.test/a"}"#,
                    r#"{"State":6}"#
                ]
            ),
        ]
    ),
    ["login", "--qr", "--qr-format=small"]
);
tells!(
    login_with_an_unknown_format,
    daemon(
        "NeedsLogin",
        vec![
            answer(EMPTY_PROFILE, 201, ""),
            stream(
                BUS,
                &[
                    r#"{"BrowseToURL":"https://login.test/a"}"#,
                    r#"{"State":6}"#
                ]
            ),
        ]
    ),
    ["login", "--qr", "--qr-format=tiny"]
);
tells!(
    login_is_denied,
    daemon(
        "NeedsLogin",
        vec![answer(EMPTY_PROFILE, 403, "profiles access denied\n")]
    ),
    ["login"]
);
tells!(
    login_has_no_flags_of_up,
    daemon("NeedsLogin", vec![]),
    ["login", "--reset"]
);

/// Two accounts, the first of them in use.
fn two_accounts(state: &str, more: Vec<Answer>) -> CannedDaemon {
    let first = r#"{"ID":"1a2b","Name":"work","NetworkProfile":{"DomainName":"work.test","DisplayName":"Work"},"UserProfile":{"LoginName":"ann@work.test"}}"#;
    let second = r#"{"ID":"3c4d","Name":"ann@home.test","NetworkProfile":{"DomainName":"home.test"},"UserProfile":{"LoginName":"ann@home.test"}}"#;
    let answers = [
        answer("GET /localapi/v0/profiles/current", 200, first),
        answer(
            "GET /localapi/v0/profiles/",
            200,
            format!("[{first},{second}]"),
        ),
        answer("POST /localapi/v0/profiles/3c4d", 204, ""),
        answer("DELETE /localapi/v0/profiles/3c4d", 204, ""),
    ];
    daemon(state, more.into_iter().chain(answers).collect())
}

tells!(
    accounts_are_listed,
    two_accounts("Running", vec![]),
    ["switch", "--list"]
);
tells!(
    accounts_are_listed_for_programs,
    two_accounts("Running", vec![]),
    ["switch", "--list", "--json"]
);
tells!(
    switch_by_tailnet,
    two_accounts("Running", vec![]),
    ["switch", "home.test"]
);
tells!(
    switch_to_an_account_without_a_login,
    two_accounts("NeedsLogin", vec![]),
    ["switch", "3c4d"]
);
tells!(
    switch_to_an_account_that_is_off,
    two_accounts("Stopped", vec![]),
    ["switch", "3c4d"]
);
tells!(
    switch_to_where_we_are,
    two_accounts("Running", vec![]),
    ["switch", "Work"]
);
tells!(
    switch_to_nobody,
    two_accounts("Running", vec![]),
    ["switch", "nobody"]
);
tells!(
    switch_that_fails,
    two_accounts(
        "Running",
        vec![answer("POST /localapi/v0/profiles/3c4d", 500, "no disk\n")]
    ),
    ["switch", "3c4d"]
);
tells!(
    switch_without_a_name,
    two_accounts("Running", vec![]),
    ["switch"]
);
tells!(
    switch_json_is_for_lists,
    two_accounts("Running", vec![]),
    ["switch", "--json", "3c4d"]
);
tells!(
    an_account_is_removed,
    two_accounts("Running", vec![]),
    ["switch", "remove", "ann@home.test"]
);
tells!(
    the_account_in_use_stays,
    two_accounts("Running", vec![]),
    ["switch", "remove", "1a2b"]
);

/// The daemon of `set`'s tests: offers two routes, and refuses nothing.
fn settled(more: Vec<Answer>) -> CannedDaemon {
    let prefs = r#"{"CorpDNS":true,"NetfilterMode":2,"Hostname":"box <1>","AdvertiseRoutes":["10.0.0.0/8","192.168.0.0/16"],"AutoUpdate":{"Check":true,"Apply":null},"RelayServerPort":4711,"Sync":null}"#;
    let more = more.into_iter().chain([answer(PREFS, 200, prefs)]);
    daemon("Running", more.collect())
}

tells!(
    set_changes_what_is_named,
    settled(vec![]),
    [
        "set",
        "--shields-up",
        "--auto-update",
        "--nickname=home",
        "--accept-dns=false"
    ]
);
tells!(
    set_keeps_routes_beside_the_exit_node,
    settled(vec![]),
    ["set", "--advertise-exit-node"]
);
tells!(
    set_replaces_routes,
    settled(vec![]),
    [
        "set",
        "--advertise-routes=172.16.0.0/12",
        "--snat-subnet-routes=false",
        "--advertise-exit-node"
    ]
);
tells!(
    set_warns_of_the_firewall,
    settled(vec![]),
    ["set", "--netfilter-mode=off"]
);
tells!(
    set_automatic_exit_node,
    settled(vec![]),
    ["set", "--exit-node=auto:any"]
);
tells!(
    set_relays,
    settled(vec![]),
    [
        "set",
        "--relay-server-port=0",
        "--relay-server-static-endpoints=192.0.2.1:2,[2001:db8::1]:1,192.0.2.1:2"
    ]
);
tells!(
    set_web_page,
    settled(vec![answer(
        STATUS,
        200,
        r#"{"BackendState":"Running","TailscaleIPs":["100.64.0.1"]}"#
    )]),
    ["set", "--webclient"]
);
tells!(
    set_is_refused,
    settled(vec![answer(
        "POST /localapi/v0/check-prefs",
        200,
        r#"{"Error":"not built: ssh"}"#
    )]),
    ["set", "--ssh"]
);
tells!(set_nothing, settled(vec![]), ["set"]);
tells!(
    set_twice_the_same,
    settled(vec![]),
    ["set", "--ssh", "--ssh=false"]
);

#[test]
fn set_says_what_is_wrong() {
    let daemon = settled(vec![]);
    for (args, words) in [
        (
            &["set", "x", "y"][..],
            "too many non-flag arguments: [\"x\" \"y\"]\n",
        ),
        (
            &["set", "--netfilter-mode=maybe"],
            "invalid value --netfilter-mode=\"maybe\"\n",
        ),
        (
            &["set", "--relay-server-port=x"],
            "failed to set relay server port: strconv.ParseUint: parsing \"x\": invalid syntax\n",
        ),
        (
            &["set", "--relay-server-port=65536"],
            "failed to set relay server port: strconv.ParseUint: parsing \"65536\": value out of range\n",
        ),
        (
            &["set", "--relay-server-static-endpoints=1.2.3.4"],
            "failed to set relay server static endpoints: \"1.2.3.4\" is not a valid IP:port\n",
        ),
        (
            &["set", "--advertise-routes=::/0"],
            "::/0 advertised without its IPv4 counterpart, please also advertise 0.0.0.0/0\n",
        ),
    ] {
        let outcome = run(&daemon, args);
        assert_eq!(
            (outcome.code, outcome.stderr.as_str()),
            (1, words),
            "{args:?}"
        );
    }
    assert!(daemon.commands().is_empty());
}

#[test]
fn who_sits_behind_tailscale_is_asked_before_ssh_changes() {
    let daemon = settled(vec![]);
    let remote = env(&[("SSH_CLIENT", "100.64.0.9 50000 22")]);
    let refused = run_in(&remote, &daemon, &["set", "--ssh"]);
    assert_eq!(
        (refused.code, refused.stderr.as_str()),
        (1, "aborted, no changes made\n")
    );
    let no_change = run_in(&remote, &daemon, &["set", "--ssh=false"]);
    let accepted = run_in(&remote, &daemon, &["set", "--ssh", "--accept-risk=all"]);
    assert_eq!((no_change.code, accepted.code), (0, 0));
    let patches = daemon.commands();
    let patches = patches.iter().filter(|c| c.starts_with(PATCH));
    assert_eq!(patches.count(), 2);
}

tells!(get_all, settled(vec![]), ["get"]);
tells!(get_as_json, settled(vec![]), ["get", "--json", "all"]);
tells!(get_as_arguments, settled(vec![]), ["get", "--set-flags"]);
tells!(get_one, settled(vec![]), ["get", "hostname"]);
tells!(
    get_one_as_an_argument,
    settled(vec![]),
    ["get", "--set-flags", "hostname"]
);
tells!(get_one_that_is_hidden, settled(vec![]), ["get", "sync"]);
tells!(get_what_is_none, settled(vec![]), ["get", "accept-risk"]);
tells!(get_too_much, settled(vec![]), ["get", "a", "b"]);

#[test]
fn get_tells_the_exit_node_by_address() {
    let status = answer(
        STATUS,
        200,
        r#"{"BackendState":"Running","Peer":{"nodekey:0000000000000000000000000000000000000000000000000000000000000002":{"ID":"n7","TailscaleIPs":["100.64.0.7"]}}}"#,
    );
    for (prefs, shown) in [
        (r#"{"ExitNodeID":"n7"}"#, "100.64.0.7\n"),
        (r#"{"ExitNodeID":"n8"}"#, "\n"),
        (r#"{"ExitNodeIP":"100.64.0.9"}"#, "100.64.0.9\n"),
        (
            r#"{"ExitNodeIP":"100.64.0.9","AutoExitNode":"any"}"#,
            "auto:any\n",
        ),
    ] {
        let daemon = daemon("Running", vec![status.clone(), answer(PREFS, 200, prefs)]);
        assert_eq!(run(&daemon, &["get", "exit-node"]).stdout, shown);
    }
}

const WHO: &str = r#"{"Node":{"ID":1,"StableID":"n1","Name":"a.net.test.","Addresses":["100.64.0.1/32"]},"UserProfile":{"ID":5,"LoginName":"ann@example.com"},"CapMap":null}"#;

fn named(who: &str) -> CannedDaemon {
    let status = r#"{"BackendState":"Running","TailscaleIPs":["100.64.0.1"],"CurrentTailnet":{"Name":"example.com","MagicDNSSuffix":"net.test","MagicDNSEnabled":true}}"#;
    daemon(
        "Running",
        vec![
            answer(OWN_STATUS, 200, status),
            answer(
                "GET /localapi/v0/whois?proto=&addr=100.64.0.1",
                200,
                who.to_owned(),
            ),
        ],
    )
}

tells!(whoami_tells_the_tailnet, named(WHO), ["whoami"]);
tells!(whoami_as_json, named(WHO), ["whoami", "--json"]);
tells!(
    whoami_in_a_tailnet_with_a_name,
    named(&WHO.replace(
        r#""Name":"a.net.test.""#,
        r#""Name":"a.net.test.","CapMap":{"tailnet-display-name":["Example, Inc."]}"#
    )),
    ["whoami"]
);
tells!(
    whoami_before_login,
    daemon("NeedsLogin", vec![]),
    ["whoami"]
);

fn coming_up(tun: bool, ip: &str) -> CannedDaemon {
    let status = format!(r#"{{"BackendState":"Running","TUN":{tun},"TailscaleIPs":["{ip}"]}}"#);
    daemon(
        "Starting",
        vec![
            answer(OWN_STATUS, 200, status),
            stream(FIRST_STATE, &[r#"{"State":5}"#, r#"{"State":6}"#]),
        ],
    )
}

tells!(
    wait_in_userspace_mode,
    coming_up(false, "100.64.0.1"),
    ["wait"]
);
tells!(
    wait_for_an_address_that_is_there,
    coming_up(true, "127.0.0.1"),
    ["wait", "--timeout=60s"]
);
tells!(
    wait_in_vain_for_an_address,
    coming_up(true, "192.0.2.77"),
    ["wait", "--timeout=10ms"]
);
tells!(
    wait_for_nothing_else,
    coming_up(false, "100.64.0.1"),
    ["wait", "ip"]
);

#[test]
fn a_bus_that_ends_ends_the_wait() {
    let daemon = daemon(
        "Starting",
        vec![answer(FIRST_STATE, 200, "{\"State\":5}\n")],
    );
    let outcome = run(&daemon, &["wait"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (1, "EOF\n"));
}
