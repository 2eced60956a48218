//! A foreign tailnet for tests: headscale, a relay, a Go node, and ours.
#![allow(dead_code, reason = "each test program uses a part")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use testkit::originals::{self, Daemon, Derper, Headscale, HeadscaleOptions, TailscaledOptions};

/// Our daemon.
pub(crate) fn our_daemon(options: &TailscaledOptions) -> Daemon {
    originals::daemon(Path::new(env!("CARGO_BIN_EXE_tailscaled")), options)
}

/// What a command line said.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command line against a daemon.
pub(crate) fn cli(program: &Path, daemon: &Daemon, args: &[&str]) -> Said {
    #[expect(
        clippy::disallowed_methods,
        reason = "running the command line is the test"
    )]
    let mut command = std::process::Command::new(program);
    let output = command
        .arg("--socket")
        .arg(daemon.socket())
        .args(args)
        .output()
        .unwrap();
    Said {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a command line and expects it to succeed.
pub(crate) fn cli_ok(program: &Path, daemon: &Daemon, args: &[&str]) -> String {
    let said = cli(program, daemon, args);
    assert_eq!(
        said.code,
        Some(0),
        "{args:?}: {}{}\n{}",
        said.stdout,
        said.stderr,
        daemon.log()
    );
    said.stdout
}

/// `status --json`.
pub(crate) fn status(program: &Path, daemon: &Daemon) -> serde_json::Value {
    serde_json::from_str(&cli_ok(program, daemon, &["status", "--json"])).unwrap()
}

/// Waits for a daemon that is coming up. Before that, an original would dial tailnet addresses by the machine's routes.
pub(crate) fn until_running(program: &Path, daemon: &Daemon) {
    testkit::wait_until("the node to be Running", || {
        (status(program, daemon)["BackendState"] == "Running").then_some(())
    });
}

/// A node's IPv4 tailnet address.
pub(crate) fn address(program: &Path, daemon: &Daemon) -> String {
    cli_ok(program, daemon, &["ip", "-4"]).trim().to_owned()
}

/// A tailnet of the originals, without nodes.
pub(crate) struct Foreign {
    pub(crate) headscale: Headscale,
    pub(crate) derper: Derper,
    pub(crate) go_cli: PathBuf,
    pub(crate) auth_key: String,
}

/// Starts it, unless a program is missing.
pub(crate) fn foreign(test: &str, policy: Option<&str>) -> Option<Foreign> {
    let go_cli = originals::program(test, "TS_GO_TAILSCALE")?;
    originals::program(test, "TS_GO_TAILSCALED")?;
    let derper = originals::go_derper(test)?;
    let options = HeadscaleOptions {
        derp_map: Some(derper.derp_map_yaml()),
        policy: policy.map(str::to_owned),
        ..HeadscaleOptions::default()
    };
    let headscale = originals::headscale(test, &options)?;
    let user = headscale.create_user("tester");
    let auth_key = headscale.auth_key(&user, &["--reusable"]);
    Some(Foreign {
        headscale,
        derper,
        go_cli,
        auth_key,
    })
}

impl Foreign {
    /// Logs a node in with the original command line.
    pub(crate) fn join(&self, daemon: &Daemon, name: &str) {
        let server = format!("--login-server={}", self.headscale.url());
        let key = format!("--auth-key={}", self.auth_key);
        let host = format!("--hostname={name}");
        cli_ok(
            &self.go_cli,
            daemon,
            &["up", &server, &key, &host, "--timeout=30s"],
        );
    }

    /// A Go node inside.
    pub(crate) fn go_node(&self, test: &str, name: &str) -> Daemon {
        let node = originals::go_tailscaled(test, &TailscaledOptions::default()).unwrap();
        self.join(&node, name);
        node
    }

    /// One of ours inside, which uses relays only.
    pub(crate) fn our_relayed_node(&self, name: &str) -> Daemon {
        let node = our_daemon(&TailscaledOptions {
            env: vec![("TS_DEBUG_ALWAYS_USE_DERP".to_owned(), "true".to_owned())],
            ..TailscaledOptions::default()
        });
        self.join(&node, name);
        node
    }

    /// One of ours inside.
    pub(crate) fn our_node(&self, name: &str) -> Daemon {
        let node = our_daemon(&TailscaledOptions::default());
        self.join(&node, name);
        node
    }
}

/// Sends `len` bytes through `from`'s SOCKS5 proxy to `address`, and says whether what arrived is the same.
pub(crate) async fn transfer(from: &Daemon, address: &str, len: u64) -> anyhow::Result<bool> {
    let sink = lab::Sink::start().await?;
    let proxy: SocketAddr = ([127, 0, 0, 1], from.proxy_port()).into();
    let sent = lab::push(
        proxy,
        SocketAddr::new(address.parse()?, sink.port()),
        len,
        |_| {},
    )
    .await?;
    Ok(sent.checksums_match)
}

/// Tries a small transfer until it works; fails the test after half a minute.
/// How long that took is for people to read; no test depends on it.
pub(crate) async fn until_data_flows(from: &Daemon, address: &str) -> std::time::Duration {
    let start = rt::now();
    let mut last = None;
    for _ in 0..300 {
        let attempt = tokio::time::timeout(
            std::time::Duration::from_secs(1),
            transfer(from, address, 1 << 10),
        )
        .await;
        match attempt {
            Ok(Ok(true)) => return rt::now().since(start),
            other => last = Some(format!("{other:?}")),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!(
        "no data from {} to {address}: {last:?}\n{}",
        from.pid(),
        from.log()
    );
}
