//! One measurement.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::cpu::{self, Machine};
use super::peer::{Pair, Running, command};
use super::{Options, Test};

/// Pings of an idle measurement.
const IDLE_PINGS: u32 = 400;

/// What came out; what does not apply is none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(super) gbps: Option<f64>,
    pub(super) cpu_s_per_gb: Option<f64>,
    pub(super) us_per_packet: Option<f64>,
    pub(super) ping_ms: Option<f64>,
    /// Of the larger daemon, in KiB: now and at most.
    pub(super) memory: (u64, u64),
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let mut part = |value: Option<f64>, unit: &str| {
            if let Some(value) = value {
                parts.push(format!("{value:.2} {unit}"));
            }
        };
        part(self.gbps, "Gbit/s");
        part(self.cpu_s_per_gb, "CPU-s/GB");
        part(self.us_per_packet, "µs/packet");
        part(self.ping_ms, "ms");
        part(Some(self.memory.1 as f64 / 1024.0), "MiB at most");
        f.write_str(&parts.join(", "))
    }
}

/// One measurement of one peer.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(super) peer: String,
    pub(super) test: Test,
    pub(super) round: usize,
    /// Of the larger daemon, in KiB, before anything went through it.
    pub(super) idle_memory: u64,
    pub(super) figures: Figures,
}

/// What two daemons have used since.
struct Meter<'a> {
    pair: &'a Pair,
    before: [u64; 2],
    machine: Machine,
}

impl<'a> Meter<'a> {
    fn start(pair: &'a Pair) -> Self {
        Self {
            pair,
            before: pair.pids().map(cpu::nanos),
            machine: Machine::now(),
        }
    }

    fn seconds(&self) -> f64 {
        let after = self.pair.pids().map(cpu::nanos);
        let used: u64 = after
            .iter()
            .zip(self.before)
            .map(|(after, before)| after.saturating_sub(before))
            .sum();
        used as f64 / 1e9 * Machine::now().had_since(self.machine)
    }
}

pub(super) fn memory(pair: &Pair) -> (u64, u64) {
    let [a, b] = pair.pids().map(cpu::memory);
    (a.0.max(b.0), a.1.max(b.1))
}

/// With iperf3 and ping, from kernel to kernel.
pub(super) fn through_kernel(pair: &Pair, test: Test, options: &Options) -> Result<Figures> {
    let mut figures = match test {
        Test::Tcp1 => tcp(pair, 1, options.seconds)?,
        Test::Tcp4 => tcp(pair, 4, options.seconds)?,
        Test::Udp64 => udp(pair, options.seconds)?,
        Test::Ping => Figures {
            ping_ms: Some(ping(pair, "0.005", IDLE_PINGS)?),
            ..Figures::default()
        },
    };
    figures.memory = memory(pair);
    Ok(figures)
}

fn iperf(pair: &Pair, args: &[&str]) -> Result<serde_json::Value> {
    let target = pair.target.to_string();
    let server = pair.space(1).run(|| {
        command("iperf3")
            .args(["-s", "-1", "-B", &target])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    })?;
    let _server = Running(server.context("start iperf3")?);
    std::thread::sleep(Duration::from_millis(300));
    let output = pair.space(0).run(|| {
        command("iperf3")
            .args(["-c", &target, "-J"])
            .args(args)
            .output()
    })??;
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("read iperf3's report")?;
    if let Some(error) = report["error"].as_str() {
        bail!("iperf3: {error}");
    }
    Ok(report)
}

fn tcp(pair: &Pair, streams: u32, seconds: u32) -> Result<Figures> {
    let (streams, duration) = (streams.to_string(), seconds.to_string());
    let pinged = (streams != "1").then_some(seconds * 45);
    let meter = Meter::start(pair);
    let (report, ping) = std::thread::scope(|scope| {
        let pinger = pinged.map(|count| scope.spawn(move || ping(pair, "0.02", count)));
        let report = iperf(pair, &["-t", &duration, "-P", &streams]);
        let ping = pinger.map(|pinger| pinger.join());
        (report, ping)
    });
    let report = report?;
    let used = meter.seconds();
    let end = &report["end"];
    let bytes = end["sum_received"]["bytes"]
        .as_f64()
        .context("iperf3 counted nothing")?;
    let rate = end["sum_received"]["bits_per_second"].as_f64();
    ensure!(bytes > 0.0, "nothing arrived");
    let ping = match ping {
        Some(Ok(ping)) => Some(ping?),
        Some(Err(_)) => bail!("the pings ended in a panic"),
        None => None,
    };
    Ok(Figures {
        gbps: rate.map(|rate| rate / 1e9),
        cpu_s_per_gb: Some(used / (bytes / 1e9)),
        ping_ms: ping,
        ..Figures::default()
    })
}

