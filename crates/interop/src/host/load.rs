//! Questions for names, many a second: how soon they are answered, and what that costs the daemon.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dns::{Kind, Query, Rcode, Response};
use lab::netns::World;
use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::servers;
use super::stage::Stage;
use crate::bench::cpu::memory;
use crate::report;
use crate::tailnet::Whose;

/// Clients give up then.
const PATIENCE: Duration = Duration::from_secs(5);
const MAGIC: &str = "100.100.100.100:53";
/// Those that must be answered, of a hundred thousand.
const MUST: usize = 99_990;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Questions in all
    #[arg(long, default_value_t = 10_000)]
    questions: u32,
    /// Questions a second
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// Whose daemons
    #[arg(long, value_delimiter = ',', default_value = "ours,go")]
    daemons: Vec<Whose>,
    /// Write the rows to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Row {
    daemon: String,
    names: &'static str,
    answered: usize,
    asked: u32,
    p50_ms: f64,
    p99_ms: f64,
    /// Of the daemon's memory, in KiB: before, and at the end.
    before_kib: u64,
    after_kib: u64,
}

/// Asks names of the tailnet, and names of others, one daemon after the other; `false` if ours does not answer.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut rows = Vec::new();
    for whose in &options.daemons {
        rows.extend(of(*whose, options).with_context(|| format!("of {whose}"))?);
    }
    let cells: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
    let titles = [
        "daemon",
        "names",
        "answered",
        "p50, ms",
        "p99, ms",
        "memory, MiB",
    ];
    println!("{}", report::markdown(&titles, &cells));
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&rows)?)?;
    }
    let ours = Whose::Ours.to_string();
    let is_answered = |row: &Row| row.answered * 100_000 >= row.asked as usize * MUST;
    Ok(rows
        .iter()
        .all(|row| row.daemon != ours || is_answered(row)))
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let mib = |kib: u64| kib as f64 / 1024.0;
        vec![
            self.daemon.clone(),
            self.names.to_owned(),
            format!("{} of {}", self.answered, self.asked),
            format!("{:.2}", self.p50_ms),
            format!("{:.2}", self.p99_ms),
            format!("{:.1} to {:.1}", mib(self.before_kib), mib(self.after_kib)),
        ]
    }
}

fn of(whose: Whose, options: &Options) -> Result<Vec<Row>> {
    let mut stage = Stage::new(whose)?;
    let internet = stage.tailnet.world.internet();
    servers::dns(internet, World::SERVERS[0].into(), [192, 0, 2, 33].into())?;
    let client = stage.node("client")?;
    client.until_asks_us()?;
    let runtime = client.site.node().runtime()?;
    let mut rows = Vec::new();
    for (names, suffix) in [("of the tailnet", "tailnet.test"), ("of others", "example")] {
        let (before_kib, _) = memory(client.pid()?);
        let name = |number: u32| match suffix {
            "tailnet.test" => format!("client.{suffix}"),
            // Each is another: nobody can have kept its answer.
            suffix => format!("n{number}.{suffix}"),
        };
        let asking = ask(options, name);
        let mut took = client.site.node().block_on(&runtime, asking)??;
        let (after_kib, _) = memory(client.pid()?);
        took.sort();
        let at = |part: f64| {
            let place = (took.len() as f64 * part) as usize;
            let found = took.get(place.min(took.len().saturating_sub(1)));
            found.map_or(f64::NAN, |took| took.as_secs_f64() * 1000.0)
        };
        rows.push(Row {
            daemon: whose.to_string(),
            names,
            answered: took.len(),
            asked: options.questions,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            before_kib,
            after_kib,
        });
    }
    Ok(rows)
}

/// Asks at an even pace, each question by a socket of its own, as programs do; how long the answers took.
async fn ask(options: &Options, name: impl Fn(u32) -> String) -> Result<Vec<Duration>> {
    ensure!(options.rate > 0, "nothing is asked at no rate");
    let mut pace = interval(Duration::from_secs(1) / options.rate);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let magic: SocketAddr = MAGIC.parse()?;
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..options.questions {
        pace.tick().await;
        let query = Query::new(number as u16, &name(number).parse()?, Kind::A);
        asked.spawn(async move {
            let start = Instant::now();
            let answered = timeout(PATIENCE, one(magic, &query)).await;
            let is_good = answered.is_ok_and(|answered| answered.is_ok_and(|good| good));
            is_good.then(|| start.elapsed())
        });
    }
    let mut took = Vec::new();
    while let Some(done) = asked.join_next().await {
        took.extend(done?);
    }
    Ok(took)
}

async fn one(magic: SocketAddr, query: &Query) -> Result<bool> {
    let socket = UdpSocket::bind("0.0.0.0:0").await?;
    socket.connect(magic).await?;
    socket.send(query.bytes()).await?;
    let mut answer = [0; 4096];
    let len = socket.recv(&mut answer).await?;
    let id = u16::from_be_bytes([query.bytes()[0], query.bytes()[1]]);
    let response = Response::parse(&answer[..len], query, id);
    Ok(response.is_some_and(|response| response.rcode == Rcode::NO_ERROR))
}
