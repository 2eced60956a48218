//! The processes of the tailnet, and what must be true of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use controlserver::{AdminClient, NewAuthKey, NodeInfo};
use keys::NodePublic;
use localapi::Client;
use tailcfg::{DerpMap, DerpNode, DerpRegion, NodeId};

use super::plan::{During, Plan, Victim};
use crate::child::{Daemon, Lifeline};
use crate::tailnet::{Directory, REGION, free_address, make_private_dir};
use crate::{Programs, Sink, push};

const POLL_EVERY: Duration = Duration::from_millis(50);
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Bytes that each node sends to the next.
const DATA_LEN: u64 = 256 << 10;
const TRY_LIMIT: Duration = Duration::from_secs(3);

/// One program that can be killed and started again.
struct Program {
    path: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    running: Option<Daemon>,
}

impl Program {
    fn start(&mut self, lifeline: &Lifeline) -> Result<()> {
        self.running = Some(Daemon::start(
            &self.path, &self.args, &self.log, None, lifeline,
        )?);
        Ok(())
    }

    async fn kill(&mut self) -> Result<()> {
        match &mut self.running {
            Some(daemon) => daemon.kill().await,
            None => bail!("`{}` does not run", self.path.display()),
        }
    }
}

struct Node {
    name: String,
    socket: PathBuf,
    proxy: SocketAddr,
    program: Program,
    known: Identity,
}

/// What a node must never lose.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    stable_id: String,
    key: NodePublic,
    addresses: Vec<IpAddr>,
}

/// The tailnet.
pub(super) struct World {
    dir: Directory,
    lifeline: Lifeline,
    control: Program,
    control_url: String,
    relay: Program,
    nodes: Vec<Node>,
    sink: Sink,
    /// The control server's nodes as they must stay, but for a key that was renewed.
    registered: BTreeMap<NodeId, NodeInfo>,
    /// Auth keys that the control server has confirmed.
    confirmed: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// Starts everything and logs the nodes in.
    pub(super) async fn start(count: usize, keep: Option<&Path>) -> Result<Self> {
        let programs = Programs::beside_us()?;
        let own = std::env::current_exe().context("find the running program")?;
        let derper = own.with_file_name("derper");
        ensure!(
            derper.exists(),
            "`{}` is missing: build it with cargo build --release",
            derper.display()
        );
        let dir = Directory::new(keep)?;
        let lifeline = Lifeline::new().context("make the lifeline")?;
        let relay = start_relay(&derper, dir.path(), &lifeline).await?;
        let control_dir = dir.path().join("control");
        make_private_dir(&control_dir)?;
        let control_address = free_address()?;
        std::fs::write(
            control_dir.join("control.addr"),
            control_address.to_string(),
        )?;
        let mut control = Program {
            path: own,
            args: vec![
                "--control-only".into(),
                format!("--keep={}", control_dir.display()),
                format!("--derp-map={}", dir.path().join("derp.json").display()),
            ],
            log: dir.path().join("control.log"),
            running: None,
        };
        control.start(&lifeline)?;
        let mut world = Self {
            lifeline,
            control,
            control_url: format!("http://{control_address}"),
            relay,
            nodes: Vec::new(),
            sink: Sink::start().await.context("start the receiver")?,
            registered: BTreeMap::new(),
            confirmed: Arc::default(),
            dir,
        };
        world.wait_control().await?;
        for number in 1..=count {
            let node = world.log_in(&programs, &format!("node{number}")).await?;
            world.nodes.push(node);
        }
        world.wait_running().await?;
        for at in 0..count {
            world.nodes[at].known = world.nodes[at].identity().await?;
        }
        let registered = world.admin().nodes().await?;
        world.registered = registered.into_iter().map(|node| (node.id, node)).collect();
        ensure!(
            world.registered.len() == count,
            "not all nodes are registered"
        );
        world.wait_data().await?;
        Ok(world)
    }

