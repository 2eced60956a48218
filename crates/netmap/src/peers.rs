//! The peers with their indexes.

use std::net::IpAddr;
use std::sync::Arc;

use keys::NodePublic;
use packet::PeerId;
use tailcfg::go::GoTime;

use crate::{ChunkMap, Peer};

/// The peers of a tailnet, by number, address and name. Copies share what they have in common.
#[derive(Clone, Default)]
pub struct Peers {
    by_id: ChunkMap<PeerId, Arc<Peer>>,
    by_ip: ChunkMap<(IpAddr, PeerId), ()>,
    /// By a hash of the name, because most of a name's bytes are the suffix that all share.
    by_name: ChunkMap<(u64, PeerId), ()>,
    expiries: ChunkMap<(GoTime, PeerId), ()>,
}

impl Peers {
    /// A peer by its number.
    #[must_use]
    pub fn get(&self, id: PeerId) -> Option<&Arc<Peer>> {
        self.by_id.get(&id)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All peers in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.by_id.values()
    }

    /// The peer that has this address. The lowest number wins if several claim it.
    #[must_use]
    pub fn by_ip(&self, ip: IpAddr) -> Option<&Arc<Peer>> {
        let ip = ip.to_canonical();
        let (key, ()) = self.by_ip.iter_from(&(ip, PeerId(i64::MIN))).next()?;
        (key.0 == ip).then(|| self.get(key.1)).flatten()
    }

    /// The peer that has this full name, in lower case and without a dot at the end.
    #[must_use]
    pub fn by_fqdn(&self, fqdn: &str) -> Option<&Arc<Peer>> {
        let hash = name_hash(fqdn);
        self.by_name
            .iter_from(&(hash, PeerId(i64::MIN)))
            .take_while(|((found, _), ())| *found == hash)
            .filter_map(|((_, id), ())| self.get(*id))
            .find(|peer| peer.fqdn() == fqdn)
    }

    /// The peer that has this key. Looks at all of them.
    #[must_use]
    pub fn by_key(&self, key: &NodePublic) -> Option<&Arc<Peer>> {
        self.iter().find(|peer| peer.key == *key)
    }

    /// The peer that has this stable text. Looks at all of them.
    #[must_use]
    pub fn by_stable_id(&self, stable_id: &str) -> Option<&Arc<Peer>> {
        self.iter().find(|peer| &*peer.stable_id == stable_id)
    }

    /// Adds a peer or replaces the one with its number.
    pub fn insert(&mut self, peer: Arc<Peer>) -> Option<Arc<Peer>> {
        let id = peer.id;
        let old = self.by_id.insert(id, Arc::clone(&peer));
        let same_names = old.as_deref().is_some_and(|old| old.name == peer.name);
        let same_ips = old
            .as_deref()
            .is_some_and(|old| old.addresses == peer.addresses);
        let same_expiry = old
            .as_deref()
            .is_some_and(|old| expiry(old) == expiry(&peer));
        if let Some(old) = &old {
            self.unindex(old, !same_names, !same_ips, !same_expiry);
        }
        if !same_names && !peer.name.is_empty() {
            self.by_name.insert((name_hash(&peer.fqdn()), id), ());
        }
        if !same_ips {
            for ip in peer.ips() {
                self.by_ip.insert((ip.to_canonical(), id), ());
            }
        }
        if !same_expiry && let Some(at) = expiry(&peer) {
            self.expiries.insert((at, id), ());
        }
        old
    }

    /// Removes a peer.
    pub fn remove(&mut self, id: PeerId) -> Option<Arc<Peer>> {
        let old = self.by_id.remove(&id)?;
        self.unindex(&old, true, true, true);
        Some(old)
    }

    fn unindex(&mut self, old: &Peer, name: bool, ips: bool, key_expiry: bool) {
        if name {
            self.by_name.remove(&(name_hash(&old.fqdn()), old.id));
        }
        if ips {
            for ip in old.ips() {
                self.by_ip.remove(&(ip.to_canonical(), old.id));
            }
        }
        if key_expiry && let Some(at) = expiry(old) {
            self.expiries.remove(&(at, old.id));
        }
    }

    /// How this differs from an older copy: the peers that are new or changed, and those that are gone, in the order of
    /// their numbers. Costs as much as was changed since.
    #[must_use]
    pub fn since(&self, old: &Self) -> (Vec<Arc<Peer>>, Vec<PeerId>) {
        let mut changed = Vec::new();
        let mut removed = Vec::new();
        for (id, was, is) in self.by_id.since(&old.by_id) {
            match (was, is) {
                (_, None) => removed.push(*id),
                (Some(was), Some(is)) if Arc::ptr_eq(was, is) || was == is => {}
                (_, Some(is)) => changed.push(Arc::clone(is)),
            }
        }
        (changed, removed)
    }

    /// When the next key runs out, and whose.
    #[must_use]
    pub fn next_expiry(&self) -> Option<(GoTime, PeerId)> {
        self.expiries.first().map(|(key, ())| *key)
    }
}

impl PartialEq for Peers {
    fn eq(&self, other: &Self) -> bool {
        self.by_id == other.by_id
    }
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl FromIterator<Arc<Peer>> for Peers {
    fn from_iter<I: IntoIterator<Item = Arc<Peer>>>(peers: I) -> Self {
        let mut out = Self::default();
        for peer in peers {
            out.insert(peer);
        }
        out
    }
}

/// When the peer has yet to expire.
fn expiry(peer: &Peer) -> Option<GoTime> {
    peer.key_expiry.filter(|_| !peer.expired)
}

/// FNV-1a. A collision costs one comparison of names.
fn name_hash(fqdn: &str) -> u64 {
    fqdn.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
