//! How long nothing arrives after something broke.
//!
//! A datagram goes through the tunnel every 20 ms, from kernel to kernel (TUN mode). The figure is the longest time between
//! two arrivals from shortly before the fault to half a minute after it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::ValueEnum;
use lab::netns::Nat;
use serde::Serialize;

use crate::node::Node;
use crate::report;
use crate::tailnet::{Control, Tailnet, Whose};

const EVERY: Duration = Duration::from_millis(20);
/// Silence before the fault would be the measurement's own fault.
const SETTLE: Duration = Duration::from_secs(3);
const WATCH: Duration = Duration::from_secs(30);
const OUTAGE: Duration = Duration::from_secs(5);
const RELAY_RESTART: Duration = Duration::from_secs(1);
const TUN: &str = "--tun=tailscale0";

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Fault {
    /// The sender's cable is out for 5 s
    LinkDown,
    /// The sender's address changes
    AddressChange,
    /// The relays are killed and started again 1 s later, while they are the only path
    RelayKill,
    /// The sender's router lets no UDP through any more
    UdpCut,
}

impl Fault {
    fn title(self) -> &'static str {
        match self {
            Self::LinkDown => "link down for 5 s",
            Self::AddressChange => "address change",
            Self::RelayKill => "relays killed, back after 1 s",
            Self::UdpCut => "UDP cut in mid-flow",
        }
    }

    /// NATs that make the path which the fault is about.
    fn nat(self) -> Nat {
        match self {
            Self::RelayKill => Nat::Blocked,
            Self::LinkDown | Self::AddressChange | Self::UdpCut => Nat::Easy,
        }
    }

    fn happen(self, tailnet: &mut Tailnet, from: &mut Node) -> Result<()> {
        match self {
            Self::LinkDown => {
                from.site.set_plugged(false)?;
                sleep(OUTAGE);
                from.site.set_plugged(true)
            }
            Self::AddressChange => from.site.change_address(),
            Self::RelayKill => {
                tailnet.relays.iter_mut().for_each(|relay| relay.kill());
                sleep(RELAY_RESTART);
                let relays = &mut tailnet.relays;
                tailnet
                    .world
                    .internet()
                    .run(|| relays.iter_mut().for_each(|relay| relay.start_again()))
            }
            Self::UdpCut => from.site.cut_udp(true),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only these faults
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "link-down,address-change,relay-kill,udp-cut"
    )]
    fault: Vec<Fault>,
    /// Whose nodes, both ends alike
    #[arg(long, value_delimiter = ',', default_value = "ours,go")]
    nodes: Vec<Whose>,
    /// How often each is measured
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Which control server
    #[arg(long, default_value = "headscale")]
    control: Control,
    /// Whose relays
    #[arg(long, default_value = "go")]
    relay: Whose,
    /// Write the rows to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize)]
struct Row {
    fault: Fault,
    nodes: Whose,
    /// Longest silence of each round.
    gaps_ms: Vec<u64>,
    error: Option<String>,
}

/// Measures; `false` if something did not come back.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut rows = Vec::new();
    for &fault in &options.fault {
        for &nodes in &options.nodes {
            let mut row = Row {
                fault,
                nodes,
                gaps_ms: Vec::new(),
                error: None,
            };
            for _ in 0..options.rounds {
                match report::attempt(|| measure(options, fault, nodes)) {
                    Ok(gap) => row
                        .gaps_ms
                        .push(u64::try_from(gap.as_millis()).unwrap_or(u64::MAX)),
                    Err(error) => row.error = Some(error),
                }
            }
            println!("{}: {}: {:?} ms", fault.title(), nodes, row.gaps_ms);
            rows.push(row);
        }
    }
    println!("\n{}", table(&rows, options));
    if let Some(path) = &options.json {
        report::write_json(path, &rows)?;
    }
    Ok(rows.iter().all(|row| row.error.is_none()))
}

