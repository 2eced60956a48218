//! The indices that we gave out: what a peer puts into its messages to say which session or handshake they belong to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keys::NodePublic;
use rand_core::CryptoRng;

use crate::Session;

/// What an index stands for.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Whose it is.
    pub peer: NodePublic,
    /// The session, once there is one; before, it is a handshake's index.
    pub session: Option<Arc<Session>>,
}

/// All indices in use. Indices are random, so that nobody can guess which messages would hit a session.
#[derive(Debug, Default)]
pub struct IndexTable {
    slots: BTreeMap<u32, Slot>,
    changed: BTreeSet<u32>,
}

impl IndexTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// What `index` stands for.
    pub fn get(&self, index: u32) -> Option<&Slot> {
        self.slots.get(&index)
    }

    /// The session with this index.
    pub fn session(&self, index: u32) -> Option<&Arc<Session>> {
        self.slots.get(&index)?.session.as_ref()
    }

    /// How many indices are in use.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no index is in use.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// An index whose session has come or gone since: for whoever shows the sessions to those that move packets.
    pub fn poll_change(&mut self) -> Option<u32> {
        self.changed.pop_first()
    }

    pub(crate) fn reserve(&mut self, peer: NodePublic, rng: &mut dyn CryptoRng) -> u32 {
        loop {
            let index = rng.next_u32();
            if let std::collections::btree_map::Entry::Vacant(entry) = self.slots.entry(index) {
                entry.insert(Slot {
                    peer,
                    session: None,
                });
                return index;
            }
        }
    }

    pub(crate) fn bind(&mut self, session: &Arc<Session>) {
        self.changed.insert(session.local_index());
        self.slots.insert(
            session.local_index(),
            Slot {
                peer: session.peer(),
                session: Some(Arc::clone(session)),
            },
        );
    }

    pub(crate) fn release(&mut self, index: u32) {
        let slot = self.slots.remove(&index);
        // What was only a handshake's was never shown.
        if slot.is_some_and(|slot| slot.session.is_some()) {
            self.changed.insert(index);
        }
    }
}

#[cfg(test)]
mod tests;
