//! One question, several servers: who is asked when, and whose answer counts.
//!
//! Each is asked when its turn comes, by UDP or by HTTP. A server that has not answered a datagram after two seconds, or that none reaches, is
//! asked by TCP too; a client that came by TCP has all asked by TCP at once, since it wants more than fits a datagram. Where HTTP fails, the
//! others need not wait for it. The first real answer wins. A server that says that it cannot or will not is heard
//! only if no other says better. Whoever asks gets an answer in any case, before it gives up itself.

use std::time::Duration;

use host::Instant;

use crate::{Entrant, Query, Rcode, Response, Server};

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
    /// As the body of a request.
    Http,
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

/// The ways in which one server is asked.
#[derive(Debug)]
struct Lane {
    first: (Transport, State),
    tcp: State,
}

impl Lane {
    fn states(&self) -> [(Transport, State); 2] {
        [self.first, (Transport::Tcp, self.tcp)]
    }

    fn states_mut(&mut self) -> [(Transport, &mut State); 2] {
        let (transport, state) = &mut self.first;
        [(*transport, state), (Transport::Tcp, &mut self.tcp)]
    }
}

/// See the module.
#[derive(Debug)]
pub struct Race {
    by_tcp: bool,
    lanes: Vec<Lane>,
    /// The best of those that are no real answer.
    soft: Option<Response>,
    winner: Option<Response>,
    over_at: Instant,
    is_over: bool,
}

impl Race {
    /// Between these, for a client that came by `transport`.
    #[must_use]
    pub fn new(entrants: &[Entrant], transport: Transport, now: Instant) -> Self {
        let by_tcp = transport != Transport::Udp;
        let lane = |entrant: &Entrant| {
            let start = now + entrant.after;
            match entrant.server {
                Server::Http { .. } => Lane {
                    first: (Transport::Http, State::Due(start)),
                    tcp: State::Ended,
                },
                Server::Plain(_) => Lane {
                    first: (Transport::Udp, State::Due(start)),
                    tcp: State::Due(if by_tcp { start } else { start + TCP_AFTER }),
                },
            }
        };
        Self {
            by_tcp,
            lanes: entrants.iter().map(lane).collect(),
            soft: None,
            winner: None,
            over_at: now + PATIENCE,
            is_over: entrants.is_empty(),
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
        for (server, lane) in self.lanes.iter_mut().enumerate() {
            for (transport, state) in lane.states_mut() {
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
        let states = self.lanes.iter().flat_map(Lane::states);
        let due = states.filter_map(|(_, state)| match state {
            State::Due(at) => Some(at),
            State::Running | State::Ended => None,
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
        match attempt.transport {
            Transport::Udp => {
                let lane = self.lanes.get_mut(attempt.server);
                lane.into_iter().for_each(|lane| hasten(&mut lane.tcp, now));
            }
            Transport::Http => {
                let lanes = self.lanes.iter_mut();
                lanes.for_each(|lane| hasten(&mut lane.first.1, now));
            }
            Transport::Tcp => {}
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
        let lane = self.lanes.get_mut(attempt.server);
        let states = lane.into_iter().flat_map(Lane::states_mut);
        for (_, state) in states.filter(|(transport, _)| *transport == attempt.transport) {
            *state = State::Ended;
        }
    }

    fn cancel(&mut self, server: usize) {
        let lane = self.lanes.get_mut(server);
        for (_, state) in lane.into_iter().flat_map(Lane::states_mut) {
            if matches!(state, State::Due(_)) {
                *state = State::Ended;
            }
        }
    }

    fn finish_if_nobody_is_left(&mut self) {
        let mut states = self.lanes.iter().flat_map(Lane::states);
        self.is_over |= states.all(|(_, state)| state == State::Ended);
    }
}

/// What waits for its turn has it now.
fn hasten(state: &mut State, now: Instant) {
    if let State::Due(at) = state {
        *at = now.min(*at);
    }
}
