//! Ordinary conversations.

use std::sync::Arc;
use std::time::Duration;

use tailcfg::go::Secret;

use super::fake::{Fake, SELF_NODE, client_with, hostinfo, key, login, map, message, next};
use crate::{Event, LoginRequest};

const LONG: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_login_with_a_page() {
    let fake = Fake::start().await;
    let (client, mut events) = fake.client(LONG);
    client.login(LoginRequest {
        old_node_key: key(2),
        auth_key: Some(Secret::new("secret".to_owned())),
        ..login(1)
    });
    let asked = fake.asked().await;
    assert_eq!(
        (asked.method.as_str(), asked.path.as_str()),
        ("POST", "/machine/register")
    );
    assert_eq!(asked.hints, [key(2).to_string(), key(1).to_string()]);
    let first = asked.json();
    assert_eq!(first["Version"], tailcfg::CAP);
    assert_eq!(first["Auth"]["AuthKey"], "secret");
    assert_eq!(first["Followup"], "");
    asked.answer(200, r#"{"AuthURL":"http://127.0.0.1/a?b=c\u0026d"}"#);
    assert!(
        matches!(next(&mut events).await, Event::AuthUrl(url) if url == "http://127.0.0.1/a?b=c&d")
    );

    let asked = fake.asked().await;
    let mut second = asked.json();
    assert_eq!(second["Followup"], "http://127.0.0.1/a?b=c&d");
    second["Followup"] = "".into();
    assert_eq!(first, second, "a followup repeats the whole request");
    asked.answer(200, r#"{"User":{"ID":5},"Login":{"LoginName":"alice"}}"#);
    let Event::Registered(user) = next(&mut events).await else {
        panic!("must be registered");
    };
    assert_eq!((user.id, user.login_name.as_str()), (5, "alice"));
    client.shutdown().await;
}

#[tokio::test]
async fn a_newer_login_replaces_one_that_waits() {
    let fake = Fake::start().await;
    let (client, mut events) = fake.client(LONG);
    client.login(login(1));
    fake.asked()
        .await
        .answer(200, r#"{"AuthURL":"http://127.0.0.1/1"}"#);
    assert!(matches!(next(&mut events).await, Event::AuthUrl(_)));
    let _waiting = fake.asked().await;
    client.login(login(2));
    let asked = fake.asked().await;
    assert_eq!(asked.json()["NodeKey"], key(2).to_string());
    assert_eq!(asked.json()["Followup"], "");
    asked.answer(200, "{}");
    assert!(matches!(next(&mut events).await, Event::Registered(_)));
}

#[tokio::test]
async fn a_server_that_asks_to_wait() {
    let fake = Fake::start().await;
    let (client, mut events) = fake.client(LONG);
    client.login(login(1));
    fake.asked().await.answer(429, "too many");
    let Event::RegisterFailed {
        error,
        for_user: true,
    } = next(&mut events).await
    else {
        panic!("must fail for the user");
    };
    assert!(error.contains("too many"), "{error}");
    client.login(login(2));
    fake.asked().await.answer(200, r#"{"NodeKeyExpired":true}"#);
    assert!(matches!(next(&mut events).await, Event::KeyExpired));
}

#[tokio::test]
async fn a_logout_expires_the_key_and_ends_the_rest() {
    let fake = Fake::start().await;
    let (client, mut events) = fake.client(LONG);
    client.start_map(map(1));
    let stream = fake.asked_in_earnest().await.stream();
    stream.send(message(SELF_NODE)).unwrap();
    assert!(matches!(next(&mut events).await, Event::Map(_)));
    client.logout(key(1));
    let asked = fake.asked_in_earnest().await;
    assert_eq!(asked.path, "/machine/register");
    assert_eq!(asked.json()["Expiry"], "1970-01-01T00:02:03Z");
    asked.answer(200, r#"{"NodeKeyExpired":true}"#);
    let mut ends = [false, false];
    while ends != [true, true] {
        match next(&mut events).await {
            Event::LoggedOut(result) => ends[0] = result.is_ok(),
            Event::MapDown { error: None } => ends[1] = true,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_long_poll_and_its_updates() {
    let fake = Fake::start().await;
    let (client, mut events) = fake.client(LONG);
    client.set_endpoints(vec![("192.0.2.1:1".parse().unwrap(), 2)]);
    client.start_map(map(1));
    let (mut poll, mut update) = (fake.asked().await, fake.asked().await);
    if poll.is_update() {
        std::mem::swap(&mut poll, &mut update);
    }
    assert_eq!(poll.hints, [key(1).to_string()]);
    let (poll_json, update_json) = (poll.json(), update.json());
    assert_eq!(poll_json["Stream"], true);
    assert_eq!(poll_json["Compress"], "zstd");
    assert_eq!(poll_json["KeepAlive"], true);
    assert!(poll_json.get("OmitPeers").is_none());
    assert_eq!(update_json["OmitPeers"], true);
    assert_eq!(update_json["Endpoints"][0], "192.0.2.1:1");
    assert_eq!(update_json["EndpointTypes"][0], 2);
    assert_eq!(
        update_json["DiscoKey"],
        keys::DiscoPublic::from_bytes([5; 32]).to_string()
    );

    let stream = poll.stream();
    // In pieces, so that lengths and messages are cut.
    for byte in message(SELF_NODE).chunks(7) {
        stream.send(bytes::Bytes::copy_from_slice(byte)).unwrap();
    }
    let Event::Map(change) = next(&mut events).await else {
        panic!("must have a map");
    };
    assert_eq!(
        change.map().self_node.name.trim_end_matches('.'),
        "me.tailnet.test"
    );
    let keep_alive = message(r#"{"KeepAlive":true}"#);
    for _ in 0..3 {
        stream.send(keep_alive.clone()).unwrap();
        assert!(matches!(next(&mut events).await, Event::MapHeard));
    }

    // While one update is under way, changes wait and then go out as one.
    for port in 2..20 {
        client.set_endpoints(vec![(([192, 0, 2, 1], port).into(), 1)]);
    }
    client.set_hostinfo(hostinfo());
    update.answer(200, "");
    let update = fake.asked().await;
    assert_eq!(update.json()["Endpoints"][0], "192.0.2.1:19");
    update.answer(500, "not now");
    let update = fake.asked().await;
    assert_eq!(update.json()["Endpoints"][0], "192.0.2.1:19");
    update.answer(200, "");

    client.pause(true);
    assert!(matches!(
        next(&mut events).await,
        Event::MapDown { error: None }
    ));
    client.set_endpoints(Vec::new());
    client.pause(false);
    let (mut poll, mut update) = (fake.asked().await, fake.asked().await);
    if poll.is_update() {
        std::mem::swap(&mut poll, &mut update);
    }
    assert!(update.json().get("Endpoints").is_none());
    client.stop_map();
    assert!(matches!(
        next(&mut events).await,
        Event::MapDown { error: None }
    ));
}

#[tokio::test]
async fn who_is_paused_keeps_no_connection() {
    let fake = Fake::start().await;
    let (client, mut events) = fake.client(Duration::from_secs(60));
    client.start_map(map(1));
    let (mut poll, mut update) = (fake.asked().await, fake.asked().await);
    if poll.is_update() {
        std::mem::swap(&mut poll, &mut update);
    }
    update.answer(200, "");
    let stream = poll.stream();
    stream.send(message(SELF_NODE)).unwrap();
    while !matches!(events.recv().await.unwrap(), Event::Map(_)) {}
    client.pause(true);
    // Its keep-alives would go on for ever.
    fake.is_alone().await;
    client.pause(false);
    assert_eq!(fake.asked_in_earnest().await.path, "/machine/map");
}

#[tokio::test]
async fn pings_and_requests_to_this_node() {
    let fake = Fake::start().await;
    let (client, mut events) = fake.client(LONG);
    client.start_map(map(1));
    let stream = fake.asked_in_earnest().await.stream();
    stream.send(message(SELF_NODE)).unwrap();
    let head =
        r#"{"KeepAlive":true,"PingRequest":{"URL":"https://unused/ping/1?x=y","URLIsNoise":true}}"#;
    for _ in 0..2 {
        stream.send(message(head)).unwrap();
    }
    let asked = fake.asked_in_earnest().await;
    assert_eq!(
        (asked.method.as_str(), asked.path.as_str()),
        ("HEAD", "/ping/1")
    );
    asked.answer(200, "");

    let c2n = |token: &str, request: &str| {
        let payload = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, request);
        message(&format!(
            r#"{{"PingRequest":{{"URL":"https://unused/c2n/{token}","URLIsNoise":true,"Types":"c2n","Payload":"{payload}"}}}}"#
        ))
    };
    stream
        .send(c2n(
            "a",
            "POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi",
        ))
        .unwrap();
    let asked = fake.asked_in_earnest().await;
    assert_eq!(
        (asked.method.as_str(), asked.path.as_str()),
        ("POST", "/c2n/a")
    );
    assert_eq!(
        &asked.body[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    );
    asked.answer(200, "");
    stream
        .send(c2n("b", "GET /nothing HTTP/1.1\r\n\r\n"))
        .unwrap();
    let asked = fake.asked_in_earnest().await;
    assert!(asked.body.starts_with(b"HTTP/1.1 400 Bad Request\r\n"));
    assert!(asked.body.ends_with(b"\r\n\r\nunknown c2n path\n"));
    asked.answer(200, "");

    let peer = r#"{"PingRequest":{"URL":"https://unused/pong","URLIsNoise":true,"Types":"disco,TSMP","IP":"100.64.0.2"}}"#;
    stream.send(message(peer)).unwrap();
    let request = loop {
        match next(&mut events).await {
            Event::Ping(request) => break request,
            Event::Map(_) | Event::MapHeard => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(request.types, "disco,TSMP");
    let report = async {
        let response = tailcfg::PingResponse {
            kind: "disco".to_owned(),
            ..tailcfg::PingResponse::default()
        };
        client.report_ping(&request, &response).await.unwrap();
    };
    let (asked, ()) = tokio::join!(
        async {
            let asked = fake.asked_in_earnest().await;
            let json = asked.json();
            asked.answer(200, "");
            json
        },
        report
    );
    assert_eq!(asked["Type"], "disco");
}

#[tokio::test]
async fn over_tls_where_plain_http_is_closed() {
    let fake = Fake::start_tls().await;
    let (client, mut events) = fake.client(LONG);
    client.login(login(1));
    fake.asked().await.answer(200, "{}");
    assert!(matches!(next(&mut events).await, Event::Registered(_)));
    // The second dial starts with TLS at once.
    fake.cut();
    client.login(login(2));
    fake.asked().await.answer(200, "{}");
    while let Event::RegisterFailed { .. } = next(&mut events).await {}
}

#[tokio::test]
async fn a_server_that_was_set_up_anew() {
    let fake = Fake::start().await;
    let (client, mut events) = fake.client(LONG);
    client.start_map(map(1));
    let stream = fake.asked_in_earnest().await.stream();
    stream.send(message(SELF_NODE)).unwrap();
    assert!(matches!(next(&mut events).await, Event::Map(_)));
    fake.change_key();
    let asked = async { fake.asked_in_earnest().await.answer(404, "node not found") };
    let news = async { while let Event::MapDown { .. } = next(&mut events).await {} };
    tokio::join!(asked, news);
}

#[tokio::test]
async fn through_a_proxy() {
    let fake = Fake::start().await;
    let to = fake.address();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let env = [(
        "HTTP_PROXY".to_owned(),
        listener.local_addr().unwrap().to_string(),
    )];
    // Whatever name is asked for, the way leads to the server, which takes absolute targets.
    let _proxy = rt::Task::spawn("test proxy", async move {
        let mut tunnels = Vec::new();
        while let Ok((mut from, _)) = listener.accept().await {
            tunnels.push(rt::Task::spawn("test tunnel", async move {
                let mut to = tokio::net::TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            }));
        }
    });
    let dialer = transport::Dialer::new(transport::DialConfig {
        egress: None,
        proxy: transport::ProxyConfig::from_env(&env.into()),
    });
    let url = "http://control.invalid:8080/base".to_owned();
    let (client, mut events) = client_with(url, dialer, LONG);
    client.login(login(1));
    fake.asked().await.answer(200, "{}");
    assert!(matches!(next(&mut events).await, Event::Registered(_)));
}

/// A server whose address is the one in the plan; connections are passed on and counted.
async fn detour(to: std::net::SocketAddr) -> (rt::Task, Arc<std::sync::atomic::AtomicUsize>) {
    let at = (std::net::Ipv4Addr::new(127, 0, 0, 2), to.port());
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let task = rt::Task::spawn("detour", async move {
        while let Ok((mut from, _)) = listener.accept().await {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut on = tokio::net::TcpStream::connect(to).await.unwrap();
            rt::Task::spawn("passing on", async move {
                let _ = tokio::io::copy_bidirectional(&mut from, &mut on).await;
            })
            .detach();
        }
    });
    (task, count)
}

#[tokio::test]
async fn the_dial_plan_goes_before_the_name() {
    let fake = Fake::start().await;
    let (client, mut events) = fake.client(LONG);
    client.start_map(map(1));
    let stream = fake.asked_in_earnest().await.stream();
    stream.send(message(SELF_NODE)).unwrap();
    let (task, count) = detour(fake.address()).await;
    // One candidate where nobody listens, one that may never be tried, and the one that leads to the server.
    stream
        .send(message(
            r#"{"ControlDialPlan":{"Candidates":[{"IP":"127.0.0.3","DialTimeoutSec":5},{"IP":"127.0.0.2"},{"IP":"127.0.0.2","DialTimeoutSec":5}]}}"#,
        ))
        .unwrap();
    while !matches!(next(&mut events).await, Event::MapHeard) {}
    let count = || count.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(count(), 0);
    fake.cut();
    let again = fake.asked_in_earnest().await;
    assert_eq!(count(), 1);
    again.stream().send(message(SELF_NODE)).unwrap();
    while !matches!(next(&mut events).await, Event::Map(_)) {}
    // What the plan says may be old news; the name leads there still.
    drop(task);
    fake.cut();
    fake.asked_in_earnest().await;
    assert_eq!(count(), 1);
}

#[tokio::test]
async fn what_peers_say_of_themselves_is_merged() {
    let fake = Fake::start().await;
    let (client, mut events) = fake.client(LONG);
    client.start_map(map(1));
    let stream = fake.asked_in_earnest().await.stream();
    let with_peer = SELF_NODE.replacen(
        '{',
        r#"{"Peers":[{"ID":2,"Name":"p.tailnet.test.","LastSeen":"2023-01-01T00:00:00Z"}],"#,
        1,
    );
    stream.send(message(&with_peer)).unwrap();
    while !matches!(next(&mut events).await, Event::Map(_)) {}
    let told = |secs, byte| tailcfg::PeerChange {
        node_id: 2,
        disco_key: Some(keys::DiscoPublic::from_bytes([byte; 32])),
        online: Some(false),
        last_seen: Some(tailcfg::go::GoTime::from_unix_secs(secs)),
        ..tailcfg::PeerChange::default()
    };
    // The second is older than what the server knows, the third newer than the first.
    client.learn(told(1_700_000_000, 7));
    client.learn(told(1_600_000_000, 8));
    client.learn(told(1_700_000_001, 9));
    let mut keys = Vec::new();
    while keys.len() < 2 {
        if let Event::Map(change) = next(&mut events).await {
            let peer = change.map().peers.iter().next().unwrap();
            keys.push(peer.disco.as_bytes()[0]);
        }
    }
    assert_eq!(keys, [7, 9]);
}
