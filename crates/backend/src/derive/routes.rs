//! Which peer a destination belongs to.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use netmap::ChunkMap;
use packet::PeerId;

/// Every prefix of every configured peer. A copy costs a few reference counts, so that readers keep theirs while the
/// brain goes on.
///
/// A prefix that several peers claim goes to the lowest number, and passes to the next when that one is gone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routes {
    claims: ChunkMap<(IpNet, PeerId), ()>,
    /// How many claims there are of each length, so that a lookup tries only those in use.
    v4_lengths: BTreeMap<u8, usize>,
    v6_lengths: BTreeMap<u8, usize>,
}

impl Routes {
    /// Who gets packets for an address: the longest prefix wins.
    pub fn lookup(&self, ip: IpAddr) -> Option<PeerId> {
        self.lengths(ip)
            .keys()
            .rev()
            .filter_map(|len| IpNet::new(ip, *len).ok())
            .find_map(|net| self.owner(net.trunc()))
    }

    /// Who gets packets for exactly this prefix.
    pub fn owner(&self, net: IpNet) -> Option<PeerId> {
        let ((found, id), ()) = self.claims.iter_from(&(net, PeerId(i64::MIN))).next()?;
        (*found == net).then_some(*id)
    }

    /// All prefixes in order, each once.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        let mut last = None;
        self.claims
            .keys()
            .map(|(net, _)| *net)
            .filter(move |net| last.replace(*net) != Some(*net))
    }

    pub(crate) fn claim(&mut self, net: IpNet, id: PeerId) {
        if self.claims.insert((net, id), ()).is_none() {
            *self.lengths_mut(net).entry(net.prefix_len()).or_default() += 1;
        }
    }

    pub(crate) fn release(&mut self, net: IpNet, id: PeerId) {
        if self.claims.remove(&(net, id)).is_none() {
            return;
        }
        let lengths = self.lengths_mut(net);
        if let Some(count) = lengths.get_mut(&net.prefix_len()) {
            *count -= 1;
            if *count == 0 {
                lengths.remove(&net.prefix_len());
            }
        }
    }

    fn lengths(&self, ip: IpAddr) -> &BTreeMap<u8, usize> {
        match ip {
            IpAddr::V4(_) => &self.v4_lengths,
            IpAddr::V6(_) => &self.v6_lengths,
        }
    }

    fn lengths_mut(&mut self, net: IpNet) -> &mut BTreeMap<u8, usize> {
        match net {
            IpNet::V4(_) => &mut self.v4_lengths,
            IpNet::V6(_) => &mut self.v6_lengths,
        }
    }
}
