//! Control servers that are away, slow, forgetful or out of their mind.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::ours::{Node, Relay, Tailnet, until};
use crate::scripted_control::{ScriptedControl, Turn, frame, message};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_yet() {
    // A key that will be good as soon as somebody can judge it.
    let mut tailnet = Tailnet::start().await;
    let key = tailnet.reusable_key().await;
    tailnet.stop_control().await;

    let mut node = Node::start();
    let said = node.up(&tailnet.url(), &key, &["--timeout=2s"]);
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("timeout"), "{}", said.stderr);
    assert_ne!(node.state().await, "Running");
    tailnet.start_control().await;
    node.until_running().await;
    let known = node.key().await;

    // The same for a node that has been in before.
    tailnet.stop_control().await;
    node.daemon.kill();
    node.daemon.start_again();
    assert_ne!(node.state().await, "NeedsLogin");
    tailnet.start_control().await;
    node.until_running().await;
    assert_eq!(node.key().await, known);
}

/// Says `words` to whoever connects, and then nothing more.
async fn impersonate(address: SocketAddr, words: &'static [u8]) {
    let listener = TcpListener::bind(address).await.unwrap();
    let mut callers = Vec::new();
    while let Ok((mut caller, _)) = listener.accept().await {
        // Whoever hangs up has understood.
        let _ = caller.write_all(words).await;
        callers.push(caller);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_else_at_the_servers_address() {
    let mut tailnet = Tailnet::start().await;
    let key = tailnet.reusable_key().await;
    tailnet.stop_control().await;
    let node = Node::start();
    let words: [&[u8]; 5] = [
        b"",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{\"publicKey\":\"mkey:",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ];
    for words in words {
        let impostor = rt::Task::spawn("impostor", impersonate(tailnet.address(), words));
        let said = node.up(&tailnet.url(), &key, &["--timeout=1s"]);
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        assert_ne!(node.state().await, "Running");
        drop(impostor);
        let is_free = async || TcpListener::bind(tailnet.address()).await.is_ok();
        until("the address to be free", is_free).await;
    }
    tailnet.start_control().await;
    node.until_running().await;
    assert_eq!(tailnet.admin().nodes().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts() {
    let mut tailnet = Tailnet::start().await;
    let node = tailnet.node().await;
    let known = node.key().await;
    for _ in 0..3 {
        tailnet.stop_control().await;
        assert_eq!(node.state().await, "Running", "what is known stays in use");
        tailnet.start_control().await;
        let online = async || {
            tailnet
                .admin()
                .nodes()
                .iter()
                .any(|seen| seen.online && seen.node_key == known)
        };
        until("the node online again", online).await;
    }
    node.until_running().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgot_everything_wants_a_login_and_gets_one() {
    let mut tailnet = Tailnet::start().await;
    let node = tailnet.node().await;
    tailnet.stop_control().await;
    tailnet.forget();
    tailnet.start_control().await;
    let sent_to_a_page = async || tailnet.admin().logins().len() == 1;
    until("the node to be sent to a login page", sent_to_a_page).await;
    let key = tailnet.reusable_key().await;
    let said = node.up(&tailnet.url(), &key, &["--timeout=60s"]);
    assert_eq!(said.code, Some(0), "{}\n{}", said.stderr, node.daemon.log());
    let online = async || tailnet.admin().nodes().iter().any(|node| node.online);
    until("the node online", online).await;
    assert_eq!(tailnet.admin().nodes().len(), 1);
    until("the warning's end", async || node.health().await.is_empty()).await;
    node.until_running().await;
}

/// A node that is Running by the grace of a scripted server.
async fn scripted() -> (ScriptedControl, Relay, Node) {
    let relay = Relay::start().await;
    let control = ScriptedControl::start(&relay.derp_map()).await;
    let node = Node::start();
    let said = node.up(&control.url(), "key", &["--timeout=60s"]);
    assert_eq!(said.code, Some(0), "{}\n{}", said.stderr, node.daemon.log());
    (control, relay, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_junk_end_and_the_next_good_map_counts() {
    let (control, _relay, node) = scripted().await;
    let bomb = {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        for _ in 0..1024 {
            std::io::Write::write_all(&mut encoder, &vec![b' '; 1 << 20]).unwrap();
        }
        encoder.finish().unwrap()
    };
    let oversized = ts2021::map_frame_header(u32::MAX).to_vec();
    let mut not_json = control.good_map().to_string().into_bytes();
    not_json.truncate(not_json.len() / 2);
    let deep = |before: &str| format!("{before}{}", "[".repeat(1 << 20));
    let compressed = |text: &[u8]| zstd::encode_all(text, 1).unwrap();
    let junk = [
        (Turn::GoodThen(frame(&[0; 100])[..50].to_vec()), "ended it"),
        (Turn::GoodThen(frame(b"{}")), "decompressing a message"),
        (
            Turn::GoodThen(frame(&compressed(b"{\"Domain\":\"x\"}")[..12])),
            "decompressing a message",
        ),
        (Turn::GoodThen(frame(&bomb)), "a message is longer than"),
        (Turn::GoodThen(oversized), "longer than"),
        (
            Turn::GoodThen(frame(&compressed(&not_json))),
            "reading a message",
        ),
        (
            Turn::GoodThen(frame(&compressed(deep("").as_bytes()))),
            "invalid type",
        ),
        (
            Turn::GoodThen(frame(&compressed(deep("{\"Future\":").as_bytes()))),
            "EOF while parsing",
        ),
        (
            Turn::GoodThen(frame(&compressed(
                deep("{\"Node\":{\"CapMap\":{\"x\":[").as_bytes(),
            ))),
            "reading a message",
        ),
        (
            Turn::Say(message(&json!({"Domain": "x"}))),
            "no node for ourselves",
        ),
        (
            Turn::Status(500, "out of order"),
            "http status 500: out of order",
        ),
        (Turn::Status(403, "<html>"), "http status 403"),
        (Turn::Cut, "control: map:"),
        (Turn::GoodInPieces, "ended it"),
        (Turn::Late(Duration::from_secs(3)), "ended it"),
    ];
    let (turns, words): (Vec<_>, Vec<_>) = junk.into_iter().unzip();
    control.play(&node, turns).await;
    let log = node.daemon.log();
    let mut rest = log.as_str();
    for words in words {
        let found = rest.split_once(words);
        rest = found
            .unwrap_or_else(|| panic!("no {words:?} in its place in:\n{log}"))
            .1;
    }
    assert!(control.saw_one_identity());
    assert_eq!(control.logins(), 1, "nobody had to log in again");
    // The bomb would be 1 GiB.
    assert!(
        node.memory_kib("VmHWM") < 600 << 10,
        "{} KiB",
        node.memory_kib("VmHWM")
    );
    assert!(
        node.memory_kib("VmRSS") < 100 << 10,
        "{} KiB",
        node.memory_kib("VmRSS")
    );
}

/// Every place of a document, the deepest first.
fn places(value: &Value, here: String, out: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(object) => object
            .iter()
            .map(|(name, value)| (name.replace('/', "~1"), value))
            .collect(),
        Value::Array(array) => array
            .iter()
            .enumerate()
            .map(|(at, value)| (at.to_string(), value))
            .collect(),
        _ => Vec::new(),
    };
    for (name, child) in children {
        places(child, format!("{here}/{name}"), out);
    }
    out.push(here);
}

#[tokio::test(flavor = "multi_thread")]
async fn nulls_anywhere_wrong_types_and_unknown_fields() {
    let (control, _relay, node) = scripted().await;
    let good = control.good_map();
    let mut all = Vec::new();
    places(&good, String::new(), &mut all);
    let with = |place: &str, wrong: Value| {
        let mut map = good.clone();
        *map.pointer_mut(place).unwrap() = wrong;
        message(&map)
    };
    control
        .play_messages(&node, all.iter().map(|place| with(place, Value::Null)))
        .await;
    // Most of these end the stream, and each time a longer wait follows: so only a few.
    let wrong = [
        ("/Node", json!([])),
        ("/Peers/0/Key", json!("nodekey:x")),
        ("/DERPMap/Regions", json!(-1)),
        ("", json!("\u{0}x")),
    ];
    control
        .play_messages(&node, wrong.map(|(place, wrong)| with(place, wrong)))
        .await;
    let mut map = good.clone();
    for place in &all {
        if let Some(object) = map.pointer_mut(place).and_then(Value::as_object_mut) {
            object.insert("Future".into(), json!({"a": [1, null, {"b": 2.5}]}));
        }
    }
    control.play_messages(&node, [message(&map)]).await;
    assert_eq!(control.logins(), 1);
    assert!(control.saw_one_identity());
}
