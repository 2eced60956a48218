//! Go's tailscaled and tailscale join, talk, are kept apart, come back and leave.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{cli, daemon, derp_map, key};
use controlserver::{Config, NewAuthKey, Server};
use tailcfg::FilterRule;
use testkit::originals::go_derper;
use testkit::wait_until;

/// The clients keep on trying a key that was refused, so each bad key needs a daemon of its own.
fn refused(test: &str, url: &str, key: &str, flags: &[&str]) -> String {
    let daemon = daemon(test).unwrap();
    let socket = daemon.socket();
    let server = format!("--login-server={url}");
    let key = format!("--auth-key={key}");
    let args = [&["up", &server, &key, "--timeout=10s"], flags].concat();
    let (ok, text) = cli(test, &socket).run(&args);
    assert!(!ok, "{text}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_do_not_work_are_told_so() {
    const TEST: &str = "keys_that_do_not_work_are_told_so";
    let programs = ["TS_GO_TAILSCALED", "TS_GO_TAILSCALE"];
    if programs
        .iter()
        .any(|name| testkit::originals::program(TEST, name).is_none())
    {
        return;
    }
    let server = Server::start(Config::default()).await.unwrap();
    let (url, admin) = (server.url(), server.admin());
    let text = refused(TEST, &url, "tskey-auth-0-0", &[]);
    assert!(text.contains("invalid auth key"), "{text}");
    let info = admin.create_auth_key(NewAuthKey::default()).await.unwrap();
    let text = refused(
        TEST,
        &url,
        info.key.as_deref().unwrap(),
        &["--advertise-tags=tag:x"],
    );
    assert!(
        text.contains("requested tag `tag:x` is invalid or not permitted"),
        "{text}"
    );
    admin.expire_auth_key(&info.id).await.unwrap();
    let text = refused(TEST, &url, &info.key.unwrap(), &[]);
    assert!(text.contains("auth key has expired"), "{text}");
    assert!(admin.nodes().is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_clients_join() {
    const TEST: &str = "go_clients_join";
    let (Some(derper), Some(mut one), Some(two)) = (go_derper(TEST), daemon(TEST), daemon(TEST))
    else {
        return;
    };
    if testkit::originals::program(TEST, "TS_GO_TAILSCALE").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        state: Some(dir.path().join("state.json")),
        derp_map: derp_map(&derper),
        ..Config::default()
    };
    let server = Server::start(config.clone()).await.unwrap();
    let (url, admin) = (server.url(), server.admin());
    let (socket_one, socket_two) = (one.socket(), two.socket());
    let (a, b) = (cli(TEST, &socket_one), cli(TEST, &socket_two));

    let once = key(&admin, NewAuthKey::default()).await;
    let (ok, text) = a.up(&url, &once, "Alpha");
    assert!(ok, "{text}");
    let text = refused(TEST, &url, &once, &[]);
    assert!(text.contains("auth key has already been used"), "{text}");
    let tagged = NewAuthKey {
        reusable: true,
        tags: vec!["tag:lab".into()],
        ..NewAuthKey::default()
    };
    let reusable = key(&admin, tagged).await;
    let (ok, text) = b.up(&url, &reusable, "alpha");
    assert!(ok, "{text}");

    // Names, addresses, owners.
    let status = a.status();
    assert_eq!(status["BackendState"], "Running");
    assert_eq!(status["MagicDNSSuffix"], "tailnet.test");
    assert_eq!(status["Self"]["DNSName"], "alpha.tailnet.test.");
    let ips = status["Self"]["TailscaleIPs"].as_array().unwrap();
    assert_eq!(ips.len(), 2);
    wait_until("the first node to see the second", || {
        a.peers()
            .first()
            .filter(|peer| peer["Online"] == true && peer["Relay"] == "test")
            .cloned()
    });
    let peer = a.peers().remove(0);
    assert_eq!(peer["DNSName"], "alpha-1.tailnet.test.");
    assert_eq!(peer["Tags"][0], "tag:lab");
    assert_eq!(
        admin
            .nodes()
            .iter()
            .map(|node| node.user.as_str())
            .collect::<Vec<_>>(),
        ["lab", "tagged-devices"]
    );

    // Packets, then rules without any, then packets again.
    wait_until("a ping through the tunnel", || {
        a.run(&["ping", "--tsmp", "-c=3", "alpha-1"])
            .0
            .then_some(())
    });
    a.ok(&["ping", "--icmp", "-c=5", "alpha-1"]);
    admin.set_filter(vec![]).await;
    wait_until("the ping to be dropped", || {
        let (ok, _) = a.run(&["ping", "--icmp", "-c=1", "--timeout=1s", "alpha-1"]);
        (!ok).then_some(())
    });
    admin.set_filter(vec![FilterRule::allow_all()]).await;
    wait_until("the ping to pass again", || {
        a.run(&["ping", "--icmp", "-c=1", "alpha-1"])
            .0
            .then_some(())
    });

    // The server restarts: all come back by themselves, with the same keys.
    let before: Vec<_> = admin
        .nodes()
        .into_iter()
        .map(|node| (node.id, node.addresses, node.node_key))
        .collect();
    let config = Config {
        listen: server.local_addr(),
        ..config
    };
    server.stop().await;
    let server = Server::start(config).await.unwrap();
    let admin = server.admin();
    wait_until("both nodes to come back", || {
        admin.nodes().iter().all(|node| node.online).then_some(())
    });
    let after: Vec<_> = admin
        .nodes()
        .into_iter()
        .map(|node| (node.id, node.addresses, node.node_key))
        .collect();
    assert_eq!(before, after);
    wait_until("a ping after the restart", || {
        a.run(&["ping", "--tsmp", "-c=1", "alpha-1"])
            .0
            .then_some(())
    });

    // A daemon restarts without a key; another is expired and comes back with one.
    one.kill();
    wait_until("the node to be offline", || {
        b.peers()
            .first()
            .is_some_and(|peer| peer["Online"] == false)
            .then_some(())
    });
    one.start_again();
    wait_until("the daemon to be Running", || {
        (a.status()["BackendState"] == "Running").then_some(())
    });
    admin.expire_node(2).await.unwrap();
    wait_until("the expired node to notice", || {
        (b.status()["BackendState"] == "NeedsLogin").then_some(())
    });
    let (ok, text) = b.run(&[
        "up",
        &format!("--login-server={url}"),
        &format!("--auth-key={reusable}"),
        "--force-reauth",
        "--hostname=alpha",
        "--timeout=60s",
    ]);
    assert!(ok, "{text}");
    assert_eq!(admin.nodes().len(), 2, "it is the same node");

    // Logging out, and being removed.
    b.ok(&["logout"]);
    wait_until("the node to be gone for the other", || {
        a.peers()
            .first()
            .is_some_and(|peer| peer["Expired"] == true)
            .then_some(())
    });
    admin.remove_node(2).await.unwrap();
    wait_until("the peer to vanish", || a.peers().is_empty().then_some(()));
    let fleeting = NewAuthKey {
        ephemeral: true,
        ..NewAuthKey::default()
    };
    let fleeting = key(&admin, fleeting).await;
    let (ok, text) = b.up(&url, &fleeting, "gamma");
    assert!(ok, "{text}");
    b.ok(&["logout"]);
    wait_until("the ephemeral node to vanish", || {
        (admin.nodes().len() == 1).then_some(())
    });
    server.stop().await;
}
