//! Go's tailscaled and tailscale log in at a page, wait for approval, follow every kind of change, answer questions, expire,
//! authenticate again and leave.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Cli, cli, daemon, derp_map, key};
use controlserver::{
    Admin, Approval, C2nQuestion, Config, NewAuthKey, NodeInfo, PingQuestion, Presence, Server,
    Settings,
};
use serde_json::{Value, json};
use tailcfg::go::GoTime;
use tailcfg::{DnsConfig, DnsRecord, NodeId};
use testkit::originals::{Derper, go_derper, program};
use testkit::wait_until;

async fn server(derper: &Derper) -> Server {
    let config = Config {
        derp_map: derp_map(derper),
        keep_alive: Duration::from_secs(2),
        ephemeral_timeout: Duration::from_secs(1),
        ..Config::default()
    };
    Server::start(config).await.unwrap()
}

fn node(admin: &Admin, id: NodeId) -> NodeInfo {
    admin
        .nodes()
        .into_iter()
        .find(|node| node.id == id)
        .unwrap()
}

fn state(cli: &Cli<'_>) -> String {
    cli.status()["BackendState"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// The peer with this name, once it looks as it should.
fn peer(cli: &Cli<'_>, what: &str, looks: impl Fn(&Value) -> bool) -> Value {
    wait_until(what, || cli.peers().into_iter().find(&looks))
}

fn named(name: &str) -> impl Fn(&Value) -> bool {
    move |peer| {
        peer["DNSName"]
            .as_str()
            .is_some_and(|full| full.split('.').next() == Some(name))
    }
}

/// The network map as the node itself has it.
async fn netmap(admin: &Admin, id: NodeId) -> Value {
    let question = C2nQuestion {
        path: "/debug/netmap".into(),
        ..C2nQuestion::default()
    };
    let answer = admin.c2n(id, &question).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str::<Value>(&answer.body).unwrap()["current"].take()
}

/// Asks until the node's own map looks as it should.
async fn until_netmap(admin: &Admin, id: NodeId, what: &str, looks: impl Fn(&Value) -> bool) {
    for _ in 0..300 {
        if looks(&netmap(admin, id).await) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited in vain: {what}: {}", netmap(admin, id).await);
}

/// Runs Go's command line while we do something else.
fn in_background(
    test: &'static str,
    socket: &Path,
    args: &[&str],
) -> tokio::task::JoinHandle<(bool, String)> {
    let socket = socket.to_owned();
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    tokio::task::spawn_blocking(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        cli(test, &socket).run(&args)
    })
}

/// Waits for a login and lets it in.
async fn let_in(admin: &Admin, user: &str) {
    let login = wait_until("a login", || {
        admin.logins().into_iter().find(|login| !login.decided)
    });
    let approval = Approval {
        user: user.into(),
        tags: None,
    };
    admin.approve_login(&login.id, approval).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_clients_log_in_at_a_page_and_wait_for_approval() {
    const TEST: &str = "go_clients_log_in_at_a_page_and_wait_for_approval";
    let (Some(derper), Some(one)) = (go_derper(TEST), daemon(TEST)) else {
        return;
    };
    if program(TEST, "TS_GO_TAILSCALE").is_none() {
        return;
    }
    let server = server(&derper).await;
    let (url, admin) = (server.url(), server.admin());
    admin
        .set_settings(Settings {
            device_approval: true,
            ..Settings::default()
        })
        .await;
    let socket = one.socket();
    let a = cli(TEST, &socket);
    let up = in_background(
        TEST,
        &socket,
        &[
            "up",
            &format!("--login-server={url}"),
            "--hostname=alpha",
            "--advertise-tags=tag:lab",
            "--timeout=90s",
        ],
    );
    let login = wait_until("a login", || admin.logins().into_iter().next());
    assert_eq!(
        (login.hostname.as_str(), login.os.as_str()),
        ("alpha", "linux")
    );
    assert_eq!(login.tags, ["tag:lab"]);
    let page = format!("{url}/register/{}", login.id);
    wait_until("the page's address in the status", || {
        (a.status()["AuthURL"] == page.as_str()).then_some(())
    });
    let_in(&admin, "ann").await;
    wait_until("the machine to wait", || {
        (state(&a) == "NeedsMachineAuth").then_some(())
    });
    assert!(!node(&admin, 1).approved);
    admin.set_approved(1, true).await.unwrap();
    let up = up.await.unwrap();
    assert!(up.0, "{}", up.1);
    assert!(up.1.contains(&format!("{url}/register/")), "{}", up.1);
    assert_eq!(state(&a), "Running");
    let info = node(&admin, 1);
    assert_eq!(
        (info.user.as_str(), info.tags),
        ("tagged-devices", vec!["tag:lab".to_owned()])
    );
    // Approval is taken back and given again while it runs.
    admin.set_approved(1, false).await.unwrap();
    wait_until("the machine to wait again", || {
        (state(&a) == "NeedsMachineAuth").then_some(())
    });
    admin.set_approved(1, true).await.unwrap();
    wait_until("the machine to run", || {
        (state(&a) == "Running").then_some(())
    });
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_clients_follow_every_change() {
    const TEST: &str = "go_clients_follow_every_change";
    let (Some(derper), Some(one)) = (go_derper(TEST), daemon(TEST)) else {
        return;
    };
    if program(TEST, "TS_GO_TAILSCALE").is_none() {
        return;
    }
    let server = server(&derper).await;
    let (url, admin) = (server.url(), server.admin());
    let socket = one.socket();
    let a = cli(TEST, &socket);
    let (ok, text) = a.up(&url, &key(&admin, NewAuthKey::default()).await, "alpha");
    assert!(ok, "{text}");

    // Peers come, go offline in either form, change what a patch can tell and what it cannot, and vanish.
    let ids = admin.add_nodes(3).await.unwrap();
    wait_until("three peers", || (a.peers().len() == 3).then_some(()));
    for presence in [Presence::Patches, Presence::Maps] {
        admin
            .set_settings(Settings {
                presence,
                ..Settings::default()
            })
            .await;
        for online in [false, true] {
            admin.set_online(ids[0], online).await.unwrap();
            let name = format!("paper{}", ids[0]);
            peer(&a, &format!("{presence:?} {online}"), |peer| {
                named(&name)(peer) && peer["Online"] == online
            });
        }
    }
    admin.set_name(ids[0], "renamed").await.unwrap();
    peer(&a, "a new name", named("renamed"));
    admin.set_tags(ids[0], vec!["tag:x".into()]).await.unwrap();
    peer(&a, "a tag", |peer| {
        named("renamed")(peer) && peer["Tags"][0] == "tag:x"
    });
    admin.expire_node(ids[0]).await.unwrap();
    peer(&a, "an expired peer", |peer| {
        named("renamed")(peer) && peer["Expired"] == true
    });
    admin.set_key_expiry(ids[0], GoTime::ZERO).await.unwrap();
    peer(&a, "a living peer", |peer| {
        named("renamed")(peer) && peer["Expired"].is_null()
    });
    admin.remove_node(ids[1]).await.unwrap();
    wait_until("a peer's end", || (a.peers().len() == 2).then_some(()));
    admin.set_approved(ids[2], false).await.unwrap();
    wait_until("a peer that may not take part", || {
        (a.peers().len() == 1).then_some(())
    });
    admin.set_approved(ids[2], true).await.unwrap();
    wait_until("a peer that may", || (a.peers().len() == 2).then_some(()));

    // Ourselves, names, relays, rules, people.
    admin
        .set_attributes(1, [("randomize-client-port".to_owned(), None)].into())
        .await
        .unwrap();
    wait_until("an attribute", || {
        a.status()["Self"]["CapMap"]["randomize-client-port"]
            .is_null()
            .then_some(())?;
        a.status()["Self"]["CapMap"]
            .get("randomize-client-port")
            .map(drop)
    });
    admin.set_name(1, "myself").await.unwrap();
    wait_until("our own new name", || {
        (a.status()["Self"]["DNSName"] == "myself.tailnet.test.").then_some(())
    });
    let dns = DnsConfig {
        domains: vec!["corp.example".into()],
        extra_records: vec![DnsRecord {
            name: "extra.tailnet.test".into(),
            value: "100.64.9.9".into(),
            ..DnsRecord::default()
        }],
        ..DnsConfig::default()
    };
    admin.set_dns(dns).await;
    until_netmap(&admin, 1, "a search domain", |map| {
        map["DNS"]["Domains"] == json!(["tailnet.test", "corp.example"])
            && map["DNS"]["ExtraRecords"][0]["Value"] == "100.64.9.9"
    })
    .await;
    let mut map = (*admin.derp_map()).clone();
    let region = map
        .regions
        .as_mut()
        .unwrap()
        .get_mut(&900)
        .unwrap()
        .as_mut()
        .unwrap();
    region.region_name = "Elsewhere".into();
    admin.set_derp_map(map).await;
    until_netmap(&admin, 1, "a relay's new name", |map| {
        map["DERPMap"]["Regions"]["900"]["RegionName"] == "Elsewhere"
    })
    .await;
    admin.set_filter(vec![]).await;
    until_netmap(&admin, 1, "an empty filter", |map| {
        map["PacketFilter"].as_array().is_none_or(Vec::is_empty)
    })
    .await;

    // Raw messages, in the forms that the server itself does not use.
    let id = ids[0];
    let inject = |message: Value| admin.inject(1, message.to_string().into()).unwrap();
    inject(
        json!({"PeersChangedPatch": [{"NodeID": id, "DERPRegion": 900, "Cap": 99,
        "Endpoints": ["192.0.2.7:7"], "KeyExpiry": "2099-01-01T00:00:00Z"}]}),
    );
    until_netmap(&admin, 1, "a patched peer", |map| {
        map["Peers"].as_array().unwrap().iter().any(|peer| {
            peer["ID"] == id && peer["Cap"] == 99 && peer["Endpoints"] == json!(["192.0.2.7:7"])
        })
    })
    .await;
    inject(json!({"Health": ["the moon is full"]}));
    wait_until("a health message", || {
        let status = a.status();
        let health = status["Health"].as_array().cloned().unwrap_or_default();
        health
            .iter()
            .any(|text| text.as_str().unwrap().contains("the moon is full"))
            .then_some(())
    });
    inject(json!({"Health": []}));
    inject(json!({"UserProfiles": [{"ID": 77, "LoginName": "new@x", "DisplayName": "New"}]}));
    inject(json!({"KeepAlive": true}));
    inject(json!({"PeersRemoved": [id]}));
    wait_until("a peer's removal", || (a.peers().len() == 1).then_some(()));
    // A new stream tells all anew.
    admin.disconnect(1).unwrap();
    wait_until("the whole map again", || {
        (a.peers().len() == 2).then_some(())
    });
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_clients_answer_expire_and_come_back() {
    const TEST: &str = "go_clients_answer_expire_and_come_back";
    let (Some(derper), Some(one), Some(two)) = (go_derper(TEST), daemon(TEST), daemon(TEST)) else {
        return;
    };
    if program(TEST, "TS_GO_TAILSCALE").is_none() {
        return;
    }
    let server = server(&derper).await;
    let (url, admin) = (server.url(), server.admin());
    let (socket_one, socket_two) = (one.socket(), two.socket());
    let (a, b) = (cli(TEST, &socket_one), cli(TEST, &socket_two));
    let reusable = NewAuthKey {
        user: "ann".into(),
        reusable: true,
        ..NewAuthKey::default()
    };
    let reusable = key(&admin, reusable).await;
    for (cli, name) in [(&a, "alpha"), (&b, "beta")] {
        let (ok, text) = cli.up(&url, &reusable, name);
        assert!(ok, "{text}");
    }
    let (alpha, beta) = (node(&admin, 1), node(&admin, 2));

    // Questions of the server.
    let echo = C2nQuestion {
        method: "POST".into(),
        path: "/echo".into(),
        body: "hello".into(),
    };
    let answer = admin.c2n(1, &echo).await.unwrap();
    assert_eq!((answer.status, answer.body.trim()), (200, "hello"));
    let unknown = C2nQuestion {
        path: "/nothing".into(),
        ..C2nQuestion::default()
    };
    assert_eq!(admin.c2n(1, &unknown).await.unwrap().status, 400);
    admin.ping(1, PingQuestion::default()).await.unwrap();
    wait_until("a way between the nodes", || {
        a.run(&["ping", "--tsmp", "-c=1", "beta"]).0.then_some(())
    });
    for kind in ["disco", "TSMP"] {
        let what = PingQuestion {
            types: kind.into(),
            ip: Some(beta.addresses[0]),
        };
        let pong = admin.ping(1, what).await.unwrap();
        assert_eq!(
            (pong.err.as_str(), pong.node_name.as_str()),
            ("", "beta"),
            "{kind}"
        );
    }

    // A key that runs out while all go on, and its successor: the same node with the same addresses.
    let soon = rt::wall().as_unix_nanos() + 3_000_000_000;
    admin
        .set_key_expiry(2, GoTime::from_unix_nanos(soon))
        .await
        .unwrap();
    peer(&a, "the coming expiry at the other node", |peer| {
        !peer["KeyExpiry"].is_null()
    });
    wait_until("the expiry at the node itself", || {
        (state(&b) == "NeedsLogin").then_some(())
    });
    peer(&a, "the expiry at the other node", |peer| {
        peer["Expired"] == true
    });
    let again = [
        "up",
        &format!("--login-server={url}"),
        "--hostname=beta",
        "--force-reauth",
        "--timeout=60s",
    ];
    let up = in_background(TEST, &socket_two, &again);
    let_in(&admin, "ann").await;
    let (ok, text) = up.await.unwrap();
    assert!(ok, "{text}");
    let renewed = node(&admin, 2);
    assert_eq!(
        (&renewed.addresses, renewed.machine_key),
        (&beta.addresses, beta.machine_key)
    );
    assert_ne!(renewed.node_key, beta.node_key);
    peer(&a, "the new key at the other node", |peer| {
        peer["PublicKey"] == renewed.node_key.to_string() && peer["Expired"].is_null()
    });
    wait_until("a ping to the new key", || {
        a.run(&["ping", "--tsmp", "-c=1", "beta"]).0.then_some(())
    });

    // While a person is asked, the old key works on.
    let up = in_background(TEST, &socket_two, &again);
    wait_until("a login", || admin.logins().into_iter().next());
    wait_until("a ping meanwhile", || {
        a.run(&["ping", "--tsmp", "-c=1", "beta"]).0.then_some(())
    });
    assert!(node(&admin, 2).online);
    assert_eq!(node(&admin, 2).node_key, renewed.node_key);
    let_in(&admin, "ann").await;
    let (ok, text) = up.await.unwrap();
    assert!(ok, "{text}");
    assert_ne!(node(&admin, 2).node_key, renewed.node_key);
    assert_eq!(admin.nodes().len(), 2);

    // Leaving, and somebody else's node on the same machine.
    b.ok(&["logout"]);
    peer(&a, "the logout at the other node", |peer| {
        peer["Expired"] == true
    });
    let fleeting = NewAuthKey {
        user: "bob".into(),
        ephemeral: true,
        tags: vec!["tag:short".into()],
        ..NewAuthKey::default()
    };
    let (ok, text) = b.up(&url, &key(&admin, fleeting).await, "gamma");
    assert!(ok, "{text}");
    peer(&a, "another node of the same machine", named("gamma"));
    drop(two);
    wait_until("the ephemeral node's end", || {
        admin
            .nodes()
            .iter()
            .all(|node| !node.ephemeral)
            .then_some(())
    });
    wait_until("its end at the other node", || {
        a.peers()
            .iter()
            .all(|peer| !named("gamma")(peer))
            .then_some(())
    });
    assert_eq!(node(&admin, 1).node_key, alpha.node_key);
    server.stop().await;
}
