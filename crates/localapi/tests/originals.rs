//! Our client, our JSON and our brain on the originals' daemon and its state file.

use std::collections::BTreeMap;
use std::path::Path;

use backend::{Backend, ControlEffect, Effect, Event, Stored};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::Method;
use ipn::{Prefs, State, Status, WatchMask};
use localapi::Client;
use tailcfg::go;
use testkit::originals::{HeadscaleOptions, TailscaledOptions};
use zeroize::Zeroizing;

/// A tailnet of two Go nodes behind headscale and Go's relay, both running.
struct Tailnet {
    nodes: [testkit::originals::Daemon; 2],
    _headscale: testkit::originals::Headscale,
    _derper: testkit::originals::Derper,
}

fn tailnet(test: &str) -> Option<Tailnet> {
    testkit::originals::program(test, "TS_GO_TAILSCALE")?;
    let derper = testkit::originals::go_derper(test)?;
    let options = HeadscaleOptions {
        derp_map: Some(derper.derp_map_yaml()),
        ..HeadscaleOptions::default()
    };
    let headscale = testkit::originals::headscale(test, &options)?;
    let user = headscale.create_user("ann");
    let node = || {
        let node = testkit::originals::go_tailscaled(test, &TailscaledOptions::default())?;
        let key = format!("--auth-key={}", headscale.auth_key(&user, &[]));
        let server = format!("--login-server={}", headscale.url());
        let up = testkit::originals::go_cli(
            test,
            &node.socket(),
            &["up", &key, &server, "--timeout=60s"],
        )?;
        assert!(
            up.status.success(),
            "{}",
            String::from_utf8_lossy(&up.stderr)
        );
        Some(node)
    };
    let nodes = [node()?, node()?];
    Some(Tailnet {
        nodes,
        _headscale: headscale,
        _derper: derper,
    })
}

/// Decodes and encodes again; nothing may be lost.
fn round_trip<T: serde::de::DeserializeOwned + serde::Serialize>(body: &Bytes, indent: bool) -> T {
    let text = std::str::from_utf8(body).expect("text").trim_end();
    let value: T = serde_json::from_str(text).expect("decodes");
    let again = match indent {
        true => go::to_string_indent(&value, "\t"),
        false => go::to_string(&value),
    };
    assert_eq!(again.expect("encodes"), text);
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn we_read_and_write_what_the_originals_do() {
    let Some(tailnet) = tailnet("we_read_and_write_what_the_originals_do") else {
        return;
    };
    let client = Client::new(tailnet.nodes[0].socket());
    let get = async |path: &str| {
        client
            .send(Method::GET, path, 200, Bytes::new())
            .await
            .expect(path)
    };
    let status: Status = round_trip(&get("status").await, true);
    assert_eq!(status.backend_state, "Running");
    let peer = status
        .peer
        .expect("peers")
        .into_values()
        .next()
        .expect("one");
    let ip = peer.tailscale_ips.expect("addresses")[0];
    let _: Status = round_trip(&get("status?peers=false").await, true);
    let _: Prefs = round_trip(&get("prefs").await, true);
    let _: tailcfg::WhoIsResponse = round_trip(&get(&format!("whois?addr={ip}")).await, true);
    let _: tailcfg::DerpMap = round_trip(&get("derpmap").await, true);

    let pong = client.ping(ip, "TSMP", 0).await.expect("pong");
    assert_eq!(pong.err, "");
    assert_eq!(client.current_profile().await.expect("profile").name, "ann");
    let mut bus = client
        .watch(WatchMask::INITIAL_STATE | WatchMask::INITIAL_PREFS)
        .await
        .expect("bus");
    let first = bus.next().await.expect("a message").expect("decodes");
    assert_eq!(first.state, Some(State::Running));
    assert!(first.prefs.is_some_and(|prefs| prefs.want_running));
    let bad = Prefs {
        hostname: "badhostname.tailscale.".into(),
        ..Prefs::new()
    };
    let verdict = client.check_prefs(&bad).await.expect("verdict");
    assert_eq!(verdict.as_deref(), Some("bad hostname [test]"));
}

fn read_state(dir: &Path) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
    let json = std::fs::read(dir.join("tailscaled.state")).expect("a state file");
    let encoded: BTreeMap<String, String> = serde_json::from_slice(&json).expect("a state file");
    let decode =
        |(key, value): (String, String)| (key, STANDARD.decode(value).expect("base64").into());
    encoded.into_iter().map(decode).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_the_originals_is_ours_unchanged() {
    let Some(mut tailnet) = tailnet("a_state_of_the_originals_is_ours_unchanged") else {
        return;
    };
    tailnet.nodes[0].kill();
    let values = read_state(&tailnet.nodes[0].state_dir());
    for (key, value) in values.iter().filter(|(key, _)| key.starts_with("profile-")) {
        let prefs = Prefs::from_stored(value).expect(key);
        assert_eq!(prefs.to_stored().as_slice(), value.as_slice(), "{key}");
    }

    let stored = Stored {
        values: values.clone(),
        ..Stored::default()
    };
    let mut brain = Backend::new(stored, std::sync::Arc::new(tailcfg::Hostinfo::default()));
    let key = brain.node_key().expect("a node key").public();
    brain.handle(Event::Boot, rt::now(), rt::wall(), &mut rt::OsRng);
    let mut login = None;
    while let Some(effect) = brain.poll_effect() {
        match effect {
            Effect::Control(ControlEffect::Login(wanted)) => login = Some(wanted.node_key.public()),
            Effect::SaveState { key, .. } | Effect::RemoveState { key } => {
                panic!("{key} is changed")
            }
            _ => {}
        }
    }
    assert_eq!(login, Some(key), "the same node comes back without anybody");
}
