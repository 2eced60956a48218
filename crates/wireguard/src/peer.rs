//! One peer's handshakes, key rotation and timers (whitepaper 6).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use host::{Instant, Wall};
use keys::NodePublic;
use rand_core::CryptoRng;

use crate::activity::{Activity, REKEY_TIMEOUT};
use crate::cookie::CookieJar;
use crate::crypto::Secret;
use crate::handshake::{HandshakeError, Initiated, initiate, open_timestamp, respond};
use crate::identity::{Identity, Opened};
use crate::index::IndexTable;
use crate::message::{CookieReply, Response};
use crate::session::{REJECT_AFTER_TIME, Session};
use crate::timestamp::Timestamp;

/// What every step may need from outside.
pub struct Context<'a> {
    /// Monotonic time.
    pub now: Instant,
    /// Civil time, for the timestamps in initiations.
    pub wall: Wall,
    /// Randomness for keys, indices and jitter.
    pub rng: &'a mut dyn CryptoRng,
    /// The table of indices that all peers of one identity share.
    pub indices: &'a mut IndexTable,
}

/// What a peer wants done. Take them in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this handshake message to the peer.
    Handshake(Vec<u8>),
    /// There is a new current session. Send what must come first on it, then what waited for it, *before* polling again:
    /// if we asked for it and nothing was sent by then, a keepalive follows, since the peer waits for a proof that we
    /// have the keys.
    Established,
    /// Send this keepalive to the peer.
    Keepalive(Vec<u8>),
    /// The peer has not answered for 90 seconds: drop what waits for a session.
    GaveUp,
    /// All keys have been wiped for lack of use: the peer may be forgotten.
    Idle,
}

/// How far a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// No session and nobody asking for one.
    #[default]
    None,
    /// Our initiation waits for an answer.
    Handshake,
    /// There are keys.
    Established,
    /// The keys have become too old.
    Expired,
}

/// One peer. Made on demand, by the caller, when there is something to send or an initiation has been
/// [opened](Identity::open_initiation).
pub struct Peer {
    identity: Arc<Identity>,
    key: NodePublic,
    static_static: Secret,
    jar: CookieJar,
    activity: Arc<Activity>,

    pending: Option<Initiated>,
    attempts: u32,
    last_handshake_sent: Option<Instant>,
    last_initiation_taken: Option<Instant>,
    newest_stamp: Timestamp,

    current: Option<Arc<Session>>,
    previous: Option<Arc<Session>>,
    /// As responder: not yet used for sending, since the initiator may not have the keys.
    next: Option<Arc<Session>>,
    last_minute_asked: bool,
    /// Whether `Established` has been given out as initiator, and the session may still need a first message.
    unproven: bool,

    timers: Timers,
    jitter: Duration,
    state: State,
    last_handshake: Option<Wall>,
    outputs: VecDeque<Output>,
}

