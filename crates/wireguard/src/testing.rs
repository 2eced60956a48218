//! Two nodes and a virtual clock, driven as the packet engine drives this crate.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use host::{Instant, Wall};
use keys::NodePrivate;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::{
    Admit, Context, Gate, HandshakeError, Identity, IndexTable, Message, OpenError, Output, Peer,
    Session, Source, State, classify,
};

pub(crate) const MTU: usize = 1280;

/// One side.
pub(crate) struct Node {
    pub(crate) identity: Arc<Identity>,
    pub(crate) peer: Peer,
    pub(crate) indices: IndexTable,
    pub(crate) gate: Gate,
    pub(crate) rng: StdRng,
    pub(crate) source: Source,
    /// Packets that wait for a session.
    pub(crate) queue: VecDeque<Vec<u8>>,
    /// Packets that arrived.
    pub(crate) inbox: Vec<Vec<u8>>,
    /// Why datagrams were refused.
    pub(crate) refused: Vec<Refusal>,
    /// All outputs other than datagrams.
    pub(crate) events: Vec<Output>,
    pub(crate) keepalives: usize,
    pub(crate) handshakes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Handshake(HandshakeError),
    Data(OpenError),
    Gate,
    Index,
    NotOurs,
}

impl Node {
    fn new(seed: u64, private: &NodePrivate, peer: &NodePrivate, port: u16) -> Self {
        let identity = Identity::new(private.clone());
        Self {
            peer: Peer::new(Arc::clone(&identity), peer.public()).expect("a good key"),
            identity,
            indices: IndexTable::new(),
            gate: Gate::new(),
            rng: StdRng::seed_from_u64(seed),
            source: Source::Udp(([192, 0, 2, 1], port).into()),
            queue: VecDeque::new(),
            inbox: Vec::new(),
            refused: Vec::new(),
            events: Vec::new(),
            keepalives: 0,
            handshakes: 0,
        }
    }

    pub(crate) fn with<R>(
        &mut self,
        at: Time,
        step: impl FnOnce(&mut Peer, &mut Context<'_>) -> R,
    ) -> R {
        let mut ctx = Context {
            now: at.now,
            wall: at.wall,
            rng: &mut self.rng,
            indices: &mut self.indices,
        };
        step(&mut self.peer, &mut ctx)
    }

    pub(crate) fn session(&self, at: Time) -> Option<Arc<Session>> {
        self.peer.session(at.now).cloned()
    }

    /// Sends a packet, or keeps it until there is a session. Returns the datagrams that go out.
    pub(crate) fn send(&mut self, packet: &[u8], at: Time) -> Vec<Vec<u8>> {
        self.queue.push_back(packet.to_vec());
        let mut out = self.flush(at);
        if !self.queue.is_empty() {
            self.with(at, |peer, ctx| peer.want_session(ctx));
        }
        out.extend(self.drain(at));
        out
    }

    fn flush(&mut self, at: Time) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while let Some(session) = self.session(at) {
            let Some(packet) = self.queue.pop_front() else {
                break;
            };
            let mut datagram = Vec::new();
            match session.seal(at.now, &packet, MTU, &mut datagram) {
                Ok(tell) => {
                    out.push(datagram);
                    if tell {
                        self.with(at, |peer, ctx| peer.handle_activity(ctx));
                    }
                }
                Err(_) => self.queue.push_front(packet),
            }
        }
        out
    }

