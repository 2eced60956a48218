use std::net::SocketAddr;
use std::sync::Arc;

use keys::NodePrivate;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::message::{Initiation, classify};
use crate::testing::Pair;

fn source(host: u8, port: u16) -> Source {
    Source::Udp(SocketAddr::from(([192, 0, 2, host], port)))
}

struct Fixture {
    identity: Arc<Identity>,
    gate: Gate,
    rng: StdRng,
    jar: CookieJar,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        let mut rng = StdRng::seed_from_u64(1);
        let identity = Identity::new(NodePrivate::generate(&mut rng));
        Self {
            jar: CookieJar::new(&identity.public()),
            identity,
            gate: Gate::new(),
            rng,
            now: Instant::from_nanos(1_000_000_000_000),
        }
    }

    /// An initiation, as far as the gate looks.
    fn message(&mut self) -> [u8; 148] {
        let mut message = [1; 148];
        message[1..4].fill(0);
        message[116..].fill(0);
        self.jar.authenticate(&mut message, self.now);
        message
    }

    fn admit(&mut self, message: &[u8; 148], from: Source) -> Admit {
        self.gate.admit(
            &self.identity,
            &Message::Initiation(Initiation(message)),
            from,
            self.now,
            &mut self.rng,
        )
    }

    /// Sends until the source's budget is gone; returns how many got through and the challenge.
    fn exhaust(&mut self, from: Source) -> (usize, Vec<u8>) {
        for passed in 0..1000 {
            let message = self.message();
            match self.admit(&message, from) {
                Admit::Proceed => {}
                Admit::Challenge(reply) => return (passed, reply),
                Admit::Drop => panic!("dropped"),
            }
        }
        panic!("never under load");
    }

    fn take_cookie(&mut self, reply: &[u8]) -> bool {
        let Ok(Message::CookieReply(reply)) = classify(reply) else {
            panic!("a cookie reply");
        };
        self.jar.accept(&reply, self.now)
    }
}

#[test]
fn wg_handshake_limit_is_per_source() {
    let mut f = Fixture::new();
    let (passed, _) = f.exhaust(source(1, 1000));
    assert_eq!(passed, 5);
    for port in 2000..2100 {
        let message = f.message();
        assert_eq!(
            f.admit(&message, source(2, port)),
            Admit::Proceed,
            "others are not bothered"
        );
    }
}

#[test]
fn wg_cookie_proves_the_source() {
    let mut f = Fixture::new();
    let here = source(1, 1000);
    let before = f.message();
    let (_, reply) = f.exhaust(here);
    let plain = f.message();
    assert_eq!(before, plain);
    f.now += Duration::from_secs(1);
    f.gate.loaded_until = Some(f.now + LOADED_FOR);
    assert!(matches!(f.admit(&plain, here), Admit::Challenge(_)));
    assert!(f.take_cookie(&reply));
    let proven = f.message();
    assert_eq!(f.admit(&proven, here), Admit::Proceed);
}

#[test]
fn wg_cookie_mac_covers_source_port() {
    let mut f = Fixture::new();
    let (_, reply) = f.exhaust(source(1, 1000));
    assert!(f.take_cookie(&reply));
    let message = f.message();
    let macs = message[132..].try_into().expect("16 bytes");
    assert!(f.gate.proven(&message, &macs, source(1, 1000), f.now));
    assert!(!f.gate.proven(&message, &macs, source(1, 1001), f.now));
    assert!(!f.gate.proven(&message, &macs, source(2, 1000), f.now));
    let relay = Source::Relay(f.identity.public());
    assert!(!f.gate.proven(&message, &macs, relay, f.now));
}

#[test]
fn wg_cookie_expires() {
    let mut f = Fixture::new();
    let here = source(1, 1000);
    let (_, reply) = f.exhaust(here);
    assert!(f.take_cookie(&reply));
    let message = f.message();
    let macs = message[132..].try_into().expect("16 bytes");
    f.now += Duration::from_secs(120);
    assert!(!f.gate.proven(&message, &macs, here, f.now));
    let message = f.message();
    assert_eq!(message[132..], [0; 16], "we stop using it too");
}

