//! The lab's command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::admin::AdminOptions;
use crate::chaos::ChaosOptions;
use crate::netns::Nat;

/// A whole tailnet on this machine: control server, relay and nodes on loopback, without root; or, with --tun, each node in a
/// network of its own.
#[derive(Debug, Clone, Parser)]
#[command(name = "lab", version, about, args_conflicts_with_subcommands = true)]
pub struct Options {
    /// Something else than starting a tailnet
    #[command(subcommand)]
    pub command: Option<Command>,

    /// How many nodes to start
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(2..=50))]
    pub nodes: u16,

    /// End after one round: exit code 0 if everything worked, 1 if not
    #[arg(long)]
    pub once: bool,

    /// Keep all traffic on the relay, even where a direct path exists
    #[arg(long)]
    pub relay_only: bool,

    /// Give each node a network namespace with a TUN device, behind a NAT. Needs root
    #[arg(long)]
    pub tun: bool,

    /// What stands between the nodes and the internet: one kind for all, or one for each, with commas between. A path that is
    /// not of the expected kind (direct or relayed) is a failure
    #[arg(
        long,
        value_name = "KIND",
        value_delimiter = ',',
        requires = "tun",
        default_value = "none"
    )]
    pub nat: Vec<Nat>,

    /// Keep state and logs in this directory, made with mode 0700, and go on from what is there
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,

    /// Print one JSON object on standard output, and nothing else; implies --once
    #[arg(long)]
    pub json: bool,

    /// Start only the control server and the relay, for any client's --login-server
    #[arg(long)]
    pub control_only: bool,

    /// New machines wait for approval (`lab admin approve`)
    #[arg(long)]
    pub device_approval: bool,

    /// How many seconds a node's key is good for
    #[arg(long, value_name = "SECONDS")]
    pub key_lifetime: Option<u64>,

    /// Use the relays of this JSON file (`tailcfg.DERPMap`) instead of one of our own
    #[arg(long, value_name = "FILE")]
    pub derp_map: Option<PathBuf>,
}

/// Something else than starting a tailnet.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Give orders to the control server of a running lab
    Admin(AdminOptions),
    /// Kill the programs of a tailnet again and again, and look whether anything is lost
    Chaos(ChaosOptions),
}
