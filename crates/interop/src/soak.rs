//! A long run of everything at once: load, rekeys, path changes, peers that come and go. What is looked for is what only time shows:
//! memory that grows, and packets that are lost while nothing was wrong with the network.
//!
//! Every minute has six phases. Numbered datagrams go through the tunnel all the time, each with the phase in which it was sent; so
//! a loss has a cause. By design packets are lost in two phases only: while the sender has no address, and when the router begins to
//! drop UDP, until that is noticed. Each minute also tells what every counter on the way has dropped.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::netns::Nat;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use serde::Serialize;

use crate::bench::{command, cpu};
use crate::node::Node;
use crate::report;
use crate::tailnet::{Control, Tailnet, Whose};

/// Numbered datagrams a second, and bytes of each.
const RATE: u64 = 2000;
const LEN: usize = 1000;
/// Peers that come and go.
const STRANGERS: u32 = 200;
/// Bytes of the reader's buffer.
const ROOM: usize = 16 << 20;
/// What arrives later than this after its phase is counted as lost.
const LATE: Duration = Duration::from_secs(2);
/// Memory may grow by this part of it from the first tenth of the run to the last.
const GROWTH: f64 = 0.10;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Minutes of the run
    #[arg(long, default_value_t = 60)]
    minutes: u32,
    /// Megabits a second of TCP beside the numbered datagrams
    #[arg(long, default_value_t = 300)]
    mbit: u32,
    /// Whose node is the third one, which gets the TCP
    #[arg(long, default_value = "ours")]
    third: Whose,
    /// Write the minutes to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What happens meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    /// Nothing but load, and a rekey every second minute.
    Calm,
    /// Peers come, change and go.
    Churn,
    /// The sender gets another address.
    Move,
    /// It has it.
    Roamed,
    /// The router drops UDP: by the relay.
    Cut,
    /// It drops it no more: straight again.
    Back,
}

const PHASES: [Phase; 6] = [
    Phase::Calm,
    Phase::Churn,
    Phase::Move,
    Phase::Roamed,
    Phase::Cut,
    Phase::Back,
];
const MINUTE: Duration = Duration::from_secs(60);

impl Phase {
    fn lasts(self) -> Duration {
        Duration::from_secs(match self {
            Self::Calm => 11,
            Self::Churn => 15,
            Self::Move => 1,
            Self::Roamed | Self::Back => 10,
            Self::Cut => 12,
        })
    }

    /// Whether the network itself loses packets then.
    fn loses(self) -> bool {
        matches!(self, Self::Move | Self::Cut)
    }
}

/// Before and after what the network loses, what is sent belongs to it.
const BORDER: Duration = Duration::from_millis(500);

/// One minute.
#[derive(Debug, Clone, Serialize)]
struct Minute {
    minute: u32,
    /// Datagrams that were sent and did not arrive, by phase.
    sent: [u64; PHASES.len()],
    lost: [u64; PHASES.len()],
    /// Datagrams that came twice.
    twice: u64,
    tcp_mbit_per_s: f64,
    retransmits: u64,
    /// Resident memory in KiB of the sender and the receiver.
    memory_kib: [u64; 2],
    dropped: Dropped,
}

/// Packets that were dropped so far, by who did it.
#[derive(Debug, Clone, Copy, Serialize)]
struct Dropped {
    /// The queues between the machine's own parts.
    machine: u64,
    /// The interfaces of the sender and of the receiver, in both directions: a TUN device, when its reader is too slow.
    interfaces: [u64; 2],
    /// The UDP sockets of the sender's and the receiver's network.
    sockets: [u64; 2],
    /// The two daemons, by their own counters.
    daemons: [u64; 2],
}

impl Dropped {
    fn read(from: &Node, to: &Node) -> Result<Self> {
        let inside = |node: &Node, count: fn() -> u64| node.site.node().run(count);
        Ok(Self {
            machine: queue_drops(),
            interfaces: [inside(from, interface_drops)?, inside(to, interface_drops)?],
            sockets: [inside(from, socket_drops)?, inside(to, socket_drops)?],
            daemons: [daemon_drops(from)?, daemon_drops(to)?],
        })
    }
}