    fn admin(&self) -> AdminClient {
        AdminClient::new(self.dir.path().join("control/admin.sock"))
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves the directory for a look at what went wrong.
    pub(super) fn keep(&mut self) {
        self.dir.keep = true;
    }

    async fn wait_control(&self) -> Result<()> {
        let ready = async {
            while self.admin().nodes().await.is_err() || self.auth_key().is_err() {
                tokio::time::sleep(POLL_EVERY).await;
            }
        };
        let waited = tokio::time::timeout(READY_LIMIT, ready).await;
        waited.context("the control server does not answer its administrator")
    }

    async fn log_in(&self, programs: &Programs, name: &str) -> Result<Node> {
        let dir = self.dir.path().join(name);
        make_private_dir(&dir)?;
        let proxy = free_address()?;
        let socket = dir.join("tailscaled.sock");
        let mut node = Node {
            name: name.to_owned(),
            program: Program {
                path: programs.tailscaled.clone(),
                args: vec![
                    "--tun=userspace-networking".into(),
                    "--port=0".into(),
                    format!("--statedir={}", dir.display()),
                    format!("--socket={}", socket.display()),
                    format!("--socks5-server={proxy}"),
                ],
                log: dir.join("tailscaled.log"),
                running: None,
            },
            socket,
            proxy,
            known: Identity {
                stable_id: String::new(),
                key: NodePublic::ZERO,
                addresses: Vec::new(),
            },
        };
        node.program.start(&self.lifeline)?;
        node.log_in(&self.control_url, self.auth_key()?, name)
            .await?;
        Ok(node)
    }

    fn auth_key(&self) -> Result<String> {
        let file = self.dir.path().join("control/auth-key");
        std::fs::read_to_string(&file).with_context(|| format!("read `{}`", file.display()))
    }

    /// Carries out the round's violence, up to the last start.
    pub(super) async fn kill_and_start(&mut self, plan: &Plan) -> Result<()> {
        let busy = self.begin(plan.during)?;
        tokio::time::sleep(plan.kill_after).await;
        for victim in &plan.victims {
            self.program(*victim)?.kill().await?;
        }
        tokio::time::sleep(plan.down_for).await;
        self.start_all(&plan.victims)?;
        if let Some(after) = plan.again_after {
            tokio::time::sleep(after).await;
            for victim in &plan.victims {
                self.program(*victim)?.kill().await?;
            }
            self.start_all(&plan.victims)?;
        }
        drop(busy);
        Ok(())
    }

    fn start_all(&mut self, victims: &[Victim]) -> Result<()> {
        for victim in victims {
            match victim {
                Victim::Control => self.control.start(&self.lifeline)?,
                Victim::Relay => self.relay.start(&self.lifeline)?,
                Victim::Node(index) => match self.nodes.get_mut(*index) {
                    Some(node) => node.program.start(&self.lifeline)?,
                    None => bail!("there is no node {index}"),
                },
            }
        }
        Ok(())
    }

    fn program(&mut self, victim: Victim) -> Result<&mut Program> {
        match victim {
            Victim::Control => Ok(&mut self.control),
            Victim::Relay => Ok(&mut self.relay),
            Victim::Node(index) => {
                let node = self.nodes.get_mut(index).context("there is no such node")?;
                Ok(&mut node.program)
            }
        }
    }

    /// Keeps the tailnet busy until the task is dropped. What fails meanwhile was killed in the middle, as it should be.
    fn begin(&self, during: During) -> Result<Option<rt::Task>> {
        let sockets: Vec<PathBuf> = self.nodes.iter().map(|node| node.socket.clone()).collect();
        let [first, second, ..] = self.nodes.as_slice() else {
            bail!("too few nodes");
        };
        let task = match during {
            During::Idle => return Ok(None),
            During::Transfer => {
                let proxy = first.proxy;
                let target = SocketAddr::new(first_of(&second.known.addresses)?, self.sink.port());
                rt::Task::spawn("chaos transfer", async move {
                    loop {
                        let _ = push(proxy, target, 16 << 20, |_| ()).await;
                        tokio::time::sleep(POLL_EVERY).await;
                    }
                })
            }
            During::Edits => rt::Task::spawn("chaos edits", async move {
                for number in 0u32.. {
                    for socket in &sockets {
                        let _ = set_hostname(socket, &format!("chaos{number}")).await;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }),
            During::Orders => {
                let (admin, confirmed) = (self.admin(), Arc::clone(&self.confirmed));
                rt::Task::spawn("chaos orders", async move {
                    loop {
                        if let Ok(made) = admin.create_auth_key(&NewAuthKey::default()).await {
                            let mut confirmed =
                                confirmed.lock().unwrap_or_else(PoisonError::into_inner);
                            confirmed.push(made.id);
                        }
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                })
            }
            During::Renewal => {
                let (url, key) = (self.control_url.clone(), self.auth_key()?);
                let socket = first.socket.clone();
                rt::Task::spawn("chaos renewal", async move {
                    let _ = renew(&socket, &url, &key).await;
                    std::future::pending::<()>().await;
                })
            }
        };
        Ok(Some(task))
    }

    /// Waits until all nodes are Running, and online for the control server.
    pub(super) async fn wait_running(&self) -> Result<()> {
        for node in &self.nodes {
            while !node.is_running().await {
                tokio::time::sleep(POLL_EVERY).await;
            }
        }
        loop {
            let nodes = self.admin().nodes().await;
            if nodes.is_ok_and(|nodes| nodes.iter().all(|node| node.online)) {
                return Ok(());
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// Waits until data has flowed from each node to the next. What was last waited for, and why.
    pub(super) async fn wait_data(&self) -> Result<String> {
        let mut waited_for = String::new();
        for (from, to) in self.pairs() {
            while let Err(error) = self.send(from, to).await {
                ensure!(!error.is::<Corrupt>(), "{error}");
                waited_for = format!("{} to {}: {error:#}", from.name, to.name);
                tokio::time::sleep(POLL_EVERY).await;
            }
        }
        Ok(waited_for)
    }

    fn pairs(&self) -> impl Iterator<Item = (&Node, &Node)> {
        self.nodes.iter().zip(self.nodes.iter().cycle().skip(1))
    }

    async fn send(&self, from: &Node, to: &Node) -> Result<()> {
        let address = first_of(&to.identity().await?.addresses)?;
        let target = SocketAddr::new(address, self.sink.port());
        let sent = tokio::time::timeout(TRY_LIMIT, push(from.proxy, target, DATA_LEN, |_| ()));
        let sent = sent.await.context("no answer in time")??;
        if !sent.checksums_match {
            return Err(Corrupt.into());
        }
        Ok(())
    }

    /// What is missing for the tailnet to be whole.
    pub(super) async fn missing(&self) -> String {
        let mut missing = Vec::new();
        for node in &self.nodes {
            if !node.is_running().await {
                missing.push(format!("{} is not Running", node.name));
            }
        }
        for (from, to) in self.pairs() {
            if let Err(error) = self.send(from, to).await {
                missing.push(format!("{} to {}: {error:#}", from.name, to.name));
            }
        }
        match self.admin().nodes().await {
            Ok(nodes) => {
                let offline = nodes.iter().filter(|node| !node.online);
                missing.extend(offline.map(|node| format!("{} is offline", node.name)));
            }
            Err(error) => missing.push(error.to_string()),
        }
        missing.join("; ")
    }

    /// Checks that all nodes are who they were, for themselves and for the control server.
    pub(super) async fn check_identities(&mut self) -> Result<()> {
        let nodes = self.admin().nodes().await?;
        ensure!(
            nodes.len() == self.registered.len(),
            "there are {} nodes instead of {}",
            nodes.len(),
            self.registered.len()
        );
        for node in &mut self.nodes {
            let now = node.identity().await?;
            let (was, is) = (&node.known, &now);
            ensure!(
                was.stable_id == is.stable_id && was.addresses == is.addresses,
                "{} was {was:?} and is {is:?}",
                node.name
            );
            let seen = nodes.iter().find(|seen| seen.node_key == now.key);
            let seen = seen.with_context(|| format!("the server has not {}'s key", node.name))?;
            let before = self.registered.get(&seen.id);
            let before = before.with_context(|| format!("{} has a new number", node.name))?;
            ensure!(
                before.machine_key == seen.machine_key && before.addresses == seen.addresses,
                "the server knows {} as another machine",
                node.name
            );
            node.known = now;
        }
        let kept = self.admin().auth_keys().await?;
        let confirmed = self
            .confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let lost = confirmed
            .iter()
            .find(|id| kept.iter().all(|key| key.id != **id));
        ensure!(
            lost.is_none(),
            "an auth key was confirmed and is gone: {lost:?}"
        );
        Ok(())
    }

    /// The last lines of all logs.
    pub(super) fn last_words(&self) -> String {
        let mut out = String::new();
        let programs = self.nodes.iter().map(|node| &node.program);
        for program in programs.chain([&self.control, &self.relay]) {
            let log = std::fs::read_to_string(&program.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(15).collect();
            out.push_str(&format!("\nthe last lines of {}:\n", program.log.display()));
            for line in lines.iter().rev() {
                out.push_str(&format!("  {line}\n"));
            }
        }
        out
    }

    /// Ends everything.
    pub(super) async fn stop(mut self) {
        let nodes = self.nodes.iter_mut().map(|node| &mut node.program);
        for program in nodes.chain([&mut self.control, &mut self.relay]) {
            if let Some(daemon) = &mut program.running
                && let Err(error) = daemon.stop().await
            {
                eprintln!("cannot end `{}`: {error}", program.path.display());
            }
        }
    }
}

/// Data arrived, and was not what had been sent.
#[derive(Debug)]
struct Corrupt;

impl std::fmt::Display for Corrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("what arrived is not what was sent")
    }
}

impl std::error::Error for Corrupt {}

impl Node {
    async fn is_running(&self) -> bool {
        let status = Client::new(&self.socket).status_without_peers().await;
        status.is_ok_and(|status| status.backend_state == "Running")
    }

    async fn identity(&self) -> Result<Identity> {
        let status = Client::new(&self.socket).status_without_peers().await?;
        let own = status.self_status.context("the status has no self")?;
        Ok(Identity {
            stable_id: own.id,
            key: own.public_key,
            addresses: status.tailscale_ips.unwrap_or_default(),
        })
    }

    async fn log_in(&self, control: &str, key: String, hostname: &str) -> Result<()> {
        let client = Client::new(&self.socket).patient(READY_LIMIT);
        let mut prefs = client.prefs().await?;
        prefs.control_url = control.to_owned();
        prefs.want_running = true;
        prefs.logged_out = false;
        prefs.hostname = hostname.to_owned();
        log_in(&client, prefs, key).await
    }
}

async fn log_in(client: &Client, prefs: ipn::Prefs, key: String) -> Result<()> {
    let options = ipn::Options {
        update_prefs: Some(Box::new(prefs)),
        auth_key: tailcfg::go::Secret::new(key),
        ..ipn::Options::default()
    };
    client.start(&options).await?;
    client.login_interactive().await?;
    Ok(())
}

async fn set_hostname(socket: &Path, hostname: &str) -> Result<()> {
    let mut edit = ipn::MaskedPrefs::default();
    edit.prefs.hostname = hostname.to_owned();
    edit.hostname_set = true;
    Client::new(socket).patch_prefs(&edit).await?;
    Ok(())
}

/// Authenticates the node again.
async fn renew(socket: &Path, control: &str, key: &str) -> Result<()> {
    let client = Client::new(socket);
    let mut prefs = client.prefs().await?;
    prefs.control_url = control.to_owned();
    log_in(&client, prefs, key.to_owned()).await
}

fn first_of(addresses: &[IpAddr]) -> Result<IpAddr> {
    addresses
        .first()
        .copied()
        .context("the node has no address")
}

/// The relay's process, and its map as a file.
async fn start_relay(path: &Path, dir: &Path, lifeline: &Lifeline) -> Result<Program> {
    let (address, stun) = (free_address()?, free_address()?);
    let mut relay = Program {
        path: path.to_owned(),
        args: vec![
            format!("-a={address}"),
            format!("-stun-port={}", stun.port()),
            "-http-port=-1".into(),
            "-certmode=manual".into(),
            format!("-hostname={}", Ipv4Addr::LOCALHOST),
            format!("-certdir={}", dir.join("certs").display()),
            format!("-c={}", dir.join("derper.key").display()),
        ],
        log: dir.join("derper.log"),
        running: None,
    };
    relay.start(lifeline)?;
    let pin = async {
        loop {
            let log = std::fs::read_to_string(&relay.log).unwrap_or_default();
            let pin = log
                .split_once("sha256-raw:")
                .and_then(|(_, rest)| rest.get(..64));
            if let Some(pin) = pin {
                return format!("sha256-raw:{pin}");
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    };
    let pin = tokio::time::timeout(READY_LIMIT, pin).await;
    let pin = pin.context("the relay does not tell its certificate")?;
    let node = DerpNode {
        name: format!("{REGION}a"),
        region_id: REGION,
        host_name: Ipv4Addr::LOCALHOST.to_string(),
        cert_name: pin,
        ipv4: Ipv4Addr::LOCALHOST.to_string(),
        ipv6: "none".into(),
        stun_port: stun.port().into(),
        derp_port: address.port().into(),
        ..DerpNode::default()
    };
    let region = DerpRegion {
        region_id: REGION,
        region_code: "chaos".into(),
        region_name: "Chaos".into(),
        nodes: vec![node],
        ..DerpRegion::default()
    };
    let map = DerpMap {
        regions: Some(BTreeMap::from([(REGION, Some(region))])),
        omit_default_regions: true,
        ..DerpMap::default()
    };
    std::fs::write(dir.join("derp.json"), serde_json::to_vec(&map)?)?;
    Ok(relay)
}