#[derive(Default)]
struct Timers {
    /// Ask again, or (with nothing pending) ask at last.
    retransmit: Option<Instant>,
    expire: Option<Instant>,
    wipe: Option<Instant>,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer")
            .field("key", &self.key)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Peer {
    /// A peer with nothing agreed. `None` if its key is of low order, with which no handshake can succeed.
    pub fn new(identity: Arc<Identity>, key: NodePublic) -> Option<Self> {
        Some(Self {
            static_static: identity.agree(key.as_bytes())?,
            jar: CookieJar::new(&key),
            identity,
            key,
            activity: Arc::default(),
            pending: None,
            attempts: 0,
            last_handshake_sent: None,
            last_initiation_taken: None,
            newest_stamp: [0; 12],
            current: None,
            previous: None,
            next: None,
            last_minute_asked: false,
            unproven: false,
            timers: Timers::default(),
            jitter: Duration::ZERO,
            state: State::None,
            last_handshake: None,
            outputs: VecDeque::new(),
        })
    }

    /// Its public key.
    pub fn key(&self) -> NodePublic {
        self.key
    }

    /// The session to send on, if it can be used.
    pub fn session(&self, now: Instant) -> Option<&Arc<Session>> {
        self.current.as_ref().filter(|s| s.can_send(now))
    }

    /// How far it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// When a handshake was last completed.
    pub fn last_handshake(&self) -> Option<Wall> {
        self.last_handshake
    }

    /// When the peer was last sent to and heard from.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    // Inputs.

    /// There is something to send and no session: asks for one, unless that is happening already.
    pub fn want_session(&mut self, ctx: &mut Context<'_>) {
        if self.session(ctx.now).is_some() {
            return;
        }
        self.begin(ctx);
    }

    /// An initiation of this peer, admitted by the gate and opened by the identity.
    pub fn handle_initiation(
        &mut self,
        mut opened: Opened,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandshakeError> {
        if opened.peer != self.key {
            return Err(HandshakeError::WrongPeer);
        }
        let stamp = open_timestamp(&mut opened, &self.static_static)?;
        if stamp <= self.newest_stamp {
            return Err(HandshakeError::Replayed);
        }
        if within(self.last_initiation_taken, INITIATION_INTERVAL, ctx.now) {
            return Err(HandshakeError::TooSoon);
        }
        self.newest_stamp = stamp;
        self.last_initiation_taken = Some(ctx.now);

        let index = ctx.indices.reserve(self.key, ctx.rng);
        let (mut message, keys) = match respond(opened, index, ctx.rng) {
            Ok(answer) => answer,
            Err(error) => {
                ctx.indices.release(index);
                return Err(error);
            }
        };
        self.jar.authenticate(&mut message, ctx.now);
        let session = self.new_session(index, &keys, false, ctx);
        release(self.next.replace(session), ctx);
        release(self.previous.take(), ctx);

        self.activity.note_received(ctx.now, false);
        self.activity.note_sent(ctx.now, false);
        self.last_handshake_sent = Some(ctx.now);
        self.outputs.push_back(Output::Handshake(message.to_vec()));
        Ok(())
    }

    /// A response whose receiver index belongs to this peer.
    pub fn handle_response(
        &mut self,
        response: &Response<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandshakeError> {
        let pending = self
            .pending
            .as_ref()
            .filter(|pending| pending.local_index == response.receiver())
            .ok_or(HandshakeError::Unexpected)?;
        let keys = pending.finish(&self.identity, response)?;
        let index = pending.local_index;
        // The index lives on as the session's.
        self.pending = None;

        let session = self.new_session(index, &keys, true, ctx);
        let retired = match self.next.take() {
            Some(next) => [self.current.replace(session), self.previous.replace(next)],
            None => {
                let old = self.current.replace(session);
                [std::mem::replace(&mut self.previous, old), None]
            }
        };
        for session in retired {
            release(session, ctx);
        }
        self.activity.note_received(ctx.now, false);
        self.complete(ctx);
        Ok(())
    }

    /// A cookie reply whose receiver index belongs to this peer. The cookie goes into the next attempt, which comes when
    /// its time has come: a forger could otherwise make us send.
    pub fn handle_cookie_reply(
        &mut self,
        reply: &CookieReply<'_>,
        now: Instant,
    ) -> Result<(), HandshakeError> {
        if self.jar.accept(reply, now) {
            Ok(())
        } else {
            Err(HandshakeError::Forged)
        }
    }

    /// Authenticated data came on the session with this index of ours. Needed where
    /// [`Session::note_received`] or [`Session::open`] said so; harmless otherwise.
    pub fn handle_received(&mut self, local_index: u32, ctx: &mut Context<'_>) {
        if self
            .next
            .as_ref()
            .is_some_and(|next| next.local_index() == local_index)
        {
            let current = std::mem::replace(&mut self.current, self.next.take());
            let old = std::mem::replace(&mut self.previous, current);
            release(old, ctx);
            self.complete(ctx);
        }
        self.handle_activity(ctx);
    }

    /// The session said that its timers changed: starts the next handshake if the keys have become old.
    pub fn handle_activity(&mut self, ctx: &mut Context<'_>) {
        let Some(session) = &self.current else {
            return;
        };
        let sent = self.activity.last_sent();
        let received = self.activity.last_received();
        if sent.is_some_and(|at| session.wants_rekey_on_send(at)) {
            self.begin(ctx);
        } else if !self.last_minute_asked
            && received.is_some_and(|at| session.wants_rekey_on_receive(at))
        {
            self.last_minute_asked = true;
            self.begin(ctx);
        }
    }

    /// The time that [`next_timeout`](Self::next_timeout) named has come.
    pub fn handle_timeout(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now;
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.timers.retransmit) {
            self.timers.retransmit = None;
            self.retransmit(ctx);
        }
        if due(self.activity.keepalive_at()) {
            self.activity.take_owed();
            self.keepalive(ctx.now);
        }
        if due(self.activity.silent_at(self.jitter)) {
            self.activity.take_unanswered();
            self.begin(ctx);
        }
        if due(self.timers.expire) {
            self.timers.expire = None;
            self.state = State::Expired;
        }
        if due(self.timers.wipe) {
            self.close(ctx.indices);
            self.outputs.push_back(Output::Idle);
        }
    }

    /// Forgets all keys and frees all indices, as before the peer is dropped, or because it is known to have restarted.
    /// The newest timestamp is kept, so that old initiations stay replays.
    pub fn close(&mut self, indices: &mut IndexTable) {
        self.drop_pending(indices);
        for session in [self.current.take(), self.previous.take(), self.next.take()]
            .into_iter()
            .flatten()
        {
            indices.release(session.local_index());
        }
        self.activity = Arc::default();
        self.timers = Timers::default();
        self.outputs.clear();
        self.attempts = 0;
        self.last_handshake_sent = None;
        self.unproven = false;
        self.state = State::None;
    }

    // Outputs.

    /// What is to be done next.
    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            self.unproven |= output == Output::Established
                && self.current.as_ref().is_some_and(|s| s.is_initiator());
            return Some(output);
        }
        if std::mem::take(&mut self.unproven)
            && self.current.as_ref().is_some_and(|s| s.sent() == 0)
        {
            self.keepalive(now);
        }
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) must be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        [
            self.timers.retransmit,
            self.timers.expire,
            self.timers.wipe,
            self.activity.keepalive_at(),
            self.activity.silent_at(self.jitter),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    // Steps.

    /// Starts a handshake, with all its attempts before it.
    fn begin(&mut self, ctx: &mut Context<'_>) {
        self.attempts = 0;
        self.send_initiation(ctx);
    }

    fn send_initiation(&mut self, ctx: &mut Context<'_>) {
        if let Some(last) = self.last_handshake_sent
            && within(Some(last), REKEY_TIMEOUT, ctx.now)
        {
            // What waits for a session must not wait for the next packet to ask again.
            self.timers
                .retransmit
                .get_or_insert_with(|| last + REKEY_TIMEOUT + jitter(ctx.rng));
            return;
        }
        self.drop_pending(ctx.indices);
        let index = ctx.indices.reserve(self.key, ctx.rng);
        let stamp = self.identity.stamper.stamp(ctx.wall);
        let Some((initiated, mut message)) = initiate(
            &self.identity,
            &self.key,
            &self.static_static,
            &stamp,
            index,
            ctx.rng,
        ) else {
            ctx.indices.release(index);
            return;
        };
        self.pending = Some(initiated);
        self.jar.authenticate(&mut message, ctx.now);
        self.last_handshake_sent = Some(ctx.now);
        self.timers.retransmit = Some(ctx.now + REKEY_TIMEOUT + jitter(ctx.rng));
        self.activity.note_sent(ctx.now, false);
        if self.session(ctx.now).is_none() {
            self.state = State::Handshake;
        }
        self.outputs.push_back(Output::Handshake(message.to_vec()));
    }

    fn retransmit(&mut self, ctx: &mut Context<'_>) {
        if self.pending.is_none() && self.session(ctx.now).is_some() {
            return;
        }
        if self.attempts > MAX_RETRIES {
            self.drop_pending(ctx.indices);
            self.activity.take_owed();
            self.timers
                .wipe
                .get_or_insert(ctx.now + REJECT_AFTER_TIME * 3);
            if self.state == State::Handshake {
                self.state = State::None;
            }
            self.outputs.push_back(Output::GaveUp);
            return;
        }
        self.attempts += 1;
        self.send_initiation(ctx);
    }

    fn keepalive(&mut self, now: Instant) {
        let mut datagram = Vec::new();
        if let Some(session) = self.session(now)
            && session.seal(now, &[], 0, &mut datagram).is_ok()
        {
            self.outputs.push_back(Output::Keepalive(datagram));
        }
    }

    /// A handshake is complete on both sides, as far as we can know.
    fn complete(&mut self, ctx: &mut Context<'_>) {
        self.drop_pending(ctx.indices);
        self.timers.retransmit = None;
        self.attempts = 0;
        self.last_minute_asked = false;
        self.last_handshake = Some(ctx.wall);
        self.outputs.push_back(Output::Established);
    }

    fn new_session(
        &mut self,
        index: u32,
        keys: &crate::handshake::SessionKeys,
        initiator: bool,
        ctx: &mut Context<'_>,
    ) -> Arc<Session> {
        let session = Session::new(
            self.key,
            index,
            keys,
            initiator,
            ctx.now,
            Arc::clone(&self.activity),
        );
        ctx.indices.bind(&session);
        self.timers.expire = Some(ctx.now + REJECT_AFTER_TIME);
        self.timers.wipe = Some(ctx.now + REJECT_AFTER_TIME * 3);
        self.jitter = jitter(ctx.rng);
        self.state = State::Established;
        session
    }

    fn drop_pending(&mut self, indices: &mut IndexTable) {
        if let Some(pending) = self.pending.take() {
            indices.release(pending.local_index);
        }
    }
}

fn release(session: Option<Arc<Session>>, ctx: &mut Context<'_>) {
    if let Some(session) = session {
        ctx.indices.release(session.local_index());
    }
}

/// Whether `last` was less than `span` ago. A clock that went back must not shut anybody out, so a `last` in the future
/// was not.
fn within(last: Option<Instant>, span: Duration, now: Instant) -> bool {
    last.is_some_and(|last| last <= now && now.since(last) < span)
}

/// So that two peers which lost each other do not ask again at the same moment for ever.
fn jitter(rng: &mut dyn CryptoRng) -> Duration {
    Duration::from_millis(u64::from(rng.next_u32() % 334))
}

/// Attempts before giving up: 90 seconds at one per 5 seconds.
const MAX_RETRIES: u32 = 90 / 5;
/// At most 50 initiations of one peer per second cost us anything.
const INITIATION_INTERVAL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
