//! What people and scripts are told.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::Tailnet;
use crate::netns::Nat;

/// What came of one round.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Whether everything worked.
    pub ok: bool,
    /// What was measured between nodes.
    pub pairs: Vec<Pair>,
}

/// What was measured from one node to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// The node that pinged and sent.
    pub from: String,
    /// The node that answered and received.
    pub to: String,
    /// Whether the path is direct, not relayed.
    pub direct: bool,
    /// Round trip through the tunnel, in milliseconds.
    pub rtt_ms: f64,
    /// What stands before the sender, where each node has a network of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_nat: Option<Nat>,
    /// What stands before the receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_nat: Option<Nat>,
    /// Throughput of the transfer, in megabits (10^6) per second.
    pub mbit_per_s: f64,
}

/// Speaks to people on standard error and standard output, or keeps silent for scripts.
pub(crate) struct Voice {
    silent: bool,
}

impl Voice {
    pub(crate) fn new(silent: bool) -> Self {
        Self { silent }
    }

    pub(crate) fn step(&self, text: &str) {
        if !self.silent {
            println!("• {text}");
        }
    }

    pub(crate) fn raw(&self, text: &str) {
        if !self.silent {
            println!("\n{}\n", text.trim_end());
        }
    }

    pub(crate) fn pair(&self, pair: &Pair) {
        let path = if pair.direct { "direct" } else { "relayed" };
        let nats = match (pair.from_nat, pair.to_nat) {
            (Some(from), Some(to)) => format!(" ({from} → {to})"),
            _ => String::new(),
        };
        self.step(&format!(
            "{} → {}{nats}: {path}, {:.1} ms, {:.0} Mbit/s, checksums match",
            pair.from, pair.to, pair.rtt_ms, pair.mbit_per_s
        ));
    }

    /// A bar on a terminal; nothing where there is none.
    pub(crate) fn progress(&self, from: &str, to: &str, len: u64) -> ProgressBar {
        let target = if self.silent {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(Some(len), target);
        let style = ProgressStyle::with_template(
            "  {msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}",
        );
        bar.set_style(
            style
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> "),
        );
        bar.set_message(format!("{from} → {to}"));
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    pub(crate) fn control_only(&self, tailnet: &Tailnet) {
        println!("control server: {}", tailnet.control_url());
        println!("relays:         {}", tailnet.relays());
        println!("auth key:       {}", tailnet.key_file().display());
        println!("admin socket:   {}", tailnet.admin_socket().display());
        println!("\nJoin with any client:");
        println!(
            "  tailscale up --login-server={} --auth-key=file:{}",
            tailnet.control_url(),
            tailnet.key_file().display()
        );
        println!(
            "\nWithout a key the client shows a page's address. Orders to the server: lab admin --help"
        );
        println!("\nCtrl-C ends it.");
    }

    pub(crate) fn playground(&self, tailnet: &Tailnet, report: &Report) {
        let best = report
            .pairs
            .iter()
            .map(|pair| pair.mbit_per_s)
            .fold(0.0, f64::max);
        println!(
            "\nEverything works (best transfer: {best:.0} Mbit/s). Go on playing, in another terminal:\n"
        );
        for node in tailnet.nodes() {
            println!("  {}", node.cli_line("status"));
        }
        if let [first, second, ..] = tailnet.nodes() {
            println!("  {}", first.cli_line(&format!("ping {}", second.name())));
            if let Some(proxy) = first.proxy() {
                println!("  python3 -m http.server 8000 --bind 127.0.0.1 &");
                println!(
                    "  curl --socks5-hostname {proxy} http://{}:8000/",
                    second.name()
                );
            }
            if let Some(pid) = first.pid().filter(|_| first.site().is_some()) {
                println!("  nsenter --net=/proc/{pid}/ns/net ip address");
            }
        }
        let end = if tailnet.is_kept() {
            "ends it and keeps the directory"
        } else {
            "ends it and removes the directory"
        };
        println!(
            "\nEverything is in {}. Ctrl-C {end}.",
            tailnet.dir().display()
        );
    }

    /// After a failure: where the nodes' own words are.
    pub(crate) fn logs(&self, tailnet: &Tailnet) {
        for node in tailnet.nodes() {
            let log = std::fs::read_to_string(node.log_file()).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(15).collect();
            eprintln!("\nthe last lines of {}:", node.log_file().display());
            for line in tail.iter().rev() {
                eprintln!("  {line}");
            }
        }
    }
}
