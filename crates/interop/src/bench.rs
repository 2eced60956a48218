//! How fast, and for how much of the processor: our node beside others, in the same round on the same machine.
//!
//! Every figure of a round is compared with the other peers' of that round, since a machine's own speed changes from one
//! minute to the next; the report is of medians of those ratios. CPU is what the scheduler has charged to the daemons' threads,
//! less what the hypervisor stole meanwhile.

pub(crate) mod cpu;
mod measure;
mod peer;
mod report;
mod svg;

pub(crate) use measure::Sample;
pub(crate) use peer::command;
pub(crate) use report::{memory, table};
pub(crate) use svg::chart;

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use serde::Serialize;

use self::measure::Figures;
use self::peer::{Kind, Pair};
use crate::report as output;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Test {
    /// One TCP stream
    Tcp1,
    /// Four TCP streams, with a ping every 20 ms
    Tcp4,
    /// 20,000 UDP datagrams of 64 bytes a second
    Udp64,
    /// Pings with nothing else going on
    Ping,
}

/// How packets get from the host into the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// A TUN device
    Tun,
    /// The daemon's own TCP/IP stack, through its SOCKS5 proxy
    Userspace,
}

/// How packets get from daemon to daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Route {
    /// Straight
    Direct,
    /// Through a relay, for there is no UDP
    Relayed,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// With whom to compare: `go` (TS_GO_TAILSCALED), `wireguard-go`, `gotatun`, `boringtun`, `bound` (the least that can be done), or a command line that takes an interface's name
    #[arg(long = "peer", value_name = "CMD", value_delimiter = ',', default_values_t = ["go".to_owned(), "wireguard-go".to_owned()])]
    peers: Vec<String>,
    /// What to measure
    #[arg(long, value_delimiter = ',', default_value = "tcp1,tcp4,udp64,ping")]
    tests: Vec<Test>,
    /// How often each is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// The tunnels' MTU
    #[arg(long, default_value_t = 1280)]
    pub(crate) mtu: u32,
    /// Switch the network's own segmentation of UDP off
    #[arg(long)]
    pub(crate) no_uso: bool,
    /// How packets get into the daemons
    #[arg(long, default_value = "tun")]
    pub(crate) mode: Mode,
    /// How packets get from daemon to daemon
    #[arg(long, default_value = "direct")]
    pub(crate) path: Route,
    /// Peers that each node knows beside the other, and hears nothing of
    #[arg(long, default_value_t = 0)]
    strangers: u32,
    /// Connections through the proxy that are open and idle (userspace mode)
    #[arg(long, default_value_t = 0)]
    idle: usize,
    /// Write the rows to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw the ratios into this file
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// One figure of one peer beside ours: medians of the rounds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) peer: String,
    pub(crate) test: Test,
    pub(crate) mtu: u32,
    pub(crate) offload: bool,
    pub(crate) mode: Mode,
    pub(crate) path: Route,
    pub(crate) metric: &'static str,
    pub(crate) ours: f64,
    pub(crate) theirs: f64,
    /// Ours by theirs, the median of the rounds' ratios.
    pub(crate) ratio: f64,
    /// How many rounds.
    pub(crate) n: usize,
}

impl Options {
    /// These peers and tests, straight through devices, and nothing out of the ordinary.
    pub(crate) fn of(peers: &[&str], tests: &[Test], rounds: usize, seconds: u32) -> Self {
        Self {
            peers: peers.iter().map(ToString::to_string).collect(),
            tests: tests.to_vec(),
            rounds,
            seconds,
            mtu: 1280,
            no_uso: false,
            mode: Mode::Tun,
            path: Route::Direct,
            strangers: 0,
            idle: 0,
            json: None,
            svg: None,
        }
    }
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) rows: Vec<Row>,
    pub(crate) samples: Vec<Sample>,
    /// Whether everything could be measured.
    pub(crate) is_whole: bool,
}

impl Outcome {
    /// Our daemon's memory in KiB: when nothing had gone through it yet, and at most.
    pub(crate) fn own_memory(&self) -> [u64; 2] {
        let own = || self.samples.iter().filter(|sample| sample.peer == "ours");
        let idle = own().map(|sample| sample.idle_memory).max();
        let most = own().map(|sample| sample.figures.memory.1).max();
        [idle.unwrap_or(0), most.unwrap_or(0)]
    }
}

/// Measures and prints; `false` if something could not be measured.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let Outcome {
        rows,
        samples,
        is_whole,
    } = measure(options)?;
    println!("{}", table(&rows));
    println!("{}", memory(&samples));
    if let Some(path) = &options.json {
        output::write_json(path, &rows)?;
    }
    if let Some(path) = &options.svg {
        std::fs::write(path, chart(&rows))?;
    }
    Ok(is_whole)
}

/// Measures.
pub(crate) fn measure(options: &Options) -> Result<Outcome> {
    let mut kinds = vec![Kind::Ours];
    for name in &options.peers {
        kinds.push(Kind::named(name)?);
    }
    check(options, &kinds)?;
    let tests = match options.mode {
        Mode::Tun => options.tests.clone(),
        Mode::Userspace => options
            .tests
            .iter()
            .copied()
            .filter(|test| *test == Test::Tcp1)
            .collect(),
    };
    if tests.is_empty() {
        bail!("nothing to measure: in userspace mode there is only --tests tcp1");
    }
    let mut samples: Vec<Sample> = Vec::new();
    let mut is_whole = true;
    for round in 0..options.rounds {
        for kind in &kinds {
            eprintln!("round {} of {}: {}", round + 1, options.rounds, kind.name());
            match output::attempt(|| measure_pair(options, kind, &tests, round)) {
                Ok(more) => samples.extend(more),
                Err(error) => {
                    eprintln!("{}: {error}", kind.name());
                    is_whole = false;
                }
            }
        }
    }
    Ok(Outcome {
        rows: report::rows(options, &samples),
        samples,
        is_whole,
    })
}

fn check(options: &Options, kinds: &[Kind]) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    for tool in ["iperf3", "ping"] {
        ensure!(
            peer::find(tool).is_some(),
            "`{tool}` is missing: install the package iperf3 or iputils-ping"
        );
    }
    let only_tailnets = options.mode == Mode::Userspace || options.path == Route::Relayed;
    ensure!(
        options.idle == 0 || options.mode == Mode::Userspace,
        "--idle is about the proxy: it needs --mode userspace"
    );
    for kind in kinds {
        kind.check()?;
        if options.strangers > 0 && !kind.is_tailnet() {
            bail!("{} hears of its peers from nobody", kind.name());
        }
        if only_tailnets && !kind.is_tailnet() {
            bail!("{} has neither relays nor a stack of its own", kind.name());
        }
    }
    Ok(())
}

fn measure_pair(
    options: &Options,
    kind: &Kind,
    tests: &[Test],
    round: usize,
) -> Result<Vec<Sample>> {
    let pair = Pair::start(kind, options)?;
    let idle_memory = measure::memory(&pair).0;
    let mut samples = Vec::new();
    for test in tests {
        let figures: Figures = match options.mode {
            Mode::Tun => measure::through_kernel(&pair, *test, options)?,
            Mode::Userspace => measure::through_proxy(&pair, options)?,
        };
        eprintln!("  {test:?}: {figures}");
        samples.push(Sample {
            peer: kind.name().to_owned(),
            test: *test,
            round,
            idle_memory,
            figures,
        });
    }
    Ok(samples)
}