/// Runs; `false` if memory grew or packets were lost that should not be.
pub(crate) fn run(options: &Options) -> Result<bool> {
    ensure!(options.minutes > 0, "--minutes must be at least 1");
    let mut tailnet = Tailnet::start(Control::Ours, Whose::Ours)?;
    let tun = ["--tun=tailscale0"];
    let from = Node::start(&mut tailnet, Whose::Ours, Nat::Easy, "from", &tun)?;
    let to = Node::start(&mut tailnet, Whose::Ours, Nat::None, "to", &tun)?;
    let third = Node::start(&mut tailnet, options.third, Nat::None, "third", &tun)?;
    let (address, third_address) = (to.address()?, third.address()?);
    from.until_reaches(address)?;
    from.until_reaches(third_address)?;
    let (is_direct, said) = from.ping_until_direct(address, 20)?;
    ensure!(is_direct, "no direct path: {said}");

    let flow = Flow::new(options.minutes);
    let (stop, outcome) = (AtomicBool::new(false), AtomicBool::new(true));
    let inbound = to.site.node().run(|| UdpSocket::bind((address, 0)))??;
    let outbound = from
        .site
        .node()
        .run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
    outbound.connect(SocketAddr::new(address, inbound.local_addr()?.port()))?;
    inbound.set_read_timeout(Some(Duration::from_millis(200)))?;
    // The reader is a program like any other, and waits for a core like any other.
    set_socket_recv_buffer_size_force(&inbound, ROOM)?;
    let minutes = std::thread::scope(|scope| {
        scope.spawn(|| flow.send(&outbound, &stop));
        scope.spawn(|| flow.receive(&inbound, &stop));
        let mut minutes = Vec::new();
        for minute in 0..options.minutes {
            let one = one_minute(
                options,
                minute,
                &tailnet,
                [&from, &to],
                (&third, third_address),
                &flow,
            );
            match one {
                Ok(one) => {
                    eprintln!("{}", line(&one));
                    minutes.push(one);
                }
                Err(error) => {
                    eprintln!("minute {minute}: {error:#}");
                    outcome.store(false, Ordering::Relaxed);
                }
            }
        }
        std::thread::sleep(LATE);
        stop.store(true, Ordering::Relaxed);
        minutes
    });
    let minutes: Vec<Minute> = minutes
        .into_iter()
        .map(|minute| flow.counted(minute))
        .collect();
    if let Some(path) = &options.json {
        report::write_json(path, &minutes)?;
    }
    Ok(summary(&minutes) && outcome.load(Ordering::Relaxed))
}

fn one_minute(
    options: &Options,
    minute: u32,
    tailnet: &Tailnet,
    nodes: [&Node; 2],
    third: (&Node, IpAddr),
    flow: &Flow,
) -> Result<Minute> {
    let [from, to] = nodes;
    let (tcp, phases) = std::thread::scope(|scope| {
        let seconds = MINUTE.as_secs() as u32 - 5;
        let tcp = scope.spawn(move || tcp(from, third, options.mbit, seconds));
        let phases = phases(tailnet, from, flow, minute);
        (tcp.join(), phases)
    });
    phases?;
    let (mbit, retransmits) = tcp.map_err(|_| anyhow::anyhow!("the TCP load panicked"))??;
    Ok(Minute {
        minute,
        sent: [0; PHASES.len()],
        lost: [0; PHASES.len()],
        twice: 0,
        tcp_mbit_per_s: mbit,
        retransmits,
        memory_kib: nodes.map(|node| cpu::memory(node.pid()).0),
        dropped: Dropped::read(from, to)?,
    })
}

fn phases(tailnet: &Tailnet, from: &Node, flow: &Flow, minute: u32) -> Result<()> {
    for (at, phase) in PHASES.into_iter().enumerate() {
        match phase {
            // What was lost so far belongs to the phase before.
            Phase::Roamed => std::thread::sleep(BORDER),
            Phase::Back => {
                from.site.cut_udp(false)?;
                std::thread::sleep(BORDER);
            }
            _ => {}
        }
        flow.phase
            .store(minute as usize * PHASES.len() + at, Ordering::Relaxed);
        if phase.loses() {
            // What was sent before must be through.
            std::thread::sleep(BORDER);
        }
        match phase {
            Phase::Calm | Phase::Roamed | Phase::Back => {}
            Phase::Churn => {
                churn(tailnet, phase.lasts())?;
                continue;
            }
            Phase::Move => from.site.change_address()?,
            Phase::Cut => from.site.cut_udp(true)?,
        }
        std::thread::sleep(phase.lasts());
    }
    Ok(())
}

