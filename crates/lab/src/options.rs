//! The lab's command line.

use std::path::PathBuf;

use clap::Parser;

/// A whole tailnet on this machine: control server, relay and nodes on loopback, without root.
#[derive(Debug, Clone, Parser)]
#[command(name = "lab", version, about)]
pub struct Options {
    /// How many nodes to start
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(2..=50))]
    pub nodes: u16,

    /// End after one round: exit code 0 if everything worked, 1 if not
    #[arg(long)]
    pub once: bool,

    /// Keep all traffic on the relay, even where a direct path exists
    #[arg(long)]
    pub relay_only: bool,

    /// Keep state and logs in this directory, made with mode 0700, and go on from what is there
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,

    /// Print one JSON object on standard output, and nothing else; implies --once
    #[arg(long)]
    pub json: bool,

    /// Start only the control server and the relay, for any client's --login-server
    #[arg(long)]
    pub control_only: bool,
}
