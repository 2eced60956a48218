//! What a control server asks nodes, ours beside Go's: pings of peers, and requests (C2N).

use std::collections::{BTreeMap, BTreeSet};

use controlserver::{Admin, C2nAnswer, C2nQuestion, NewAuthKey, PingQuestion};
use serde_json::Value;
use tailcfg::{DerpMap, DerpNode, DerpRegion};
use testkit::originals::{self, Daemon, TailscaledOptions};

use super::common::*;

pub(crate) struct Asked {
    pub(crate) admin: Admin,
    /// By name: the number, and the IPv4 address.
    pub(crate) nodes: BTreeMap<&'static str, (i64, String)>,
    _control: controlserver::Server,
    /// Ours and Go's.
    pub(crate) daemons: [Daemon; 2],
    _relay: originals::Derper,
}

fn derp_map(relay: &originals::Derper) -> DerpMap {
    let node = DerpNode {
        name: "900a".into(),
        region_id: 900,
        host_name: "127.0.0.1".into(),
        cert_name: relay.cert_name().into(),
        ipv4: "127.0.0.1".into(),
        ipv6: "none".into(),
        stun_port: relay.stun_port().into(),
        derp_port: relay.port().into(),
        ..DerpNode::default()
    };
    let region = DerpRegion {
        region_id: 900,
        region_code: "test".into(),
        nodes: vec![node],
        ..DerpRegion::default()
    };
    DerpMap {
        regions: Some(BTreeMap::from([(900, Some(region))])),
        omit_default_regions: true,
        ..DerpMap::default()
    }
}

/// Our control server with our daemon and Go's.
pub(crate) async fn asked(test: &str) -> Option<Asked> {
    let go_cli = originals::program(test, "TS_GO_TAILSCALE")?;
    let relay = originals::go_derper(test)?;
    let options = TailscaledOptions::default();
    let daemons = [
        our_daemon(&options),
        originals::go_tailscaled(test, &options)?,
    ];
    let control = controlserver::Server::start(controlserver::Config {
        derp_map: derp_map(&relay),
        ..controlserver::Config::default()
    });
    let control = control.await.unwrap();
    let admin = control.admin();
    let new = NewAuthKey {
        reusable: true,
        ..NewAuthKey::default()
    };
    let key = admin.create_auth_key(new).await.unwrap().key.unwrap();
    let mut nodes = BTreeMap::new();
    for (daemon, name) in daemons.iter().zip(["ours", "go"]) {
        let args = [
            "up",
            &format!("--login-server={}", control.url()),
            &format!("--auth-key={key}"),
            &format!("--hostname={name}"),
            "--timeout=60s",
        ];
        // The server lives in this process, so its tasks must go on meanwhile.
        tokio::task::block_in_place(|| cli_ok(&go_cli, daemon, &args));
        let status = tokio::task::block_in_place(|| status(&go_cli, daemon));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let ip = text(&status["Self"]["TailscaleIPs"][0]);
        let id = status["Self"]["NodeID"].as_i64().unwrap();
        nodes.insert(name, (id, ip));
    }
    Some(Asked {
        admin,
        nodes,
        _control: control,
        daemons,
        _relay: relay,
    })
}

impl Asked {
    async fn c2n(&self, node: &str, method: &str, path: &str, body: &str) -> C2nAnswer {
        let question = C2nQuestion {
            method: method.into(),
            path: path.into(),
            body: body.into(),
        };
        let answer = self.admin.c2n(self.nodes[node].0, &question).await;
        answer.unwrap_or_else(|error| panic!("{node} {path}: {error:?}"))
    }
}

/// Where the whole body is the original's.
const SAME: &[&str] = &[
    "/echo",
    "/no/such/thing",
    "/sockstats",
    "/debug/component-logging",
];

