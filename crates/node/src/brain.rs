//! The brain's loop: events in, effects carried out, one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use backend::{
    Answer, Backend, Command, CommandError, CommandId, ControlEffect, Effect, Event, Recipient,
    Snapshot, Target,
};
use host::{Difference, Router, RouterConfig, StateStore};
use tokio::sync::{mpsc, oneshot, watch};

use crate::bus::Bus;
use crate::control_runner::ControlRunner;
use crate::dns_runner::DnsRunner;
use crate::engine_runner::EngineRunner;

/// Events that wait for the brain; whoever sends more waits too.
const QUEUE: usize = 1024;

/// What reaches the loop.
pub(crate) enum Input {
    /// Something happened.
    Event(Event),
    /// A local client wants something.
    Command(Command, oneshot::Sender<Result<Answer, CommandError>>),
    /// A local client wants to know what about the machine's routing would change.
    Compare(Box<RouterConfig>, oneshot::Sender<Differences>),
}

/// What of the machine is not as it is wanted, or why that cannot be known.
pub(crate) type Differences = Result<Vec<Difference>, String>;

/// How everybody else talks to the brain.
#[derive(Clone)]
pub(crate) struct BrainHandle {
    inputs: mpsc::Sender<Input>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
}

impl BrainHandle {
    /// Reports that something happened.
    pub(crate) async fn report(&self, event: Event) {
        // A brain that is gone needs no news.
        let _ = self.inputs.send(Input::Event(event)).await;
    }

    /// Has a command carried out.
    pub(crate) async fn command(&self, command: Command) -> Result<Answer, CommandError> {
        let (answer, answered) = oneshot::channel();
        let gone = || CommandError::Unavailable("the daemon is shutting down".into());
        self.inputs
            .send(Input::Command(command, answer))
            .await
            .map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// What about the machine's routing and resolver is not like this.
    pub(crate) async fn compare(&self, router: RouterConfig) -> Differences {
        let (answer, answered) = oneshot::channel();
        let input = Input::Compare(Box::new(router), answer);
        let gone = || "the daemon is shutting down".to_owned();
        self.inputs.send(input).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Follows the snapshots.
    pub(crate) fn follow(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// The brain after its last event.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }
}

/// Makes the channel before the brain, so that the engines can be given a handle.
pub(crate) fn channel(first: Arc<Snapshot>) -> (BrainHandle, Mailbox) {
    let (inputs, receiver) = mpsc::channel(QUEUE);
    let (publish, snapshot) = watch::channel(first);
    (
        BrainHandle { inputs, snapshot },
        Mailbox { receiver, publish },
    )
}

/// The brain's end of the channel.
pub(crate) struct Mailbox {
    receiver: mpsc::Receiver<Input>,
    publish: watch::Sender<Arc<Snapshot>>,
}

/// What carries out the brain's effects.
pub(crate) struct Hands {
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) control: ControlRunner,
    pub(crate) engine: EngineRunner,
    pub(crate) router: Box<dyn Router>,
    pub(crate) dns: DnsRunner,
    pub(crate) bus: Bus,
}

/// Runs until the last handle is gone, or `stop` says so.
pub(crate) async fn run(
    mut backend: Backend,
    mut hands: Hands,
    mut mailbox: Mailbox,
    mut stop: oneshot::Receiver<()>,
) {
    let mut waiting: BTreeMap<CommandId, oneshot::Sender<Result<Answer, CommandError>>> =
        BTreeMap::new();
    let mut next_id = 0;
    let mut event = Some(Event::Boot);
    loop {
        if let Some(event) = event.take() {
            backend.handle(event, rt::now(), rt::wall(), &mut rt::OsRng);
        }
        while let Some(effect) = backend.poll_effect() {
            if let Effect::Reply { id, result } = effect {
                if let Some(answer) = waiting.remove(&id) {
                    // The client may have hung up.
                    let _ = answer.send(result);
                }
                continue;
            }
            // The snapshot goes first: who is woken by a message must see what it speaks of.
            mailbox.publish.send_replace(backend.snapshot());
            if let Some(outcome) = hands.carry_out(effect).await {
                backend.handle(outcome, rt::now(), rt::wall(), &mut rt::OsRng);
            }
        }
        mailbox.publish.send_replace(backend.snapshot());
        let timer = async {
            match backend.next_timeout() {
                Some(deadline) => rt::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = &mut stop => break,
            input = mailbox.receiver.recv() => match input {
                None => break,
                Some(Input::Event(news)) => event = Some(news),
                Some(Input::Compare(want, answer)) => {
                    // The client may have hung up.
                    let _ = answer.send(hands.router.differences(&want));
                }
                Some(Input::Command(command, answer)) => {
                    next_id += 1;
                    let id = CommandId(next_id);
                    waiting.insert(id, answer);
                    event = Some(Event::Command { id, command });
                }
            },
            () = timer => event = Some(Event::Timer),
            () = hands.router.drifted() => event = Some(Event::Drifted(Target::Router)),
        }
    }
    // Nobody listens any more: who reports must not wait for that.
    drop(mailbox);
    hands.shut_down(&backend).await;
}

impl Hands {
    /// Does one thing; what it came to may be an event of its own.
    async fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Control(effect) => {
                self.control.carry_out(effect).await;
                None
            }
            Effect::EngineKeys(key) => {
                self.engine.set_keys(key);
                None
            }
            Effect::EngineNetwork(network) => {
                self.engine.set_network(&network);
                None
            }
            Effect::EnginePeers(update) => {
                self.engine.set_peers(update);
                None
            }
            Effect::EngineDerp(running) => {
                self.engine.set_derp_running(running);
                None
            }
            Effect::ApplyRouter(want) => {
                let applied = self.router.apply(&want);
                Some(Event::Applied {
                    target: Target::Router,
                    applied,
                })
            }
            Effect::ApplyDns(want) => {
                self.dns.apply(want);
                None
            }
            Effect::SaveState { key, value } => {
                let result = self.store.write(&key, &value);
                Some(stored(key, result))
            }
            Effect::RemoveState { key } => {
                let result = self.store.remove(&key);
                Some(stored(key, result))
            }
            Effect::Notify(message) => {
                self.bus.publish(*message, Recipient::Everybody);
                None
            }
            Effect::NotifyProcess { pid, message } => {
                self.bus.publish(*message, Recipient::Process(pid));
                None
            }
            Effect::Log(line) => {
                tracing::info!("{line}");
                None
            }
            Effect::Reply { .. } => None,
        }
    }

    /// An ephemeral node takes its leave; everything of ours leaves the machine.
    async fn shut_down(mut self, backend: &Backend) {
        for write in backend.unsaved_writes() {
            if let Some(Event::Stored {
                key,
                failure: Some(failure),
            }) = self.carry_out(write).await
            {
                tracing::error!("`{key}` is lost: {failure}");
            }
        }
        if self.store.is_ephemeral()
            && let Some(node_key) = backend.node_key()
        {
            self.control
                .carry_out(ControlEffect::Logout { node_key })
                .await;
            self.control.wait_logged_out().await;
        }
        self.control.carry_out(ControlEffect::Shutdown).await;
        // Names first: who asks through the tunnel gets no answer without its routes.
        self.dns.stop().await;
        self.router.cleanup();
    }
}

fn stored(key: String, result: Result<(), host::StoreError>) -> Event {
    Event::Stored {
        key,
        failure: result.err().map(|error| error.0),
    }
}
