//! Pings of people, waiting for their answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use host::Instant;
use magicsock::{PingFailure, PingId, PongReceived, Via};
use tokio::sync::oneshot;

use crate::{PingError, Pong};

/// How long pings inside the tunnel wait (the originals' timers in `userspace.go`).
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most pings that wait at once.
const MAX_WAITING: usize = 256;

pub(crate) type PingReply = oneshot::Sender<Result<Pong, PingError>>;

/// What an answer is recognised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Token {
    Disco(PingId),
    Tsmp([u8; 8]),
    Icmp { from: IpAddr, id: u16, seq: u16 },
}

#[derive(Debug)]
struct Waiting {
    at: Instant,
    reply: PingReply,
}

#[derive(Debug, Default)]
pub(crate) struct Pings {
    waiting: BTreeMap<Token, Waiting>,
    /// Disco pings are not among them: the path machine ends those.
    deadlines: BTreeSet<(Instant, Token)>,
}

impl Pings {
    pub(crate) fn insert(&mut self, token: Token, reply: PingReply, now: Instant) {
        if self.waiting.len() >= MAX_WAITING {
            // An asker who is gone needs no answer.
            let _ = reply.send(Err(PingError::Busy));
            return;
        }
        if !matches!(token, Token::Disco(_)) {
            self.deadlines.insert((now + TIMEOUT, token));
        }
        self.waiting.insert(token, Waiting { at: now, reply });
    }

    /// An answer inside the tunnel; says whether it was waited for.
    pub(crate) fn answered(&mut self, token: Token, peerapi_port: u16, now: Instant) -> bool {
        let Some(waiting) = self.remove(token) else {
            return false;
        };
        let pong = Pong {
            latency: now.since(waiting.at),
            derp_region: 0,
            endpoint: None,
            peerapi_port,
        };
        let _ = waiting.reply.send(Ok(pong));
        true
    }

    pub(crate) fn disco_done(&mut self, id: PingId, result: Result<PongReceived, PingFailure>) {
        let Some(waiting) = self.remove(Token::Disco(id)) else {
            return;
        };
        let result = match result {
            Ok(pong) => Ok(Pong {
                latency: pong.latency,
                derp_region: match pong.via {
                    Via::Relay(region) => region,
                    Via::Direct(_) => 0,
                },
                endpoint: match pong.via {
                    Via::Relay(_) => None,
                    Via::Direct(addr) => Some(addr),
                },
                peerapi_port: 0,
            }),
            Err(failure) => Err(failure.into()),
        };
        let _ = waiting.reply.send(result);
    }

    /// Whether an echo reply may be the answer to one of them.
    pub(crate) fn awaits_echo(&self) -> bool {
        let echo = |token: &Token| matches!(token, Token::Icmp { .. });
        self.waiting.keys().any(echo)
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, token)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            if let Some(waiting) = self.remove(token) {
                let _ = waiting.reply.send(Err(PingError::TimedOut));
            }
        }
    }

    fn remove(&mut self, token: Token) -> Option<Waiting> {
        let waiting = self.waiting.remove(&token)?;
        self.deadlines.remove(&(waiting.at + TIMEOUT, token));
        Some(waiting)
    }
}

impl From<PingFailure> for PingError {
    fn from(failure: PingFailure) -> Self {
        match failure {
            PingFailure::NoSuchPeer => Self::NoSuchPeer,
            PingFailure::NoDisco => Self::NoDisco,
            PingFailure::NoPath => Self::NoPath,
            PingFailure::TooBig => Self::TooBig,
            PingFailure::Busy => Self::Busy,
            PingFailure::TimedOut => Self::TimedOut,
        }
    }
}
