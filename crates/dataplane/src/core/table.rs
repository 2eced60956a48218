//! The configured peers and where destinations lead.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use host::{Masquerade, PeerConfig};
use ipnet::IpNet;
use packet::{PeerId, PrefixMap};

/// All peers, by id and destination.
#[derive(Debug, Default)]
pub(crate) struct PeerTable {
    by_id: BTreeMap<PeerId, Arc<PeerConfig>>,
    routes: PrefixMap<PeerId>,
    /// The few peers that know us by other addresses.
    masked: BTreeMap<PeerId, Masquerade>,
}

impl PeerTable {
    pub(crate) fn get(&self, id: PeerId) -> Option<&Arc<PeerConfig>> {
        self.by_id.get(&id)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.by_id.keys().copied()
    }

    /// Who gets packets for `ip`: the longest prefix wins.
    pub(crate) fn route(&self, ip: IpAddr) -> Option<PeerId> {
        self.routes.lookup(ip).copied()
    }

    /// Adds or replaces a peer. Says whether the one with this id had another key, and is thus another node.
    pub(crate) fn upsert(&mut self, config: Arc<PeerConfig>) -> bool {
        if self.by_id.get(&config.id) == Some(&config) {
            return false;
        }
        let old = self.remove(config.id);
        let rekeyed = old.is_some_and(|old| old.key != config.key);
        for net in &config.routes {
            self.routes.insert(net.trunc(), config.id);
        }
        if config.masquerade != Masquerade::default() {
            self.masked.insert(config.id, config.masquerade);
        }
        self.by_id.insert(config.id, config);
        rekeyed
    }

    /// Removes a peer. What only it routed leads nowhere then, or to another peer with the same prefix.
    pub(crate) fn remove(&mut self, id: PeerId) -> Option<Arc<PeerConfig>> {
        let old = self.by_id.remove(&id)?;
        self.masked.remove(&id);
        for net in old.routes.iter().map(IpNet::trunc) {
            if self.routes.get(&net) == Some(&id) {
                self.routes.remove(&net);
                self.hand_over(net);
            }
        }
        Some(old)
    }

    /// By which addresses a peer knows us, if not by our own.
    pub(crate) fn masquerade(&self, id: PeerId) -> Option<Masquerade> {
        self.masked.get(&id).copied()
    }

    /// Gives a prefix to whoever else routes it. Addresses of single hosts have one owner only.
    fn hand_over(&mut self, net: IpNet) {
        if net.prefix_len() == net.max_prefix_len() {
            return;
        }
        let heir = self
            .by_id
            .values()
            .find(|peer| peer.routes.iter().any(|route| route.trunc() == net));
        if let Some(heir) = heir {
            self.routes.insert(net, heir.id);
        }
    }
}

/// Whether a peer may send packets from this inner source.
pub(crate) fn may_send_from(peer: &PeerConfig, source: IpAddr) -> bool {
    peer.sources.iter().any(|net| net.contains(&source))
}
