//! Control server, relay and nodes, and the directory that holds all of them.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use controlserver::{NewAuthKey, Settings};
use keys::NodePrivate;
use localapi::Client;
use rand_core::Rng as _;
use tailcfg::{DerpMap, DerpNode, DerpRegion};

use crate::Options;
use crate::child::{Daemon, Lifeline};
use crate::netns::{Site, World};

pub(crate) const REGION: i32 = 900;
/// The TUN device's name at each site.
const DEVICE: &str = "tailscale0";
const PING_TRIES: usize = 20;
const POLL_EVERY: Duration = Duration::from_millis(100);

/// Where the nodes' programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The daemon.
    pub tailscaled: PathBuf,
    /// The command line.
    pub tailscale: PathBuf,
}

impl Programs {
    /// The programs beside the running one: cargo puts them into one directory.
    pub fn beside_us() -> Result<Self> {
        let own = std::env::current_exe().context("find the running program")?;
        let found = Self {
            tailscaled: own.with_file_name("tailscaled"),
            tailscale: own.with_file_name("tailscale"),
        };
        for program in [&found.tailscaled, &found.tailscale] {
            ensure!(
                program.exists(),
                "`{}` is missing: build it with cargo build --release",
                program.display()
            );
        }
        Ok(found)
    }
}

/// A running lab.
pub struct Tailnet {
    dir: Directory,
    /// `None` where no nodes are to be started.
    programs: Option<Programs>,
    control: controlserver::Server,
    /// `None` where the relays are others'.
    relay: Option<derpserver::Server>,
    key_file: PathBuf,
    lifeline: Lifeline,
    wanted: u16,
    relay_only: bool,
    /// The networks of nodes that are still to be started; without any, all is on loopback.
    sites: VecDeque<Site>,
    nodes: Vec<Node>,
}

impl Tailnet {
    /// Starts control server and relay; nodes come with [`start_nodes`](Self::start_nodes), each at one of the `sites`, or all
    /// on loopback if there are none.
    pub async fn start(options: &Options, sites: Vec<Site>) -> Result<Self> {
        let ip = match sites.is_empty() {
            true => Ipv4Addr::LOCALHOST,
            false => World::SERVERS[0],
        };
        let programs = match options.control_only {
            true => None,
            false => Some(Programs::beside_us()?),
        };
        let dir = Directory::new(options.keep.as_deref())?;
        let (relay, derp_map) = match &options.derp_map {
            Some(file) => (None, read_derp_map(file)?),
            None => {
                let relay = start_relay_at(ip).await.context("start the relay")?;
                let map = derp_map(&relay);
                (Some(relay), map)
            }
        };
        let control = controlserver::Server::start(controlserver::Config {
            listen: control_address(&dir, ip),
            state: Some(dir.path.join("control.json")),
            admin_socket: Some(dir.path.join("admin.sock")),
            domain: "lab.test".into(),
            derp_map,
            settings: Settings {
                device_approval: options.device_approval,
                // Everybody who can reach the page is on this machine.
                open_logins: true,
                key_lifetime_secs: options.key_lifetime,
                ..Settings::default()
            },
            ..controlserver::Config::default()
        })
        .await
        .context("start the control server")?;
        remember_address(&dir, control.local_addr())?;
        let key_file = dir.path.join("auth-key");
        if !is_kept_key(&control, &key_file) {
            make_key(&control, &key_file).await?;
        }
        Ok(Self {
            dir,
            programs,
            control,
            relay,
            key_file,
            lifeline: Lifeline::new().context("make the lifeline")?,
            wanted: options.nodes,
            relay_only: options.relay_only,
            sites: sites.into(),
            nodes: Vec::new(),
        })
    }

    /// Starts the nodes' daemons and logs them in.
    pub async fn start_nodes(&mut self) -> Result<()> {
        for number in 1..=self.wanted {
            let node = self.start_node(&format!("node{number}")).await?;
            self.nodes.push(node);
        }
        let control = self.control.url();
        let logins = self
            .nodes
            .iter()
            .map(|node| node.log_in(&control, &self.key_file));
        futures_util::future::try_join_all(logins).await?;
        Ok(())
    }

