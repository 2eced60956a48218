//! Nodes by what must be unique of them, so that one among ten thousand is found at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;

use keys::{MachinePublic, NodePublic};
use tailcfg::NodeId;

use super::node::Node;

/// Follows the nodes: [`update`](Self::update) after each change of one.
#[derive(Debug, Default)]
pub(super) struct Index {
    known: BTreeMap<NodeId, Entry>,
    keys: HashMap<NodePublic, NodeId>,
    machines: HashMap<MachinePublic, BTreeSet<NodeId>>,
    labels: HashMap<String, NodeId>,
    addresses: HashMap<Ipv4Addr, NodeId>,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    key: NodePublic,
    machine: MachinePublic,
    label: String,
    v4: Ipv4Addr,
}

impl Index {
    /// Takes the node as it is now; `None` if it is gone.
    pub(super) fn update(&mut self, id: NodeId, node: Option<&Node>) {
        let entry = node.map(|node| Entry {
            key: node.key,
            machine: node.machine,
            label: node.label.clone(),
            v4: node.v4,
        });
        if self.known.get(&id) == entry.as_ref() {
            return;
        }
        if let Some(old) = self.known.remove(&id) {
            self.forget(id, &old);
        }
        if let Some(new) = entry {
            self.keys.insert(new.key, id);
            self.machines.entry(new.machine).or_default().insert(id);
            self.labels.insert(new.label.clone(), id);
            self.addresses.insert(new.v4, id);
            self.known.insert(id, new);
        }
    }

    fn forget(&mut self, id: NodeId, old: &Entry) {
        // Another node may have taken what was this one's.
        if self.keys.get(&old.key) == Some(&id) {
            self.keys.remove(&old.key);
        }
        if self.labels.get(&old.label) == Some(&id) {
            self.labels.remove(&old.label);
        }
        if self.addresses.get(&old.v4) == Some(&id) {
            self.addresses.remove(&old.v4);
        }
        if let Some(nodes) = self.machines.get_mut(&old.machine) {
            nodes.remove(&id);
            if nodes.is_empty() {
                self.machines.remove(&old.machine);
            }
        }
    }

    pub(super) fn by_key(&self, key: &NodePublic) -> Option<NodeId> {
        self.keys.get(key).copied()
    }

    /// All nodes of a machine, in the order of their numbers.
    pub(super) fn by_machine(&self, machine: &MachinePublic) -> impl Iterator<Item = NodeId> {
        self.machines.get(machine).into_iter().flatten().copied()
    }

    pub(super) fn by_label(&self, label: &str) -> Option<NodeId> {
        self.labels.get(label).copied()
    }

    pub(super) fn has_address(&self, ip: Ipv4Addr) -> bool {
        self.addresses.contains_key(&ip)
    }
}
