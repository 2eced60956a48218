//! A flood of handshakes, and what it does to a connection that was there before.
//!
//! 50,000 initiations a second reach a node's socket while one of its peers sends it 100 Mbit/s of TCP: from one address, from ten
//! thousand, and with a first code that is wrong. Each initiation is well-made: only its sender is nobody that the node knows, which
//! cannot be told without a Diffie-Hellman.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use keys::{NodePrivate, NodePublic};
use lab::netns::{Nat, Netns};
use rt::OsRng;
use serde::Serialize;
use wireguard::{Context, Identity, IndexTable, Output, Peer};

use crate::bench::command;
use crate::node::Node;
use crate::report;
use crate::tailnet::{Control, Tailnet, Whose};

/// Different initiations, sent in turn.
const KINDS: usize = 2000;
/// Addresses of the flood from many.
const SOURCES: usize = 10_000;
/// Megabits a second of the connection.
const RATE: f64 = 100.0;
const PORT: u16 = 41641;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Initiations a second
    #[arg(long, default_value_t = 50_000)]
    rate: u64,
    /// Seconds of each flood
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Whose nodes
    #[arg(long, default_value = "ours")]
    nodes: Whose,
    /// Write the rows to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Flood {
    None,
    OneSource,
    ManySources,
    WrongCode,
}

#[derive(Debug, Serialize)]
struct Row {
    flood: Flood,
    nodes: Whose,
    /// Initiations that were sent, each second.
    sent_per_s: u64,
    /// What arrived of the connection, as the receiver counts.
    mbit_per_s: f64,
    lost_percent: f64,
}

/// Measures; `false` if the connection lost 1 % or more.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut tailnet = Tailnet::start(Control::Ours, Whose::Ours)?;
    let port = format!("--port={PORT}");
    let flags = ["--tun=tailscale0", &port];
    let target = Node::start(&mut tailnet, options.nodes, Nat::None, "target", &flags)?;
    let peer = Node::start(&mut tailnet, options.nodes, Nat::None, "peer", &flags)?;
    let address = target.address()?;
    peer.until_knows(address)?;
    peer.until_reaches(address)?;
    let (is_direct, said) = peer.ping_until_direct(address, 20)?;
    ensure!(is_direct, "no direct path: {said}");
    let attacker = tailnet.world.add_site(Nat::None)?;
    attacker.wait_until_connected()?;
    let key = target.public_key()?;
    let at = SocketAddr::from((target.site.address(), PORT));
    let mut rows = Vec::new();
    for flood in [
        Flood::None,
        Flood::OneSource,
        Flood::ManySources,
        Flood::WrongCode,
    ] {
        eprintln!("{flood:?}");
        let (sent, rate) = measure(options, flood, &target, &peer, attacker.node(), key, at)?;
        rows.push(Row {
            flood,
            nodes: options.nodes,
            sent_per_s: sent / u64::from(options.seconds),
            mbit_per_s: rate,
            lost_percent: ((RATE - rate) / RATE * 100.0).max(0.0),
        });
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                format!("{:?}", row.flood),
                row.sent_per_s.to_string(),
                format!("{:.1}", row.mbit_per_s),
                format!("{:.2}", row.lost_percent),
            ]
        })
        .collect();
    let head = ["flood", "initiations/s", "Mbit/s that arrived", "lost %"];
    println!("{}", report::markdown(&head, &cells));
    if let Some(path) = &options.json {
        report::write_json(path, &rows)?;
    }
    Ok(rows.iter().all(|row| row.lost_percent < 1.0))
}

