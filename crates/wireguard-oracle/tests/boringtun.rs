//! Our peer and boringtun's, in both roles, with datagrams handed over in memory.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use host::{Instant, Wall};
use keys::{NodePrivate, NodePublic};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use wireguard::{
    Admit, Context, Gate, Identity, IndexTable, Message, Output, Peer, Source, State, classify,
};

const THEIR_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Our side.
struct Ours {
    identity: Arc<Identity>,
    peer: Peer,
    indices: IndexTable,
    rng: StdRng,
    now: Instant,
    wall: Wall,
    waiting: Vec<Vec<u8>>,
    inbox: Vec<Vec<u8>>,
    established: usize,
}

impl Ours {
    fn with<R>(&mut self, step: impl FnOnce(&mut Peer, &mut Context<'_>) -> R) -> R {
        let mut ctx = Context {
            now: self.now,
            wall: self.wall,
            rng: &mut self.rng,
            indices: &mut self.indices,
        };
        step(&mut self.peer, &mut ctx)
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
        self.wall = Wall::from_unix_nanos(self.wall.as_unix_nanos() + span.as_nanos() as i128);
    }

    fn flush(&mut self, out: &mut Vec<Vec<u8>>) {
        if let Some(session) = self.peer.session(self.now).cloned() {
            for packet in self.waiting.drain(..) {
                let mut datagram = Vec::new();
                session
                    .seal(self.now, &packet, 1280, &mut datagram)
                    .expect("sealed");
                out.push(datagram);
            }
        }
    }

    fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while let Some(output) = self.peer.poll_output(self.now) {
            match output {
                Output::Handshake(datagram) | Output::Keepalive(datagram) => out.push(datagram),
                Output::Established => {
                    self.established += 1;
                    self.flush(&mut out);
                }
                Output::GaveUp | Output::Idle => panic!("{output:?}"),
            }
        }
        out
    }

    fn send(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        self.waiting.push(packet.to_vec());
        let mut out = Vec::new();
        self.flush(&mut out);
        if out.is_empty() {
            self.with(|peer, ctx| peer.want_session(ctx));
        }
        out.extend(self.drain());
        out
    }

    fn receive(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let mut bytes = datagram.to_vec();
        match classify(datagram).expect("wireguard") {
            Message::Initiation(message) => {
                let opened = self.identity.open_initiation(&message).expect("for us");
                self.with(|peer, ctx| peer.handle_initiation(opened, ctx))
                    .expect("accepted");
            }
            Message::Response(message) => self
                .with(|peer, ctx| peer.handle_response(&message, ctx))
                .expect("accepted"),
            Message::CookieReply(message) => self
                .with(|peer, ctx| peer.handle_cookie_reply(&message, ctx.now))
                .expect("accepted"),
            Message::Data { receiver, .. } => {
                let session = self.indices.session(receiver).cloned().expect("known");
                let (packet, tell) = session.open(self.now, &mut bytes).expect("opened");
                if !packet.is_empty() {
                    self.inbox.push(packet.to_vec());
                }
                if tell {
                    self.with(|peer, ctx| peer.handle_received(receiver, ctx));
                }
            }
        }
        self.drain()
    }
}

/// Both sides.
struct Pair {
    ours: Ours,
    theirs: Tunn,
    their_inbox: Vec<Vec<u8>>,
}

impl Pair {
    fn new(
        seed: u64,
        limiter: impl FnOnce(&x25519::PublicKey) -> Option<Arc<RateLimiter>>,
    ) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let our_key = NodePrivate::generate(&mut rng);
        let their_key = NodePrivate::generate(&mut rng);
        let their_secret = x25519::StaticSecret::from(*their_key.expose_bytes());
        let their_public = x25519::PublicKey::from(&their_secret);
        assert_eq!(their_public.as_bytes(), their_key.public().as_bytes());
        let theirs = Tunn::new(
            their_secret,
            x25519::PublicKey::from(*our_key.public().as_bytes()),
            None,
            None,
            7,
            limiter(&their_public),
        );
        let identity = Identity::new(our_key);
        let peer = NodePublic::from_bytes(*their_key.public().as_bytes());
        Self {
            ours: Ours {
                peer: Peer::new(Arc::clone(&identity), peer).expect("a good key"),
                identity,
                indices: IndexTable::new(),
                rng,
                now: Instant::from_nanos(1),
                wall: Wall::from_unix_secs(1_800_000_000),
                waiting: Vec::new(),
                inbox: Vec::new(),
                established: 0,
            },
            theirs,
            their_inbox: Vec::new(),
        }
    }

    /// Hands our datagrams to them, their answers to us, and so on until both are silent.
    fn run(&mut self, mut from_us: Vec<Vec<u8>>) {
        while !from_us.is_empty() {
            let answers: Vec<_> = from_us.iter().flat_map(|d| self.hand_them(d)).collect();
            from_us = answers
                .iter()
                .flat_map(|answer| self.ours.receive(answer))
                .collect();
        }
    }

    fn hand_them(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let mut buffer = vec![0; 65536];
        let mut input = datagram;
        // boringtun hands out what it has queued one by one, asked with an empty datagram.
        loop {
            match self.theirs.decapsulate(Some(THEIR_IP), input, &mut buffer) {
                TunnResult::Done => break,
                TunnResult::Err(error) => panic!("boringtun: {error:?}"),
                TunnResult::WriteToNetwork(answer) => out.push(answer.to_vec()),
                TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                    self.their_inbox.push(packet.to_vec());
                    break;
                }
            }
            input = &[];
        }
        out
    }

    fn they_send(&mut self, packet: &[u8]) {
        let mut buffer = vec![0; 65536];
        if let TunnResult::WriteToNetwork(datagram) = self.theirs.encapsulate(packet, &mut buffer) {
            let answers = self.ours.receive(datagram);
            self.run(answers);
        }
    }
}

