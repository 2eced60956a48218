//! `lab chaos`: ends the programs of a tailnet the hard way, again and again, and looks whether anything is lost.
//!
//! Control server, relay and nodes are processes of their own. In each round some of them are killed (`SIGKILL`) at a random
//! moment, in the middle of something, sometimes again while they start. Then all nodes must be Running with the identities
//! that they had, data must flow from each to the next, and the control server must know all that it has confirmed.

mod plan;
mod world;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;

use plan::{Plan, Random};
use world::World;

/// How long a tailnet may take to be whole again: clients' pauses between tries grow to half a minute.
const LIMIT: Duration = Duration::from_secs(90);

/// Kills daemons, control server and relay at random moments, and looks whether anything is lost
#[derive(Debug, Clone, Args)]
pub struct ChaosOptions {
    /// How many rounds
    #[arg(long, default_value_t = 100)]
    pub rounds: u32,

    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=20))]
    pub nodes: u16,

    /// The same number leads to the same rounds; by default a new one
    #[arg(long)]
    pub seed: Option<u64>,

    /// Keep state and logs in this directory, made with mode 0700
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,

    /// Print one JSON object on standard output, and nothing else
    #[arg(long)]
    pub json: bool,
}

/// What came of all rounds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ChaosReport {
    /// Whether nothing was lost and all came back.
    pub ok: bool,
    /// What leads to the same rounds again.
    pub seed: u64,
    /// The rounds, up to the first that failed.
    pub rounds: Vec<Round>,
}

/// What came of one round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Round {
    /// Its number, from 1.
    pub round: u32,
    /// Which programs were killed.
    pub killed: Vec<String>,
    /// In the middle of what.
    pub during: String,
    /// Processes killed, those that were just starting included.
    pub kills: usize,
    /// From the last start until all nodes were Running and online, in milliseconds.
    pub running_ms: u64,
    /// From the last start until data had flowed from each node to the next, in milliseconds.
    pub data_ms: u64,
    /// What data was last waited for, and why; empty if it flowed at once.
    pub waited_for: String,
    /// What went wrong; empty if nothing did.
    pub error: String,
}

/// Runs the rounds. `stop` resolves when the user wants to end it.
///
/// # Errors
/// When the tailnet cannot be started; what is lost in a round is in the report.
pub async fn run(options: &ChaosOptions, stop: impl Future<Output = ()>) -> Result<ChaosReport> {
    let seed = options.seed.unwrap_or_else(|| Random::seed(&mut rt::OsRng));
    let mut report = ChaosReport {
        ok: true,
        seed,
        rounds: Vec::new(),
    };
    tokio::pin!(stop);
    let mut world = World::start(usize::from(options.nodes), options.keep.as_deref()).await?;
    let mut random = Random::new(seed);
    if !options.json {
        println!(
            "seed {seed}, {} nodes, everything in {}",
            options.nodes,
            world.dir().display()
        );
        println!("{HEAD}");
    }
    for number in 1..=options.rounds {
        let plan = Plan::draw(&mut random, usize::from(options.nodes));
        let round = tokio::select! {
            round = one(&mut world, number, &plan) => round,
            () = &mut stop => break,
        };
        if !options.json {
            println!("{}", line(&round));
        }
        let failed = !round.error.is_empty();
        report.rounds.push(round);
        if failed {
            report.ok = false;
            eprint!("{}", world.last_words());
            world.keep();
            break;
        }
    }
    world.stop().await;
    if !options.json {
        print!("{}", summary(&report));
    }
    Ok(report)
}

async fn one(world: &mut World, number: u32, plan: &Plan) -> Round {
    let mut round = Round {
        round: number,
        killed: plan.victims.iter().map(ToString::to_string).collect(),
        during: plan.during.to_string(),
        kills: plan.kills(),
        running_ms: 0,
        data_ms: 0,
        waited_for: String::new(),
        error: String::new(),
    };
    let outcome = async {
        world.kill_and_start(plan).await.context("kill and start")?;
        let start = rt::now();
        let millis = || u64::try_from(rt::now().since(start).as_millis()).unwrap_or(u64::MAX);
        let whole = async {
            world.wait_running().await?;
            let running = millis();
            let waited_for = world.wait_data().await?;
            Ok::<_, anyhow::Error>((running, millis(), waited_for))
        };
        let waited = tokio::time::timeout(LIMIT, whole).await;
        let times = match waited {
            Ok(times) => times?,
            Err(_) => anyhow::bail!(
                "not whole after {} s: {}",
                LIMIT.as_secs(),
                world.missing().await
            ),
        };
        world.check_identities().await?;
        Ok::<_, anyhow::Error>(times)
    };
    match outcome.await {
        Ok((running, data, waited_for)) => {
            round.running_ms = running;
            round.data_ms = data;
            round.waited_for = waited_for;
        }
        Err(error) => round.error = format!("{error:#}"),
    }
    round
}

const HEAD: &str = "round  killed                         during     kills  Running ms  data ms";

fn line(round: &Round) -> String {
    let outcome = match (round.error.as_str(), round.waited_for.as_str()) {
        ("", "") => String::new(),
        ("", waited_for) => format!("  {waited_for}"),
        (error, _) => format!("  LOST: {error}"),
    };
    format!(
        "{:>5}  {:<30} {:<10} {:>5}  {:>10}  {:>7}{outcome}",
        round.round,
        round.killed.join(" "),
        round.during,
        round.kills,
        round.running_ms,
        round.data_ms
    )
}

fn summary(report: &ChaosReport) -> String {
    let mut out = String::new();
    let mut times: Vec<u64> = report.rounds.iter().map(|round| round.data_ms).collect();
    times.sort_unstable();
    let kills: usize = report.rounds.iter().map(|round| round.kills).sum();
    let verdict = match report.ok {
        true => "nothing lost, always back",
        false => "SOMETHING WAS LOST",
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "\n{} rounds, {kills} kills: {verdict}. Data after a start, ms: median {}, worst {}. Again: --seed {}",
        report.rounds.len(),
        times.get(times.len() / 2).copied().unwrap_or_default(),
        times.last().copied().unwrap_or_default(),
        report.seed
    );
    out
}
