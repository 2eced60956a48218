//! Which packets go to and may come from which peer.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use host::{Avoid, Masquerade, PeerConfig};
use ipn::Prefs;
use ipnet::IpNet;
use netmap::{ChunkMap, NetMap, Peer, Peers};
use packet::PeerId;
use packet::addr::is_tailscale_ip;
use tailcfg::cap;

use super::routes::Routes;
use crate::PeersUpdate;

/// The peers that packets can be exchanged with. Keeps what it derived, so that a change of a few peers costs those few.
///
/// A prefix that several peers may route goes to the lowest number, and the others may still send from it: what may come
/// from a peer and what goes to it are two questions.
#[derive(Debug, Default)]
pub(crate) struct PeerConfigs {
    configs: ChunkMap<PeerId, Arc<PeerConfig>>,
    routes: Arc<Routes>,
    /// Peers that tailnet lock does not vouch for.
    unsigned: BTreeSet<PeerId>,
}

impl PeerConfigs {
    pub(crate) fn routes(&self) -> &Arc<Routes> {
        &self.routes
    }

    /// Whether there are any peers that tailnet lock does not vouch for.
    pub(crate) fn has_unsigned(&self) -> bool {
        !self.unsigned.is_empty()
    }

    /// The peers that tailnet lock does not vouch for.
    pub(crate) fn unsigned<'a>(&'a self, peers: &'a Peers) -> impl Iterator<Item = &'a Peer> {
        self.unsigned
            .iter()
            .filter_map(|id| peers.get(*id).map(|peer| &**peer))
    }

    /// Derives all anew; without a tailnet, nothing. `None` if it is as before.
    pub(crate) fn rebuild(&mut self, map: Option<&NetMap>, prefs: &Prefs) -> Option<PeersUpdate> {
        let mut fresh = Self::default();
        let mut touched = BTreeSet::new();
        for peer in map.iter().flat_map(|map| map.peers.iter()) {
            fresh.put(peer, prefs, &mut touched);
        }
        fresh.settle(&touched, &self.configs);
        let is_same = fresh.configs == self.configs;
        *self = fresh;
        (!is_same).then(|| PeersUpdate::All(self.configs.values().cloned().collect()))
    }

    /// Takes a change of a few peers. `None` if nothing follows from it.
    pub(crate) fn patch(
        &mut self,
        changed: &[Arc<Peer>],
        removed: &[PeerId],
        prefs: &Prefs,
    ) -> Option<PeersUpdate> {
        let before = self.configs.clone();
        let mut touched = BTreeSet::new();
        for id in removed {
            self.drop_peer(*id, &mut touched);
        }
        for peer in changed {
            self.put(peer, prefs, &mut touched);
        }
        self.settle(&touched, &before);
        let mut now = Vec::new();
        let mut gone = Vec::new();
        for id in touched {
            match (before.get(&id), self.configs.get(&id)) {
                (Some(_), None) => gone.push(id),
                (old, Some(new)) if old != Some(new) => now.push(Arc::clone(new)),
                _ => {}
            }
        }
        (!now.is_empty() || !gone.is_empty()).then_some(PeersUpdate::Patch {
            changed: now,
            removed: gone,
        })
    }

    /// Takes a peer but for its routes, and notes whose routes may be others now.
    fn put(&mut self, peer: &Peer, prefs: &Prefs, touched: &mut BTreeSet<PeerId>) {
        touched.insert(peer.id);
        if !can_be_reached(peer) {
            self.drop_peer(peer.id, touched);
        }
        if peer.unsigned_peer_api_only {
            self.unsigned.insert(peer.id);
        } else {
            self.unsigned.remove(&peer.id);
        }
        if !can_be_reached(peer) {
            return;
        }
        let sources = prefixes(peer, prefs);
        let old = self.configs.get(&peer.id).map(Arc::clone);
        let had = old.as_deref().map_or(&[][..], |old| &old.sources);
        if had != sources {
            self.move_claims(peer.id, had, &sources, touched);
        }
        self.configs
            .insert(peer.id, Arc::new(config(peer, sources)));
    }

    fn move_claims(
        &mut self,
        id: PeerId,
        had: &[IpNet],
        has: &[IpNet],
        touched: &mut BTreeSet<PeerId>,
    ) {
        let routes = Arc::make_mut(&mut self.routes);
        for net in had.iter().filter(|net| has.binary_search(net).is_err()) {
            routes.release(*net, id);
            touched.extend(routes.owner(*net));
        }
        for net in has.iter().filter(|net| had.binary_search(net).is_err()) {
            touched.extend(routes.owner(*net));
            routes.claim(*net, id);
        }
    }

