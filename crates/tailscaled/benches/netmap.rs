//! What a large tailnet costs a node: its first network map and each change of it.
//!
//! `cargo bench -p tailscaled --bench netmap -- [--peers 1000,10000] [--deltas N]` runs our daemon against our own control
//! server with so many nodes that exist on paper; with `TS_GO_TAILSCALED` set the original goes through the same.
//!
//! A *start* goes from the process's start to Running, which needs the whole map; its processor time is that of the process
//! until it has been quiet for a while. A *change* is one peer that comes or goes; its time goes from the administrator's
//! order until the daemon's local API tells it, and has in it the 20 ms for which the server collects changes.

mod common;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use common::{Usage, log_in, programs, running};
use controlserver::{Admin, NewAuthKey, NodeInfo};
use localapi::Client;
use testkit::originals::{Daemon, TailscaledOptions, daemon};

/// How often a start is timed; the median counts.
const STARTS: usize = 5;
/// A node may settle this long after a start.
const SETTLE: Duration = Duration::from_secs(8);
/// Changes are so far apart that each is a message of its own.
const BETWEEN: Duration = Duration::from_millis(60);
/// Changes whose time is taken.
const TIMED: usize = 21;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str, default: &str| {
        let at = words.iter().position(|word| word == name);
        let text = at.and_then(|at| words.get(at + 1));
        text.cloned().unwrap_or_else(|| default.into())
    };
    let deltas: usize = option("--deltas", "200").parse()?;
    let sizes: Result<Vec<u32>, _> = option("--peers", "1000,10000")
        .split(',')
        .map(str::parse)
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for peers in [vec![1], sizes?].concat() {
            let mut rows = Vec::new();
            for program in programs() {
                rows.push(measure(&program, peers, deltas).await?);
            }
            print(peers, deltas, &rows);
        }
        Ok(())
    })
}

/// What one daemon costs.
struct Figures {
    program: String,
    start: Duration,
    start_cpu: Duration,
    delta: Duration,
    delta_cpu: Duration,
    rss_kib: u64,
}

async fn measure(program: &Path, peers: u32, deltas: usize) -> anyhow::Result<Figures> {
    eprintln!("measuring {} with {peers} peers", program.display());
    let relay = lab::start_relay().await?;
    let control = controlserver::Server::start(controlserver::Config {
        derp_map: lab::derp_map(&relay),
        ..controlserver::Config::default()
    })
    .await?;
    let admin = control.admin();
    let key = admin.create_auth_key(NewAuthKey::default()).await?;
    let mut node = daemon(program, &TailscaledOptions::default());
    log_in(&node, &control.url(), &key.key.unwrap_or_default()).await?;
    running(&node).await?;
    let ids = admin.add_nodes(peers).await?;
    let paper: Vec<NodeInfo> = {
        let nodes = admin.nodes().into_iter();
        nodes.filter(|node| ids.contains(&node.id)).collect()
    };
    let last = paper.last().context("no peers")?;
    knows(&node, last, true).await?;

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        node.kill();
        let start = rt::now();
        node.start_again();
        running(&node).await?;
        let took = rt::now().since(start);
        knows(&node, last, true).await?;
        tokio::time::sleep(SETTLE).await;
        starts.push((took, Usage::of(node.pid())?.cpu));
    }
    starts.sort();
    let (start, start_cpu) = starts[STARTS / 2];

    let mut times = Vec::new();
    for peer in paper.iter().cycle().take(TIMED) {
        times.push(time_delta(&admin, &node, peer).await?);
        tokio::time::sleep(BETWEEN).await;
    }
    times.sort();
    tokio::time::sleep(SETTLE).await;
    let before = Usage::of(node.pid())?;
    let begin = rt::now();
    for (number, peer) in paper.iter().cycle().take(deltas).enumerate() {
        admin.set_online(peer.id, number % 2 == 1).await?;
        tokio::time::sleep(BETWEEN).await;
    }
    let busy = rt::now().since(begin);
    let after = Usage::of(node.pid())?;
    tokio::time::sleep(busy).await;
    let quiet = Usage::of(node.pid())?;
    // What the daemon does anyway in the same time is not the changes' doing.
    let idle = quiet.cpu.saturating_sub(after.cpu);
    let delta_cpu = after.cpu.saturating_sub(before.cpu).saturating_sub(idle);
    let figures = Figures {
        program: program.display().to_string(),
        start,
        start_cpu,
        delta: times[TIMED / 2],
        delta_cpu: delta_cpu / u32::try_from(deltas.max(1))?,
        rss_kib: quiet.rss_kib,
    };
    drop(node);
    control.stop().await;
    relay.shutdown().await;
    Ok(figures)
}

/// From the order that a peer goes until the daemon tells it; the peer is back afterwards.
async fn time_delta(admin: &Admin, node: &Daemon, peer: &NodeInfo) -> anyhow::Result<Duration> {
    let start = rt::now();
    admin.set_online(peer.id, false).await?;
    knows(node, peer, false).await?;
    let took = rt::now().since(start);
    admin.set_online(peer.id, true).await?;
    knows(node, peer, true).await?;
    Ok(took)
}

/// Waits until the daemon knows the peer so.
async fn knows(node: &Daemon, peer: &NodeInfo, online: bool) -> anyhow::Result<()> {
    let address = peer.addresses.first().context("no address")?.to_string();
    let client = Client::new(node.socket());
    for _ in 0..30_000 {
        let known = client.whois("", &address).await.ok().flatten();
        let known = known.and_then(|who| who.node);
        if known.is_some_and(|known| known.online == Some(online)) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    anyhow::bail!("{address} is not {online} after a minute:\n{}", node.log())
}

fn print(peers: u32, deltas: usize, rows: &[Figures]) {
    println!("\n{peers} peers, {deltas} changes");
    for row in rows {
        println!("  {}", row.program);
    }
    let line = |name: &str, of: &dyn Fn(&Figures) -> f64, digits: usize| {
        let cells: Vec<String> = rows
            .iter()
            .map(|row| format!("{:>12.digits$}", of(row)))
            .collect();
        let ratio = match rows {
            [ours, theirs] if of(theirs) > 0.0 => format!("{:.2}", of(ours) / of(theirs)),
            _ => String::new(),
        };
        println!("  {name:<30}{} {ratio:>8}", cells.join(""));
    };
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    line("start to Running, ms", &|row| millis(row.start), 0);
    line("processor for a start, ms", &|row| millis(row.start_cpu), 0);
    line("a change, ms", &|row| millis(row.delta), 1);
    line(
        "processor for a change, ms",
        &|row| millis(row.delta_cpu),
        3,
    );
    line("memory (RSS), KiB", &|row| row.rss_kib as f64, 0);
}
