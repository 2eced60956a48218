//! What commands print and how they end, at a daemon that answers from a list.

#![cfg(unix)]

#[macro_use]
mod common;

use cli::Env;
use common::canned::{CannedDaemon, answer, stream};
use common::story::{BUS, OURS, OWN_STATUS, PATCH, STATUS, daemon, env, run, run_in, story};

/// A tailnet with a peer of each kind.
fn motley() -> CannedDaemon {
    let old = "2020-01-01T00:00:00Z";
    let never = "0001-01-01T00:00:00Z";
    let peer = |n: u32, name: &str, rest: &str| {
        format!(
            r#""nodekey:{n:064x}":{{"ID":"{n}","PublicKey":"nodekey:{n:064x}","HostName":"{name}","DNSName":"{name}.net.test.","OS":"linux","UserID":1,"TailscaleIPs":["100.64.0.{n}"],"LastSeen":"{never}",{rest}}}"#
        )
    };
    let peers = [
        peer(
            2,
            "relayed",
            r#""Active":true,"Online":true,"Relay":"fra","TxBytes":5,"RxBytes":7"#,
        ),
        peer(
            3,
            "direct",
            r#""Active":true,"Online":true,"Relay":"fra","CurAddr":"192.0.2.1:41641""#,
        ),
        peer(
            4,
            "away",
            &format!(r#""Online":false,"LastSeen":"{old}""#).replace("never", ""),
        ),
        peer(5, "idle", r#""Online":true,"TxBytes":1"#),
        peer(
            6,
            "exit",
            r#""Online":true,"ExitNode":true,"Active":true,"PeerRelay":"192.0.2.9:1:vni:2""#,
        ),
        peer(
            7,
            "xn--bcher-kva",
            r#""Online":true,"ExitNodeOption":true,"AltSharerUserID":2"#,
        ),
        peer(
            8,
            "se-got-wg-001.mullvad.ts",
            r#""Online":true,"ExitNodeOption":true"#,
        )
        .replace(".net.test.", ".net."),
        peer(9, "sharee", r#""Online":true,"ShareeNode":true"#),
        peer(10, "My Phone.local", r#""Online":true,"UserID":77"#)
            .replace(r#""DNSName":"My Phone.local.net.test.""#, r#""DNSName":"""#),
        peer(11, "tagged", r#""Online":true"#).replace(r#""UserID":1"#, r#""UserID":0"#),
    ];
    let body = format!(
        r#"{{"Version":"{OURS}","BackendState":"Running","AuthURL":"","TailscaleIPs":["100.64.0.1"],"Self":{{"HostName":"me","DNSName":"me.net.test.","OS":"linux","UserID":1,"TailscaleIPs":["100.64.0.1","fd7a:115c:a1e0::1"],"Online":true}},"Health":["first <b>","second"],"MagicDNSSuffix":"net.test","Peer":{{{}}},"User":{{"1":{{"ID":1,"LoginName":"ann@example.com"}},"2":{{"ID":2,"LoginName":"github-name"}}}}}}"#,
        peers.join(",")
    );
    daemon("Running", vec![answer(STATUS, 200, body)])
}

#[test]
fn status_has_a_word_for_each_kind_of_peer() {
    let outcome = run(&motley(), &["status"]);
    // How long ago depends on the day of the test.
    let text = outcome
        .stdout
        .lines()
        .map(|l| match l.split_once(", last seen ") {
            Some((before, _)) => format!("{before}, last seen ...\n"),
            None => format!("{l}|\n"),
        });
    insta::assert_snapshot!(
        "status_has_a_word_for_each_kind_of_peer",
        text.collect::<String>()
    );
}

#[test]
fn status_json_is_the_daemons_text() {
    let outcome = run(&motley(), &["status", "--json", "--active"]);
    insta::assert_snapshot!("status_json_is_the_daemons_text", outcome.stdout);
}

tells!(
    status_when_logged_out,
    daemon("NeedsLogin", vec![]),
    ["status"]
);
tells!(status_when_stopped, daemon("Stopped", vec![]), ["status"]);
tells!(
    status_when_not_approved,
    daemon("NeedsMachineAuth", vec![]),
    ["status"]
);
tells!(
    status_as_a_web_page_is_not_built,
    daemon("Running", vec![]),
    ["status", "--web"]
);
tells!(
    ping_by_peerapi,
    daemon(
        "Running",
        vec![answer(
            "POST /localapi/v0/ping?ip=100.64.0.2&size=0&type=peerapi",
            200,
            r#"{"IP":"100.64.0.2","NodeIP":"100.64.0.2","NodeName":"b","LatencySeconds":0.003,"PeerAPIURL":"http://100.64.0.2:1234"}"#
        )]
    ),
    ["ping", "--peerapi", "100.64.0.2"]
);
tells!(
    a_command_below_a_group_is_not_built,
    daemon("Running", vec![]),
    ["serve", "STATUS", "--json"]
);
tells!(
    down_tells_the_reason,
    daemon("Running", vec![]),
    ["down", "--reason=lunch"]
);
tells!(down_twice, daemon("Stopped", vec![]), ["down"]);
tells!(
    logout_tells_the_reason,
    daemon("Running", vec![]),
    ["logout", "--reason=bye"]
);
tells!(
    up_alone_logs_in,
    daemon(
        "NeedsLogin",
        vec![stream(
            BUS,
            &[
                r#"{"State":2,"BrowseToURL":"https://login.test/a"}"#,
                r#"{"BrowseToURL":"https://login.test/a"}"#,
                r#"{"State":3}"#,
                r#"{"State":5}"#,
                r#"{"State":6}"#,
            ]
        )]
    ),
    ["up", "--login-server=https://control.test"]
);
tells!(
    up_in_json,
    daemon(
        "NeedsLogin",
        vec![stream(
            BUS,
            &[
                r#"{"BrowseToURL":"https://login.test/a?b&c"}"#,
                r#"{"State":3}"#,
                r#"{"State":6}"#,
            ]
        )]
    ),
    ["up", "--json"]
);
tells!(
    up_with_a_key_shows_no_url,
    daemon(
        "NeedsLogin",
        vec![stream(
            BUS,
            &[
                r#"{"BrowseToURL":"https://login.test/old"}"#,
                r#"{"State":6}"#,
            ]
        )]
    ),
    ["up", "--auth-key=tskey-auth-x"]
);
tells!(
    up_with_a_new_login_waits_for_the_new_key,
    daemon(
        "Running",
        vec![stream(
            BUS,
            &[
                r#"{"State":6}"#,
                &format!(r#"{{"SelfChange":{{"Key":"nodekey:{:064}"}}}}"#, 1),
                r#"{"BrowseToURL":"https://login.test/new"}"#,
                &format!(r#"{{"SelfChange":{{"Key":"nodekey:{:064}"}}}}"#, 2),
            ]
        )]
    ),
    ["up", "--force-reauth"]
);
tells!(
    up_that_fails_in_the_daemon,
    daemon(
        "NeedsLogin",
        vec![stream(BUS, &[r#"{"ErrMessage":"bad key"}"#])]
    ),
    ["up"]
);
tells!(
    up_with_refused_prefs,
    daemon(
        "NeedsLogin",
        vec![
            answer(
                "POST /localapi/v0/check-prefs",
                200,
                r#"{"Error":"no such tag"}"#
            ),
            stream(BUS, &[]),
        ]
    ),
    ["up"]
);
tells!(
    up_in_vain,
    daemon("Starting", vec![stream(BUS, &[r#"{"State":5}"#])]),
    ["up", "--timeout=10ms"]
);
tells!(
    up_cut_off,
    daemon("Starting", vec![answer(BUS, 200, "{\"State\":5}\n")]),
    ["up"]
);
tells!(
    up_as_an_edit_and_a_warning,
    daemon(
        "Running",
        vec![
            answer(
                OWN_STATUS,
                200,
                r#"{"Health":["x","this node is locked out; it will not have connectivity until it is signed. y"]}"#
            ),
            answer(
                "GET /localapi/v0/check-ip-forwarding",
                200,
                r#"{"Warning":"forwarding is off"}"#
            ),
        ]
    ),
    ["up", "--advertise-routes=10.0.0.0/8", "--login-server="]
);
tells!(
    up_with_what_is_not_built,
    daemon("NeedsLogin", vec![]),
    ["up", "--client-id=x"]
);
tells!(
    up_with_an_oauth_secret_is_not_built,
    daemon("NeedsLogin", vec![stream(BUS, &[])]),
    ["up", "--auth-key=tskey-client-x"]
);
tells!(
    whois_of_a_tagged_node,
    daemon(
        "Running",
        vec![answer(
            "GET /localapi/v0/whois?proto=tcp&addr=100.64.0.2%3A80",
            200,
            r#"{"Node":{"ID":2,"StableID":"n2","Name":"b.net.test.","Addresses":["100.64.0.2/32","fd7a:115c:a1e0::2/128"],"AllowedIPs":["100.64.0.2/32","fd7a:115c:a1e0::2/128","10.0.0.0/8"],"Tags":["tag:a","tag:b"]},"UserProfile":null,"CapMap":{"https://cap.test/x":[{"a":[1]},2],"https://cap.test/y":null}}"#
        )]
    ),
    ["whois", "--proto=tcp", "100.64.0.2:80"]
);
tells!(
    version_of_both,
    daemon("Running", vec![]),
    ["version", "--daemon"]
);
tells!(
    ip_of_an_unknown_address,
    daemon(
        "Running",
        vec![answer(
            "GET /localapi/v0/services",
            501,
            "not built: services\n"
        )]
    ),
    ["ip", "100.64.9.9"]
);
tells!(
    ip_of_a_service,
    daemon(
        "Running",
        vec![answer(
            "GET /localapi/v0/services",
            200,
            r#"{"svc:a":{"Name":"svc:a","Addrs":["100.64.9.8"]},"svc:b":{"Name":"svc:b","Addrs":["100.64.9.9","fd7a:115c:a1e0::99"]}}"#
        )]
    ),
    ["ip", "100.64.9.9"]
);
tells!(
    ping_answers,
    daemon(
        "Running",
        vec![answer(
            "POST /localapi/v0/ping?ip=100.64.0.2&size=0&type=disco",
            200,
            r#"{"IP":"100.64.0.2","NodeIP":"100.64.0.2","NodeName":"b","LatencySeconds":0.0126,"Endpoint":"192.0.2.1:41641","PeerAPIPort":1234}"#
        )]
    ),
    ["ping", "100.64.0.2"]
);
tells!(
    ping_of_a_gone_peer,
    daemon(
        "Running",
        vec![answer(
            "POST /localapi/v0/ping?ip=100.64.0.2&size=0&type=TSMP",
            200,
            r#"{"Err":"no matching peer"}"#
        )]
    ),
    ["ping", "--tsmp", "100.64.0.2"]
);
tells!(
    the_log_is_followed,
    daemon(
        "Running",
        vec![answer(
            "GET /localapi/v0/logtap",
            200,
            "{\"logtail\":{\"client_time\":\"T1\"},\"text\":\"[logtap connected]\\n\"}\n{\"v\":1,\"text\":\"quiet\"}\n{\"logtail\":{\"client_time\":\"T2\"},\"text\":\"loud\\n\"}\n{\"text\":\" \\n\"}\n"
        )]
    ),
    ["debug", "daemon-logs", "--time"]
);

#[test]
fn who_may_not_is_told_how() {
    let daemon = daemon(
        "Running",
        vec![answer(
            PATCH,
            403,
            r#"{"error":"checkprefs access denied"}"#,
        )],
    );
    let outcome = run(&daemon, &["down"]);
    insta::assert_snapshot!("who_may_not_is_told_how", story(&daemon, &outcome));
    let root = Env {
        uid: Some(0),
        ..env(&[])
    };
    assert_eq!(
        run_in(&root, &daemon, &["down"]).stderr,
        "Access denied: checkprefs access denied\n"
    );
}

#[test]
fn another_version_is_told_once() {
    let status = r#"{"BackendState":"Stopped"}"#;
    let daemon = CannedDaemon::start(
        "9.9.9",
        vec![answer(STATUS, 200, status), answer(PATCH, 200, "{}")],
    );
    let outcome = run(&daemon, &["ping", "x"]);
    let warning =
        "Warning: client version \"test-version\" != tailscaled server version \"9.9.9\"\n";
    assert_eq!(
        (
            outcome.code,
            outcome.stdout.as_str(),
            outcome.stderr.as_str()
        ),
        (1, "Tailscale is stopped.\n", warning)
    );
}

#[test]
fn metrics_are_written_whole_or_not_at_all() {
    let text = "tailscaled_x 1\n";
    let metrics = answer("GET /localapi/v0/usermetrics", 200, text);
    let daemon = daemon("Running", vec![metrics]);
    assert_eq!(run(&daemon, &["metrics", "print"]).stdout, text);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.prom");
    std::fs::write(&file, "old and longer than what follows").unwrap();
    let path = file.to_str().unwrap();
    let outcome = run(&daemon, &["metrics", "write", path]);
    assert_eq!((outcome.code, &*outcome.stderr), (0, ""));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    // What is no file is not replaced by one, and nothing is left behind.
    let directory = dir.path().to_str().unwrap();
    for path in [directory, "/dev/null"] {
        let outcome = run(&daemon, &["metrics", "write", path]);
        let said = format!("{path} already exists and is not a regular file\n");
        assert_eq!((outcome.code, outcome.stderr), (1, said));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn who_sits_behind_tailscale_is_asked_before_it_goes_down() {
    let daemon = daemon("Running", vec![]);
    let remote = env(&[("SSH_CLIENT", "100.64.0.9 50000 22")]);
    let refused = run_in(&remote, &daemon, &["down"]);
    assert_eq!(
        (refused.code, refused.stderr.as_str()),
        (1, "aborted, no changes made\n")
    );
    assert!(
        refused
            .stdout
            .ends_with("\nTo skip this warning, use --accept-risk=lose-ssh\n"),
        "{}",
        refused.stdout
    );
    assert!(daemon.commands().is_empty());
    assert_eq!(
        run_in(&remote, &daemon, &["down", "--accept-risk=lose-ssh"]).code,
        0
    );
    let near = env(&[("SSH_CLIENT", "192.0.2.1 50000 22")]);
    assert_eq!(run_in(&near, &daemon, &["down"]).code, 0);
    assert_eq!(daemon.commands().len(), 2);
}

/// The help of all commands: what changes in it is seen in review.
#[test]
fn help_of_all_commands() {
    let help = run_in(
        &env(&[("TS_DUMP_HELP", "1")]),
        &daemon("Running", vec![]),
        &[],
    );
    insta::assert_snapshot!("help_of_all_commands", help.stdout);
    let docs = run(&daemon("Running", vec![]), &["--json-docs"]).stdout;
    let docs: serde_json::Value = serde_json::from_str(&docs).expect("JSON");
    assert_eq!(docs["Subcommands"][0]["Name"], "up");
}
