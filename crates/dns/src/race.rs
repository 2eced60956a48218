//! One question, several servers: who is asked when, and whose answer counts.
//!
//! All are asked by UDP at once. A server that has not answered after two seconds, or that no datagram reaches, is asked by TCP too; a
//! client that came by TCP has all asked by TCP at once, since it wants more than fits a datagram. The first real answer wins. A server that says that it cannot or will not is heard
//! only if no other says better. Whoever asks gets an answer in any case, before it gives up itself.

use std::time::Duration;

use host::Instant;

use crate::{Query, Rcode, Response};

/// When TCP is tried beside UDP.
const TCP_AFTER: Duration = Duration::from_secs(2);
/// When it is over. Clients wait five seconds.
const PATIENCE: Duration = Duration::from_millis(4500);

/// How a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// In one datagram.
    Udp,
    /// Behind its length.
    Tcp,
}

/// One server asked in one way: which of the list, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// Which one.
    pub server: usize,
    /// How.
    pub transport: Transport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be started then.
    Due(Instant),
    Running,
    Ended,
}

/// See the module.
#[derive(Debug)]
pub struct Race {
    by_tcp: bool,
    servers: Vec<[State; 2]>,
    /// The best of those that are no real answer.
    soft: Option<Response>,
    winner: Option<Response>,
    over_at: Instant,
    is_over: bool,
}

impl Race {
    /// Between so many servers, for a client that came by `transport`.
    #[must_use]
    pub fn new(servers: usize, transport: Transport, now: Instant) -> Self {
        let by_tcp = transport == Transport::Tcp;
        let tcp = match by_tcp {
            true => now,
            false => now + TCP_AFTER,
        };
        Self {
            by_tcp,
            servers: vec![[State::Due(now), State::Due(tcp)]; servers],
            soft: None,
            winner: None,
            over_at: now + PATIENCE,
            is_over: servers == 0,
        }
    }

    /// Whom to ask now.
    pub fn poll(&mut self, now: Instant) -> Vec<Attempt> {
        if self.is_over {
            return Vec::new();
        }
        if now >= self.over_at {
            self.is_over = true;
            return Vec::new();
        }
        let mut started = Vec::new();
        for (server, states) in self.servers.iter_mut().enumerate() {
            for (state, transport) in states.iter_mut().zip([Transport::Udp, Transport::Tcp]) {
                if matches!(*state, State::Due(at) if at <= now) {
                    *state = State::Running;
                    started.push(Attempt { server, transport });
                }
            }
        }
        started
    }

    /// When to poll again; `None` when it is over.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let due = self
            .servers
            .iter()
            .flatten()
            .filter_map(|state| match state {
                State::Due(at) => Some(*at),
                _ => None,
            });
        (!self.is_over).then(|| due.chain([self.over_at]).min().unwrap_or(self.over_at))
    }

    /// A server has answered.
    pub fn answered(&mut self, attempt: Attempt, response: Response) {
        self.end(attempt);
        if self.is_over {
            return;
        }
        let is_soft = matches!(response.rcode, Rcode::SERV_FAIL | Rcode::REFUSED);
        let is_short = response.truncated && self.by_tcp && attempt.transport == Transport::Udp;
        if is_short {
            // By TCP there is all of it; this is better than nothing.
            if !self.has_answer() {
                self.soft = Some(response);
            }
        } else if is_soft {
            if self
                .soft
                .as_ref()
                .is_none_or(|soft| soft.rcode == Rcode::REFUSED)
            {
                self.soft = Some(response);
            }
            // It has said all that it has to say.
            self.cancel(attempt.server);
        } else {
            self.winner = Some(response);
            self.is_over = true;
        }
        self.finish_if_nobody_is_left();
    }

    /// A server cannot be asked like this.
    pub fn failed(&mut self, attempt: Attempt, now: Instant) {
        self.end(attempt);
        let states = self.servers.get_mut(attempt.server);
        if let Some([_, State::Due(at)]) = states
            && attempt.transport == Transport::Udp
        {
            *at = now.min(*at);
        }
        self.finish_if_nobody_is_left();
    }

    /// What to tell the client, once it is over.
    #[must_use]
    pub fn outcome(&self, query: &Query) -> Option<Vec<u8>> {
        let best = self.winner.as_ref().or(self.soft.as_ref());
        self.is_over.then(|| match best {
            Some(response) => response.clone().into_reply(query),
            None => query.answer_nothing(Rcode::SERV_FAIL, None),
        })
    }

    /// Whether a real answer came.
    #[must_use]
    pub fn has_answer(&self) -> bool {
        let soft = self.soft.as_ref();
        self.winner.is_some() || soft.is_some_and(|soft| soft.rcode == Rcode::NO_ERROR)
    }

    fn end(&mut self, attempt: Attempt) {
        let place = match attempt.transport {
            Transport::Udp => 0,
            Transport::Tcp => 1,
        };
        if let Some(states) = self.servers.get_mut(attempt.server) {
            states[place] = State::Ended;
        }
    }

    fn cancel(&mut self, server: usize) {
        for state in self.servers.get_mut(server).into_iter().flatten() {
            if matches!(state, State::Due(_)) {
                *state = State::Ended;
            }
        }
    }

    fn finish_if_nobody_is_left(&mut self) {
        let mut states = self.servers.iter().flatten();
        self.is_over |= states.all(|state| *state == State::Ended);
    }
}
