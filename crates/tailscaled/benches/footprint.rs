//! What a node costs while nothing happens: time from start to Running, memory, processor, disk, size of the program.
//!
//! `cargo bench -p tailscaled --bench footprint -- [--peers N] [--idle SECONDS]` runs our daemon against our own control
//! server and relay on loopback, first alone with one peer, then in a tailnet of N; with `TS_GO_TAILSCALED` set the original
//! goes through the same, and the last column is the ratio.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{Usage, log_in, programs, running};
use controlserver::NewAuthKey;
use keys::{LockPrivate, MachinePrivate, NodePrivate};
use tailcfg::Hostinfo;
use tailcfg::go::Secret;
use testkit::originals::{TailscaledOptions, daemon};

/// How often a start is timed; the median counts.
const STARTS: usize = 5;
/// After its start a node may settle this long before it is watched.
const SETTLE: Duration = Duration::from_secs(15);
/// Registrations under way at once.
const REGISTERING: usize = 16;

struct Args {
    peers: usize,
    idle: Duration,
}

fn args() -> Args {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: u64| {
        let at = words.iter().position(|word| word == name);
        at.and_then(|at| words.get(at + 1))
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    Args {
        peers: number("--peers", 1000) as usize,
        idle: Duration::from_secs(number("--idle", 60)),
    }
}

fn main() -> anyhow::Result<()> {
    let args = args();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let programs = programs();
        for peers in [1, args.peers] {
            let tailnet = Tailnet::start(peers).await?;
            let mut rows: Vec<Figures> = Vec::new();
            for program in &programs {
                rows.push(tailnet.measure(program, args.idle).await?);
            }
            print(peers, args.idle, &rows);
        }
        Ok(())
    })
}

struct Tailnet {
    control: controlserver::Server,
    _relay: derpserver::Server,
    key: String,
}

impl Tailnet {
    async fn start(peers: usize) -> anyhow::Result<Self> {
        let relay = lab::start_relay().await?;
        let config = controlserver::Config {
            derp_map: lab::derp_map(&relay),
            ..controlserver::Config::default()
        };
        let control = controlserver::Server::start(config).await?;
        let new = NewAuthKey {
            user: "bench".into(),
            reusable: true,
            ..NewAuthKey::default()
        };
        let made = control
            .admin()
            .create_auth_key(new)
            .await
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let tailnet = Self {
            control,
            _relay: relay,
            key: made.key.unwrap_or_default(),
        };
        for first in (0..peers).step_by(REGISTERING) {
            let some =
                (first..peers.min(first + REGISTERING)).map(|number| tailnet.register(number));
            futures_util::future::try_join_all(some).await?;
        }
        Ok(tailnet)
    }

    /// Registers a node that is never there.
    async fn register(&self, number: usize) -> anyhow::Result<()> {
        let rng = &mut rt::OsRng;
        let (client, mut events) = control::Client::start(control::ClientConfig {
            server_url: self.control.url(),
            machine_key: MachinePrivate::generate(rng),
            dialer: Arc::new(transport::Dialer::new(transport::DialConfig::default())),
            paused: true,
            force_443: false,
            disco_key: keys::DiscoPublic::ZERO,
            c2n: control::C2nRouter::new(),
            dial_plan: control::DialPlan::default(),
        })?;
        client.login(control::LoginRequest {
            node_key: NodePrivate::generate(rng).public(),
            lock_key: LockPrivate::generate(rng).public(),
            auth_key: Some(Secret::new(self.key.clone())),
            hostinfo: Arc::new(Hostinfo {
                backend_log_id: "0".repeat(64),
                hostname: format!("peer{number}"),
                os: "linux".into(),
                ..Hostinfo::default()
            }),
            ..control::LoginRequest::default()
        });
        loop {
            match events.recv().await {
                Some(control::Event::Registered(_)) => break,
                Some(control::Event::RegisterFailed { error, .. }) => {
                    anyhow::bail!("register peer{number}: {error}")
                }
                Some(_) => {}
                None => anyhow::bail!("register peer{number}: the client ended"),
            }
        }
        client.shutdown().await;
        Ok(())
    }

    async fn measure(&self, program: &Path, idle: Duration) -> anyhow::Result<Figures> {
        eprintln!("measuring {}", program.display());
        let mut node = daemon(program, &TailscaledOptions::default());
        log_in(&node, &self.control.url(), &self.key).await?;
        running(&node).await?;
        let mut starts = Vec::new();
        for _ in 0..STARTS {
            node.kill();
            let start = rt::now();
            node.start_again();
            running(&node).await?;
            starts.push(rt::now().since(start));
        }
        starts.sort();
        tokio::time::sleep(SETTLE).await;
        let before = Usage::of(node.pid())?;
        tokio::time::sleep(idle).await;
        let after = Usage::of(node.pid())?;
        Ok(Figures {
            program: program.display().to_string(),
            start: starts[STARTS / 2],
            rss_kib: after.rss_kib,
            cpu: after.cpu.saturating_sub(before.cpu),
            switches: after.switches - before.switches,
            written: after.written - before.written,
            size: std::fs::metadata(program)?.len(),
        })
    }
}

/// What one daemon costs.
struct Figures {
    program: String,
    start: Duration,
    rss_kib: u64,
    cpu: Duration,
    switches: u64,
    written: u64,
    size: u64,
}

fn print(peers: usize, idle: Duration, rows: &[Figures]) {
    println!("\n{peers} peers, idle for {} s", idle.as_secs());
    let ratio = |ours: f64, theirs: f64| {
        if theirs > 0.0 {
            format!("{:.2}", ours / theirs)
        } else {
            "-".into()
        }
    };
    let line = |name: &str, of: &dyn Fn(&Figures) -> f64, digits: usize| {
        let cells: Vec<String> = rows
            .iter()
            .map(|row| format!("{:>12.digits$}", of(row)))
            .collect();
        let last = match rows {
            [ours, theirs] => ratio(of(ours), of(theirs)),
            _ => String::new(),
        };
        println!("  {name:<26}{} {last:>8}", cells.join(""));
    };
    for row in rows {
        println!("  {}", row.program);
    }
    line(
        "start to Running, ms",
        &|row| row.start.as_secs_f64() * 1e3,
        0,
    );
    line("memory (RSS), KiB", &|row| row.rss_kib as f64, 0);
    line(
        "processor while idle, ms",
        &|row| row.cpu.as_secs_f64() * 1e3,
        1,
    );
    line("wake-ups while idle", &|row| row.switches as f64, 0);
    line("disk writes while idle, B", &|row| row.written as f64, 0);
    line("program, KiB", &|row| row.size as f64 / 1024.0, 0);
}
