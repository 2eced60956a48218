//! All that the data plane is held against, from one run: the benchmark in each of its modes, and a table of what was wanted and what is.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::bench::{self, Mode, Outcome, Route, Test};
use crate::report;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often each is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Where the rows of each part go, as JSON and as a picture
    #[arg(long, default_value = "benches/results")]
    out: PathBuf,
}

/// A part of the run.
struct Part {
    name: &'static str,
    options: bench::Options,
}

/// Something that is wanted of a figure.
struct Goal {
    what: &'static str,
    part: &'static str,
    peer: &'static str,
    test: Test,
    metric: &'static str,
    must: f64,
    aim: f64,
    /// Whether more is better.
    more: bool,
}

const COST: &str = "CPU-s/GB";
const RATE: &str = "Gbit/s";

const GOALS: [Goal; 8] = [
    less(
        "CPU of TCP, beside wireguard-go",
        "direct",
        "wireguard-go",
        Test::Tcp1,
        COST,
        0.55,
        0.45,
    ),
    less(
        "CPU of TCP, beside the original",
        "direct",
        "go",
        Test::Tcp1,
        COST,
        0.45,
        0.35,
    ),
    more(
        "throughput, beside wireguard-go",
        "direct",
        "wireguard-go",
        Test::Tcp1,
        1.8,
        2.2,
    ),
    less(
        "CPU of TCP, beside the bound",
        "direct",
        "bound",
        Test::Tcp1,
        COST,
        1.4,
        1.15,
    ),
    less(
        "CPU of small packets, beside wireguard-go",
        "direct",
        "wireguard-go",
        Test::Udp64,
        "µs/packet",
        0.40,
        0.25,
    ),
    less(
        "ping under load, beside wireguard-go",
        "direct",
        "wireguard-go",
        Test::Tcp4,
        "ping ms",
        0.5,
        0.2,
    ),
    more(
        "throughput through a relay, beside the original",
        "relayed",
        "go",
        Test::Tcp1,
        1.5,
        2.5,
    ),
    less(
        "CPU through SOCKS5, beside the original",
        "userspace",
        "go",
        Test::Tcp1,
        COST,
        0.5,
        0.3,
    ),
];

const fn less(
    what: &'static str,
    part: &'static str,
    peer: &'static str,
    test: Test,
    metric: &'static str,
    must: f64,
    aim: f64,
) -> Goal {
    Goal {
        what,
        part,
        peer,
        test,
        metric,
        must,
        aim,
        more: false,
    }
}

const fn more(
    what: &'static str,
    part: &'static str,
    peer: &'static str,
    test: Test,
    must: f64,
    aim: f64,
) -> Goal {
    Goal {
        what,
        part,
        peer,
        test,
        metric: RATE,
        must,
        aim,
        more: true,
    }
}

/// Of the whole daemon, idle and at most, in KiB: must and aim.
const MEMORY: [(&str, u64, u64); 2] = [("idle", 15_000, 10_000), ("under load", 30_000, 15_000)];

/// Measures everything; `false` if something could not be measured or a goal was missed that must be met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("make {}", options.out.display()))?;
    let mut outcomes = Vec::new();
    for part in parts(options) {
        eprintln!("== {}", part.name);
        let outcome = bench::measure(&part.options)?;
        let path = |extension: &str| options.out.join(part.name).with_extension(extension);
        report::write_json(&path("json"), &outcome.rows)?;
        std::fs::write(path("svg"), bench::chart(&outcome.rows))?;
        let text = format!(
            "{}\n{}",
            bench::table(&outcome.rows),
            bench::memory(&outcome.samples)
        );
        println!("\n## {}\n\n{text}", part.name);
        std::fs::write(path("md"), text)?;
        outcomes.push((part.name, outcome));
    }
    let (table, are_met) = table(&outcomes);
    println!("\n## goals\n\n{table}");
    std::fs::write(options.out.join("goals.md"), table)?;
    Ok(are_met && outcomes.iter().all(|(_, outcome)| outcome.is_whole))
}

