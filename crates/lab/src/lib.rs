//! A whole tailnet on one machine in one command.
//!
//! The control server and the relay run in this process, on loopback; every node is a `tailscaled` process of its own, a
//! direct child, in userspace mode. Nothing needs root, and nothing is left behind: everything lives in one directory,
//! and the children end with us, even if we are killed.

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
pub use tailnet::{Node, Programs, Tailnet, derp_map, start_relay};
pub use transfer::{Sink, push};

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Bytes that each pair moves.
pub const TRANSFER_LEN: u64 = 64 << 20;

/// How long a node may take to be Running.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long after a transfer a direct path may still come up.
const PATH_LIMIT: Duration = Duration::from_secs(15);

/// Runs the lab as the options say. `stop` resolves when the user wants to end it.
pub async fn run(options: &Options, stop: impl Future<Output = ()>) -> Result<Report> {
    let say = report::Voice::new(options.json);
    let mut tailnet = Tailnet::start(options).await?;
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
    let sink = Sink::start()
        .await
        .context("start the receiver of the transfers")?;
    let mut report = Report {
        ok: true,
        pairs: Vec::new(),
    };
    let count = tailnet.nodes().len();
    for from in 0..count {
        let pair = exercise_pair(
            &tailnet.nodes()[from],
            &tailnet.nodes()[(from + 1) % count],
            &sink,
            say,
        )
        .await?;
        say.pair(&pair);
        report.pairs.push(pair);
    }
    Ok(report)
}

async fn exercise_pair(from: &Node, to: &Node, sink: &Sink, say: &report::Voice) -> Result<Pair> {
    let address = to.address().await?;
    let ping = from
        .ping(address)
        .await
        .with_context(|| format!("ping from {} to {}", from.name(), to.name()))?;
    let bar = say.progress(from.name(), to.name(), TRANSFER_LEN);
    let sent = push(
        from.proxy(),
        (address, sink.port()).into(),
        TRANSFER_LEN,
        |bytes| bar.set_position(bytes),
    )
    .await
    .with_context(|| format!("transfer from {} to {}", from.name(), to.name()));
    bar.finish_and_clear();
    let sent = sent?;
    let direct = from.waits_for_direct_path(to, PATH_LIMIT).await?;
    anyhow::ensure!(
        sent.checksums_match,
        "what {} received is not what {} sent: the checksums differ",
        to.name(),
        from.name()
    );
    Ok(Pair {
        from: from.name().into(),
        to: to.name().into(),
        direct,
        rtt_ms: ping.rtt.as_secs_f64() * 1e3,
        mbit_per_s: sent.bytes as f64 * 8.0 / 1e6 / sent.elapsed.as_secs_f64().max(1e-6),
    })
}
