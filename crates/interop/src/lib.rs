//! Nodes of ours and of the original together, behind every kind of NAT, with either's control server and relay.
//!
//! Each scenario makes an internet in network namespaces ([`lab::netns`]), starts the servers in it, puts two nodes behind
//! NATs and looks at what they make of it. The originals' programs come from the environment (`TS_GO_TAILSCALED`,
//! `TS_GO_TAILSCALE`, `TS_GO_DERPER`, `TS_HEADSCALE`). Needs root.

mod bench;
mod flood;
mod goals;
pub mod host;
mod model;
mod node;
mod paths;
mod recovery;
mod report;
mod soak;
mod tailnet;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "interop", version, about)]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Which path two nodes find, how soon, and what it carries
    Paths(paths::Options),
    /// How long nothing arrives after something broke
    Recovery(recovery::Options),
    /// A flood of handshakes, and what it does to a connection
    Flood(flood::Options),
    /// What the daemon does to a machine, and what it mends, scenario by scenario
    Host(host::Options),
    /// Questions for names, many a second
    Dns(host::load::Options),
    /// A long run of load, rekeys, path changes and peers that come and go
    Soak(soak::Options),
    /// All of the benchmark, and which goals are met
    Goals(goals::Options),
    /// What more cores would give, by a model
    Model(model::Options),
    /// How fast, and for how much of the processor, beside other programs
    Bench(bench::Options),
}

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    let outcome = match Options::parse().task {
        Task::Paths(options) => paths::run(&options),
        Task::Recovery(options) => recovery::run(&options),
        Task::Flood(options) => flood::run(&options),
        Task::Host(options) => host::run(&options),
        Task::Dns(options) => host::load::run(&options),
        Task::Soak(options) => soak::run(&options),
        Task::Goals(options) => goals::run(&options),
        Task::Model(options) => model::run(&options),
        Task::Bench(options) => bench::run(&options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("interop: {error:#}");
            ExitCode::FAILURE
        }
    }
}
