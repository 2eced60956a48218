//! Who is connected.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use derp::PeerGoneReason;
use keys::NodePublic;

use crate::queue::SendQueue;

/// Tells the connections of one relay apart, in the order of their start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnId(pub(crate) u64);

/// One connection as the others see it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: ConnId,
    pub(crate) key: NodePublic,
    pub(crate) queue: SendQueue,
    /// Other connections have the same key.
    duplicate: AtomicBool,
}

impl Client {
    pub(crate) fn new(id: ConnId, key: NodePublic) -> Self {
        Self {
            id,
            key,
            queue: SendQueue::default(),
            duplicate: AtomicBool::new(false),
        }
    }
}

/// The connections by key, and who has to hear when a key is gone.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    /// Changes with every answer that [`find`](Self::find) may give, so that senders may keep an answer meanwhile.
    generation: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    keys: HashMap<NodePublic, Connections>,
    /// By sender: the connections that a packet of that sender may have reached.
    watchers: HashMap<NodePublic, HashMap<ConnId, Arc<Client>>>,
    /// By connection: the senders in `watchers`.
    watched: HashMap<ConnId, HashSet<NodePublic>>,
    connections: usize,
}

/// All connections of one key. There is usually one; a node that changes networks leaves an old one behind for a while, and
/// copied keys fight. None is closed for that (the node would come back at once, for ever): who spoke last gets the packets.
#[derive(Debug, Default)]
struct Connections {
    all: BTreeMap<ConnId, Arc<Client>>,
    /// In the order in which they last spoke; the last is active.
    spoke: Vec<ConnId>,
}

impl Connections {
    fn active(&self) -> Option<&Arc<Client>> {
        self.all.get(self.spoke.last()?)
    }

    fn add(&mut self, client: &Arc<Client>) {
        self.all.insert(client.id, client.clone());
        self.spoke.push(client.id);
        self.mark();
    }

    fn remove(&mut self, id: ConnId) {
        self.all.remove(&id);
        self.spoke.retain(|other| *other != id);
        self.mark();
    }

    /// Whether that changed the active one.
    fn note_spoke(&mut self, id: ConnId) -> bool {
        if self.spoke.last() == Some(&id) || !self.all.contains_key(&id) {
            return false;
        }
        self.spoke.retain(|other| *other != id);
        self.spoke.push(id);
        true
    }

    fn mark(&self) {
        let duplicate = self.all.len() > 1;
        for client in self.all.values() {
            client.duplicate.store(duplicate, Ordering::Relaxed);
        }
    }
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change below is complete before anything can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// See [`find`](Self::find).
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn connections(&self) -> usize {
        self.lock().connections
    }

    /// Adds a connection, which becomes the active one of its key.
    pub(crate) fn register(&self, client: &Arc<Client>) {
        let mut inner = self.lock();
        inner.connections += 1;
        inner.keys.entry(client.key).or_default().add(client);
        self.changed();
    }

    /// Removes a connection. If it was the last one of its key, all who may have heard of that key are told; the result is
    /// how many.
    pub(crate) fn unregister(&self, client: &Client) -> usize {
        let mut inner = self.lock();
        inner.connections -= 1;
        self.changed();
        for sender in inner.watched.remove(&client.id).unwrap_or_default() {
            if let Some(watchers) = inner.watchers.get_mut(&sender) {
                watchers.remove(&client.id);
                if watchers.is_empty() {
                    inner.watchers.remove(&sender);
                }
            }
        }
        let Some(connections) = inner.keys.get_mut(&client.key) else {
            return 0;
        };
        connections.remove(client.id);
        if !connections.all.is_empty() {
            return 0;
        }
        inner.keys.remove(&client.key);
        let watchers = inner.watchers.remove(&client.key).unwrap_or_default();
        for (id, watcher) in &watchers {
            if let Some(senders) = inner.watched.get_mut(id) {
                senders.remove(&client.key);
            }
            watcher
                .queue
                .push_peer_gone(&client.key, PeerGoneReason::DISCONNECTED);
        }
        watchers.len()
    }

    /// A connection said something.
    pub(crate) fn note_spoke(&self, client: &Client) {
        if !client.duplicate.load(Ordering::Relaxed) {
            return;
        }
        let mut inner = self.lock();
        let connections = inner.keys.get_mut(&client.key);
        if connections.is_some_and(|connections| connections.note_spoke(client.id)) {
            self.changed();
        }
    }

    /// Where packets for `dst` go, and notes that `src` sent something there. The answer holds until the generation changes.
    pub(crate) fn find(&self, src: &NodePublic, dst: &NodePublic) -> Option<Arc<Client>> {
        let mut inner = self.lock();
        let client = inner.keys.get(dst)?.active()?.clone();
        let watchers = inner.watchers.entry(*src).or_default();
        watchers.insert(client.id, client.clone());
        inner.watched.entry(client.id).or_default().insert(*src);
        Some(client)
    }