fn measure(
    options: &Options,
    flood: Flood,
    target: &Node,
    peer: &Node,
    attacker: &Netns,
    key: NodePublic,
    at: SocketAddr,
) -> Result<(u64, f64)> {
    let mut messages = initiations(key)?;
    if flood == Flood::WrongCode {
        // The first code is in front of the second one, at the end.
        messages.iter_mut().for_each(|message| message[120] ^= 1);
    }
    let sockets = attacker.run(|| sockets(flood))??;
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let rate = std::thread::scope(|scope| {
        let flooder = (flood != Flood::None).then(|| {
            let (stop, sent, messages, sockets) = (&stop, &sent, &messages, &sockets);
            scope.spawn(move || send(messages, sockets, at, options.rate, stop, sent))
        });
        let rate = connection(target, peer, options.seconds);
        stop.store(true, Ordering::Relaxed);
        if let Some(flooder) = flooder {
            flooder
                .join()
                .map_err(|_| anyhow::anyhow!("the flood panicked"))?;
        }
        rate
    })?;
    Ok((sent.load(Ordering::Relaxed), rate))
}

/// What a stranger would say to a node.
fn initiations(to: NodePublic) -> Result<Vec<Vec<u8>>> {
    let mut rng = OsRng;
    let mut messages = Vec::with_capacity(KINDS);
    for _ in 0..KINDS {
        let identity = Identity::new(NodePrivate::generate(&mut rng));
        let mut peer = Peer::new(identity, to).context("the node's key is none")?;
        let mut indices = IndexTable::new();
        let now = rt::now();
        peer.want_session(&mut Context {
            now,
            wall: rt::wall(),
            rng: &mut rng,
            indices: &mut indices,
        });
        let Some(Output::Handshake(message)) = peer.poll_output(now) else {
            bail!("no initiation came of it");
        };
        messages.push(message);
    }
    Ok(messages)
}

fn sockets(flood: Flood) -> Result<Vec<UdpSocket>> {
    if flood != Flood::ManySources {
        return Ok(vec![UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?]);
    }
    // Any address of this network is the attacker's.
    let status = command("ip")
        .args(["route", "replace", "local", "198.18.0.0/18", "dev", "lo"])
        .status()?;
    ensure!(status.success(), "`ip` could not add a network");
    raise_open_files();
    (0..SOURCES)
        .map(|n| Ok(UdpSocket::bind((source(n), 0))?))
        .collect()
}

/// Each source is a socket.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("the limit of open files stays as it is: {error}");
    }
}

fn source(n: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 1).to_bits() + n as u32)
}

/// Sends at a rate until told to stop.
fn send(
    messages: &[Vec<u8>],
    sockets: &[UdpSocket],
    at: SocketAddr,
    rate: u64,
    stop: &AtomicBool,
    sent: &AtomicU64,
) {
    let start = rt::now();
    let mut count = 0u64;
    let pairs = messages.iter().cycle().zip(sockets.iter().cycle());
    for (message, socket) in pairs {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // A full queue on the way is the flood's own.
        let _ = socket.send_to(message, at);
        count += 1;
        if count.is_multiple_of(64) {
            let due = Duration::from_nanos(count * 1_000_000_000 / rate.max(1));
            let passed = rt::now().since(start);
            std::thread::sleep(due.saturating_sub(passed));
        }
    }
    sent.store(count, Ordering::Relaxed);
}

/// A connection from the peer to the node; what arrived, in megabits a second.
fn connection(target: &Node, peer: &Node, seconds: u32) -> Result<f64> {
    let address: IpAddr = target.address()?;
    let (address, duration) = (address.to_string(), seconds.to_string());
    let mut server = target.site.node().run(|| {
        command("iperf3")
            .args(["-s", "-1", "-B", &address])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    })??;
    std::thread::sleep(Duration::from_millis(500));
    let output = peer.site.node().run(|| {
        command("iperf3")
            .args(["-c", &address, "-J", "-b", "100M", "-t", &duration])
            .output()
    })??;
    let _ = server.kill();
    let _ = server.wait();
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("read iperf3's report")?;
    if let Some(error) = report["error"].as_str() {
        bail!("iperf3: {error}");
    }
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(rate.context("iperf3 counted nothing")? / 1e6)
}