    /// Takes all outputs; returns the datagrams.
    pub(crate) fn drain(&mut self, at: Time) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while let Some(output) = self.peer.poll_output(at.now) {
            match output {
                Output::Handshake(datagram) => {
                    self.handshakes += 1;
                    out.push(datagram);
                }
                Output::Keepalive(datagram) => {
                    self.keepalives += 1;
                    out.push(datagram);
                }
                Output::Established => {
                    out.extend(self.flush(at));
                    self.events.push(Output::Established);
                }
                event => {
                    if event == Output::GaveUp {
                        self.queue.clear();
                    }
                    self.events.push(event);
                }
            }
        }
        out
    }

    /// Takes a datagram from the network. Returns the datagrams that go out because of it.
    pub(crate) fn receive(&mut self, datagram: &[u8], from: Source, at: Time) -> Vec<Vec<u8>> {
        let mut bytes = datagram.to_vec();
        let Ok(message) = classify(&bytes) else {
            self.refused.push(Refusal::NotOurs);
            return Vec::new();
        };
        match self
            .gate
            .admit(&self.identity, &message, from, at.now, &mut self.rng)
        {
            Admit::Proceed => {}
            Admit::Challenge(reply) => return vec![reply],
            Admit::Drop => {
                self.refused.push(Refusal::Gate);
                return Vec::new();
            }
        }
        let done = match message {
            Message::Initiation(initiation) => self
                .identity
                .open_initiation(&initiation)
                .and_then(|opened| self.with(at, |peer, ctx| peer.handle_initiation(opened, ctx)))
                .map_err(Refusal::Handshake),
            Message::Response(response) if self.indices.get(response.receiver()).is_some() => self
                .with(at, |peer, ctx| peer.handle_response(&response, ctx))
                .map_err(Refusal::Handshake),
            Message::CookieReply(reply) if self.indices.get(reply.receiver()).is_some() => self
                .with(at, |peer, ctx| peer.handle_cookie_reply(&reply, ctx.now))
                .map_err(Refusal::Handshake),
            Message::Data { receiver, .. } => match self.indices.session(receiver).cloned() {
                Some(session) => self.open(&session, &mut bytes, at),
                None => Err(Refusal::Index),
            },
            _ => Err(Refusal::Index),
        };
        if let Err(refusal) = done {
            self.refused.push(refusal);
        }
        self.drain(at)
    }

    fn open(&mut self, session: &Session, bytes: &mut [u8], at: Time) -> Result<(), Refusal> {
        let (packet, tell) = session.open(at.now, bytes).map_err(Refusal::Data)?;
        if !packet.is_empty() {
            self.inbox.push(packet.to_vec());
        }
        if tell {
            let index = session.local_index();
            self.with(at, |peer, ctx| peer.handle_received(index, ctx));
        }
        Ok(())
    }

    pub(crate) fn tick(&mut self, at: Time) -> Vec<Vec<u8>> {
        self.with(at, |peer, ctx| peer.handle_timeout(ctx));
        self.drain(at)
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Time {
    pub(crate) now: Instant,
    pub(crate) wall: Wall,
}

impl Time {
    pub(crate) fn after(self, span: Duration) -> Self {
        Self {
            now: self.now + span,
            wall: Wall::from_unix_nanos(self.wall.as_unix_nanos() + span.as_nanos() as i128),
        }
    }
}

/// Both sides, and a link without loss or delay between them.
pub(crate) struct Pair {
    pub(crate) a: Node,
    pub(crate) b: Node,
    pub(crate) at: Time,
}

impl Pair {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let (a, b) = (
            NodePrivate::generate(&mut rng),
            NodePrivate::generate(&mut rng),
        );
        Self {
            a: Node::new(seed + 1, &a, &b, 1111),
            b: Node::new(seed + 2, &b, &a, 2222),
            at: Time {
                now: Instant::from_nanos(1_000_000_000),
                wall: Wall::from_unix_secs(1_700_000_000),
            },
        }
    }

    /// A pair that has a session, which `a` has asked for and both have used.
    pub(crate) fn established(seed: u64) -> Self {
        let mut pair = Self::new(seed);
        pair.a_sends(b"hello");
        pair.b_sends(b"hello to you");
        assert_eq!(pair.a.peer.state(), State::Established);
        pair
    }

    pub(crate) fn a_sends(&mut self, packet: &[u8]) {
        let out = self.a.send(packet, self.at);
        self.deliver(out, Vec::new());
    }

    pub(crate) fn b_sends(&mut self, packet: &[u8]) {
        let out = self.b.send(packet, self.at);
        self.deliver(Vec::new(), out);
    }

    /// Carries datagrams to and fro until nobody answers any more.
    pub(crate) fn deliver(&mut self, from_a: Vec<Vec<u8>>, from_b: Vec<Vec<u8>>) {
        let (mut to_b, mut to_a) = (VecDeque::from(from_a), VecDeque::from(from_b));
        for _ in 0..1000 {
            if let Some(datagram) = to_b.pop_front() {
                to_a.extend(self.b.receive(&datagram, self.a.source, self.at));
            } else if let Some(datagram) = to_a.pop_front() {
                to_b.extend(self.a.receive(&datagram, self.b.source, self.at));
            } else {
                return;
            }
        }
        panic!("the two never stop talking");
    }

    /// Lets time pass, with both sides' timers, on a link that works.
    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.at.after(span);
        while let Some(next) = self.next_timeout().filter(|next| *next <= end.now) {
            self.at = self.at.after(next.since(self.at.now));
            let (a, b) = (self.a.tick(self.at), self.b.tick(self.at));
            self.deliver(a, b);
        }
        self.at = end;
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        [self.a.peer.next_timeout(), self.b.peer.next_timeout()]
            .into_iter()
            .flatten()
            .min()
    }
}
