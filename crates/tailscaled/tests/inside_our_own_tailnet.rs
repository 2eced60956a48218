//! Our daemon beside Go's, in a tailnet of our control server and our relay: each sees the other come, change and go.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

#[path = "inside_a_foreign_tailnet/common.rs"]
mod common;

use std::path::{Path, PathBuf};

use common::*;
use controlserver::{Admin, C2nQuestion, Config, NewAuthKey, NodeInfo, PingQuestion, Server};
use serde_json::Value;
use tailcfg::NodeId;
use testkit::originals::{Daemon, TailscaledOptions, go_tailscaled, program};
use testkit::wait_until;

struct Tailnet {
    server: Server,
    _relay: derpserver::Server,
    cli: PathBuf,
    key: String,
}

impl Tailnet {
    async fn start(test: &str) -> Option<Self> {
        let cli = program(test, "TS_GO_TAILSCALE")?;
        program(test, "TS_GO_TAILSCALED")?;
        let relay = lab::start_relay().await.unwrap();
        let config = Config {
            derp_map: lab::derp_map(&relay),
            ..Config::default()
        };
        let server = Server::start(config).await.unwrap();
        let new = NewAuthKey {
            reusable: true,
            ..NewAuthKey::default()
        };
        let key = server.admin().create_auth_key(new).await.unwrap();
        Some(Self {
            server,
            _relay: relay,
            cli,
            key: key.key.unwrap(),
        })
    }

    fn admin(&self) -> Admin {
        self.server.admin()
    }

    fn join(&self, daemon: &Daemon, name: &str) {
        let said = cli(
            &self.cli,
            daemon,
            &[
                "up",
                &format!("--login-server={}", self.server.url()),
                &format!("--auth-key={}", self.key),
                &format!("--hostname={name}"),
                "--timeout=60s",
            ],
        );
        assert_eq!(said.code, Some(0), "{}\n{}", said.stderr, daemon.log());
    }

    fn node(&self, name: &str) -> NodeInfo {
        let full = format!("{name}.tailnet.test");
        let mut nodes = self.admin().nodes().into_iter();
        nodes.find(|node| node.name == full).unwrap()
    }
}

/// Waits until `daemon` knows a peer with this name that looks as it should.
fn sees(cli: &Path, daemon: &Daemon, name: &str, what: &str, looks: impl Fn(&Value) -> bool) {
    wait_until(&format!("{name}: {what}"), || {
        let status = status(cli, daemon);
        let peers = status["Peer"].as_object().cloned().unwrap_or_default();
        let named = |peer: &&Value| {
            let full = peer["DNSName"].as_str().unwrap_or_default();
            full.split('.').next() == Some(name)
        };
        peers.values().find(named).is_some_and(&looks).then_some(())
    });
}

fn sees_none(cli: &Path, daemon: &Daemon) {
    wait_until("no peer", || {
        let status = status(cli, daemon);
        status["Peer"]
            .as_object()
            .is_none_or(|peers| peers.is_empty())
            .then_some(())
    });
}

fn pings(cli_path: &Path, from: &Daemon, name: &str) {
    wait_until(&format!("a ping to {name}"), || {
        let said = cli(
            cli_path,
            from,
            &["ping", "--tsmp", "--c=1", "--timeout=2s", name],
        );
        (said.code == Some(0)).then_some(())
    });
}

/// Both daemons go through the same: `watched` changes, and `watcher` sees it.
async fn one_sees_the_other(tailnet: &Tailnet, watcher: &Daemon, watched: &mut Daemon, name: &str) {
    let (cli_path, admin) = (tailnet.cli.as_path(), tailnet.admin());
    let id: NodeId = tailnet.node(name).id;
    sees(cli_path, watcher, name, "there", |peer| {
        peer["Online"] == true
    });
    pings(cli_path, watcher, name);
    let what = PingQuestion {
        types: "TSMP".into(),
        ip: Some(tailnet.node(name).addresses[0]),
    };
    let others = admin
        .nodes()
        .into_iter()
        .find(|node| node.id != id)
        .unwrap();
    let pong = admin.ping(others.id, what).await.unwrap();
    assert_eq!((pong.err.as_str(), pong.node_name.as_str()), ("", name));
    let echo = C2nQuestion {
        method: "POST".into(),
        path: "/echo".into(),
        body: "hello".into(),
    };
    assert_eq!(admin.c2n(id, &echo).await.unwrap().body.trim(), "hello");

    watched.kill();
    sees(cli_path, watcher, name, "gone", |peer| {
        peer["Online"] == false
    });
    watched.start_again();
    until_running(cli_path, watched);
    sees(cli_path, watcher, name, "back", |peer| {
        peer["Online"] == true
    });
    pings(cli_path, watcher, name);
    admin.set_tags(id, vec!["tag:x".into()]).await.unwrap();
    sees(cli_path, watcher, name, "tagged", |peer| {
        peer["Tags"][0] == "tag:x"
    });
    admin.set_tags(id, vec![]).await.unwrap();
    sees(cli_path, watcher, name, "without tags", |peer| {
        peer["Tags"].is_null()
    });

    admin.expire_node(id).await.unwrap();
    sees(cli_path, watcher, name, "expired", |peer| {
        peer["Expired"] == true
    });
    wait_until("the expired node to need a login", || {
        (status(cli_path, watched)["BackendState"] == "NeedsLogin").then_some(())
    });
    let before = tailnet.node(name);
    let server = format!("--login-server={}", tailnet.server.url());
    let key = format!("--auth-key={}", tailnet.key);
    let host = format!("--hostname={name}");
    cli_ok(
        cli_path,
        watched,
        &[
            "up",
            &server,
            &key,
            &host,
            "--force-reauth",
            "--timeout=60s",
        ],
    );
    let after = tailnet.node(name);
    assert_eq!((after.id, &after.addresses), (before.id, &before.addresses));
    assert_ne!(after.node_key, before.node_key);
    sees(cli_path, watcher, name, "with a new key", |peer| {
        peer["PublicKey"] == after.node_key.to_string() && peer["Expired"].is_null()
    });
    pings(cli_path, watcher, name);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sees_the_other_come_change_and_go() {
    let test = "each_sees_the_other_come_change_and_go";
    let Some(tailnet) = Tailnet::start(test).await else {
        return;
    };
    let options = TailscaledOptions::default();
    let (Some(mut go), mut ours) = (go_tailscaled(test, &options), our_daemon(&options)) else {
        return;
    };
    tailnet.join(&go, "go");
    tailnet.join(&ours, "ours");
    one_sees_the_other(&tailnet, &go, &mut ours, "ours").await;
    one_sees_the_other(&tailnet, &ours, &mut go, "go").await;

    cli_ok(&tailnet.cli, &ours, &["logout"]);
    sees(&tailnet.cli, &go, "ours", "logged out", |peer| {
        peer["Expired"] == true
    });
    tailnet
        .admin()
        .remove_node(tailnet.node("ours").id)
        .await
        .unwrap();
    sees_none(&tailnet.cli, &go);
    tailnet.server.stop().await;
}