    fn drop_peer(&mut self, id: PeerId, touched: &mut BTreeSet<PeerId>) {
        touched.insert(id);
        self.unsigned.remove(&id);
        if let Some(old) = self.configs.remove(&id) {
            self.move_claims(id, &old.sources, &[], touched);
        }
    }

    /// Gives the touched peers their routes. What comes out as it was `before` is that same value.
    fn settle(&mut self, touched: &BTreeSet<PeerId>, before: &ChunkMap<PeerId, Arc<PeerConfig>>) {
        for id in touched {
            let Some(config) = self.configs.get(id) else {
                continue;
            };
            let owned = config.sources.iter().copied();
            let routes: Vec<IpNet> = owned
                .filter(|net| self.routes.owner(*net) == Some(*id))
                .collect();
            let mut config = Arc::clone(config);
            if config.routes != routes {
                Arc::make_mut(&mut config).routes = routes;
            }
            if let Some(old) = before.get(id).filter(|old| ***old == *config) {
                config = Arc::clone(old);
            }
            self.configs.insert(*id, config);
        }
    }
}

/// A peer as if it were the owner of all its prefixes.
fn config(peer: &Peer, sources: Vec<IpNet>) -> PeerConfig {
    PeerConfig {
        id: peer.id,
        key: peer.key,
        disco: peer.disco,
        home_derp: peer.home_derp,
        endpoints: peer.endpoints.to_vec(),
        addresses: addresses(peer),
        routes: sources.clone(),
        sources,
        jailed: peer.is_jailed,
        masquerade: masquerade(peer),
    }
}

/// Addresses of the wrong family mean nothing.
fn masquerade(peer: &Peer) -> Masquerade {
    let Some(rare) = &peer.rare else {
        return Masquerade::default();
    };
    Masquerade {
        v4: match rare.masquerade_v4 {
            Some(IpAddr::V4(ip)) => Some(ip),
            _ => None,
        },
        v6: match rare.masquerade_v6 {
            Some(IpAddr::V6(ip)) => Some(ip),
            _ => None,
        },
    }
}

/// A node's own addresses, IPv4 first.
pub(crate) fn addresses(peer: &Peer) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = peer.ips().collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

/// Offloads that control wants this node to do without, for its kernel may be wrong about them.
pub(crate) fn avoid(self_node: &Peer) -> Avoid {
    Avoid {
        udp_gso: self_node.has_cap(cap::DISABLE_UDP_GSO),
        udp_gro: self_node.has_cap(cap::DISABLE_UDP_GRO),
        tun_tcp: self_node.has_cap(cap::DISABLE_TUN_TCP_GRO),
        tun_udp: self_node.has_cap(cap::DISABLE_TUN_UDP_GRO),
        equal_tail: self_node.has_cap(cap::NEVER_GSO_EQUAL_TAIL),
    }
}

/// Whether there is any way to it.
fn can_be_reached(peer: &Peer) -> bool {
    !peer.expired && (!peer.disco.is_zero() || peer.home_derp != 0 || peer.is_wireguard_only)
}

/// What may come from it, and goes to it unless another has it.
fn prefixes(peer: &Peer, prefs: &Prefs) -> Vec<IpNet> {
    let is_exit_node = !prefs.exit_node_id.is_empty() && *peer.stable_id == *prefs.exit_node_id;
    let mut prefixes: Vec<IpNet> = peer
        .allowed_ips
        .iter()
        .copied()
        // The control server must not send prefixes with host bits, and what it means by them cannot be known.
        .filter(|prefix| prefix.trunc() == *prefix)
        .filter(|prefix| {
            if is_own(peer, *prefix) {
                true
            } else if prefix.prefix_len() == 0 {
                is_exit_node
            } else {
                prefs.route_all
            }
        })
        .collect();
    prefixes.sort();
    prefixes.dedup();
    prefixes
}

/// Whether a prefix is a node's own address, and so needs nobody's leave.
fn is_own(peer: &Peer, prefix: IpNet) -> bool {
    let is_single = prefix.prefix_len() == prefix.max_prefix_len();
    (is_single && is_tailscale_ip(prefix.addr())) || peer.addresses.contains(&prefix)
}
