//! WireGuard: what strangers may send us.

use std::sync::Arc;

use host::{Instant, Wall};
use keys::NodePrivate;
use rand::rngs::StdRng;
use wireguard::{
    Admit, Context, Gate, Identity, IndexTable, Message, Output, Peer, Session, Source, classify,
};

const NOW: Instant = Instant::from_nanos(1_000_000_000);
const WALL: Wall = Wall::from_unix_secs(1_700_000_000);

struct Node {
    identity: Arc<Identity>,
    peer: Peer,
    indices: IndexTable,
    gate: Gate,
    rng: StdRng,
    opened: usize,
}

impl Node {
    fn pair() -> (Self, Self) {
        let mut rng = crate::rng();
        let (a, b) = (
            NodePrivate::generate(&mut rng),
            NodePrivate::generate(&mut rng),
        );
        (Self::new(&a, &b), Self::new(&b, &a))
    }

    fn new(private: &NodePrivate, peer: &NodePrivate) -> Self {
        let identity = Identity::new(private.clone());
        Self {
            peer: Peer::new(Arc::clone(&identity), peer.public()).expect("a good key"),
            identity,
            indices: IndexTable::new(),
            gate: Gate::new(),
            rng: crate::rng(),
            opened: 0,
        }
    }

    fn with<R>(&mut self, step: impl FnOnce(&mut Peer, &mut Context<'_>) -> R) -> R {
        let mut ctx = Context {
            now: NOW,
            wall: WALL,
            rng: &mut self.rng,
            indices: &mut self.indices,
        };
        step(&mut self.peer, &mut ctx)
    }

    fn receive(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let mut bytes = datagram.to_vec();
        let Ok(message) = classify(datagram) else {
            return Vec::new();
        };
        let source = Source::Udp(([192, 0, 2, 1], 41641).into());
        match self
            .gate
            .admit(&self.identity, &message, source, NOW, &mut self.rng)
        {
            Admit::Proceed => {}
            Admit::Challenge(reply) => return vec![reply],
            Admit::Drop => return Vec::new(),
        }
        match message {
            Message::Initiation(message) => {
                if let Ok(opened) = self.identity.open_initiation(&message) {
                    let _ = self.with(|peer, ctx| peer.handle_initiation(opened, ctx));
                }
            }
            Message::Response(message) => {
                let _ = self.with(|peer, ctx| peer.handle_response(&message, ctx));
            }
            Message::CookieReply(message) => {
                let _ = self.with(|peer, ctx| peer.handle_cookie_reply(&message, ctx.now));
            }
            Message::Data { receiver, .. } => {
                let session = self.indices.session(receiver).cloned();
                if let Some(session) = session
                    && let Ok((_, tell)) = session.open(NOW, &mut bytes)
                {
                    self.opened += 1;
                    if tell {
                        self.with(|peer, ctx| peer.handle_received(receiver, ctx));
                    }
                }
            }
        }
        self.outputs()
    }

    fn outputs(&mut self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while let Some(output) = self.peer.poll_output(NOW) {
            if let Output::Handshake(datagram) | Output::Keepalive(datagram) = output {
                out.push(datagram);
            }
        }
        out
    }

    fn session(&self) -> Option<Arc<Session>> {
        self.peer.session(NOW).cloned()
    }
}

/// A datagram from a stranger changes nothing: a node that waits for a response still gets its session afterwards.
pub(crate) fn datagram(data: &[u8]) {
    let (mut a, mut b) = Node::pair();
    a.with(|peer, ctx| peer.want_session(ctx));
    let initiation = a.outputs();
    a.receive(data);
    b.receive(data);
    finish(&mut a, &mut b, &initiation);
}

/// The first byte chooses a true message of a handshake (initiation, response, first data); the others are XORed over it.
/// Damage is noticed, and the true message still counts afterwards.
pub(crate) fn damage(data: &[u8]) {
    let Some((which, pattern)) = data.split_first() else {
        return;
    };
    let (mut a, mut b) = Node::pair();
    a.with(|peer, ctx| peer.want_session(ctx));
    let mut messages = a.outputs();
    let mut to_b = true;
    for _ in 0..*which % 3 {
        let receiver = if to_b { &mut b } else { &mut a };
        messages = receiver.receive(&messages[0]);
        to_b = !to_b;
    }
    let mut damaged = messages[0].clone();
    let changed = pattern.iter().take(damaged.len()).any(|bits| *bits != 0);
    for (byte, bits) in damaged.iter_mut().zip(pattern) {
        *byte ^= bits;
    }
    let receiver = if to_b { &mut b } else { &mut a };
    if changed {
        let before = (receiver.indices.len(), receiver.opened);
        let answers = receiver.receive(&damaged);
        // The second authenticator is not looked at while there is no load: zero or not, the message is the same.
        let only_mac2 = damaged.len() < 148
            || damaged[..damaged.len() - 16] == messages[0][..damaged.len() - 16];
        if !only_mac2 {
            assert!(answers.is_empty(), "no answer to a forgery");
            assert_eq!(before, (receiver.indices.len(), receiver.opened));
        }
        if answers.is_empty() {
            finish_from(&mut a, &mut b, messages, to_b);
        }
    }
}

fn finish(a: &mut Node, b: &mut Node, initiation: &[Vec<u8>]) {
    finish_from(a, b, initiation.to_vec(), true);
}

fn finish_from(a: &mut Node, b: &mut Node, mut messages: Vec<Vec<u8>>, mut to_b: bool) {
    while let Some(message) = messages.pop() {
        let receiver = if to_b { &mut *b } else { &mut *a };
        messages = receiver.receive(&message);
        to_b = !to_b;
    }
    let session = a.session().expect("the handshake still succeeds");
    let mut sealed = Vec::new();
    session
        .seal(NOW, b"data", 1280, &mut sealed)
        .expect("sealed");
    let before = b.opened;
    b.receive(&sealed);
    assert_eq!(b.opened, before + 1);
}
