//! Our stack against smoltcp's, which somebody else wrote, over a link that misbehaves.
#![allow(
    clippy::unwrap_used,
    reason = "a failure here is a failure of the test"
)]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use host::Instant;
use netstack::{Config, Event, FlowId, Netstack, Recv};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

const OURS: &str = "100.64.0.1";
const THEIRS: &str = "100.64.0.2";

/// Packets to and from smoltcp.
#[derive(Default)]
struct Wire {
    arrived: VecDeque<Vec<u8>>,
    leaving: Vec<Vec<u8>>,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Rx, Tx<'_>)> {
        let packet = self.arrived.pop_front()?;
        Some((Rx(packet), Tx(&mut self.leaving)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.leaving))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1280;
        capabilities
    }
}

struct World {
    now: Instant,
    ours: Netstack,
    events: Vec<Event>,
    theirs: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    wire: Wire,
    rng: StdRng,
    loss: f64,
    jitter: Duration,
    flying: BTreeMap<(Instant, u64), (bool, Vec<u8>)>,
}

fn smol(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros((now.as_nanos() / 1000) as i64)
}

impl World {
    fn new(seed: u64, loss: f64, jitter: Duration) -> Self {
        let now = Instant::from_nanos(3_600_000_000_000);
        let mut wire = Wire::default();
        let mut config = smoltcp::iface::Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut theirs = Interface::new(config, &mut wire, smol(now));
        theirs.update_ip_addrs(|ips| {
            ips.push(IpCidr::new(THEIRS.parse::<IpAddress>().unwrap(), 24))
                .unwrap();
        });
        theirs
            .routes_mut()
            .add_default_ipv4_route("100.64.0.2".parse().unwrap())
            .unwrap();
        let buffer = || tcp::SocketBuffer::new(vec![0; 200_000]);
        let mut sockets = SocketSet::new(vec![]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_congestion_control(tcp::CongestionControl::Cubic);
        let socket = sockets.add(socket);
        let ours = Config {
            addresses: vec![OURS.parse().unwrap()],
            ..Config::default()
        };
        Self {
            now,
            ours: Netstack::new(ours),
            events: Vec::new(),
            theirs,
            sockets,
            socket,
            wire,
            rng: StdRng::seed_from_u64(seed),
            loss,
            jitter,
            flying: BTreeMap::new(),
        }
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    fn put(&mut self, to_us: bool, packet: Vec<u8>) {
        if self.rng.random_bool(self.loss) {
            return;
        }
        let late = Duration::from_millis(5) + self.jitter.mul_f64(self.rng.random::<f64>());
        let at = self.now + late;
        let order = self.rng.next_u64();
        self.flying.insert((at, order), (to_us, packet));
    }

    fn drain(&mut self) {
        let mut packet = Vec::new();
        while self.ours.poll_transmit(&mut packet, self.now).is_some() {
            self.put(false, packet.clone());
        }
        self.theirs
            .poll(smol(self.now), &mut self.wire, &mut self.sockets);
        for packet in std::mem::take(&mut self.wire.leaving) {
            self.put(true, packet);
        }
        while let Some(event) = self.ours.poll_event() {
            self.events.push(event);
        }
    }

    fn step(&mut self) {
        self.drain();
        let theirs = self.theirs.poll_at(smol(self.now), &self.sockets);
        let theirs = theirs.map(|at| Instant::from_nanos(at.total_micros().max(0) as u64 * 1000));
        let next = [
            self.flying.first_key_value().map(|((at, _), _)| *at),
            self.ours.next_timeout(),
            theirs,
        ];
        let next = next
            .into_iter()
            .flatten()
            .min()
            .expect("both sides wait for ever");
        // Rounding to microseconds must not stop the clock.
        self.now = next.max(self.now + Duration::from_micros(1));
        while let Some(entry) = self.flying.first_entry()
            && entry.key().0 <= self.now
        {
            let (to_us, packet) = entry.remove();
            match to_us {
                true => self.ours.handle_packet(&packet, self.now),
                false => self.wire.arrived.push_back(packet),
            }
        }
        self.ours.handle_timeout(self.now);
        self.drain();
    }

    /// Moves bytes both ways, closes, and compares.
    fn transfer(&mut self, flow: FlowId, from_us: usize, from_them: usize) {
        let pattern = |seed: usize, at: usize| (at.wrapping_mul(31) >> 3) as u8 ^ seed as u8;
        let (mut sent, mut got, mut eof) = (0, 0, false);
        let (mut they_sent, mut they_got) = (0, 0);
        let mut buffer = vec![0; 40_000];
        for _ in 0..2_000_000 {
            while sent < from_us {
                let chunk: Vec<u8> = (sent..from_us.min(sent + 10_000))
                    .map(|at| pattern(1, at))
                    .collect();
                match self.ours.send(flow, &chunk) {
                    0 => break,
                    n => sent += n,
                }
            }
            if sent == from_us {
                self.ours.shutdown(flow);
            }
            while !eof {
                match self.ours.recv(flow, &mut buffer) {
                    Recv::Data(n) => {
                        for byte in &buffer[..n] {
                            assert_eq!(*byte, pattern(2, got));
                            got += 1;
                        }
                    }
                    Recv::Empty => break,
                    Recv::Eof | Recv::Gone => eof = true,
                }
            }
            let socket = self.socket();
            if socket.can_send() && they_sent < from_them {
                let chunk: Vec<u8> = (they_sent..from_them.min(they_sent + 10_000))
                    .map(|at| pattern(2, at))
                    .collect();
                they_sent += socket.send_slice(&chunk).unwrap();
            }
            if they_sent == from_them && socket.may_send() {
                socket.close();
            }
            while socket.can_recv() {
                let n = socket.recv_slice(&mut buffer).unwrap();
                for byte in &buffer[..n] {
                    assert_eq!(*byte, pattern(1, they_got));
                    they_got += 1;
                }
            }
            let they_ended = they_got == from_us && !socket.may_recv() && !socket.may_send();
            if eof && they_ended {
                assert_eq!((got, they_got), (from_them, from_us));
                return;
            }
            self.step();
        }
        panic!("no end: sent {sent}, got {got}, they sent {they_sent}, they got {they_got}");
    }
}

fn we_call(seed: u64, loss: f64, jitter: u64, from_us: usize, from_them: usize) {
    let mut world = World::new(seed, loss, Duration::from_millis(jitter));
    world.socket().listen(80).unwrap();
    let remote: SocketAddr = format!("{THEIRS}:80").parse().unwrap();
    let now = world.now;
    let flow = world
        .ours
        .connect(OURS.parse().unwrap(), remote, now, &mut world.rng)
        .unwrap();
    while !world
        .events
        .iter()
        .any(|event| matches!(event, Event::Connected { .. }))
    {
        world.step();
    }
    world.transfer(flow, from_us, from_them);
}

fn they_call(seed: u64, loss: f64, jitter: u64, from_us: usize, from_them: usize) {
    let mut world = World::new(seed, loss, Duration::from_millis(jitter));
    let cx = world.theirs.context();
    let socket = world.sockets.get_mut::<tcp::Socket<'_>>(world.socket);
    socket
        .connect(cx, (OURS.parse::<IpAddress>().unwrap(), 80), 50_000)
        .unwrap();
    let flow = loop {
        world.step();
        let incoming = world.events.iter().find_map(|event| match event {
            Event::Incoming { id, .. } => Some(*id),
            _ => None,
        });
        if let Some(id) = incoming {
            break id;
        }
    };
    let now = world.now;
    assert!(world.ours.accept(flow, now, &mut world.rng));
    while world.socket().state() != tcp::State::Established {
        world.step();
    }
    world.transfer(flow, from_us, from_them);
}

#[test]
fn megabytes_on_a_clean_link() {
    we_call(1, 0.0, 0, 5_000_000, 3_000_000);
    they_call(2, 0.0, 0, 3_000_000, 5_000_000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn bytes_cross_any_link(
        seed: u64, loss in 0.0..0.1f64, jitter in 0u64..20,
        from_us in 0usize..150_000, from_them in 0usize..150_000, call: bool,
    ) {
        match call {
            true => we_call(seed, loss, jitter, from_us, from_them),
            false => they_call(seed, loss, jitter, from_us, from_them),
        }
    }
}
