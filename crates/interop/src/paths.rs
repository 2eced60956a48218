//! Which path two nodes find, how soon, and what it carries.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::netns::Nat;
use serde::Serialize;

use crate::node::Node;
use crate::report;
use crate::tailnet::{Control, Tailnet, Whose};

/// Pings that a direct path may take to be found.
const PINGS_DIRECT: u32 = 20;
/// Pings after which a path that should be relayed is believed to stay so.
const PINGS_RELAYED: u32 = 6;

/// How often a ping is started that ends without any answer.
const PING_TRIES: u32 = 5;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only these NATs, on the sender's and the receiver's side alike, besides `hard-easy`
    #[arg(long, value_delimiter = ',', default_value = "none,easy,hard,blocked")]
    nat: Vec<Nat>,
    /// Only these control servers
    #[arg(long, value_delimiter = ',', default_value = "headscale,ours")]
    control: Vec<Control>,
    /// Only these relays
    #[arg(long, value_delimiter = ',', default_value = "go,ours")]
    relay: Vec<Whose>,
    /// Only these pairs, as sender-receiver
    #[arg(long, value_delimiter = ',', default_value = "ours-ours,ours-go,go-ours", value_parser = parse_pair)]
    pairs: Vec<(Whose, Whose)>,
    /// MiB that each pair moves
    #[arg(long, default_value_t = 32)]
    mib: u64,
    /// Write the rows to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

fn parse_pair(text: &str) -> Result<(Whose, Whose), String> {
    let side = |name: &str| match name {
        "ours" => Ok(Whose::Ours),
        "go" => Ok(Whose::Go),
        other => Err(format!("`{other}` is neither `ours` nor `go`")),
    };
    let (from, to) = text.split_once('-').ok_or("a pair is sender-receiver")?;
    Ok((side(from)?, side(to)?))
}

#[derive(Debug, Clone, Serialize)]
struct Row {
    from: Whose,
    to: Whose,
    nat_from: Nat,
    nat_to: Nat,
    control: Control,
    relay: Whose,
    /// What the NATs allow.
    expected_direct: bool,
    direct: Option<bool>,
    /// From the first ping on.
    direct_after_ms: Option<u64>,
    mbit_per_s: Option<f64>,
    error: Option<String>,
}

impl Row {
    fn is_good(&self) -> bool {
        self.error.is_none() && self.direct == Some(self.expected_direct)
    }

    fn cells(&self) -> Vec<String> {
        let path = match self.direct {
            Some(true) => "direct",
            Some(false) => "relayed",
            None => "–",
        };
        let after = self.direct_after_ms.map(|ms| format!("{ms}"));
        let rate = self.mbit_per_s.map(|rate| format!("{rate:.0}"));
        let verdict = if self.is_good() { "" } else { "**wrong**" };
        vec![
            format!("{} → {}", self.from, self.to),
            format!("{}–{}", self.nat_from, self.nat_to),
            self.control.to_string(),
            self.relay.to_string(),
            format!("{path} {verdict}").trim_end().to_owned(),
            after.unwrap_or_default(),
            rate.unwrap_or_default(),
        ]
    }
}

const HEAD: [&str; 7] = [
    "pair",
    "NATs",
    "control",
    "relay",
    "path",
    "direct after (ms)",
    "Mbit/s",
];

/// Runs every combination; `false` if one of them ended otherwise than its NATs demand.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut rows = Vec::new();
    for &(from, to) in &options.pairs {
        for &control in &options.control {
            for &relay in &options.relay {
                for (nat_from, nat_to) in nat_pairs(&options.nat) {
                    let mut row = Row {
                        from,
                        to,
                        nat_from,
                        nat_to,
                        control,
                        relay,
                        expected_direct: nat_from.is_direct_with(nat_to),
                        direct: None,
                        direct_after_ms: None,
                        mbit_per_s: None,
                        error: None,
                    };
                    row.error = report::attempt(|| measure(&mut row, options.mib)).err();
                    println!("{}", row.cells().join("  "));
                    rows.push(row);
                }
            }
        }
    }
    let cells: Vec<_> = rows.iter().map(Row::cells).collect();
    println!("\n{}", report::markdown(&HEAD, &cells));
    if let Some(path) = &options.json {
        report::write_json(path, &rows)?;
    }
    Ok(rows.iter().all(Row::is_good))
}

/// Each kind on both sides, and the one mixture whose outcome differs.
fn nat_pairs(kinds: &[Nat]) -> Vec<(Nat, Nat)> {
    let mut pairs: Vec<_> = kinds.iter().map(|kind| (*kind, *kind)).collect();
    if kinds.contains(&Nat::Hard) && kinds.contains(&Nat::Easy) {
        pairs.push((Nat::Hard, Nat::Easy));
    }
    pairs
}

fn measure(row: &mut Row, mib: u64) -> Result<()> {
    let mut tailnet = Tailnet::start(row.control, row.relay)?;
    let from = Node::start(&mut tailnet, row.from, row.nat_from, "from", &[])?;
    let to = Node::start(&mut tailnet, row.to, row.nat_to, "to", &[])?;
    let address = to.address()?;
    from.until_knows(address)?;
    let start = rt::now();
    let count = if row.expected_direct {
        PINGS_DIRECT
    } else {
        PINGS_RELAYED
    };
    // The original's command line gives up at once while no relay of the peer is known.
    let mut tries = 0;
    let (direct, said) = loop {
        let (direct, said) = from.ping_until_direct(address, count)?;
        tries += 1;
        if said.contains("pong from") || tries == PING_TRIES {
            break (direct, said);
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    if direct != row.expected_direct {
        eprintln!(
            "{said}\nsender:\n{}\nreceiver:\n{}",
            from.log_tail(),
            to.log_tail()
        );
    }
    row.direct = Some(direct);
    row.direct_after_ms = direct.then(|| rt::now().since(start).as_millis() as u64);
    from.until_reaches(address)?;
    let sink = to.block_on(lab::Sink::start())??;
    let target = (address, sink.port()).into();
    let proxy = from.proxy();
    let sent = from.block_on(async {
        let push = lab::push(proxy, target, mib << 20, |_| {});
        tokio::time::timeout(Duration::from_secs(120), push).await
    })?;
    let sent = sent.context("the transfer took more than two minutes")??;
    anyhow::ensure!(sent.checksums_match, "other bytes arrived than were sent");
    row.mbit_per_s = Some(sent.bytes as f64 * 8.0 / 1e6 / sent.elapsed.as_secs_f64().max(1e-6));
    Ok(())
}
