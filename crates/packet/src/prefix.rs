//! Longest-prefix match.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A table from prefixes of both families to values, looked up by address.
///
/// Each prefix length in use costs one ordered-map probe, the longest first. Tables of a tailnet have a handful of
/// lengths (host addresses, a few subnet sizes, default routes), and nearly all lookups end at the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixMap<T> {
    v4: Lengths<T>,
    v6: Lengths<T>,
}

/// By prefix length, then by the address's leading bits.
type Lengths<T> = BTreeMap<u8, BTreeMap<u128, T>>;

impl<T> Default for PrefixMap<T> {
    fn default() -> Self {
        Self {
            v4: BTreeMap::new(),
            v6: BTreeMap::new(),
        }
    }
}

impl<T> PrefixMap<T> {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the value of a prefix (host bits are ignored) and returns the one it had.
    pub fn insert(&mut self, net: IpNet, value: T) -> Option<T> {
        let (lengths, bits) = self.family_mut(net.addr());
        let len = net.prefix_len();
        lengths
            .entry(len)
            .or_default()
            .insert(lead(bits, len), value)
    }

    /// Removes exactly this prefix.
    pub fn remove(&mut self, net: &IpNet) -> Option<T> {
        let (lengths, bits) = self.family_mut(net.addr());
        let len = net.prefix_len();
        let at_len = lengths.get_mut(&len)?;
        let value = at_len.remove(&lead(bits, len));
        if at_len.is_empty() {
            lengths.remove(&len);
        }
        value
    }

    /// The value of exactly this prefix.
    pub fn get(&self, net: &IpNet) -> Option<&T> {
        let (lengths, bits) = self.family(net.addr());
        let len = net.prefix_len();
        lengths.get(&len)?.get(&lead(bits, len))
    }

    /// The value of exactly this prefix, to change; inserted first if it is missing.
    pub fn entry_or_default(&mut self, net: IpNet) -> &mut T
    where
        T: Default,
    {
        let (lengths, bits) = self.family_mut(net.addr());
        let len = net.prefix_len();
        lengths
            .entry(len)
            .or_default()
            .entry(lead(bits, len))
            .or_default()
    }

    /// The value of the longest prefix that contains `ip`.
    pub fn lookup(&self, ip: IpAddr) -> Option<&T> {
        self.matches(ip).next()
    }

    /// The values of all prefixes that contain `ip`, the longest first.
    pub fn matches(&self, ip: IpAddr) -> impl Iterator<Item = &T> {
        let (lengths, bits) = self.family(ip);
        lengths
            .iter()
            .rev()
            .filter_map(move |(len, values)| values.get(&lead(bits, *len)))
    }

    /// Whether any prefix contains `ip`.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.lookup(ip).is_some()
    }

    /// All prefixes with their values: IPv4 before IPv6, shorter before longer, then by address.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, &T)> {
        let v4 = flat(&self.v4).filter_map(|(len, bits, value)| {
            let net = Ipv4Net::new(((bits >> 96) as u32).into(), len).ok()?;
            Some((IpNet::V4(net), value))
        });
        let v6 = flat(&self.v6).filter_map(|(len, bits, value)| {
            Some((IpNet::V6(Ipv6Net::new(bits.into(), len).ok()?), value))
        });
        v4.chain(v6)
    }

    /// How many prefixes it has.
    pub fn len(&self) -> usize {
        let count = |lengths: &Lengths<T>| lengths.values().map(BTreeMap::len).sum::<usize>();
        count(&self.v4) + count(&self.v6)
    }

    /// Whether it has no prefix.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    fn family(&self, ip: IpAddr) -> (&Lengths<T>, u128) {
        match ip {
            IpAddr::V4(_) => (&self.v4, bits(ip)),
            IpAddr::V6(_) => (&self.v6, bits(ip)),
        }
    }

    fn family_mut(&mut self, ip: IpAddr) -> (&mut Lengths<T>, u128) {
        match ip {
            IpAddr::V4(_) => (&mut self.v4, bits(ip)),
            IpAddr::V6(_) => (&mut self.v6, bits(ip)),
        }
    }
}

impl<T> FromIterator<(IpNet, T)> for PrefixMap<T> {
    fn from_iter<I: IntoIterator<Item = (IpNet, T)>>(items: I) -> Self {
        let mut map = Self::new();
        for (net, value) in items {
            map.insert(net, value);
        }
        map
    }
}

fn flat<T>(lengths: &Lengths<T>) -> impl Iterator<Item = (u8, u128, &T)> {
    lengths
        .iter()
        .flat_map(|(len, values)| values.iter().map(move |(bits, value)| (*len, *bits, value)))
}

/// Both families left-aligned, so that one mask serves both.
fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)) << 96,
        IpAddr::V6(ip) => ip.into(),
    }
}

/// The leading `len` bits, the others zero.
fn lead(bits: u128, len: u8) -> u128 {
    match 128_u32.checked_sub(u32::from(len)) {
        Some(128) => 0,
        Some(shift) => bits >> shift << shift,
        None => bits,
    }
}

#[cfg(test)]
mod tests;
