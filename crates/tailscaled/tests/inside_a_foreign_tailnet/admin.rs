//! What an administrator does to a node at a foreign control server, and what becomes of the node: ours beside Go's, both
//! watched by Go's command line.

use testkit::originals::Daemon;

use super::common::*;

/// A node that is watched, and the number that headscale gave it.
struct Node {
    daemon: Daemon,
    id: String,
}

impl Node {
    fn of(tailnet: &Foreign, daemon: Daemon, name: &str) -> Self {
        let nodes = tailnet.headscale.cli(&["nodes", "list", "-o", "json"]);
        let nodes: serde_json::Value = serde_json::from_str(&nodes).unwrap();
        let mut nodes = nodes.as_array().unwrap().iter();
        let own = nodes.find(|node| node["name"] == name).unwrap();
        Self {
            daemon,
            id: own["id"].as_str().unwrap().to_owned(),
        }
    }

    /// Waits until its own `status --json` is as wanted.
    fn until(&self, tailnet: &Foreign, what: &str, wanted: impl Fn(&serde_json::Value) -> bool) {
        testkit::wait_until(&format!("{what} ({})", self.id), || {
            let status = status(&tailnet.go_cli, &self.daemon);
            if wanted(&status) {
                return Some(());
            }
            println!(
                "{what} ({}): {} expiry {} health {}",
                self.id, status["BackendState"], status["Self"]["KeyExpiry"], status["Health"]
            );
            None
        });
    }

    fn until_state(&self, tailnet: &Foreign, state: &str) {
        self.until(tailnet, state, |status| status["BackendState"] == state);
    }
}

fn peer<'a>(status: &'a serde_json::Value, ip: &str) -> Option<&'a serde_json::Value> {
    let mut peers = status["Peer"].as_object()?.values();
    peers.find(|peer| peer["TailscaleIPs"][0] == ip)
}

/// Ours and Go's in one tailnet, so that each sees what becomes of the other.
fn both(test: &str) -> Option<(Foreign, [Node; 2])> {
    let tailnet = foreign(test, None)?;
    let nodes = [
        Node::of(&tailnet, tailnet.our_node("ours"), "ours"),
        Node::of(&tailnet, tailnet.go_node(test, "go"), "go"),
    ];
    Some((tailnet, nodes))
}

fn expire(tailnet: &Foreign, node: &Node, at: Option<&str>) {
    let mut args = vec!["nodes", "expire", "-i", &node.id];
    args.extend(at.iter().flat_map(|at| ["--expiry", *at]));
    tailnet.headscale.cli(&args);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_expired_and_extended_needs_no_restart() {
    let test = "a_key_that_is_expired_and_extended_needs_no_restart";
    let Some((tailnet, nodes)) = both(test) else {
        return;
    };
    let cli = &tailnet.go_cli;
    let addresses = [0, 1].map(|at| address(cli, &nodes[at].daemon));
    until_data_flows(&nodes[0].daemon, &addresses[1]).await;
    for (node, other, ip) in [
        (&nodes[0], &nodes[1], &addresses[0]),
        (&nodes[1], &nodes[0], &addresses[1]),
    ] {
        expire(&tailnet, node, None);
        node.until_state(&tailnet, "NeedsLogin");
        other.until(&tailnet, "the peer expired", |status| {
            status["BackendState"] == "Running"
                && peer(status, ip).is_some_and(|peer| peer["Expired"] == true)
        });
        // The long poll is still open: the good news comes by it.
        expire(&tailnet, node, Some("2040-01-01T00:00:00Z"));
        node.until_state(&tailnet, "Running");
        other.until(&tailnet, "the peer back", |status| {
            peer(status, ip).is_some_and(|peer| peer["Expired"] != true)
        });
    }
    until_data_flows(&nodes[0].daemon, &addresses[1]).await;
    until_data_flows(&nodes[1].daemon, &addresses[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_node_logs_in_again_with_its_address() {
    let test = "an_expired_node_logs_in_again_with_its_address";
    let Some((tailnet, nodes)) = both(test) else {
        return;
    };
    let cli = &tailnet.go_cli;
    let addresses = [0, 1].map(|at| address(cli, &nodes[at].daemon));
    let key = |node: &Node| status(cli, &node.daemon)["Self"]["PublicKey"].clone();
    for (node, name) in nodes.iter().zip(["ours", "go"]) {
        let before = key(node);
        expire(&tailnet, node, None);
        node.until_state(&tailnet, "NeedsLogin");
        tailnet.join(&node.daemon, name);
        node.until_state(&tailnet, "Running");
        // Both first try the key that they have; this server is content with it.
        assert_eq!(key(node), before, "{name}");

        let server = format!("--login-server={}", tailnet.headscale.url());
        let auth = format!("--auth-key={}", tailnet.auth_key);
        let host = format!("--hostname={name}");
        let up = [
            "up",
            "--force-reauth",
            &server,
            &auth,
            &host,
            "--timeout=30s",
        ];
        cli_ok(cli, &node.daemon, &up);
        node.until(&tailnet, "another key", |status| {
            status["BackendState"] == "Running" && status["Self"]["PublicKey"] != before
        });
    }
    assert_eq!([0, 1].map(|at| address(cli, &nodes[at].daemon)), addresses);
    until_data_flows(&nodes[0].daemon, &addresses[1]).await;
    until_data_flows(&nodes[1].daemon, &addresses[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_nodes_that_an_admin_changes_are_seen_by_the_others() {
    let test = "names_and_nodes_that_an_admin_changes_are_seen_by_the_others";
    let Some((tailnet, nodes)) = both(test) else {
        return;
    };
    let cli = &tailnet.go_cli;
    let addresses = [0, 1].map(|at| address(cli, &nodes[at].daemon));
    for (node, name) in nodes.iter().zip(["first", "second"]) {
        tailnet
            .headscale
            .cli(&["nodes", "rename", "-i", &node.id, name]);
    }
    for (at, (node, name)) in nodes.iter().zip(["first", "second"]).enumerate() {
        let fqdn = format!("{name}.tailnet.test.");
        node.until(&tailnet, "its own new name", |status| {
            status["Self"]["DNSName"] == fqdn
        });
        nodes[1 - at].until(&tailnet, "the peer's new name", |status| {
            peer(status, &addresses[at]).is_some_and(|peer| peer["DNSName"] == fqdn)
        });
        let other = &nodes[1 - at].daemon;
        let ping = cli_ok(cli, other, &["ping", "--c=1", "--tsmp", name]);
        assert!(ping.contains("pong from"), "{ping}");
    }
    // A node that is deleted is gone for the others.
    for (gone, left) in [(1, 0), (0, 1)] {
        let id = &nodes[gone].id;
        let ip = &addresses[gone];
        nodes[left].until(&tailnet, "the peer there", |status| {
            status["BackendState"] == "Running" && peer(status, ip).is_some()
        });
        tailnet
            .headscale
            .cli(&["nodes", "delete", "-i", id, "--force"]);
        nodes[left].until(&tailnet, "the peer gone", |status| {
            status["BackendState"] == "Running" && peer(status, ip).is_none()
        });
        // It comes back with a key that makes nobody necessary, without a restart.
        let name = ["ours", "go"][gone];
        tailnet.join(&nodes[gone].daemon, name);
        nodes[gone].until_state(&tailnet, "Running");
    }
}
