//! A whole tailnet on one machine in one command.
//!
//! The control server and the relay run in this process, on loopback; every node is a `tailscaled` process of its own, a
//! direct child, in userspace mode. Nothing needs root, and nothing is left behind: everything lives in one directory,
//! and the children end with us, even if we are killed.
//!
//! With `--tun`, which needs root, every node has a TUN device in a network namespace of its own, behind a NAT, and the servers
//! are on the internet between them. The namespaces have no names and end with the processes in them.

pub mod admin;
pub mod chaos;
mod child;
pub mod netns;
mod options;
mod report;
mod tailnet;
mod transfer;

pub use options::{Command, Options};
pub use report::{Pair, Report};
pub use tailnet::{Node, Programs, Tailnet, derp_map, start_relay, start_relay_at};
pub use transfer::{Sink, push};

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::netns::{Nat, Site, World};

/// Bytes that each pair moves.
pub const TRANSFER_LEN: u64 = 64 << 20;

/// How long a node may take to be Running.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long after a transfer a direct path may still come up.
const PATH_LIMIT: Duration = Duration::from_secs(15);

/// So long a path that should not become direct is watched before the transfer.
const RELAYED_LIMIT: Duration = Duration::from_secs(3);

/// Runs the lab on loopback, as the options say. `stop` resolves when the user wants to end it.
pub async fn run(options: &Options, stop: impl Future<Output = ()>) -> Result<Report> {
    run_at(options, Vec::new(), stop).await
}

/// Runs the lab with each node in a network of its own, as the options say. `stop` resolves when the user wants to end it.
pub fn run_in_namespaces(
    options: &Options,
    stop: impl Future<Output = ()> + Send,
) -> Result<Report> {
    let nodes = usize::from(options.nodes);
    anyhow::ensure!(
        options.nat.len() == 1 || options.nat.len() == nodes,
        "--nat has {} kinds for {nodes} nodes: give one for all, or one for each",
        options.nat.len()
    );
    let mut world = World::new().context("--tun")?;
    let nats = options.nat.iter().cycle().take(nodes);
    let sites = nats.map(|nat| world.add_site(*nat));
    let sites = sites.collect::<Result<Vec<_>>>()?;
    let internet = world.internet();
    let runtime = internet.runtime()?;
    let outcome = internet.run(|| runtime.block_on(run_at(options, sites, stop)))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn run_at(
    options: &Options,
    sites: Vec<Site>,
    stop: impl Future<Output = ()>,
) -> Result<Report> {
    let say = report::Voice::new(options.json);
    let mut tailnet = Tailnet::start(options, sites).await?;
    if options.control_only {
        say.control_only(&tailnet);
        stop.await;
        tailnet.stop().await;
        return Ok(Report::default());
    }
    tokio::pin!(stop);
    let outcome = tokio::select! {
        outcome = exercise(&mut tailnet, &say) => outcome,
        () = &mut stop => Err(anyhow::anyhow!("interrupted")),
    };
    if outcome.is_err() {
        say.logs(&tailnet);
    }
    if let Ok(report) = &outcome
        && !options.once
        && !options.json
    {
        say.playground(&tailnet, report);
        stop.await;
    }
    tailnet.stop().await;
    outcome
}

async fn exercise(tailnet: &mut Tailnet, say: &report::Voice) -> Result<Report> {
    say.step(&format!(
        "control server at {}, {}",
        tailnet.control_url(),
        tailnet.relays()
    ));
    tailnet.start_nodes().await?;
    for node in tailnet.nodes() {
        node.wait_running(START_LIMIT).await?;
        say.step(&format!(
            "{} is Running at {}",
            node.name(),
            node.address().await?
        ));
    }
    say.raw(
        &tailnet.nodes()[0]
            .cli(&["status"])
            .await
            .context("tailscale status")?,
    );
    let mut report = Report {
        ok: true,
        pairs: Vec::new(),
    };
    let count = tailnet.nodes().len();
    for from in 0..count {
        let to = &tailnet.nodes()[(from + 1) % count];
        let pair = exercise_pair(&tailnet.nodes()[from], to, say).await?;
        say.pair(&pair);
        report.pairs.push(pair);
    }
    Ok(report)
}

async fn exercise_pair(from: &Node, to: &Node, say: &report::Voice) -> Result<Pair> {
    let address = to.address().await?;
    let expected = from.expects_direct_path(to);
    let ping = from
        .ping(address)
        .await
        .with_context(|| format!("ping from {} to {}", from.name(), to.name()))?;
    if let Some(expected) = expected {
        let limit = if expected { PATH_LIMIT } else { RELAYED_LIMIT };
        from.waits_for_direct_path(to, limit).await?;
    }
    let sent = transfer(from, to, address, say)
        .await
        .with_context(|| format!("transfer from {} to {}", from.name(), to.name()))?;
    let limit = match expected {
        Some(false) => Duration::ZERO,
        Some(true) | None => PATH_LIMIT,
    };
    let direct = from.waits_for_direct_path(to, limit).await?;
    anyhow::ensure!(
        sent.checksums_match,
        "what {} received is not what {} sent: the checksums differ",
        to.name(),
        from.name()
    );
    let pair = Pair {
        from: from.name().into(),
        to: to.name().into(),
        direct,
        rtt_ms: ping.rtt.as_secs_f64() * 1e3,
        from_nat: from.site().map(Site::nat),
        to_nat: to.site().map(Site::nat),
        mbit_per_s: sent.bytes as f64 * 8.0 / 1e6 / sent.elapsed.as_secs_f64().max(1e-6),
    };
    check_path(&pair, expected)?;
    Ok(pair)
}

fn check_path(pair: &Pair, expected: Option<bool>) -> Result<()> {
    let name = |direct| if direct { "direct" } else { "relayed" };
    let nat = |nat: Option<Nat>| nat.map(|nat| nat.to_string()).unwrap_or_default();
    if let Some(expected) = expected {
        anyhow::ensure!(
            expected == pair.direct,
            "the path from {} to {} is {}; between NATs of the kinds {} and {} it must be {}",
            pair.from,
            pair.to,
            name(pair.direct),
            nat(pair.from_nat),
            nat(pair.to_nat),
            name(expected)
        );
    }
    Ok(())
}

async fn transfer(
    from: &Node,
    to: &Node,
    address: IpAddr,
    say: &report::Voice,
) -> Result<transfer::Sent> {
    let sink = match to.site() {
        Some(site) => Sink::start_at(site),
        None => Sink::start().await.map_err(Into::into),
    };
    let sink = sink.context("start the receiver")?;
    let target = (address, sink.port()).into();
    let bar = say.progress(from.name(), to.name(), TRANSFER_LEN);
    let progress = |bytes| bar.set_position(bytes);
    let sent = match (from.site(), from.proxy()) {
        (Some(site), _) => transfer::push_from(site, target, TRANSFER_LEN, progress).await,
        (None, Some(proxy)) => push(proxy, target, TRANSFER_LEN, progress).await,
        (None, None) => Err(anyhow::anyhow!("it has neither a device nor a proxy")),
    };
    bar.finish_and_clear();
    sent
}
