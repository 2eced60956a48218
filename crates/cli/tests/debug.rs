//! `debug` and `netcheck` at a daemon that answers from a list.

#![cfg(unix)]

#[macro_use]
mod common;

use std::net::UdpSocket;

use common::canned::{answer, stream};
use common::story::{PREFS, daemon, env, run, run_in};

const DERP_MAP: &str = "GET /localapi/v0/derpmap";

tells!(
    an_action_is_passed_on,
    daemon(
        "Running",
        vec![answer(
            "POST /localapi/v0/debug?action=restun",
            200,
            "done\n"
        )]
    ),
    ["debug", "restun"]
);
tells!(
    an_action_with_another_name,
    daemon(
        "Running",
        vec![answer(
            "POST /localapi/v0/debug?action=derp-set-homeless",
            200,
            "done\n"
        )]
    ),
    ["debug", "derp-set-on-demand"]
);
tells!(
    an_action_fails,
    daemon(
        "Running",
        vec![answer(
            "POST /localapi/v0/debug?action=rebind",
            500,
            "no socket\n"
        )]
    ),
    ["debug", "rebind"]
);
tells!(
    an_action_takes_no_arguments,
    daemon("Running", vec![]),
    ["debug", "rebind", "x"]
);
tells!(
    a_relay_is_preferred,
    daemon(
        "Running",
        vec![answer(
            "POST /localapi/v0/debug?action=force-prefer-derp",
            200,
            "done\n"
        )]
    ),
    ["debug", "force-prefer-derp", "7"]
);
tells!(
    the_netmap_is_laid_out,
    daemon(
        "Running",
        vec![answer(
            "POST /localapi/v0/debug?action=current-netmap",
            200,
            r#"{"b":[1,{"d":"<","c":null}],"a":{}}"#
        )]
    ),
    ["debug", "netmap"]
);
tells!(
    the_state_directory,
    daemon(
        "Running",
        vec![answer(
            "POST /localapi/v0/debug?action=statedir",
            200,
            "\"/var/lib/tailscale\"\n"
        )]
    ),
    ["debug", "statedir"]
);
tells!(
    a_relay_region_is_tried,
    daemon(
        "Running",
        vec![answer(
            "POST /localapi/v0/debug-derp-region?region=fra",
            200,
            r#"{"Info":["it answers"],"Warnings":null,"Errors":null}"#
        )]
    ),
    ["debug", "derp", "fra"]
);
tells!(
    one_part_logs_more,
    daemon(
        "Running",
        vec![answer(
            "POST /localapi/v0/component-debug-logging?component=magicsock&secs=90",
            200,
            "{}"
        )]
    ),
    ["debug", "component-logs", "--for=90s", "magicsock"]
);
tells!(
    the_bus_is_watched,
    daemon(
        "Running",
        vec![stream(
            "GET /localapi/v0/watch-ipn-bus?mask=45062",
            &[r#"{"Version":"1","State":6}"#, r#"{"Version":"1"}"#]
        )]
    ),
    ["debug", "watch-ipn", "--initial", "--count=2"]
);
tells!(
    metrics_are_the_daemons_text,
    daemon(
        "Running",
        vec![answer(
            "GET /localapi/v0/metrics",
            200,
            "# TYPE a counter\na 1\n"
        )]
    ),
    ["debug", "metrics"]
);
tells!(
    any_route_can_be_called,
    daemon(
        "Running",
        vec![answer("POST /localapi/v0/some?x=1", 200, "\u{e9}")]
    ),
    ["debug", "localapi", "POST", "some?x=1", "body"]
);
tells!(
    a_refusal_is_shown,
    daemon("Running", vec![answer("GET /localapi/v1/x", 500, "no\n")]),
    ["debug", "localapi", "v1/x"]
);
tells!(
    settings_in_one_line,
    daemon(
        "Running",
        vec![answer(
            PREFS,
            200,
            r#"{"ControlURL":"https://control.test","RouteAll":true,"ExitNodeIP":"100.64.0.9","CorpDNS":true,"WantRunning":true,"ShieldsUp":true,"Hostname":"box","AdvertiseTags":["tag:a","tag:b"],"AdvertiseRoutes":["10.0.0.0/8"],"NoSNAT":true,"NoStatefulFiltering":true,"NetfilterMode":2,"AutoUpdate":{"Check":true,"Apply":null},"Config":{"UserProfile":{"LoginName":"ann@example.com"}}}"#
        )]
    ),
    ["debug", "prefs", "--pretty"]
);
tells!(
    via_and_back,
    daemon("Running", vec![]),
    ["debug", "via", "7", "10.0.0.0/8"]
);
tells!(
    netcheck_without_a_map,
    daemon("NeedsLogin", vec![answer(DERP_MAP, 200, "null")]),
    ["netcheck"]
);
tells!(
    netcheck_with_a_bad_port,
    daemon("Running", vec![]),
    ["netcheck", "--bind-port=65536"]
);

/// A server that tells who asks where it is seen.
fn stun_server() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let port = socket.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            if let Ok(tx) = netcheck::stun::parse_request(&buffer[..len]) {
                let answer = netcheck::stun::response(tx, from);
                socket.send_to(&answer, from).expect("loopback");
            }
        }
    });
    port
}

#[test]
fn netcheck_measures_with_the_daemons_map() {
    let ports = [stun_server(), stun_server()];
    let region = |id: usize, code: &str| {
        let port = ports[id - 1];
        format!(
            r#""{id}":{{"RegionID":{id},"RegionCode":"{code}","RegionName":"Region {id}","Nodes":[{{"Name":"{id}a","RegionID":{id},"HostName":"127.0.0.1","IPv4":"127.0.0.1","IPv6":"none","STUNPort":{port}}}]}}"#
        )
    };
    let map = format!(r#"{{"Regions":{{{},{}}}}}"#, region(1, "a"), region(2, "b"));
    let with_map = daemon("Running", vec![answer(DERP_MAP, 200, map.clone())]);
    let outcome = run(&with_map, &["netcheck", "--format=json-line"]);
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(
        (
            outcome.code,
            &report["UDP"],
            &report["IPv4"],
            &report["MappingVariesByDestIP"]
        ),
        (0, &true.into(), &true.into(), &false.into()),
        "{outcome:?}"
    );
    assert_eq!(
        report["RegionV4Latency"]
            .as_object()
            .map(serde_json::Map::len),
        Some(2)
    );
    assert!(
        report["GlobalV4"]
            .as_str()
            .is_some_and(|seen| seen.starts_with("127.0.0.1:"))
    );

    // The same without a daemon, with a map that the user names.
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("map.json");
    std::fs::write(&file, map).expect("a file");
    let file = file.display().to_string();
    let nobody = daemon("Running", vec![]);
    let env = env(&[("TS_NETCHECK_DERP_MAP", &file)]);
    let outcome = run_in(&env, &nobody, &["netcheck"]);
    assert_eq!(
        (outcome.code, outcome.stderr.as_str()),
        (0, ""),
        "{outcome:?}"
    );
    assert!(outcome.stdout.contains("\t* UDP: true\n"), "{outcome:?}");
    assert!(
        outcome.stdout.contains("\t* Nearest DERP: Region "),
        "{outcome:?}"
    );
}