/// One line for each fault, one column for each kind of node.
fn table(rows: &[Row], options: &Options) -> String {
    let mut head = vec!["fault".to_owned()];
    head.extend(options.nodes.iter().map(|nodes| format!("{nodes} (ms)")));
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let line = |fault: &Fault| {
        let mut cells = vec![fault.title().to_owned()];
        let of_fault = rows.iter().filter(|row| row.fault == *fault);
        cells.extend(of_fault.map(|row| {
            let mut gaps = row.gaps_ms.clone();
            gaps.sort_unstable();
            let gaps: Vec<String> = gaps.iter().map(u64::to_string).collect();
            match &row.error {
                Some(_) => format!("{} **failed**", gaps.join(", ")),
                None => gaps.join(", "),
            }
        }));
        cells
    };
    let lines: Vec<_> = options.fault.iter().map(line).collect();
    report::markdown(&head, &lines)
}

fn measure(options: &Options, fault: Fault, nodes: Whose) -> Result<Duration> {
    let mut tailnet = Tailnet::start(options.control, options.relay)?;
    let mut from = Node::start(&mut tailnet, nodes, fault.nat(), "from", &[TUN])?;
    let to = Node::start(&mut tailnet, nodes, fault.nat(), "to", &[TUN])?;
    let address = to.address()?;
    from.until_reaches(address)?;
    if fault.nat() != Nat::Blocked {
        let (direct, said) = from.ping_until_direct(address, 20)?;
        ensure!(direct, "no direct path was found: {said}");
    }
    let flow = Flow::start(&from, &to, address)?;
    sleep(SETTLE);
    fault.happen(&mut tailnet, &mut from)?;
    sleep(WATCH);
    flow.longest_silence()
}

/// Datagrams from one node to another, and when they arrived.
struct Flow {
    stop: Arc<AtomicBool>,
    sender: std::thread::JoinHandle<()>,
    receiver: std::thread::JoinHandle<Vec<Duration>>,
}

impl Flow {
    fn start(from: &Node, to: &Node, address: IpAddr) -> Result<Self> {
        let inbound = to.site.node().run(|| UdpSocket::bind((address, 0)))??;
        inbound.set_read_timeout(Some(Duration::from_millis(100)))?;
        let target = SocketAddr::new(address, inbound.local_addr()?.port());
        let outbound = from
            .site
            .node()
            .run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
        let stop = Arc::new(AtomicBool::new(false));
        let (stop_sending, stop_receiving) = (stop.clone(), stop.clone());
        let start = rt::now();
        let sender = std::thread::spawn(move || {
            while !stop_sending.load(Ordering::Relaxed) {
                // While the link is down the kernel may refuse: that is what is measured.
                let _ = outbound.send_to(&[0; 64], target);
                sleep(EVERY);
            }
        });
        let receiver = std::thread::spawn(move || {
            let mut arrivals = Vec::new();
            let mut buffer = [0; 64];
            while !stop_receiving.load(Ordering::Relaxed) {
                if inbound.recv_from(&mut buffer).is_ok() {
                    arrivals.push(rt::now().since(start));
                }
            }
            arrivals
        });
        Ok(Self {
            stop,
            sender,
            receiver,
        })
    }

    /// Ends the flow. An error means that at the end nothing arrived any more.
    fn longest_silence(self) -> Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.sender.join();
        let arrivals = self
            .receiver
            .join()
            .map_err(|_| anyhow!("the receiver panicked"))?;
        let last = arrivals.last().context("nothing arrived at all")?;
        ensure!(
            *last + Duration::from_secs(2) > SETTLE + WATCH,
            "nothing arrives any more, {} s after the start",
            last.as_secs()
        );
        let gaps = arrivals
            .windows(2)
            .map(|pair| pair[1].saturating_sub(pair[0]));
        gaps.max().context("only one datagram arrived")
    }
}