#[test]
fn wg_cookie_reply_needs_a_message_of_ours() {
    let mut f = Fixture::new();
    let (_, reply) = f.exhaust(source(1, 1000));
    let mut stranger = CookieJar::new(&f.identity.public());
    let Ok(Message::CookieReply(parsed)) = classify(&reply) else {
        panic!("a cookie reply");
    };
    assert!(!stranger.accept(&parsed, f.now), "it has asked nothing");
    let mut forged = reply.clone();
    forged[40] ^= 1;
    assert!(!f.take_cookie(&forged));
    assert!(f.take_cookie(&reply));
}

#[test]
fn wg_flood_from_many_sources_asks_only_the_unproven() {
    let mut f = Fixture::new();
    let real = source(1, 1000);
    let (_, reply) = f.exhaust(real);
    assert!(f.take_cookie(&reply));
    f.now += Duration::from_secs(2);
    let proven = f.message();
    let mut plain = proven;
    plain[132..].fill(0);
    let mut challenged = 0;
    for n in 0..20_000_u32 {
        let forged = source((n >> 16) as u8 + 3, n as u16);
        if f.admit(&plain, forged) != Admit::Proceed {
            challenged += 1;
        }
    }
    assert!(challenged > 19_000, "{challenged}");
    assert_eq!(f.admit(&proven, real), Admit::Proceed);
    assert!(f.gate.sources.len() <= MAX_SOURCES);
}

#[test]
fn wg_gate_forgets_quiet_sources() {
    let mut f = Fixture::new();
    for port in 0..100 {
        let message = f.message();
        f.admit(&message, source(1, port));
    }
    assert_eq!(f.gate.sources.len(), 100);
    f.now += Duration::from_secs(2);
    let message = f.message();
    f.admit(&message, source(2, 1));
    assert_eq!(f.gate.sources.len(), 1);
}

#[test]
fn wg_handshake_gets_through_with_a_cookie() {
    let mut pair = Pair::new(50);
    pair.b.gate.loaded_until = Some(pair.at.now + LOADED_FOR);
    pair.a_sends(b"under load");
    assert!(pair.b.inbox.is_empty());
    pair.pass(Duration::from_millis(4900));
    pair.b.gate.loaded_until = Some(pair.at.now + LOADED_FOR);
    pair.pass(Duration::from_millis(900));
    assert_eq!(pair.b.inbox.len(), 1);
}

/// 20 000 initiations a second, which know our key but nothing else, against one peer that wants a session.
fn flood(sources: u32) -> Pair {
    let mut pair = Pair::new(60);
    let mut jar = CookieJar::new(&pair.b.identity.public());
    let mut message = [1; 148];
    message[1..4].fill(0);
    message[116..].fill(0);
    jar.authenticate(&mut message, pair.at.now);
    let mut worked_on = 0;
    let mut n = 0_u32;
    let step = Duration::from_millis(1);
    for millisecond in 0..7500 {
        for _ in 0..20 {
            n += 1;
            let from = source(((n % sources) >> 14) as u8 + 9, (n % sources) as u16);
            let verdict = pair.b.gate.admit(
                &pair.b.identity,
                &Message::Initiation(Initiation(&message)),
                from,
                pair.at.now,
                &mut pair.b.rng,
            );
            worked_on += u32::from(verdict == Admit::Proceed);
        }
        if millisecond == 1000 {
            pair.a_sends(b"first");
        }
        pair.pass(step);
    }
    assert!(worked_on < 8 * 600, "{worked_on} of {n} cost us work");
    pair
}

#[test]
fn wg_flood_does_not_shut_a_peer_out() {
    let one = flood(1);
    assert_eq!(one.b.inbox.len(), 1);
    assert_eq!(one.a.handshakes, 1, "others do not even notice");
    let many = flood(10_000);
    assert_eq!(many.b.inbox.len(), 1);
    assert!(many.a.handshakes <= 2, "one challenge, one cookie");
}
