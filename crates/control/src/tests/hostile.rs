//! Servers that misbehave: each time a clear error, and the client lives on.

use std::time::Duration;

use bytes::Bytes;

use super::fake::{Fake, SELF_NODE, map, message, next};
use crate::{Client, ClientConfig, Event};

const LONG: Duration = Duration::from_secs(120);

fn frame(len: u32, body: &[u8]) -> Bytes {
    let mut out = ts2021::map_frame_header(len).to_vec();
    out.extend_from_slice(body);
    out.into()
}

#[tokio::test]
async fn streams_full_of_junk() {
    let fake = Fake::start().await;
    let (client, mut events) = fake.client(LONG);
    client.start_map(map(1));
    let check = async |events: &mut tokio::sync::mpsc::Receiver<Event>, sent: Bytes, want: &str| {
        let stream = fake.asked_in_earnest().await.stream();
        stream.send(sent).unwrap();
        drop(stream);
        let error = loop {
            match next(events).await {
                Event::MapDown { error: Some(error) } => break error,
                Event::MapHeard | Event::Map(_) | Event::MapDown { error: None } => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(error.contains(want), "{error}, wanted {want}");
        // Saves the waits that would grow from case to case.
        client.restart_map();
    };
    check(&mut events, Bytes::new(), "ended").await;
    check(&mut events, Bytes::from_static(b"\x01"), "ended").await;
    check(&mut events, frame(100, b"short"), "ended").await;
    check(&mut events, frame(u32::MAX, b"x"), "longer than").await;
    check(&mut events, frame(2, b"{}"), "decompressing").await;
    check(&mut events, message("{"), "reading a message").await;
    check(&mut events, message("[1]"), "reading a message").await;
    check(&mut events, message("null"), "no node for ourselves").await;
    check(&mut events, message("{}"), "no node for ourselves").await;
    check(&mut events, message(r#"{"KeepAlive":true}"#), "ended").await;
    let nulls = r#"{"Node":null,"DERPMap":null,"Peers":null,"DNSConfig":null,"PacketFilter":null}"#;
    check(&mut events, message(nulls), "no node for ourselves").await;
    let odd = SELF_NODE.replacen(
        '{',
        r#"{"Future":[1,{"a":null}],"DERPMap":{"Regions":{"1":null}},"Debug":null,"#,
        1,
    );
    check(&mut events, message(&odd), "ended").await;

    assert!(matches!(
        next(&mut events).await,
        Event::MapDown { error: None }
    ));
    fake.asked_in_earnest().await.answer(500, "broken");
    let Event::MapDown { error: Some(error) } = next(&mut events).await else {
        panic!("must be down");
    };
    assert!(error.contains("http status 500: broken"), "{error}");

    let stream = fake.asked_in_earnest().await.stream();
    stream.send(message(SELF_NODE)).unwrap();
    assert!(matches!(next(&mut events).await, Event::Map(_)));
    fake.cut();
    assert!(matches!(
        next(&mut events).await,
        Event::MapDown { error: Some(_) }
    ));
    let stream = fake.asked_in_earnest().await.stream();
    stream.send(message(SELF_NODE)).unwrap();
    assert!(matches!(next(&mut events).await, Event::Map(_)));
}

#[tokio::test]
async fn a_silent_stream_is_given_up() {
    let fake = Fake::start().await;
    let (client, mut events) = fake.client(Duration::from_millis(200));
    client.start_map(map(1));
    let _silent = fake.asked_in_earnest().await.stream();
    let Event::MapDown { error: Some(error) } = next(&mut events).await else {
        panic!("must be down");
    };
    assert!(error.contains("nothing came"), "{error}");
    fake.asked_in_earnest()
        .await
        .stream()
        .send(message(SELF_NODE))
        .unwrap();
    assert!(matches!(next(&mut events).await, Event::Map(_)));
}

#[tokio::test]
async fn a_server_that_forgot_the_node_is_not_asked_again() {
    let fake = Fake::start().await;
    let (client, mut events) = fake.client(LONG);
    client.start_map(map(1));
    fake.asked_in_earnest().await.answer(404, "node not found");
    assert!(matches!(next(&mut events).await, Event::NotRegistered));
    assert!(matches!(
        next(&mut events).await,
        Event::MapDown { error: None }
    ));
    client.start_map(map(1));
    fake.asked_in_earnest()
        .await
        .stream()
        .send(message(SELF_NODE))
        .unwrap();
    assert!(matches!(next(&mut events).await, Event::Map(_)));
}

#[tokio::test]
async fn pages_are_checked_and_shown_once() {
    let fake = Fake::start().await;
    let (client, mut events) = fake.client(LONG);
    client.start_map(map(1));
    let stream = fake.asked_in_earnest().await.stream();
    stream.send(message(SELF_NODE)).unwrap();
    assert!(matches!(next(&mut events).await, Event::Map(_)));
    for page in [
        "file:///etc/passwd",
        "https://page.test/1",
        "https://page.test/1",
    ] {
        stream
            .send(message(&format!(
                r#"{{"KeepAlive":true,"PopBrowserURL":"{page}"}}"#
            )))
            .unwrap();
    }
    let mut shown = Vec::new();
    for _ in 0..4 {
        match next(&mut events).await {
            Event::BrowseTo(page) => shown.push(page),
            Event::MapHeard => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(shown, ["https://page.test/1"]);
}

#[tokio::test]
async fn a_server_that_is_not_there() {
    let url = format!("http://127.0.0.1:{}", testkit::free_port());
    let dialer = std::sync::Arc::new(transport::Dialer::new(transport::DialConfig::default()));
    let config = |server_url: String| ClientConfig {
        server_url,
        machine_key: keys::MachinePrivate::from_bytes([3; 32]),
        dialer: std::sync::Arc::clone(&dialer),
        paused: false,
        force_443: false,
        disco_key: keys::DiscoPublic::ZERO,
        c2n: crate::C2nRouter::new(),
        dial_plan: crate::DialPlan::default(),
    };
    let (client, mut events) = Client::start(config(url)).unwrap();
    client.login(super::fake::login(1));
    for _ in 0..3 {
        let Event::RegisterFailed {
            error,
            for_user: false,
        } = next(&mut events).await
        else {
            panic!("must fail");
        };
        assert!(error.contains("connecting to `127.0.0.1:"), "{error}");
    }
    assert!(Client::start(config("nonsense".to_owned())).is_err());
}
