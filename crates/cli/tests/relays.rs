//! `netcheck` beside the original's, at the same relays: the original's derper and ours, near and far, with STUN and without.

#![cfg(unix)]

mod common;

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use common::canned::{CannedDaemon, answer};
use common::{Outcome, ours};
use serde_json::Value;
use testkit::originals::{go_cli, go_derper, program};

/// How far the far relay is: well above what a busy machine adds.
const FAR: Duration = Duration::from_millis(150);

/// Passes datagrams on to a port of this machine, and answers back, with a pause before each.
fn far_away(port: u16) -> u16 {
    let outside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let outer = outside.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((len, from)) = outside.recv_from(&mut buffer) {
            let (request, back) = (
                buffer[..len].to_vec(),
                outside.try_clone().expect("a socket"),
            );
            std::thread::spawn(move || {
                std::thread::sleep(FAR);
                let inside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
                inside
                    .send_to(&request, (Ipv4Addr::LOCALHOST, port))
                    .expect("loopback");
                let mut answer = [0; 1500];
                if let Ok(len) = inside.recv(&mut answer) {
                    // Whoever asked may have gone by now.
                    let _ = back.send_to(&answer[..len], from);
                }
            });
        }
    });
    outer
}

struct Relay {
    derp: u16,
    stun: Option<u16>,
    pin: String,
}

impl Relay {
    fn region(&self, id: u16, name: &str) -> String {
        let (port, pin) = (self.derp, &self.pin);
        let stun = self.stun.map_or(-1, i32::from);
        format!(
            r#""{id}":{{"RegionID":{id},"RegionCode":"{name}","RegionName":"Region {name}","Nodes":[{{"Name":"{id}a","RegionID":{id},"HostName":"127.0.0.1","IPv4":"127.0.0.1","IPv6":"none","DERPPort":{port},"STUNPort":{stun},"CertName":"{pin}"}}]}}"#
        )
    }
}

/// A daemon that knows these relays and nothing else.
fn knows(go: &Relay, own: &Relay) -> CannedDaemon {
    let map = format!(
        r#"{{"Regions":{{{},{}}}}}"#,
        go.region(1, "go"),
        own.region(2, "own")
    );
    CannedDaemon::start(
        "1.103.0",
        vec![answer("GET /localapi/v0/derpmap", 200, map)],
    )
}

fn our_relay(runtime: &tokio::runtime::Runtime) -> (derpserver::Server, Relay) {
    let mut config = derpserver::Config::new(keys::NodePrivate::generate(&mut rt::OsRng));
    let own = derpserver::Certificate::self_signed(Ipv4Addr::LOCALHOST.into(), rt::wall());
    config.certificate = Some(own.expect("a certificate"));
    config.stun = Some((Ipv4Addr::LOCALHOST, 0).into());
    let server = runtime
        .block_on(derpserver::Server::start(config))
        .expect("a relay");
    let relay = Relay {
        derp: server.addr.port(),
        stun: server.stun_addr.map(|addr| addr.port()),
        pin: server
            .pin
            .map(|pin| derp::NodeCert::pin_text(&pin))
            .expect("a pin"),
    };
    (server, relay)
}

/// What of a report must be equal: the keys, and what does not change between two runs.
fn steady(outcome: &Outcome) -> (i32, Vec<String>, Vec<Value>) {
    let report: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let report = report.as_object().expect("an object");
    let answered = |key: &str| {
        let latencies = report[key].as_object().expect("latencies");
        Value::from(latencies.keys().cloned().collect::<Vec<_>>())
    };
    let same = [
        "UDP",
        "IPv4",
        "IPv6",
        "OSHasIPv6",
        "MappingVariesByDestIP",
        "PreferredDERP",
    ];
    let values = same.iter().map(|key| report[*key].clone());
    let values =
        values.chain(["RegionLatency", "RegionV4Latency", "RegionV6Latency"].map(answered));
    (
        outcome.code,
        report.keys().cloned().collect(),
        values.collect(),
    )
}

#[test]
fn both_prefer_the_same_relay() {
    const TEST: &str = "both_prefer_the_same_relay";
    if program(TEST, "TS_GO_TAILSCALE").is_none() {
        return;
    }
    let Some(derper) = go_derper(TEST) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (_server, own) = our_relay(&runtime);
    let go = Relay {
        derp: derper.port(),
        stun: Some(derper.stun_port()),
        pin: derper.cert_name().to_owned(),
    };
    let far = |relay: &Relay| Relay {
        stun: relay.stun.map(far_away),
        pin: relay.pin.clone(),
        ..*relay
    };
    let silent = |relay: &Relay| Relay {
        stun: None,
        pin: relay.pin.clone(),
        ..*relay
    };
    let args = ["netcheck", "--format=json-line"];
    for (case, daemon, home) in [
        ("theirs is near", knows(&go, &far(&own)), Some(1)),
        ("ours is near", knows(&far(&go), &own), Some(2)),
        ("only theirs has STUN", knows(&go, &silent(&own)), Some(1)),
        ("only ours has STUN", knows(&silent(&go), &own), Some(2)),
    ] {
        let theirs = go_cli(TEST, &daemon.socket(), &args).expect("checked before");
        let theirs = Outcome {
            code: theirs.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&theirs.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&theirs.stderr).into_owned(),
        };
        let ours = ours(&daemon.socket(), &args);
        assert_eq!(steady(&ours), steady(&theirs), "{case}");
        let report: Value = serde_json::from_str(&ours.stdout).expect("JSON");
        assert_eq!(report["PreferredDERP"].as_u64(), home, "{case}");
    }
}

/// Where UDP leads nowhere, relays are timed by HTTPS, which both relays answer.
#[test]
fn both_time_relays_by_https_without_udp() {
    const TEST: &str = "both_time_relays_by_https_without_udp";
    if program(TEST, "TS_GO_TAILSCALE").is_none() {
        return;
    }
    let Some(derper) = go_derper(TEST) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (_server, own) = our_relay(&runtime);
    let go = Relay {
        derp: derper.port(),
        stun: None,
        pin: derper.cert_name().to_owned(),
    };
    let daemon = knows(&go, &Relay { stun: None, ..own });
    let outcome = ours(&daemon.socket(), &["netcheck", "--format=json-line"]);
    let report: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(
        (outcome.code, &report["UDP"], &report["IPv4"]),
        (0, &Value::from(false), &Value::from(true)),
        "{outcome:?}"
    );
    let latencies = report["RegionLatency"].as_object().expect("latencies");
    assert_eq!(
        latencies.keys().collect::<Vec<_>>(),
        ["1", "2"],
        "{outcome:?}"
    );
    let theirs = go_cli(TEST, &daemon.socket(), &["netcheck", "--format=json-line"]);
    let theirs = String::from_utf8_lossy(&theirs.expect("checked before").stdout).into_owned();
    let theirs: Value = serde_json::from_str(&theirs).expect("JSON");
    assert_eq!(report["UDP"], theirs["UDP"]);
    let theirs = theirs["RegionLatency"].as_object().expect("latencies");
    assert_eq!(
        latencies.keys().collect::<Vec<_>>(),
        theirs.keys().collect::<Vec<_>>()
    );
}