    /// Whether nobody is connected and nothing is remembered.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let inner = self.lock();
        inner.keys.is_empty()
            && inner.watchers.is_empty()
            && inner.watched.is_empty()
            && inner.connections == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> NodePublic {
        NodePublic::from_bytes([n; 32])
    }

    fn client(hub: &Hub, id: u64, n: u8) -> Arc<Client> {
        let client = Arc::new(Client::new(ConnId(id), key(n)));
        hub.register(&client);
        client
    }

    fn found(hub: &Hub, src: u8, dst: u8) -> Option<u64> {
        hub.find(&key(src), &key(dst)).map(|client| client.id.0)
    }

    fn waiting(client: &Client) -> Vec<u8> {
        let mut out = Vec::new();
        client.queue.take(&mut out);
        out
    }

    #[test]
    fn who_spoke_last_gets_the_packets() {
        let hub = Hub::default();
        let c1 = client(&hub, 1, 7);
        assert_eq!(found(&hub, 1, 7), Some(1));
        let c2 = client(&hub, 2, 7);
        let c3 = client(&hub, 3, 7);
        assert_eq!(found(&hub, 1, 7), Some(3), "the newest at first");
        let before = hub.generation();
        hub.note_spoke(&c3);
        assert_eq!(hub.generation(), before, "nothing changed");
        hub.note_spoke(&c1);
        assert_eq!(found(&hub, 1, 7), Some(1));
        assert_ne!(hub.generation(), before);
        hub.unregister(&c1);
        assert_eq!(found(&hub, 1, 7), Some(3), "who spoke before");
        hub.unregister(&c3);
        assert_eq!(found(&hub, 1, 7), Some(2));
        assert!(!c2.duplicate.load(Ordering::Relaxed));
        hub.unregister(&c2);
        assert_eq!(found(&hub, 1, 7), None);
        hub.note_spoke(&c2);
        assert!(hub.is_empty());
    }

    #[test]
    fn those_who_heard_from_a_key_hear_that_it_is_gone() {
        let hub = Hub::default();
        let (a1, a2) = (client(&hub, 1, 1), client(&hub, 2, 1));
        let (b, c) = (client(&hub, 3, 2), client(&hub, 4, 3));
        assert_eq!(found(&hub, 1, 2), Some(3));
        assert_eq!(hub.unregister(&a2), 0);
        assert!(waiting(&b).is_empty(), "still here");
        assert_eq!(hub.unregister(&a1), 1);
        let mut want = Vec::new();
        derp::put::peer_gone(&mut want, &key(1), PeerGoneReason::DISCONNECTED);
        assert_eq!(waiting(&b), want);
        assert!(waiting(&c).is_empty(), "never heard of it");
        let a = client(&hub, 5, 1);
        assert_eq!(hub.unregister(&a), 0, "told once");
        hub.unregister(&b);
        hub.unregister(&c);
        assert!(hub.is_empty());
    }

    #[test]
    fn a_gone_receiver_is_not_told() {
        let hub = Hub::default();
        let (a, b) = (client(&hub, 1, 1), client(&hub, 2, 2));
        found(&hub, 1, 2);
        found(&hub, 1, 1);
        assert_eq!(hub.unregister(&b), 0);
        assert_eq!(hub.unregister(&a), 0);
        assert!(hub.is_empty());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Connect(u8),
        Disconnect(prop::sample::Index),
        Speak(prop::sample::Index),
        Find(u8, u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0u8..4).prop_map(Step::Connect),
            any::<prop::sample::Index>().prop_map(Step::Disconnect),
            any::<prop::sample::Index>().prop_map(Step::Speak),
            (0u8..4, 0u8..4).prop_map(|(a, b)| Step::Find(a, b)),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        /// Against the rule in one line: the connection of a key that spoke or came last.
        #[test]
        fn any_coming_and_going_leaves_nothing_behind(steps in steps()) {
            let hub = Hub::default();
            let mut live: Vec<Arc<Client>> = Vec::new();
            for (n, step) in steps.iter().enumerate() {
                match step {
                    Step::Connect(k) => live.push(client(&hub, n as u64, *k)),
                    Step::Disconnect(at) if !live.is_empty() => {
                        let gone = live.remove(at.index(live.len()));
                        hub.unregister(&gone);
                    }
                    Step::Speak(at) if !live.is_empty() => {
                        let speaker = live.remove(at.index(live.len()));
                        hub.note_spoke(&speaker);
                        live.push(speaker);
                    }
                    Step::Find(a, b) => {
                        let want = live.iter().rev().find(|c| c.key == key(*b)).map(|c| c.id.0);
                        prop_assert_eq!(found(&hub, *a, *b), want);
                    }
                    Step::Disconnect(_) | Step::Speak(_) => {}
                }
                prop_assert_eq!(hub.connections(), live.len());
            }
            for client in live {
                hub.unregister(&client);
            }
            prop_assert!(hub.is_empty());
        }
    }
}
