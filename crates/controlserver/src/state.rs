//! The tailnet behind a lock, its published snapshots, its file, and what happens later.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use host::Instant;
use tailcfg::NodeId;
use tailcfg::go::GoTime;
use tokio::sync::{mpsc, watch};

use crate::calls::Calls;
use crate::page::LOGIN_PATH;
use crate::store::Store;
use crate::tailnet::{Snapshot, Tailnet};

/// How long a node without a stream still counts as connected: clients reconnect at once when a stream breaks.
const OFFLINE_GRACE: Duration = Duration::from_secs(3);
/// How long changes that may be lost are collected before they are written.
const WRITE_DELAY: Duration = Duration::from_millis(300);
/// Messages of the administrator that a node may be behind with.
const EXTRA_MAX: usize = 64;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct State {
    inner: Mutex<Inner>,
    snapshots: watch::Sender<Snapshot>,
    /// Serialises writes, and knows how new the written content is.
    written: tokio::sync::Mutex<u64>,
    store: Option<Arc<Store>>,
    later: mpsc::UnboundedSender<Later>,
    keep_alive: Duration,
    calls: Calls,
    /// What nodes use as `--login-server`.
    url: String,
}

#[derive(Debug)]
struct Inner {
    tailnet: Tailnet,
    /// Counts changes that are to be saved.
    version: u64,
    streams: HashMap<NodeId, Streaming>,
    next_stream: u64,
}

#[derive(Debug)]
struct Streaming {
    number: u64,
    /// Messages beside those that follow from the tailnet. Dropped to end the stream.
    extra: mpsc::Sender<Bytes>,
}

/// Why a message cannot be put into a node's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoWay {
    /// It has no stream.
    NotConnected,
    /// It does not read what was sent before.
    Behind,
}

/// What the housekeeper is told.
#[derive(Debug, Clone, Copy)]
enum Later {
    /// A stream has ended.
    StreamEnded(NodeId),
    /// Something is to be saved soon.
    Save,
}

/// How much a change matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matters {
    /// Must be on disk before the one who asked for it gets an answer.
    Now,
    /// May be lost in a crash: it comes again with the nodes.
    Soon,
    /// Is not kept at all.
    Never,
}

/// Keeps a stream registered; the node counts as connected while it lives.
#[derive(Debug)]
pub(crate) struct StreamGuard {
    state: Arc<State>,
    id: NodeId,
    number: u64,
}

pub(crate) fn go_now() -> GoTime {
    GoTime::from_unix_nanos(rt::wall().as_unix_nanos())
}

impl State {
    /// Shares a tailnet. The task is the housekeeper.
    pub(crate) fn new(
        tailnet: Tailnet,
        store: Option<Store>,
        url: String,
        keep_alive: Duration,
        ephemeral_timeout: Duration,
    ) -> (Arc<Self>, rt::Task) {
        let (later, orders) = mpsc::unbounded_channel();
        let ephemeral = tailnet.ephemeral_nodes();
        let state = Arc::new(Self {
            snapshots: watch::Sender::new(tailnet.snapshot()),
            inner: Mutex::new(Inner {
                tailnet,
                version: 1,
                streams: HashMap::new(),
                next_stream: 0,
            }),
            written: tokio::sync::Mutex::new(0),
            store: store.map(Arc::new),
            later,
            keep_alive,
            calls: Calls::default(),
            url,
        });
        let keeper = Housekeeper {
            state: Arc::downgrade(&state),
            ephemeral_timeout,
            due: BTreeMap::new(),
            save_at: None,
        };
        let task = rt::Task::spawn("control housekeeping", keeper.run(orders, ephemeral));
        (state, task)
    }

    /// What nodes use as `--login-server`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The page of a login.
    pub(crate) fn login_url(&self, id: &str) -> String {
        format!("{}{LOGIN_PATH}{id}", self.url)
    }

