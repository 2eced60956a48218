//! What a byte costs on its way through two stacks, beside what copying it costs.
//!
//! Both ends of one connection run on one thread, joined without a link in between. The figures mean something only in
//! relation to each other: run it alone on the machine.
#![expect(clippy::disallowed_methods, reason = "a benchmark looks at the clock")]
#![allow(clippy::unwrap_used, reason = "a failure here ends the benchmark")]

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use netstack::{Config, Event, FlowId, Netstack, Recv};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

const TOTAL: usize = 1 << 30;
/// As the engine does it: so many packets of one stack before the other's turn.
const BATCH: usize = 64;

struct Pair {
    stacks: [Netstack; 2],
    start: Instant,
    packets: u64,
}

impl Pair {
    fn now(&self) -> host::Instant {
        host::Instant::from_nanos(3_600_000_000_000) + self.start.elapsed()
    }

    /// Carries packets one way; tells whether there were any.
    fn carry(&mut self, from: usize, packet: &mut Vec<u8>) -> bool {
        let now = self.now();
        for n in 0..BATCH {
            if self.stacks[from].poll_transmit(packet, now).is_none() {
                return n > 0;
            }
            self.packets += 1;
            self.stacks[1 - from].handle_packet(packet, now);
        }
        true
    }

    fn tick(&mut self) {
        let now = self.now();
        self.stacks
            .iter_mut()
            .for_each(|stack| stack.handle_timeout(now));
    }
}

fn address(side: u8) -> IpAddr {
    [100, 64, 0, side].into()
}

/// A pair with one connection, and `idle` more beside it.
fn open(idle: usize) -> (Pair, FlowId, FlowId) {
    let stack = |side| {
        let addresses = vec![address(side)];
        Netstack::new(Config {
            addresses,
            ..Config::default()
        })
    };
    let mut pair = Pair {
        stacks: [stack(1), stack(2)],
        start: Instant::now(),
        packets: 0,
    };
    let mut rng = StdRng::seed_from_u64(1);
    let mut packet = Vec::new();
    let mut ends = None;
    for _ in 0..=idle {
        let now = pair.now();
        let to = SocketAddr::new(address(2), 80);
        let a = pair.stacks[0]
            .connect(address(1), to, now, &mut rng)
            .unwrap();
        pair.carry(0, &mut packet);
        let Some(Event::Incoming { id: b, .. }) = pair.stacks[1].poll_event() else {
            panic!()
        };
        pair.stacks[1].accept(b, now, &mut rng);
        while pair.carry(1, &mut packet) | pair.carry(0, &mut packet) {}
        while pair.stacks[0].poll_event().is_some() || pair.stacks[1].poll_event().is_some() {}
        ends = Some((a, b));
    }
    let (a, b) = ends.unwrap();
    (pair, a, b)
}

/// Seconds for [`TOTAL`] bytes.
fn bulk(idle: usize) -> (f64, u64) {
    let (mut pair, a, b) = open(idle);
    let data = vec![7; 64 << 10];
    let mut buffer = vec![0; 64 << 10];
    let mut packet = Vec::with_capacity(1280);
    let (mut sent, mut got) = (0, 0);
    pair.packets = 0;
    let start = Instant::now();
    while got < TOTAL {
        while sent < TOTAL {
            match pair.stacks[0].send(a, &data) {
                0 => break,
                n => sent += n,
            }
        }
        pair.carry(0, &mut packet);
        while let Recv::Data(n) = pair.stacks[1].recv(b, &mut buffer) {
            got += n;
        }
        pair.carry(1, &mut packet);
        pair.tick();
        while pair.stacks[0].poll_event().is_some() || pair.stacks[1].poll_event().is_some() {}
    }
    (start.elapsed().as_secs_f64(), pair.packets)
}

/// Seconds for copying as many bytes once, in pieces of a packet.
fn copying() -> f64 {
    let from = vec![7_u8; 64 << 10];
    let mut to = Vec::with_capacity(64 << 10);
    let start = Instant::now();
    for _ in 0..TOTAL / from.len() {
        to.clear();
        for piece in from.chunks(1240) {
            to.extend_from_slice(std::hint::black_box(piece));
        }
        std::hint::black_box(&to);
    }
    start.elapsed().as_secs_f64()
}

fn main() {
    let best = |run: &dyn Fn() -> f64| (0..3).map(|_| run()).fold(f64::MAX, f64::min);
    let copy = best(&copying);
    let gbit = |secs: f64| TOTAL as f64 * 8.0 / secs / 1e9;
    println!("copying: {:.1} Gbit/s", gbit(copy));
    for idle in [0, 1000, 20_000] {
        let secs = best(&|| bulk(idle).0);
        println!(
            "both ends, {idle} idle connections beside it: {:.1} Gbit/s, {:.2} s/GB, {:.1} times the copy",
            gbit(secs),
            secs / (TOTAL as f64 / 1e9),
            secs / copy
        );
    }
    println!(
        "packets per MB: {:.0}",
        bulk(0).1 as f64 / (TOTAL as f64 / 1e6)
    );
    memory();
}

/// What an idle connection costs.
fn memory() {
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        text.split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<usize>().ok())
            .map(|pages| pages * 4096)
    };
    let before = resident();
    let idle = 20_000;
    let (pair, ..) = open(idle);
    if let (Some(before), Some(after)) = (before, resident()) {
        println!(
            "one end of an idle connection: {} bytes",
            after.saturating_sub(before) / idle / 2
        );
    }
    drop(pair);
}