    async fn start_node(&mut self, name: &str) -> Result<Node> {
        let place = match self.sites.pop_front() {
            Some(site) => Place::Site(Box::new(site)),
            None => Place::Loopback {
                proxy: free_address().context("find a free port for a proxy")?,
            },
        };
        let programs = self.programs.as_ref().context("no programs for nodes")?;
        let dir = self.dir.path.join(name);
        make_private_dir(&dir)?;
        let socket = dir.join("tailscaled.sock");
        let log = dir.join("tailscaled.log");
        let mut args = vec![
            "--port=0".to_owned(),
            format!("--statedir={}", dir.display()),
            format!("--socket={}", socket.display()),
        ];
        match &place {
            Place::Site(_) => args.push(format!("--tun={DEVICE}")),
            Place::Loopback { proxy } => args.extend([
                "--tun=userspace-networking".to_owned(),
                format!("--socks5-server={proxy}"),
                format!("--outbound-http-proxy-listen={proxy}"),
            ]),
        }
        let env = self
            .relay_only
            .then_some(("TS_DEBUG_ALWAYS_USE_DERP", "true"));
        let runtime = tokio::runtime::Handle::current();
        let start = || {
            let _inside = runtime.enter();
            Daemon::start(&programs.tailscaled, &args, &log, env, &self.lifeline)
        };
        let daemon = match &place {
            // A process belongs where the thread that starts it is.
            Place::Site(site) => site.node().run(start)??,
            Place::Loopback { .. } => start()?,
        };
        let mut node = Node {
            name: name.to_owned(),
            socket,
            place,
            log,
            tailscale: programs.tailscale.clone(),
            daemon,
            relay_only: self.relay_only,
        };
        node.wait_for_socket().await?;
        Ok(node)
    }

    /// Ends everything, and removes the directory unless it is to be kept.
    pub async fn stop(mut self) {
        for node in &mut self.nodes {
            if let Err(error) = node.daemon.stop().await {
                eprintln!("cannot end {}: {error}", node.name);
            }
        }
        self.control.stop().await;
        if let Some(relay) = self.relay {
            relay.shutdown().await;
        }
    }

    /// For `--login-server`.
    pub fn control_url(&self) -> String {
        self.control.url()
    }

    /// Where the relay is, for people.
    pub fn relays(&self) -> String {
        match &self.relay {
            Some(relay) => format!("relay at {}", relay.addr),
            None => "relays from a file".into(),
        }
    }

    /// The control server's admin socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.dir.path.join("admin.sock")
    }

    /// A file with a reusable auth key.
    pub fn key_file(&self) -> &Path {
        &self.key_file
    }

    /// The directory that holds everything.
    pub fn dir(&self) -> &Path {
        &self.dir.path
    }

    /// Whether the directory stays after the end.
    pub fn is_kept(&self) -> bool {
        self.dir.keep
    }

    /// The nodes, in the order of their numbers.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
}

/// One node of the lab.
#[derive(Debug)]
pub struct Node {
    name: String,
    socket: PathBuf,
    place: Place,
    log: PathBuf,
    tailscale: PathBuf,
    daemon: Daemon,
    relay_only: bool,
}

/// Where a node runs.
#[derive(Debug)]
enum Place {
    /// On loopback, in userspace mode: applications use its proxy.
    Loopback { proxy: SocketAddr },
    /// In a network of its own, with a TUN device.
    Site(Box<Site>),
}

/// The answer to a ping.
#[derive(Debug, Clone, Copy)]
pub struct Ping {
    /// Through the tunnel, there and back.
    pub rtt: Duration,
    /// Whether the path is direct.
    pub direct: bool,
}

impl Node {
    /// Its name in the tailnet.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its SOCKS5 and HTTP proxy, if it runs in userspace mode.
    pub fn proxy(&self) -> Option<SocketAddr> {
        match &self.place {
            Place::Loopback { proxy } => Some(*proxy),
            Place::Site(_) => None,
        }
    }

    /// Its network, if it has one of its own.
    pub fn site(&self) -> Option<&Site> {
        match &self.place {
            Place::Loopback { .. } => None,
            Place::Site(site) => Some(site),
        }
    }

    /// Whether its path to another node should be direct; `None` where nobody can say.
    pub(crate) fn expects_direct_path(&self, to: &Self) -> Option<bool> {
        let (own, other) = (self.site()?.nat(), to.site()?.nat());
        Some(own.is_direct_with(other) && !self.relay_only)
    }

