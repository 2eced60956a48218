//! Two stacks, a link that misbehaves, and a clock that jumps to the next thing that happens.
#![allow(
    clippy::unwrap_used,
    reason = "a failure here is a failure of the test"
)]
#![allow(dead_code, reason = "each test uses a part")]

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use host::Instant;
use netstack::{Closed, Config, Event, FlowId, Netstack, Recv};
use packet::offload::{GsoKind, Splitter};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

pub(crate) const A: usize = 0;
pub(crate) const B: usize = 1;

#[derive(Debug, Clone)]
pub(crate) struct LinkConfig {
    pub(crate) latency: Duration,
    /// A packet is late by up to this much, and so overtaken.
    pub(crate) jitter: Duration,
    pub(crate) loss: f64,
    pub(crate) duplicate: f64,
    /// Bytes per second; zero: no limit.
    pub(crate) rate: u64,
    /// Bytes that wait for their turn.
    pub(crate) queue: u64,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(5),
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            rate: 0,
            queue: 1 << 20,
        }
    }
}

pub(crate) struct Sim {
    pub(crate) now: Instant,
    pub(crate) stacks: [Netstack; 2],
    pub(crate) events: [VecDeque<Event>; 2],
    pub(crate) rng: StdRng,
    pub(crate) link: LinkConfig,
    pub(crate) packets: u64,
    flying: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    free_at: [Instant; 2],
    /// Everything that was sent, newest last, if wanted.
    pub(crate) seen: Option<Vec<(usize, Vec<u8>)>>,
    /// Both directions are cut.
    pub(crate) cut: bool,
}

pub(crate) fn address(side: usize, v6: bool) -> IpAddr {
    let text = match (side, v6) {
        (A, false) => "100.64.0.1",
        (_, false) => "100.64.0.2",
        (A, true) => "fd7a:115c:a1e0::1",
        (_, true) => "fd7a:115c:a1e0::2",
    };
    text.parse().unwrap()
}

pub(crate) fn config(side: usize) -> Config {
    Config {
        addresses: vec![address(side, false), address(side, true)],
        ..Config::default()
    }
}

impl Sim {
    pub(crate) fn new(seed: u64, link: LinkConfig) -> Self {
        Self::with(seed, link, [config(A), config(B)])
    }

    pub(crate) fn with(seed: u64, link: LinkConfig, configs: [Config; 2]) -> Self {
        let now = Instant::from_nanos(3_600_000_000_000);
        Self {
            now,
            stacks: configs.map(Netstack::new),
            events: [VecDeque::new(), VecDeque::new()],
            rng: StdRng::seed_from_u64(seed),
            link,
            packets: 0,
            flying: BTreeMap::new(),
            free_at: [now; 2],
            seen: None,
            cut: false,
        }
    }

    /// Sends what wants to be sent and collects events.
    pub(crate) fn drain(&mut self) {
        let mut packet = Vec::new();
        for side in [A, B] {
            // One side makes super-packets, as a sender with a fast path does; the network takes them apart.
            let most = [1, 16][side];
            let now = self.now;
            while let Some(made) = self.stacks[side].poll_transmit_many(&mut packet, most, now) {
                assert_eq!(packet::IpView::parse(&packet).unwrap().dst(), made.to);
                if made.gso.kind == GsoKind::None {
                    self.pass(side, packet.clone());
                    continue;
                }
                assert_eq!(side, B);
                let mut splitter = Splitter::new(&mut packet, made.gso, made.csum).unwrap();
                assert!((2..=most).contains(&splitter.count()));
                while let Some(single) = splitter.next() {
                    let single = single.to_vec();
                    self.pass(side, single);
                }
            }
            while let Some(event) = self.stacks[side].poll_event() {
                self.events[side].push_back(event);
            }
        }
    }

    fn pass(&mut self, side: usize, packet: Vec<u8>) {
        assert!(packet.len() <= 1280);
        self.packets += 1;
        if let Some(seen) = &mut self.seen {
            seen.push((side, packet.clone()));
        }
        self.put(side, packet);
    }

    fn put(&mut self, side: usize, packet: Vec<u8>) {
        if self.cut || self.rng.random_bool(self.link.loss) {
            return;
        }
        let mut at = self.now;
        if self.link.rate > 0 {
            let backlog = self.now.until(self.free_at[side]).as_secs_f64() * self.link.rate as f64;
            if backlog > self.link.queue as f64 {
                return;
            }
            at = at.max(self.free_at[side])
                + Duration::from_secs_f64(packet.len() as f64 / self.link.rate as f64);
            self.free_at[side] = at;
        }
        let copies = 1 + usize::from(self.rng.random_bool(self.link.duplicate));
        for _ in 0..copies {
            let jitter = self.link.jitter.mul_f64(self.rng.random::<f64>());
            let order = self.rng.next_u64();
            // Without jitter the order is kept.
            let order = if self.link.jitter.is_zero() {
                self.packets
            } else {
                order
            };
            self.flying.insert(
                (at + self.link.latency + jitter, order),
                (1 - side, packet.clone()),
            );
        }
    }