/// An IPv4 packet, since boringtun looks inside.
fn packet(tag: u8, len: usize) -> Vec<u8> {
    let mut packet = vec![tag; len];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet
}

fn talk(pair: &mut Pair) {
    for (tag, len) in (0..50).zip([20, 21, 31, 32, 33, 100, 1279, 1280].into_iter().cycle()) {
        let sent = packet(tag, len);
        let out = pair.ours.send(&sent);
        pair.run(out);
        assert_eq!(pair.their_inbox.last(), Some(&sent));
        pair.they_send(&sent);
        let got = pair.ours.inbox.last().expect("a packet");
        assert_eq!(got[..len], sent);
    }
}

#[test]
fn we_ask_and_boringtun_answers() {
    let mut pair = Pair::new(1, |_| None);
    let out = pair.ours.send(&packet(1, 40));
    pair.run(out);
    assert_eq!(pair.their_inbox, [packet(1, 40)]);
    talk(&mut pair);
    assert_eq!(pair.ours.established, 1);
}

#[test]
fn boringtun_asks_and_we_answer() {
    let mut pair = Pair::new(2, |_| None);
    pair.they_send(&packet(2, 40));
    assert_eq!(pair.ours.inbox[0][..40], packet(2, 40));
    assert_eq!(pair.ours.peer.state(), State::Established);
    talk(&mut pair);
    assert_eq!(pair.ours.established, 1);
}

#[test]
fn sessions_follow_each_other() {
    let mut pair = Pair::new(3, |_| None);
    let out = pair.ours.send(&packet(3, 40));
    pair.run(out);
    for round in 1..5 {
        pair.ours.pass(Duration::from_secs(121));
        talk(&mut pair);
        assert!(pair.ours.established > 1, "round {round}");
    }
    assert!(pair.ours.indices.len() <= 3);
}

#[test]
fn boringtun_under_load_gives_us_a_cookie() {
    let mut pair = Pair::new(4, |key| Some(Arc::new(RateLimiter::new(key, 0))));
    let first = pair.ours.send(&packet(4, 40));
    let answer = pair.hand_them(&first[0]);
    assert!(matches!(classify(&answer[0]), Ok(Message::CookieReply(_))));
    assert!(pair.ours.receive(&answer[0]).is_empty());
    pair.ours.pass(Duration::from_secs(6));
    pair.ours.with(|peer, ctx| peer.handle_timeout(ctx));
    let second = pair.ours.drain();
    pair.run(second);
    assert_eq!(pair.their_inbox, [packet(4, 40)]);
}

#[test]
fn boringtun_uses_the_cookie_that_we_give() {
    let mut pair = Pair::new(5, |_| None);
    let mut gate = Gate::new();
    let source = Source::Udp((THEIR_IP, 51820).into());
    let mut buffer = vec![0; 65536];
    let mut challenged = false;
    for _ in 0..20 {
        let result = pair.theirs.format_handshake_initiation(&mut buffer, true);
        let TunnResult::WriteToNetwork(datagram) = result else {
            panic!("no initiation");
        };
        let message = classify(datagram).expect("wireguard");
        let verdict = gate.admit(
            &pair.ours.identity,
            &message,
            source,
            pair.ours.now,
            &mut pair.ours.rng,
        );
        match verdict {
            Admit::Challenge(reply) => {
                assert!(!challenged, "the cookie must satisfy us");
                challenged = true;
                assert!(pair.hand_them(&reply).is_empty());
                pair.ours.pass(Duration::from_secs(1));
            }
            Admit::Proceed if challenged => {
                assert_ne!(datagram[132..148], [0; 16], "it carries the cookie");
                return;
            }
            Admit::Proceed => {}
            Admit::Drop => panic!("dropped"),
        }
    }
    panic!("never challenged");
}