fn udp(pair: &Pair, seconds: u32) -> Result<Figures> {
    let duration = seconds.to_string();
    let meter = Meter::start(pair);
    // 20,000 datagrams a second.
    let report = iperf(pair, &["-t", &duration, "-u", "-b", "10.24M", "-l", "64"])?;
    let used = meter.seconds();
    let sum = &report["end"]["sum"];
    let sent = sum["packets"].as_f64().context("iperf3 counted nothing")?;
    let lost = sum["lost_packets"].as_f64().unwrap_or(0.0);
    ensure!(sent > lost, "nothing arrived");
    Ok(Figures {
        us_per_packet: Some(used * 1e6 / (sent - lost)),
        ..Figures::default()
    })
}

/// The mean time of pings.
fn ping(pair: &Pair, every: &str, count: u32) -> Result<f64> {
    let (target, count) = (pair.target.to_string(), count.to_string());
    let output = pair.space(0).run(|| {
        command("ping")
            .args(["-q", "-i", every, "-c", &count, &target])
            .output()
    })??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    mean_of(&text).with_context(|| format!("no pings came back: {text}"))
}

/// The second of the numbers in `rtt min/avg/max/mdev = 0.1/0.2/0.3/0.0 ms`.
fn mean_of(text: &str) -> Option<f64> {
    let (_, numbers) = text.rsplit_once(" = ")?;
    numbers.split('/').nth(1)?.trim().parse().ok()
}

/// One stream through the first daemon's SOCKS5 proxy to a server behind the second one.
pub(super) fn through_proxy(pair: &Pair, options: &Options) -> Result<Figures> {
    let listener = pair
        .space(1)
        .run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))??;
    let port = listener.local_addr()?.port();
    let received = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let proxy = pair.proxy()?;
    let idle = open_idle(pair, proxy, options.idle)?;
    let (bytes, used) = std::thread::scope(|scope| -> Result<(u64, f64)> {
        let (received, stop) = (&received, &stop);
        scope.spawn(move || swallow(&listener, received));
        let target = pair.target;
        let sender = scope.spawn(move || -> Result<()> {
            let mut stream = pair.space(0).run(|| socks(proxy, target, port))??;
            let block = vec![0x5a; 256 << 10];
            while !stop.load(Ordering::Relaxed) {
                stream.write_all(&block)?;
            }
            Ok(())
        });
        // The first moments are the window's, not the machine's.
        std::thread::sleep(Duration::from_millis(500));
        let (before, meter) = (received.load(Ordering::Relaxed), Meter::start(pair));
        std::thread::sleep(Duration::from_secs(options.seconds.into()));
        let bytes = received.load(Ordering::Relaxed) - before;
        let used = meter.seconds();
        stop.store(true, Ordering::Relaxed);
        match sender.join() {
            Ok(outcome) => outcome?,
            Err(_) => bail!("the sender panicked"),
        }
        Ok((bytes, used))
    })?;
    ensure!(bytes > 0, "nothing arrived");
    drop(idle);
    Ok(Figures {
        gbps: Some(bytes as f64 * 8.0 / 1e9 / f64::from(options.seconds)),
        cpu_s_per_gb: Some(used / (bytes as f64 / 1e9)),
        memory: memory(pair),
        ..Figures::default()
    })
}

/// Connections through the proxy over which nothing goes: both ends of each.
fn open_idle(pair: &Pair, proxy: SocketAddr, count: usize) -> Result<Vec<[TcpStream; 2]>> {
    let listener = pair
        .space(1)
        .run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))??;
    let port = listener.local_addr()?.port();
    let open = |_| -> Result<[TcpStream; 2]> {
        let near = pair.space(0).run(|| socks(proxy, pair.target, port))??;
        let (far, _) = listener.accept()?;
        Ok([near, far])
    };
    (0..count).map(open).collect()
}

fn swallow(listener: &TcpListener, received: &AtomicU64) {
    let Ok((mut stream, _)) = listener.accept() else {
        return;
    };
    let mut block = vec![0; 256 << 10];
    while let Ok(len) = stream.read(&mut block) {
        if len == 0 {
            return;
        }
        received.fetch_add(len as u64, Ordering::Relaxed);
    }
}

/// A connection through a proxy (RFC 1928).
fn socks(proxy: SocketAddr, target: IpAddr, port: u16) -> Result<TcpStream> {
    let IpAddr::V4(target) = target else {
        bail!("only IPv4 is measured");
    };
    let mut stream = TcpStream::connect(proxy)?;
    stream.write_all(&[5, 1, 0])?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen)?;
    ensure!(chosen == [5, 0], "the proxy wants a password");
    let mut ask = vec![5, 1, 0, 1];
    ask.extend_from_slice(&target.octets());
    ask.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&ask)?;
    let mut answer = [0; 10];
    stream.read_exact(&mut answer)?;
    ensure!(answer[1] == 0, "the proxy answers {}", answer[1]);
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_pings_is_read() {
        let text = "4 packets transmitted\nrtt min/avg/max/mdev = 0.031/0.245/0.3/0.004 ms\n";
        assert_eq!(mean_of(text), Some(0.245));
        assert_eq!(
            mean_of("rtt min/avg/max/mdev = 1.0/2.5/3/0 ms, pipe 3"),
            Some(2.5)
        );
        assert_eq!(mean_of("100% packet loss"), None);
    }
}
