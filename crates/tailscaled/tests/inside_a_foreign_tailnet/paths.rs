//! Direct paths between the originals' nodes and ours.

use std::net::SocketAddr;
use std::path::Path;

use testkit::originals::Daemon;

use crate::LEN;
use crate::common::*;

/// Pings until the path is direct, as people do; what the command line says then.
fn until_direct(go_cli: &Path, from: &Daemon, to: &str) -> String {
    testkit::wait_until("a direct path", || {
        let said = cli(go_cli, from, &["ping", "--timeout=2s", "--c=5", to]);
        (said.code == Some(0)).then_some(said.stdout)
    })
}

/// The direct address of the only peer, as `status --json` tells it.
fn direct_address(go_cli: &Path, daemon: &Daemon) -> Option<SocketAddr> {
    let status = status(go_cli, daemon);
    let peers = status["Peer"].as_object()?;
    let peer = peers.values().next()?;
    peer["CurAddr"].as_str()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_go_node_and_ours_find_a_direct_path_both_ways() {
    let test = "a_go_node_and_ours_find_a_direct_path_both_ways";
    let Some(mut tailnet) = foreign(test, None) else {
        return;
    };
    let (go, ours) = (tailnet.go_node(test, "go"), tailnet.our_node("ours"));
    let (go_address, our_address) = (
        address(&tailnet.go_cli, &go),
        address(&tailnet.go_cli, &ours),
    );
    for (from, to) in [(&ours, "go"), (&go, "ours")] {
        let said = until_direct(&tailnet.go_cli, from, to);
        let last = said.lines().last().unwrap();
        let via = last
            .split(" via ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        assert!(via.unwrap().parse::<SocketAddr>().is_ok(), "{said}");
    }
    for (from, to) in [(&ours, &go_address), (&go, &our_address)] {
        assert!(transfer(from, to, LEN).await.unwrap());
        let direct = direct_address(&tailnet.go_cli, from);
        assert!(direct.is_some(), "{}", status(&tailnet.go_cli, from));
    }
    let own = status(&tailnet.go_cli, &ours);
    assert!(
        !own["Self"]["Addrs"].as_array().unwrap().is_empty(),
        "{own}"
    );
    // Neither relay nor control is needed for what is direct.
    tailnet.derper.kill();
    tailnet.headscale.kill();
    for (from, to) in [(&ours, &go_address), (&go, &our_address)] {
        assert!(transfer(from, to, LEN).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_to_use_relays_only_does() {
    let test = "a_node_that_is_to_use_relays_only_does";
    let Some(tailnet) = foreign(test, None) else {
        return;
    };
    let go = tailnet.go_node(test, "go");
    let ours = tailnet.our_relayed_node("ours");
    let go_address = address(&tailnet.go_cli, &go);
    until_data_flows(&ours, &go_address).await;
    for (from, to) in [(&ours, "go"), (&go, "ours")] {
        let said = cli(&tailnet.go_cli, from, &["ping", "--c=3", to]);
        assert_eq!(said.code, Some(1), "{}", said.stdout);
        assert!(said.stdout.contains("via DERP(test)"), "{}", said.stdout);
        assert!(
            said.stderr.contains("direct connection not established"),
            "{}",
            said.stderr
        );
        assert_eq!(direct_address(&tailnet.go_cli, from), None);
    }
}