fn fields(json: &str) -> BTreeSet<String> {
    let value: Value = serde_json::from_str(json).unwrap();
    value.as_object().unwrap().keys().cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_a_node_are_answered_as_the_original_does() {
    let Some(asked) = asked("requests_to_a_node_are_answered_as_the_original_does").await else {
        return;
    };
    let netmap = r#"{"candidate":{"Node":{"ID":7,"Name":"cand."}},"omitFields":["Peers","DNS"]}"#;
    for (method, path, body) in [
        ("POST", "/echo", "hello"),
        ("GET", "/debug/prefs", ""),
        ("GET", "/debug/health", ""),
        ("GET", "/debug/metrics", ""),
        ("GET", "/debug/netmap", ""),
        ("POST", "/debug/netmap", netmap),
        ("POST", "/debug/netmap", "{"),
        ("PUT", "/debug/netmap", ""),
        ("GET", "/update", ""),
        ("POST", "/update", ""),
        (
            "GET",
            "/debug/component-logging?component=what%3F&secs=1",
            "",
        ),
        ("GET", "/sockstats", ""),
        ("POST", "/netfilter-kind?kind=nftables", ""),
        ("GET", "/netfilter-kind", ""),
        ("GET", "/no/such/thing", ""),
    ] {
        let ours = asked.c2n("ours", method, path, body).await;
        let go = asked.c2n("go", method, path, body).await;
        let what = format!("{method} {path}: {ours:?} {go:?}");
        assert_eq!(ours.status, go.status, "{what}");
        match path {
            "/debug/prefs" => {
                assert_eq!(fields(&ours.body), fields(&go.body), "{what}");
                let zero = "0".repeat(64);
                let secret = |text: &&str| !text.starts_with(&zero);
                assert_eq!(ours.body.split("privkey:").skip(1).find(secret), None);
            }
            _ if SAME.iter().any(|same| path.starts_with(same)) => assert_eq!(ours.body, go.body),
            "/update" => {
                let (ours, go): (Value, Value) = (
                    serde_json::from_str(&ours.body).unwrap(),
                    serde_json::from_str(&go.body).unwrap(),
                );
                for field in ["Enabled", "Started", "Err"] {
                    assert_eq!(ours[field], go[field], "{what}");
                }
            }
            "/debug/netmap" if ours.status == 200 => {
                let ours: Value = serde_json::from_str(&ours.body).unwrap();
                let go: Value = serde_json::from_str(&go.body).unwrap();
                assert_eq!(fields(&ours.to_string()), fields(&go.to_string()), "{what}");
                assert_eq!(ours["current"]["Domain"], go["current"]["Domain"]);
                assert_eq!(
                    ours["candidate"]["SelfNode"]["Name"],
                    go["candidate"]["SelfNode"]["Name"]
                );
                let count = |map: &Value| map["current"]["Peers"].as_array().map(Vec::len);
                assert_eq!(count(&ours), count(&go));
            }
            _ => {}
        }
    }
    let prefs = asked.c2n("ours", "GET", "/debug/prefs", "").await;
    let prefs: Value = serde_json::from_str(&prefs.body).unwrap();
    assert_eq!(prefs["NetfilterKind"], "nftables");
    // Not built, and said so.
    for (path, status) in [
        ("/debug/goroutines", 501),
        ("/tls-cert-status?domain=x", 400),
    ] {
        assert_eq!(asked.c2n("ours", "GET", path, "").await.status, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_of_peers_are_reported_as_the_original_does() {
    let Some(asked) = asked("pings_of_peers_are_reported_as_the_original_does").await else {
        return;
    };
    for (from, to) in [("ours", "go"), ("go", "ours")] {
        for types in ["disco", "TSMP", "ICMP", "peerapi"] {
            let question = PingQuestion {
                types: types.into(),
                ip: Some(asked.nodes[to].1.parse().unwrap()),
            };
            let answer = asked.admin.ping(asked.nodes[from].0, question).await;
            let pong = answer.unwrap_or_else(|error| panic!("{from} {types}: {error:?}"));
            let what = format!("{from} {pong:?}");
            assert_eq!(
                (pong.err.as_str(), pong.kind.as_str()),
                ("", types),
                "{what}"
            );
            assert_eq!(
                (&pong.ip, &pong.node_ip),
                (&asked.nodes[to].1, &asked.nodes[to].1)
            );
            let short = pong.node_name.split('.').next();
            assert_eq!(short, Some(to), "{what}");
            assert_eq!(pong.node_name.contains('.'), types == "peerapi", "{what}");
            assert!(pong.latency_seconds > 0.0, "{what}");
        }
        let sign = PingQuestion::default();
        asked.admin.ping(asked.nodes[from].0, sign).await.unwrap();
    }
}