    /// What its daemon says.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// The daemon's process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.pid()
    }

    /// What to type for a command of this node.
    pub fn cli_line(&self, command: &str) -> String {
        format!(
            "{} --socket={} {command}",
            self.tailscale.display(),
            self.socket.display()
        )
    }

    /// Runs a command of this node; what it printed.
    pub async fn cli(&self, args: &[&str]) -> Result<String> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the lab drives its nodes as a user would"
        )]
        let command = std::process::Command::new(&self.tailscale);
        let output = tokio::process::Command::from(command)
            .arg(format!("--socket={}", self.socket.display()))
            .args(args)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("start `{}`", self.tailscale.display()))?;
        if !output.status.success() {
            bail!(
                "tailscale {} on {}: {}: {}",
                args.first().unwrap_or(&""),
                self.name,
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    async fn wait_for_socket(&mut self) -> Result<()> {
        for _ in 0..300 {
            if tokio::net::UnixStream::connect(&self.socket).await.is_ok() {
                return Ok(());
            }
            self.daemon
                .check_alive()
                .with_context(|| format!("its log is {}", self.log.display()))?;
            tokio::time::sleep(POLL_EVERY).await;
        }
        bail!("{} does not listen on {}", self.name, self.socket.display());
    }

    async fn log_in(&self, control: &str, key_file: &Path) -> Result<()> {
        let server = format!("--login-server={control}");
        let key = format!("--auth-key=file:{}", key_file.display());
        let host = format!("--hostname={}", self.name);
        self.cli(&["up", &server, &key, &host, "--timeout=60s"])
            .await
            .map(drop)
    }

    /// Waits until the node says that it is Running.
    pub async fn wait_running(&self, limit: Duration) -> Result<()> {
        let running = async {
            loop {
                let status = Client::new(&self.socket).status_without_peers().await;
                if status.is_ok_and(|status| status.backend_state == "Running") {
                    return;
                }
                tokio::time::sleep(POLL_EVERY).await;
            }
        };
        let waited = tokio::time::timeout(limit, running).await;
        waited.with_context(|| format!("{} was not Running after {} s", self.name, limit.as_secs()))
    }

    /// Its IPv4 address in the tailnet.
    pub async fn address(&self) -> Result<IpAddr> {
        let status = Client::new(&self.socket)
            .status_without_peers()
            .await
            .context("ask for the status")?;
        let address = status.tailscale_ips.unwrap_or_default().into_iter().next();
        address.with_context(|| format!("{} has no address", self.name))
    }

    /// Pings through the tunnel; the first tries may find the path not ready yet.
    pub async fn ping(&self, address: IpAddr) -> Result<Ping> {
        let mut last = String::from("no answer in time");
        for _ in 0..PING_TRIES {
            let path = self.ping_once(address, "disco").await;
            let tunnel = self.ping_once(address, "TSMP").await;
            match (path, tunnel) {
                (Ok(path), Ok(tunnel)) => {
                    return Ok(Ping {
                        rtt: tunnel.rtt,
                        direct: path.direct,
                    });
                }
                (Err(error), _) | (_, Err(error)) => last = format!("{error:#}"),
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
        bail!("no answer after {PING_TRIES} tries; the last: {last}");
    }

    /// Whether the path to another node is direct; waits for it, unless both use relays only.
    pub async fn waits_for_direct_path(&self, to: &Self, limit: Duration) -> Result<bool> {
        let address = to.address().await?;
        let tries = match self.relay_only {
            true => 1,
            false => (limit.as_millis() / POLL_EVERY.as_millis()).max(1),
        };
        for _ in 0..tries {
            if self.ping(address).await?.direct {
                return Ok(true);
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
        Ok(false)
    }

    async fn ping_once(&self, address: IpAddr, kind: &str) -> Result<Ping> {
        let client = Client::new(&self.socket);
        let pinged =
            tokio::time::timeout(Duration::from_secs(3), client.ping(address, kind, 0)).await;
        let result = pinged.context("no answer in time")??;
        ensure!(result.err.is_empty(), "{}", result.err);
        Ok(Ping {
            rtt: Duration::from_secs_f64(result.latency_seconds.max(0.0)),
            direct: !result.endpoint.is_empty(),
        })
    }
}

/// A relay on loopback with a certificate of its own and STUN beside it.
pub async fn start_relay() -> Result<derpserver::Server> {
    start_relay_at(Ipv4Addr::LOCALHOST).await
}

/// A relay at an address of ours, with a certificate of its own and STUN beside it.
pub async fn start_relay_at(ip: Ipv4Addr) -> Result<derpserver::Server> {
    let mut config = derpserver::Config::new(NodePrivate::generate(&mut rt::OsRng));
    config.certificate = Some(derpserver::Certificate::self_signed(ip.into(), rt::wall())?);
    config.listen = (ip, 0).into();
    config.stun = Some((ip, 0).into());
    Ok(derpserver::Server::start(config).await?)
}

/// The map of relays that has just this one.
pub fn derp_map(relay: &derpserver::Server) -> DerpMap {
    let node = DerpNode {
        name: format!("{REGION}a"),
        region_id: REGION,
        host_name: relay.addr.ip().to_string(),
        cert_name: relay
            .pin
            .map(|pin| derp::NodeCert::pin_text(&pin))
            .unwrap_or_default(),
        ipv4: relay.addr.ip().to_string(),
        ipv6: "none".into(),
        stun_port: relay.stun_addr.map_or(-1, |addr| addr.port().into()),
        derp_port: relay.addr.port().into(),
        ..DerpNode::default()
    };
    let region = DerpRegion {
        region_id: REGION,
        region_code: "lab".into(),
        region_name: "Lab".into(),
        nodes: vec![node],
        ..DerpRegion::default()
    };
    DerpMap {
        regions: Some(BTreeMap::from([(REGION, Some(region))])),
        omit_default_regions: true,
        ..DerpMap::default()
    }
}

fn read_derp_map(file: &Path) -> Result<DerpMap> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("read the relay map `{}`", file.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("decode the relay map `{}`", file.display()))
}

/// Nodes that are kept know their control server by its address, so that has to stay the same.
fn control_address(dir: &Directory, ip: Ipv4Addr) -> SocketAddr {
    let kept = kept_address(dir).filter(|kept| kept.ip() == ip);
    kept.unwrap_or_else(|| (ip, 0).into())
}

fn kept_address(dir: &Directory) -> Option<SocketAddr> {
    let kept = std::fs::read_to_string(dir.path.join("control.addr")).ok()?;
    kept.trim().parse().ok()
}

fn remember_address(dir: &Directory, address: SocketAddr) -> Result<()> {
    if kept_address(dir) == Some(address) {
        return Ok(());
    }
    replace(
        &dir.path.join("control.addr"),
        address.to_string().as_bytes(),
    )
}

/// Whether the file has a key that the server still knows.
fn is_kept_key(control: &controlserver::Server, file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut keys = control.admin().auth_keys().into_iter();
    keys.any(|key| key.expiry.is_zero() && text.contains(&format!("-{}-", key.id)))
}

async fn make_key(control: &controlserver::Server, file: &Path) -> Result<()> {
    let new = NewAuthKey {
        user: "lab".into(),
        reusable: true,
        preapproved: true,
        ..NewAuthKey::default()
    };
    let made = control.admin().create_auth_key(new).await;
    let made = made.map_err(|error| anyhow::anyhow!("make an auth key: {error:?}"))?;
    replace(file, made.key.unwrap_or_default().as_bytes())
}

/// An address of loopback that is free for TCP and UDP, and whose port no system hands out by itself: a server that is
/// killed finds it free again.
pub(crate) fn free_address() -> std::io::Result<SocketAddr> {
    const FIRST: u16 = 15_000;
    const COUNT: u16 = 15_000;
    let start = rt::OsRng.next_u32();
    for try_number in 0..u32::from(COUNT) {
        let at = start.wrapping_add(try_number) % u32::from(COUNT);
        let port = FIRST + u16::try_from(at).unwrap_or_default();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(std::io::ErrorKind::AddrInUse.into())
}

/// The lab's directory: removed at the end unless it is to be kept.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    pub(crate) keep: bool,
}

impl Directory {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn new(keep: Option<&Path>) -> Result<Self> {
        if let Some(path) = keep {
            make_private_dir(path)?;
            let path = path
                .canonicalize()
                .with_context(|| format!("find `{}`", path.display()))?;
            return Ok(Self { path, keep: true });
        }
        let path = std::env::temp_dir().join(format!("tailnet-lab-{}", std::process::id()));
        make_private_dir(&path)?;
        Ok(Self { path, keep: false })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("cannot remove `{}`: {error}", self.path.display());
        }
    }
}

pub(crate) fn make_private_dir(path: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.with_context(|| format!("make the directory `{}`", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
        .with_context(|| format!("narrow the rights of `{}`", path.display()))
}

/// Writes a file that only its owner can read, as a whole: whoever is killed meanwhile leaves the old one.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary);
    let mut file = file.with_context(|| format!("write `{}`", temporary.display()))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&temporary, path))
        .with_context(|| format!("write `{}`", path.display()))
}