    /// Questions to nodes.
    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    pub(crate) fn keep_alive(&self) -> Duration {
        self.keep_alive
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock was held is a bug of ours; what it guards is still the best that there is.
        self.inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Looks at the tailnet.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Tailnet) -> T) -> T {
        look(&self.lock().tailnet)
    }

    /// Changes the tailnet and tells all streams. With [`Matters::Now`] the change is on disk when this returns.
    pub(crate) async fn change<T>(
        &self,
        matters: Matters,
        edit: impl FnOnce(&mut Tailnet) -> T,
    ) -> T {
        let out = self.change_unsaved(matters, edit);
        if matters == Matters::Now {
            self.save().await;
        }
        out
    }

    fn change_unsaved<T>(&self, matters: Matters, edit: impl FnOnce(&mut Tailnet) -> T) -> T {
        let mut inner = self.lock();
        let out = edit(&mut inner.tailnet);
        if matters != Matters::Never {
            inner.version += 1;
        }
        self.snapshots.send_replace(inner.tailnet.snapshot());
        drop(inner);
        if matters == Matters::Soon {
            // Without a housekeeper the server is being stopped and saves by itself.
            let _ = self.later.send(Later::Save);
        }
        out
    }

    /// Notes that what is in memory has to be kept, and writes it.
    pub(crate) async fn persist(&self) {
        self.lock().version += 1;
        self.save().await;
    }

    /// Writes the newest state, if the file has an older one.
    pub(crate) async fn save(&self) {
        let Some(store) = &self.store else {
            return;
        };
        let mut written = self.written.lock().await;
        let (version, content) = {
            let inner = self.lock();
            (inner.version, inner.tailnet.save())
        };
        if version == *written {
            return;
        }
        let writer = Arc::clone(store);
        let result = tokio::task::spawn_blocking(move || match content {
            Ok(content) => writer.write(&content),
            Err(error) => Err(error.into()),
        });
        match result.await {
            Ok(Ok(())) => *written = version,
            Ok(Err(error)) => {
                tracing::error!(
                    "writing the state file `{}`: {error}",
                    store.path().display()
                );
            }
            Err(_) => tracing::error!("writing the state file was interrupted"),
        }
    }

    pub(crate) fn snapshots(&self) -> watch::Receiver<Snapshot> {
        self.snapshots.subscribe()
    }

    /// Registers a new stream of a node and ends the one before it. The receiver ends when this one must end.
    pub(crate) fn open_stream(
        self: &Arc<Self>,
        id: NodeId,
    ) -> (StreamGuard, mpsc::Receiver<Bytes>) {
        let (extra, extras) = mpsc::channel(EXTRA_MAX);
        let mut inner = self.lock();
        let number = inner.next_stream;
        inner.next_stream += 1;
        inner.streams.insert(id, Streaming { number, extra });
        drop(inner);
        self.change_unsaved(Matters::Never, |tailnet| {
            // A node that is gone is noticed by its stream.
            let _ = tailnet.set_online(id, true, go_now());
        });
        let guard = StreamGuard {
            state: Arc::clone(self),
            id,
            number,
        };
        (guard, extras)
    }

    /// Puts a message, a `MapResponse` in JSON, into the node's stream.
    pub(crate) fn send_extra(&self, id: NodeId, message: Bytes) -> Result<(), NoWay> {
        let sender = self.lock().streams.get(&id).map(|s| s.extra.clone());
        let sent = sender.ok_or(NoWay::NotConnected)?.try_send(message);
        sent.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NoWay::Behind,
            mpsc::error::TrySendError::Closed(_) => NoWay::NotConnected,
        })
    }

    /// Ends the node's stream; false if it has none.
    pub(crate) fn end_stream(&self, id: NodeId) -> bool {
        let had = self.lock().streams.remove(&id).is_some();
        let _ = self.later.send(Later::StreamEnded(id));
        had
    }

    /// Ends all streams.
    pub(crate) fn end_all_streams(&self) {
        self.lock().streams.clear();
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let mut inner = self.state.lock();
        if inner
            .streams
            .get(&self.id)
            .is_some_and(|stream| stream.number == self.number)
        {
            inner.streams.remove(&self.id);
            let _ = self.state.later.send(Later::StreamEnded(self.id));
        }
    }
}

/// Does what is due later: nodes go offline, ephemeral ones vanish, changes reach the disk.
struct Housekeeper {
    state: std::sync::Weak<State>,
    ephemeral_timeout: Duration,
    due: BTreeMap<(Instant, NodeId), Due>,
    save_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum Due {
    Offline,
    Vanish,
}

impl Housekeeper {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Later>, ephemeral: Vec<NodeId>) {
        for id in ephemeral {
            self.due
                .insert((rt::now() + self.ephemeral_timeout, id), Due::Vanish);
        }
        loop {
            let next = self.due.keys().map(|(at, _)| *at).chain(self.save_at).min();
            let wait = async {
                match next {
                    Some(at) => rt::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.note(order),
                    None => return,
                },
                () = wait => {
                    let Some(state) = self.state.upgrade() else {
                        return;
                    };
                    self.perform(&state).await;
                }
            }
        }
    }

    fn note(&mut self, order: Later) {
        match order {
            Later::StreamEnded(id) => {
                self.due
                    .insert((rt::now() + OFFLINE_GRACE, id), Due::Offline);
            }
            Later::Save => {
                self.save_at.get_or_insert_with(|| rt::now() + WRITE_DELAY);
            }
        }
    }

    async fn perform(&mut self, state: &State) {
        let now = rt::now();
        while let Some(entry) = self.due.first_entry()
            && entry.key().0 <= now
        {
            let ((_, id), due) = entry.remove_entry();
            if state.lock().streams.contains_key(&id) {
                continue;
            }
            match due {
                Due::Offline => self.go_offline(state, id),
                Due::Vanish => {
                    tracing::info!("removing the ephemeral node {id}");
                    // It may be gone already.
                    let _ = state
                        .change(Matters::Now, |tailnet| tailnet.remove_node(id))
                        .await;
                }
            }
        }
        if self.save_at.is_some_and(|at| at <= now) {
            self.save_at = None;
            state.save().await;
        }
    }

    fn go_offline(&mut self, state: &State, id: NodeId) {
        if !state.read(|tailnet| tailnet.is_online(id)) {
            return;
        }
        state.change_unsaved(Matters::Soon, |tailnet| {
            // A node that is gone is neither.
            let _ = tailnet.set_online(id, false, go_now());
        });
        if state.read(|tailnet| tailnet.is_ephemeral(id)) {
            self.due
                .insert((rt::now() + self.ephemeral_timeout, id), Due::Vanish);
        }
    }
}
