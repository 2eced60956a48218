//! Bytes from a stream of one engine to a stream of another over a relay on loopback, all in one process: streams, TCP,
//! WireGuard, the relay's frames and TLS, twice each. The figures mean something only beside each other.
#![allow(clippy::unwrap_used, reason = "a failure here ends the benchmark")]
#![allow(missing_docs, reason = "a program")]

#[allow(dead_code, reason = "tests use more of it")]
#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Duration;

use common::{Node, SharedCert, ip, map, nodes, relay};
use dataplane::{Incoming, TcpStream};
use keys::NodePrivate;
use rt::OsRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const TOTAL: usize = 512 << 20;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(run());
}

async fn run() {
    let cert = SharedCert::new();
    let key = NodePrivate::generate(&mut OsRng);
    let relay = relay(&key, "127.0.0.1:0".parse().unwrap(), &cert).await;
    let mut nodes = nodes(2, &map(&relay)).await;
    for round in 0..3 {
        let (from, to) = connect(&mut nodes).await;
        let cpu = cpu_time();
        let secs = pump(from, to).await;
        let cpu = (cpu_time() - cpu).as_secs_f64();
        let gigabytes = TOTAL as f64 / 1e9;
        println!(
            "round {round}: {:.0} Mbit/s, {:.2} cpu-s/GB for both engines, the relay and the streams' ends",
            gigabytes * 8000.0 / secs,
            cpu / gigabytes
        );
    }
    let (mut from, mut to) = connect(&mut nodes).await;
    let started = rt::now();
    let rounds = 2000;
    for _ in 0..rounds {
        let mut byte = [7];
        from.write_all(&byte).await.unwrap();
        to.read_exact(&mut byte).await.unwrap();
        to.write_all(&byte).await.unwrap();
        from.read_exact(&mut byte).await.unwrap();
    }
    let each = rt::now().since(started) / rounds;
    println!("there and back: {} µs", each.as_micros());
}

async fn connect(nodes: &mut [Node]) -> (TcpStream, TcpStream) {
    let dialer = nodes[0].engine.dialer().clone();
    let dial = async { dialer.tcp((ip(1), 80).into()).await.unwrap() };
    let accept = async {
        match nodes[1].incoming.recv().await {
            Some(Incoming::Tcp(caller)) => caller.accept().await.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    tokio::join!(dial, accept)
}

/// Seconds for [`TOTAL`] bytes.
async fn pump(mut from: TcpStream, mut to: TcpStream) -> f64 {
    let started = rt::now();
    let send = rt::Task::spawn("bench sender", async move {
        let data = vec![7; 256 << 10];
        for _ in 0..TOTAL / data.len() {
            from.write_all(&data).await.unwrap();
        }
        from.shutdown().await.unwrap();
        let _ = from.read(&mut [0]).await;
    });
    let mut buffer = vec![0; 256 << 10];
    let mut got = 0;
    while let Ok(n) = to.read(&mut buffer).await
        && n > 0
    {
        got += n;
    }
    assert_eq!(got, TOTAL);
    let secs = rt::now().since(started).as_secs_f64();
    drop(to);
    send.join().await;
    secs
}

/// What this process has used of the processors, in ticks of ten milliseconds.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}
