//! Our daemon among the originals: headscale, Go's derper, Go's tailscaled, driven by Go's command line.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod admin;
mod answers;
mod bus;
mod common;
mod local;
mod logins;
mod names;
mod paths;
mod questions;

use common::*;

const LEN: u64 = 100 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn data_flows_both_ways_through_the_relay() {
    let test = "data_flows_both_ways_through_the_relay";
    let Some(tailnet) = foreign(test, None) else {
        return;
    };
    let go = tailnet.go_node(test, "go");
    let ours = tailnet.our_relayed_node("ours");
    let (go_address, our_address) = (
        address(&tailnet.go_cli, &go),
        address(&tailnet.go_cli, &ours),
    );
    until_data_flows(&ours, &go_address).await;
    until_data_flows(&go, &our_address).await;
    assert!(
        transfer(&ours, &go_address, LEN).await.unwrap(),
        "ours to Go"
    );
    assert!(
        transfer(&go, &our_address, LEN).await.unwrap(),
        "Go to ours"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_of_all_kinds_are_answered_both_ways() {
    let test = "pings_of_all_kinds_are_answered_both_ways";
    let Some(tailnet) = foreign(test, None) else {
        return;
    };
    let (go, ours) = (tailnet.go_node(test, "go"), tailnet.our_node("ours"));
    for (from, to) in [(&ours, "go"), (&go, "ours")] {
        for kind in [
            &["--c=3", "--until-direct=false"][..],
            &["--tsmp", "--c=3"],
            &["--icmp", "--c=3"],
        ] {
            let mut args = vec!["ping"];
            args.extend(kind);
            args.push(to);
            let said = cli_ok(&tailnet.go_cli, from, &args);
            assert!(said.contains("pong from"), "{args:?}: {said}");
        }
    }
    let whois = cli_ok(
        &tailnet.go_cli,
        &ours,
        &["whois", &address(&tailnet.go_cli, &go)],
    );
    assert!(whois.contains("go"), "{whois}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_original_command_line_drives_our_daemon() {
    let test = "the_original_command_line_drives_our_daemon";
    let Some(tailnet) = foreign(test, None) else {
        return;
    };
    let ours = tailnet.our_node("ours");
    let up = status(&tailnet.go_cli, &ours);
    assert_eq!(up["BackendState"], "Running", "{up}");
    assert_eq!(up["Self"]["HostName"], "ours");
    assert_eq!(up["Self"]["Online"], true);
    cli_ok(&tailnet.go_cli, &ours, &["down"]);
    assert_eq!(status(&tailnet.go_cli, &ours)["BackendState"], "Stopped");
    cli_ok(&tailnet.go_cli, &ours, &["up"]);
    assert_eq!(status(&tailnet.go_cli, &ours)["BackendState"], "Running");
    cli_ok(&tailnet.go_cli, &ours, &["logout"]);
    let gone = status(&tailnet.go_cli, &ours);
    assert_eq!(gone["BackendState"], "NeedsLogin", "{gone}");
    tailnet.join(&ours, "again");
    assert_eq!(status(&tailnet.go_cli, &ours)["Self"]["HostName"], "again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filter_lets_in_what_the_policy_allows_and_nothing_else() {
    let test = "the_filter_lets_in_what_the_policy_allows_and_nothing_else";
    let policy = r#"{"acls":[{"action":"accept","src":["*"],"dst":["*:7777"]}]}"#;
    let Some(tailnet) = foreign(test, Some(policy)) else {
        return;
    };
    let (go, ours) = (tailnet.go_node(test, "go"), tailnet.our_node("ours"));
    let our_address = address(&tailnet.go_cli, &ours);
    let allowed = tokio::net::TcpListener::bind(("127.0.0.1", 7777))
        .await
        .unwrap();
    let denied = tokio::net::TcpListener::bind(("127.0.0.1", 7778))
        .await
        .unwrap();
    let proxy = ([127, 0, 0, 1], go.proxy_port()).into();
    let reach = |port| {
        lab::push(
            proxy,
            std::net::SocketAddr::new(our_address.parse().unwrap(), port),
            1,
            |_| {},
        )
    };
    // The first tries may come before both sides know of each other.
    let reached = async {
        while tokio::select! {
            _ = allowed.accept() => false,
            _ = reach(7777) => true,
        } {}
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), reached)
        .await
        .expect("the allowed port is reached");
    tokio::select! {
        _ = denied.accept() => panic!("the denied port was reached"),
        refused = reach(7778) => assert!(refused.is_err()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_comes_back_and_data_flows_again() {
    let test = "whoever_is_killed_comes_back_and_data_flows_again";
    let Some(mut tailnet) = foreign(test, None) else {
        return;
    };
    let (mut go, mut ours) = (tailnet.go_node(test, "go"), tailnet.our_node("ours"));
    let (go_address, our_address) = (
        address(&tailnet.go_cli, &go),
        address(&tailnet.go_cli, &ours),
    );
    until_data_flows(&ours, &go_address).await;

    ours.kill();
    ours.start_again();
    println!(
        "our daemon killed: data after {:?}",
        until_data_flows(&ours, &go_address).await
    );
    assert_eq!(
        address(&tailnet.go_cli, &ours),
        our_address,
        "the identity is kept"
    );

    tailnet.derper.kill();
    tailnet.derper.start_again();
    println!(
        "relay killed: data after {:?}",
        until_data_flows(&ours, &go_address).await
    );

    tailnet.headscale.kill();
    tailnet.headscale.start_again();
    println!(
        "control killed: data after {:?}",
        until_data_flows(&ours, &go_address).await
    );
    let start = rt::now();
    testkit::wait_until("our node to be online again", || {
        let status = status(&tailnet.go_cli, &ours);
        (status["BackendState"] == "Running" && status["Self"]["Online"] == true).then_some(())
    });
    println!("control killed: online after {:?}", rt::now().since(start));

    go.kill();
    go.start_again();
    until_running(&tailnet.go_cli, &go);
    println!(
        "peer killed: data after {:?}",
        until_data_flows(&ours, &go_address).await
    );
    until_data_flows(&go, &our_address).await;

    for daemon in [&mut ours, &mut go] {
        daemon.kill();
    }
    tailnet.derper.kill();
    tailnet.headscale.kill();
    ours.start_again();
    tailnet.headscale.start_again();
    tailnet.derper.start_again();
    go.start_again();
    until_running(&tailnet.go_cli, &go);
    println!(
        "all killed: data after {:?}",
        until_data_flows(&ours, &go_address).await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_moves_between_the_daemons_without_a_login() {
    let test = "a_state_directory_moves_between_the_daemons_without_a_login";
    let Some(tailnet) = foreign(test, None) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let options = testkit::originals::TailscaledOptions {
        state_dir: Some(dir.path().join("state")),
        ..Default::default()
    };
    let mut go = testkit::originals::go_tailscaled(test, &options).unwrap();
    tailnet.join(&go, "mover");
    let first = address(&tailnet.go_cli, &go);
    go.kill();

    let running = |daemon: &testkit::originals::Daemon| {
        until_running(&tailnet.go_cli, daemon);
        address(&tailnet.go_cli, daemon)
    };
    let mut ours = our_daemon(&options);
    assert_eq!(running(&ours), first, "from Go to ours");
    ours.kill();
    let go = testkit::originals::go_tailscaled(test, &options).unwrap();
    assert_eq!(running(&go), first, "from ours to Go");
}
