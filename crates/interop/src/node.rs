//! One node of a scenario.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lab::netns::{Nat, Site};
use testkit::originals::{self, Daemon, TailscaledOptions};

use crate::tailnet::{Tailnet, Whose, program};

/// A daemon at a site of its own.
pub(crate) struct Node {
    pub(crate) site: Site,
    daemon: Daemon,
    cli: PathBuf,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Node {
    /// Starts a daemon behind a NAT and logs it in.
    pub(crate) fn start(
        tailnet: &mut Tailnet,
        whose: Whose,
        nat: Nat,
        name: &str,
        flags: &[&str],
    ) -> Result<Self> {
        Self::start_with(tailnet, whose, nat, name, flags, &[])
    }

    /// The same, with variables for its environment.
    pub(crate) fn start_with(
        tailnet: &mut Tailnet,
        whose: Whose,
        nat: Nat,
        name: &str,
        flags: &[&str],
        env: &[(String, String)],
    ) -> Result<Self> {
        let site = tailnet.world.add_site(nat)?;
        let tailscaled = program(whose, "tailscaled", "TS_GO_TAILSCALED")?;
        let options = TailscaledOptions {
            flags: flags.iter().map(ToString::to_string).collect(),
            env: env.to_vec(),
            ..TailscaledOptions::default()
        };
        let daemon = site
            .node()
            .run(|| originals::daemon(&tailscaled, &options))?;
        let node = Self {
            runtime: Some(site.node().runtime()?),
            site,
            daemon,
            cli: program(whose, "tailscale", "TS_GO_TAILSCALE")?,
        };
        node.cli_ok(&[
            "up",
            &format!("--login-server={}", tailnet.url),
            &format!("--auth-key={}", tailnet.auth_key),
            &format!("--hostname={name}"),
            // The machine's resolver is not the namespace's.
            "--accept-dns=false",
            "--timeout=60s",
        ])?;
        Ok(node)
    }

    /// Runs a command of this node's own command line.
    pub(crate) fn cli(&self, args: &[&str]) -> Result<Output> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the command line is how a user would look"
        )]
        let mut command = std::process::Command::new(&self.cli);
        let output = command
            .arg("--socket")
            .arg(self.daemon.socket())
            .args(args)
            .output();
        output.with_context(|| format!("start `{}`", self.cli.display()))
    }

    fn cli_ok(&self, args: &[&str]) -> Result<String> {
        let output = self.cli(args)?;
        ensure!(
            output.status.success(),
            "tailscale {}: {}{}",
            args.first().unwrap_or(&""),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Its IPv4 address in the tailnet.
    pub(crate) fn address(&self) -> Result<IpAddr> {
        let text = self.cli_ok(&["ip", "-4"])?;
        text.trim().parse().context("read the node's address")
    }

    /// Waits until the node has heard of another from control. Nothing is sent to it.
    pub(crate) fn until_knows(&self, other: IpAddr) -> Result<()> {
        let other = other.to_string();
        let has = |peer: &serde_json::Value| {
            let addresses = peer["TailscaleIPs"].as_array();
            addresses.is_some_and(|list| list.iter().any(|address| *address == *other))
        };
        for _ in 0..300 {
            let status: serde_json::Value =
                serde_json::from_str(&self.cli_ok(&["status", "--json"])?)?;
            if status["Peer"]
                .as_object()
                .is_some_and(|peers| peers.values().any(has))
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("control does not tell of {other}\n{}", self.log_tail());
    }

    /// Waits until the tunnel to another node works.
    pub(crate) fn until_reaches(&self, other: IpAddr) -> Result<()> {
        let other = other.to_string();
        for _ in 0..60 {
            let output = self.cli(&["ping", "--tsmp", "--c=1", "--timeout=1s", &other])?;
            if output.status.success() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("nothing comes back from {other}\n{}", self.log_tail());
    }

    /// Pings until the path is direct, at most `count` times; says whether it is, and what the command line said.
    pub(crate) fn ping_until_direct(&self, other: IpAddr, count: u32) -> Result<(bool, String)> {
        let (other, count) = (other.to_string(), format!("--c={count}"));
        let output = self.cli(&["ping", "--until-direct", &count, "--timeout=1s", &other])?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = said
            .lines()
            .rev()
            .find(|line| line.starts_with("pong from"));
        let direct = last.is_some_and(|line| !line.contains("via DERP"));
        Ok((direct, said))
    }

    /// Runs something async in the node's namespace.
    pub(crate) fn block_on<R: Send>(&self, future: impl Future<Output = R> + Send) -> Result<R> {
        let runtime = self.runtime.as_ref().context("the node has ended")?;
        self.site.node().block_on(runtime, future)
    }

    /// Its public key.
    pub(crate) fn public_key(&self) -> Result<keys::NodePublic> {
        let status: serde_json::Value = serde_json::from_str(&self.cli_ok(&["status", "--json"])?)?;
        serde_json::from_value(status["Self"]["PublicKey"].clone()).context("read the node's key")
    }

    /// The daemon.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Its SOCKS5 proxy, inside its namespace.
    pub(crate) fn proxy(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.daemon.proxy_port()))
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        let log = self.daemon.log();
        let skip = log.lines().count().saturating_sub(25);
        log.lines().skip(skip).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.daemon.kill();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