fn parts(options: &Options) -> Vec<Part> {
    let part = |name, peers: &[&str], tests: &[Test]| Part {
        name,
        options: bench::Options::of(peers, tests, options.rounds, options.seconds),
    };
    let all = [Test::Tcp1, Test::Tcp4, Test::Udp64, Test::Ping];
    let mut parts = vec![
        part("direct", &["go", "wireguard-go", "bound"], &all),
        part("relayed", &["go"], &[Test::Tcp1, Test::Tcp4]),
        part("userspace", &["go"], &[Test::Tcp1]),
        part("no-uso", &["go", "wireguard-go", "bound"], &[Test::Tcp1]),
        part("mtu-1420", &["go", "wireguard-go", "bound"], &[Test::Tcp1]),
    ];
    for part in &mut parts {
        match part.name {
            "relayed" => part.options.path = Route::Relayed,
            "userspace" => part.options.mode = Mode::Userspace,
            "no-uso" => part.options.no_uso = true,
            "mtu-1420" => part.options.mtu = 1420,
            _ => {}
        }
    }
    parts
}

/// What was wanted and what is; and whether all is there that must be.
fn table(outcomes: &[(&str, Outcome)]) -> (String, bool) {
    let mut are_met = true;
    let mut cells = Vec::new();
    let find = |name: &str| outcomes.iter().find(|(other, _)| *other == name);
    for goal in &GOALS {
        let row = find(goal.part).and_then(|(_, outcome)| {
            let is_it = |row: &&bench::Row| {
                row.peer == goal.peer && row.test == goal.test && row.metric == goal.metric
            };
            outcome.rows.iter().find(is_it)
        });
        let sign = if goal.more { "≥" } else { "≤" };
        let (figure, verdict) = match row {
            Some(row) => (
                format!("{:.2}", row.ratio),
                verdict(goal.more, row.ratio, goal.must, goal.aim),
            ),
            None => ("not measured".to_owned(), "missing"),
        };
        are_met &= matches!(verdict, "must" | "aim");
        cells.push(vec![
            goal.what.to_owned(),
            format!("{sign} {:.2}", goal.must),
            format!("{sign} {:.2}", goal.aim),
            figure,
            verdict.to_owned(),
        ]);
    }
    let samples = find("direct").map(|(_, outcome)| outcome.own_memory());
    for ((when, must, aim), kib) in MEMORY.into_iter().zip(samples.unwrap_or_default()) {
        // The goals are in megabytes, the kernel's figures in KiB.
        let bytes = kib * 1024;
        let verdict = verdict(false, bytes as f64, must as f64 * 1e3, aim as f64 * 1e3);
        are_met &= verdict != "missed";
        let mb = |kb: u64| format!("≤ {} MB", kb / 1000);
        let figure = format!("{:.1} MB", bytes as f64 / 1e6);
        cells.push(vec![
            format!("memory, {when}"),
            mb(must),
            mb(aim),
            figure,
            verdict.to_owned(),
        ]);
    }
    let mut text = String::new();
    let head = ["goal", "must", "aim", "is", "met"];
    let _ = writeln!(text, "{}", report::markdown(&head, &cells));
    (text, are_met)
}

fn verdict(more: bool, figure: f64, must: f64, aim: f64) -> &'static str {
    let meets = |limit: f64| {
        if more {
            figure >= limit
        } else {
            figure <= limit
        }
    };
    match (meets(must), meets(aim)) {
        (_, true) => "aim",
        (true, false) => "must",
        (false, false) => "missed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_met_from_the_right_side() {
        assert_eq!(verdict(false, 0.4, 0.55, 0.45), "aim");
        assert_eq!(verdict(false, 0.5, 0.55, 0.45), "must");
        assert_eq!(verdict(false, 0.6, 0.55, 0.45), "missed");
        assert_eq!(verdict(true, 2.0, 1.8, 2.2), "must");
        assert_eq!(verdict(true, 1.0, 1.8, 2.2), "missed");
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        assert!(!table(&[]).1);
    }
}
