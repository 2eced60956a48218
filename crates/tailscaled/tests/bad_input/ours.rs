//! A tailnet of our own servers in this process, which can die and come back at the same address.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use controlserver::NewAuthKey;
use keys::NodePrivate;
use tailcfg::{DerpMap, DerpNode, DerpRegion};
use tempfile::TempDir;
use testkit::originals::{self, Daemon, TailscaledOptions};

pub(crate) const REGION: i32 = 900;
/// Long enough for a busy machine; no test takes it as a measure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon, and the local API's typed client for it.
pub(crate) struct Node {
    pub(crate) daemon: Daemon,
    pub(crate) api: localapi::Client,
}

/// How a command line ended.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<std::process::Output> for Said {
    fn from(output: std::process::Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

impl Node {
    pub(crate) fn start() -> Self {
        let daemon = originals::daemon(
            Path::new(env!("CARGO_BIN_EXE_tailscaled")),
            &TailscaledOptions::default(),
        );
        let api = localapi::Client::new(daemon.socket());
        Self { daemon, api }
    }

    /// Our command line against it.
    pub(crate) fn cli(&self, args: &[&str]) -> Said {
        #[expect(
            clippy::disallowed_methods,
            reason = "running the command line is the test"
        )]
        let mut command = std::process::Command::new(our_cli());
        Said::from(
            command
                .arg("--socket")
                .arg(self.daemon.socket())
                .args(args)
                .output()
                .unwrap(),
        )
    }

    /// The original command line against it.
    pub(crate) fn go_cli(&self, test: &str, args: &[&str]) -> Option<Said> {
        originals::go_cli(test, &self.daemon.socket(), args).map(Said::from)
    }

    pub(crate) fn up(&self, server: &str, auth_key: &str, more: &[&str]) -> Said {
        let (server, key) = (
            format!("--login-server={server}"),
            format!("--auth-key={auth_key}"),
        );
        let mut args = vec!["up", &server, &key, "--hostname=me"];
        args.extend(more);
        self.cli(&args)
    }

    pub(crate) async fn state(&self) -> String {
        self.api.status().await.unwrap().backend_state
    }

    pub(crate) async fn name(&self) -> String {
        let status = self.api.status().await.unwrap();
        status
            .self_status
            .map(|node| node.dns_name)
            .unwrap_or_default()
    }

    pub(crate) async fn key(&self) -> keys::NodePublic {
        let status = self.api.status().await.unwrap();
        status.self_status.unwrap().public_key
    }

    pub(crate) async fn health(&self) -> Vec<String> {
        self.api.status().await.unwrap().health.unwrap_or_default()
    }

    pub(crate) async fn until_running(&self) {
        until("Running", async || self.state().await == "Running").await;
    }

    /// A value of `/proc/PID/status` in KiB, where there is one.
    pub(crate) fn memory_kib(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.pid()))
            .unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap_or(0)
    }
}

/// Our command line, which cargo builds into the same directory.
pub(crate) fn our_cli() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_tailscaled")).with_file_name("tailscale")
}

/// Waits for something that the test cannot be told.
pub(crate) async fn until(what: &str, ready: impl AsyncFn() -> bool) {
    let waiting = async {
        while !ready().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

/// Where a server can be started again.
fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, testkit::free_port()).into()
}

/// A relay with TLS and STUN.
pub(crate) struct Relay {
    key: NodePrivate,
    certificates: TempDir,
    server: Option<derpserver::Server>,
    address: SocketAddr,
    stun: SocketAddr,
    pin: String,
}

impl Relay {
    pub(crate) async fn start() -> Self {
        let mut relay = Self {
            key: NodePrivate::generate(&mut rt::OsRng),
            certificates: tempfile::tempdir().unwrap(),
            server: None,
            address: free_address(),
            stun: free_address(),
            pin: String::new(),
        };
        relay.start_again().await;
        relay
    }

    pub(crate) async fn start_again(&mut self) {
        let mut config = derpserver::Config::new(self.key.clone());
        let certificate =
            derpserver::Certificate::load(self.certificates.path(), "127.0.0.1", rt::wall());
        config.listen = self.address;
        config.certificate = Some(certificate.unwrap());
        config.stun = Some(self.stun);
        let server = derpserver::Server::start(config).await.unwrap();
        self.pin = derp::NodeCert::pin_text(&server.pin.unwrap());
        self.server = Some(server);
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.server = None;
    }

    pub(crate) fn stun_port(&self) -> u16 {
        self.stun.port()
    }

    pub(crate) fn derp_map(&self) -> DerpMap {
        derp_map(self.address.port(), self.stun.port(), &self.pin)
    }
}

pub(crate) fn derp_map(port: u16, stun_port: u16, pin: &str) -> DerpMap {
    let node = DerpNode {
        name: format!("{REGION}a"),
        region_id: REGION,
        host_name: Ipv4Addr::LOCALHOST.to_string(),
        cert_name: pin.to_owned(),
        ipv4: Ipv4Addr::LOCALHOST.to_string(),
        ipv6: "none".into(),
        stun_port: stun_port.into(),
        derp_port: port.into(),
        ..DerpNode::default()
    };
    let region = DerpRegion {
        region_id: REGION,
        region_code: "test".into(),
        region_name: "Test".into(),
        nodes: vec![node],
        ..DerpRegion::default()
    };
    DerpMap {
        regions: Some(BTreeMap::from([(REGION, Some(region))])),
        omit_default_regions: true,
        ..DerpMap::default()
    }
}

/// Our control server with a relay.
pub(crate) struct Tailnet {
    dir: TempDir,
    pub(crate) relay: Relay,
    control: Option<controlserver::Server>,
    address: SocketAddr,
}

impl Tailnet {
    pub(crate) async fn start() -> Self {
        let mut tailnet = Self {
            dir: tempfile::tempdir().unwrap(),
            relay: Relay::start().await,
            control: None,
            address: free_address(),
        };
        tailnet.start_control().await;
        tailnet
    }

    /// Starts the control server, with what it knew before.
    pub(crate) async fn start_control(&mut self) {
        let config = controlserver::Config {
            listen: self.address,
            state: Some(self.dir.path().join("control.json")),
            derp_map: self.relay.derp_map(),
            ..controlserver::Config::default()
        };
        self.control = Some(controlserver::Server::start(config).await.unwrap());
    }

    pub(crate) async fn stop_control(&mut self) {
        if let Some(control) = self.control.take() {
            control.stop().await;
        }
    }

    /// What the control server knew is lost.
    pub(crate) fn forget(&self) {
        std::fs::remove_file(self.dir.path().join("control.json")).unwrap();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn admin(&self) -> controlserver::Admin {
        self.control.as_ref().unwrap().admin()
    }

    pub(crate) async fn auth_key(&self, new: NewAuthKey) -> String {
        self.admin()
            .create_auth_key(new)
            .await
            .unwrap()
            .key
            .unwrap()
    }

    pub(crate) async fn reusable_key(&self) -> String {
        self.auth_key(NewAuthKey {
            reusable: true,
            ..NewAuthKey::default()
        })
        .await
    }

    /// A node inside.
    pub(crate) async fn node(&self) -> Node {
        let (node, key) = (Node::start(), self.reusable_key().await);
        let said = node.up(&self.url(), &key, &["--timeout=60s"]);
        assert_eq!(said.code, Some(0), "{}\n{}", said.stderr, node.daemon.log());
        node
    }
}