/// Peers come, go offline and online, and are removed.
fn churn(tailnet: &Tailnet, lasts: Duration) -> Result<()> {
    let start = rt::now();
    tailnet.with_admin(async |admin| {
        let ids = admin.add_nodes(STRANGERS).await?;
        for id in &ids {
            admin.set_online(*id, true).await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for id in &ids {
            admin.set_online(*id, false).await?;
            admin.remove_node(*id).await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    })?;
    std::thread::sleep(lasts.saturating_sub(rt::now().since(start)));
    Ok(())
}

/// A limited stream; megabits a second that arrived, and segments that were sent again.
fn tcp(from: &Node, third: (&Node, IpAddr), mbit: u32, seconds: u32) -> Result<(f64, u64)> {
    let (third, address) = (third.0, third.1.to_string());
    let mut server = third.site.node().run(|| {
        command("iperf3")
            .args(["-s", "-1", "-B", &address])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    })??;
    std::thread::sleep(Duration::from_millis(500));
    let (rate, duration) = (format!("{mbit}M"), seconds.to_string());
    let output = from.site.node().run(|| {
        command("iperf3")
            .args(["-c", &address, "-J", "-b", &rate, "-t", &duration])
            .output()
    })??;
    let _ = server.kill();
    let _ = server.wait();
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("read iperf3's report")?;
    let end = &report["end"];
    let arrived = end["sum_received"]["bits_per_second"].as_f64();
    let again = end["sum_sent"]["retransmits"].as_u64();
    Ok((arrived.unwrap_or(0.0) / 1e6, again.unwrap_or(0)))
}

/// The numbered datagrams.
struct Flow {
    /// Minute times the number of phases, and the phase.
    phase: AtomicUsize,
    sent: Vec<AtomicU64>,
    arrived: Vec<AtomicU64>,
    twice: Vec<AtomicU64>,
}

impl Flow {
    fn new(minutes: u32) -> Self {
        let counters = || {
            (0..minutes as usize * PHASES.len())
                .map(|_| AtomicU64::new(0))
                .collect()
        };
        Self {
            phase: AtomicUsize::new(0),
            sent: counters(),
            arrived: counters(),
            twice: counters(),
        }
    }

    fn send(&self, socket: &UdpSocket, stop: &AtomicBool) {
        let start = rt::now();
        let mut datagram = [0x5a; LEN];
        let mut number = 0u64;
        while !stop.load(Ordering::Relaxed) {
            let phase = self.phase.load(Ordering::Relaxed);
            datagram[..8].copy_from_slice(&number.to_le_bytes());
            datagram[8..16].copy_from_slice(&(phase as u64).to_le_bytes());
            number += 1;
            if socket.send(&datagram).is_ok() {
                count(&self.sent, phase);
            }
            let due = Duration::from_nanos(number * 1_000_000_000 / RATE);
            std::thread::sleep(due.saturating_sub(rt::now().since(start)));
        }
    }

    fn receive(&self, socket: &UdpSocket, stop: &AtomicBool) {
        let mut buffer = [0; LEN + 1];
        // Which of the last numbers have been seen.
        let mut seen = vec![u64::MAX; 1 << 16];
        while !stop.load(Ordering::Relaxed) {
            let Ok(LEN) = socket.recv(&mut buffer) else {
                continue;
            };
            let word = |at: usize| {
                let bytes = buffer.get(at..).and_then(|rest| rest.first_chunk());
                bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
            };
            let (number, phase) = (word(0), word(8) as usize);
            let place = &mut seen[number as usize & 0xffff];
            if *place == number {
                count(&self.twice, phase);
            } else {
                *place = number;
                count(&self.arrived, phase);
            }
        }
    }

    fn counted(&self, mut minute: Minute) -> Minute {
        for at in 0..PHASES.len() {
            let index = minute.minute as usize * PHASES.len() + at;
            let value = |counters: &[AtomicU64]| {
                counters
                    .get(index)
                    .map_or(0, |counter| counter.load(Ordering::Relaxed))
            };
            minute.sent[at] = value(&self.sent);
            minute.lost[at] = minute.sent[at].saturating_sub(value(&self.arrived));
            minute.twice += value(&self.twice);
        }
        minute
    }
}

fn count(counters: &[AtomicU64], at: usize) {
    if let Some(counter) = counters.get(at) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What did not fit the queues between the kernel's own parts: the second column of a line for each core.
fn queue_drops() -> u64 {
    let text = std::fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
    let second = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    text.lines().filter_map(second).sum()
}

/// What UDP sockets of the network should have got (`InErrors`): mostly for want of room in their buffers.
fn socket_drops() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap_or_default();
    let mut udp = text.lines().filter(|line| line.starts_with("Udp:"));
    let (Some(names), Some(values)) = (udp.next(), udp.next()) else {
        return 0;
    };
    let mut fields = names.split_whitespace().zip(values.split_whitespace());
    let found = fields.find(|(name, _)| *name == "InErrors");
    found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

/// What the interfaces of the network dropped: the columns `drop` of what is received and of what is transmitted.
fn interface_drops() -> u64 {
    const COLUMNS: [usize; 2] = [3, 11];
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let drops = lines.flat_map(|(_, columns)| {
        let values: Vec<&str> = columns.split_whitespace().collect();
        COLUMNS.map(|column| values.get(column)?.parse::<u64>().ok())
    });
    drops.flatten().sum()
}

/// What a daemon says that it has dropped, in both directions.
fn daemon_drops(node: &Node) -> Result<u64> {
    let output = node.cli(&["debug", "localapi", "/localapi/v0/usermetrics"])?;
    ensure!(
        output.status.success(),
        "`tailscale debug localapi` cannot read the metrics"
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let dropped = text
        .lines()
        .filter(|line| line.contains("bound_dropped_packets_total{"));
    let values = dropped.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    Ok(values.sum::<f64>() as u64)
}

fn line(minute: &Minute) -> String {
    let [from, to] = minute.memory_kib.map(|kib| kib as f64 / 1024.0);
    format!(
        "minute {}: TCP {:.0} Mbit/s, {} sent again; memory {from:.1} and {to:.1} MiB; {:?}",
        minute.minute, minute.tcp_mbit_per_s, minute.retransmits, minute.dropped
    )
}

/// Says what came of it; `false` if it was not as it should be.
fn summary(minutes: &[Minute]) -> bool {
    let mut lost_in_peace = 0;
    let cells: Vec<Vec<String>> = PHASES
        .iter()
        .enumerate()
        .map(|(at, phase)| {
            let sent: u64 = minutes.iter().map(|minute| minute.sent[at]).sum();
            let lost: u64 = minutes.iter().map(|minute| minute.lost[at]).sum();
            if !phase.loses() {
                lost_in_peace += lost;
            }
            vec![format!("{phase:?}"), sent.to_string(), lost.to_string()]
        })
        .collect();
    println!("{}", report::markdown(&["phase", "sent", "lost"], &cells));
    let tenth = (minutes.len() / 10).max(1);
    let mut is_flat = true;
    for (at, who) in ["sender", "receiver"].into_iter().enumerate() {
        let most = |minutes: &[Minute]| minutes.iter().map(|minute| minute.memory_kib[at]).max();
        // The first minute fills buffers and tables.
        let early = minutes.get(1..=tenth).unwrap_or(minutes);
        let late = &minutes[minutes.len() - tenth.min(minutes.len())..];
        let (Some(early), Some(late)) = (most(early), most(late)) else {
            continue;
        };
        println!(
            "{who}: {:.1} MiB at first, {:.1} MiB at last",
            early as f64 / 1024.0,
            late as f64 / 1024.0
        );
        is_flat &= late as f64 <= early as f64 * (1.0 + GROWTH);
    }
    println!("lost while nothing was cut: {lost_in_peace}");
    is_flat && lost_in_peace == 0
}