    /// Goes to the next thing that happens; false if nothing will.
    pub(crate) fn step(&mut self) -> bool {
        self.drain();
        let next = [
            self.flying.first_key_value().map(|((at, _), _)| *at),
            self.stacks[A].next_timeout(),
            self.stacks[B].next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min();
        let Some(next) = next else { return false };
        self.now = self.now.max(next);
        while let Some(entry) = self.flying.first_entry()
            && entry.key().0 <= self.now
        {
            let (side, packet) = entry.remove();
            self.stacks[side].handle_packet(&packet, self.now);
        }
        for stack in &mut self.stacks {
            if stack.next_timeout().is_some_and(|at| at <= self.now) {
                stack.handle_timeout(self.now);
            }
        }
        self.drain();
        true
    }

    /// Runs until nothing is left to happen within `limit`.
    pub(crate) fn run_for(&mut self, limit: Duration) {
        let end = self.now + limit;
        loop {
            self.drain();
            let next = [
                self.flying.first_key_value().map(|((at, _), _)| *at),
                self.stacks[A].next_timeout(),
                self.stacks[B].next_timeout(),
            ]
            .into_iter()
            .flatten()
            .min();
            match next {
                Some(at) if at <= end => {
                    self.step();
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
    }

    pub(crate) fn connect(&mut self, v6: bool, port: u16) -> FlowId {
        let remote = SocketAddr::new(address(B, v6), port);
        self.stacks[A]
            .connect(address(A, v6), remote, self.now, &mut self.rng)
            .unwrap()
    }

    /// Steps until B hears of a caller.
    pub(crate) fn incoming(&mut self) -> FlowId {
        for _ in 0..10_000 {
            while let Some(event) = self.events[B].pop_front() {
                if let Event::Incoming { id, .. } = event {
                    return id;
                }
            }
            assert!(self.step(), "nobody calls");
        }
        panic!("nobody calls");
    }

    pub(crate) fn accept(&mut self, id: FlowId) {
        assert!(self.stacks[B].accept(id, self.now, &mut self.rng));
    }

    /// A connection, established at both ends.
    pub(crate) fn open(&mut self, v6: bool) -> (FlowId, FlowId) {
        let a = self.connect(v6, 80);
        let b = self.incoming();
        self.accept(b);
        for _ in 0..10_000 {
            let connected = |events: &VecDeque<Event>| {
                events.iter().any(|e| matches!(e, Event::Connected { .. }))
            };
            if connected(&self.events[A]) && connected(&self.events[B]) {
                return (a, b);
            }
            assert!(self.step());
        }
        panic!("the handshake does not end");
    }

    pub(crate) fn closed(&self, side: usize, flow: FlowId) -> Option<Closed> {
        self.events[side].iter().find_map(|event| match event {
            Event::Closed { id, reason } if *id == flow => Some(*reason),
            _ => None,
        })
    }
}

/// One end's application: sends a pattern, checks the other's, in portions of odd sizes.
pub(crate) struct App {
    pub(crate) side: usize,
    pub(crate) id: FlowId,
    pub(crate) seed: u64,
    pub(crate) peer_seed: u64,
    pub(crate) to_send: usize,
    pub(crate) sent: usize,
    pub(crate) received: usize,
    pub(crate) eof: bool,
    pub(crate) shut: bool,
    /// The most that is read at once; small is slow.
    pub(crate) portion: usize,
}

pub(crate) fn pattern(seed: u64, at: usize) -> u8 {
    ((at as u64)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(seed)
        >> 29) as u8
}

impl App {
    pub(crate) fn new(side: usize, id: FlowId, to_send: usize) -> Self {
        Self {
            side,
            id,
            seed: side as u64,
            peer_seed: 1 - side as u64,
            to_send,
            sent: 0,
            received: 0,
            eof: false,
            shut: false,
            portion: 100_000,
        }
    }

    pub(crate) fn turn(&mut self, sim: &mut Sim) {
        let stack = &mut sim.stacks[self.side];
        while self.sent < self.to_send {
            let end = (self.sent + 33_333).min(self.to_send);
            let data: Vec<u8> = (self.sent..end).map(|at| pattern(self.seed, at)).collect();
            match stack.send(self.id, &data) {
                0 => break,
                n => self.sent += n,
            }
        }
        if self.sent == self.to_send && !self.shut {
            self.shut = true;
            stack.shutdown(self.id);
        }
        let mut buffer = vec![0; self.portion];
        loop {
            match stack.recv(self.id, &mut buffer) {
                Recv::Data(n) => {
                    for byte in &buffer[..n] {
                        assert_eq!(
                            *byte,
                            pattern(self.peer_seed, self.received),
                            "at {}",
                            self.received
                        );
                        self.received += 1;
                    }
                }
                Recv::Eof => {
                    self.eof = true;
                    return;
                }
                Recv::Empty => return,
                Recv::Gone => {
                    self.eof |= sim.closed(self.side, self.id) == Some(Closed::Finished);
                    return;
                }
            }
        }
    }
}

/// Moves bytes both ways until both ends have seen the end; tells how long that took.
pub(crate) fn transfer(sim: &mut Sim, v6: bool, from_a: usize, from_b: usize) -> Duration {
    let (a, b) = sim.open(v6);
    let start = sim.now;
    let mut apps = [App::new(A, a, from_a), App::new(B, b, from_b)];
    for _ in 0..5_000_000 {
        for app in &mut apps {
            app.turn(sim);
        }
        if apps.iter().all(|app| app.eof && app.shut) {
            assert_eq!((apps[A].received, apps[B].received), (from_b, from_a));
            return sim.now.since(start);
        }
        assert!(
            sim.step(),
            "stalled: {:?}",
            [&apps[A], &apps[B]].map(|app| (app.sent, app.received, app.eof))
        );
    }
    panic!(
        "no end in sight: {:?}",
        [&apps[A], &apps[B]].map(|app| (app.sent, app.received, app.eof))
    );
}
