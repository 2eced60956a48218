//! What a daemon does to the machine that it runs on, and what it mends: scenarios, each for our daemon and for the original.
//!
//! A scenario is a file of [`scenarios`] whose name says what must be true. It gets a tailnet ([`stage`]) and makes machines in it
//! ([`machine`]): network namespaces with an `/etc` of their own. Our daemon's part is run by `cargo test`; `cargo xtask host`
//! compares.

mod capture;
mod exit;
pub(crate) mod load;
mod machine;
mod packages;
mod scenarios;
mod servers;
mod shared;
mod stage;
mod systems;

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use crate::report;
use crate::tailnet::Whose;

pub use scenarios::ALL;
use stage::Stage;

/// How a scenario came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is true; with what was measured on the way.
    Pass(String),
    /// It is not.
    Fail(String),
    /// This machine lacks what it needs.
    Skip(String),
}

impl Verdict {
    fn pass() -> Result<Self> {
        Ok(Self::Pass(String::new()))
    }

    fn cell(&self) -> String {
        let (word, detail) = match self {
            Self::Pass(detail) => ("pass", detail),
            Self::Fail(detail) => ("**fail**", detail),
            Self::Skip(detail) => ("skip", detail),
        };
        match detail.replace('|', "/") {
            detail if detail.is_empty() => word.to_owned(),
            detail => format!("{word}: {detail}"),
        }
    }
}

/// One thing that must be true.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// A sentence, with underscores.
    pub name: &'static str,
    play: fn(&mut Stage) -> Result<Verdict>,
}

impl Scenario {
    /// Plays it with our daemon.
    pub fn play_ours(&self) -> Verdict {
        self.play(Whose::Ours)
    }

    fn play(&self, whose: Whose) -> Verdict {
        let outcome = report::attempt(|| (self.play)(&mut Stage::new(whose)?));
        outcome.unwrap_or_else(Verdict::Fail)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only scenarios whose names contain this
    #[arg(long, default_value = "")]
    only: String,
    /// Whose daemons
    #[arg(long, value_delimiter = ',', default_value = "ours,go")]
    daemons: Vec<Whose>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Write the table to this file
    #[arg(long)]
    table: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Row {
    scenario: &'static str,
    ours: Option<Verdict>,
    theirs: Option<Verdict>,
}

/// Plays the scenarios; `false` if one is not true of our daemon.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut rows = Vec::new();
    let chosen = ALL
        .iter()
        .filter(|scenario| scenario.name.contains(&options.only));
    for scenario in chosen {
        let play = |whose| {
            let is_wanted = options.daemons.contains(&whose);
            let verdict = is_wanted.then(|| scenario.play(whose));
            if let Some(verdict) = &verdict {
                eprintln!("{whose:>5} {}: {}", scenario.name, verdict.cell());
            }
            verdict
        };
        rows.push(Row {
            scenario: scenario.name,
            ours: play(Whose::Ours),
            theirs: play(Whose::Go),
        });
    }
    let table = table(&rows);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{table}");
    }
    if let Some(path) = &options.table {
        std::fs::write(path, table)?;
    }
    let is_false = |row: &Row| matches!(row.ours, Some(Verdict::Fail(_)));
    Ok(!rows.iter().any(is_false))
}

fn table(rows: &[Row]) -> String {
    let cell = |verdict: &Option<Verdict>| verdict.as_ref().map(Verdict::cell).unwrap_or_default();
    let lines = rows.iter().map(|row| {
        let name = row.scenario.replace('_', " ");
        vec![name, cell(&row.ours), cell(&row.theirs)]
    });
    report::markdown(
        &["scenario", "ours", "the original"],
        &lines.collect::<Vec<_>>(),
    )
}
