//! What a worker remembers of the flows that it has looked up: a small table, where a newcomer takes the place of whoever is
//! there.

use std::net::IpAddr;

use packet::{Fragment, IpView, Proto};

/// How many flows. More at once are looked up more often.
const FLOWS: usize = 512;

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlowKey {
    src: IpAddr,
    dst: IpAddr,
    proto: Proto,
    ports: (u16, u16),
    /// A later fragment has no ports.
    is_later: bool,
}

impl FlowKey {
    pub(super) fn of(view: &IpView<'_>) -> Self {
        Self {
            src: view.src(),
            dst: view.dst(),
            proto: view.proto(),
            ports: (view.src_port(), view.dst_port()),
            is_later: view.fragment() == Fragment::Later,
        }
    }

    /// Where it has its place. Anybody can make flows that share one; that costs a look-up for each of their packets.
    fn place(&self) -> usize {
        let words = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64 ^ ip.to_bits() as u64,
        };
        let ports = u64::from(self.ports.0) << 16 | u64::from(self.ports.1);
        let mixed = (words(self.src).rotate_left(17) ^ words(self.dst))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ (ports << 8 | u64::from(self.proto.0)).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
        (mixed >> 40) as usize % FLOWS
    }
}

#[derive(Debug)]
struct Entry<T> {
    key: FlowKey,
    generation: u64,
    value: T,
}

/// The table.
#[derive(Debug)]
pub(super) struct FlowTable<T> {
    entries: Vec<Option<Entry<T>>>,
    generation: u64,
}

impl<T> FlowTable<T> {
    pub(super) fn new() -> Self {
        Self {
            entries: (0..FLOWS).map(|_| None).collect(),
            generation: 0,
        }
    }

    /// What was looked up under another generation counts no more, and is let go of.
    pub(super) fn set_generation(&mut self, generation: u64) {
        if self.generation != generation {
            self.generation = generation;
            self.entries.fill_with(|| None);
        }
    }

    pub(super) fn get_mut(&mut self, key: &FlowKey) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.place())?.as_mut()?;
        (entry.key == *key && entry.generation == self.generation).then_some(&mut entry.value)
    }

    pub(super) fn insert(&mut self, key: FlowKey, value: T) -> Option<&mut T> {
        let generation = self.generation;
        let entry = self.entries.get_mut(key.place())?;
        let entry = entry.insert(Entry {
            key,
            generation,
            value,
        });
        Some(&mut entry.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(dst: u8, port: u16) -> FlowKey {
        let mut header = [0; 20];
        header[2..4].copy_from_slice(&port.to_be_bytes());
        header[12] = 5 << 4;
        let [src, dst] = [1, dst].map(|last| IpAddr::from([100, 64, 0, last]));
        let packet = packet::ip_packet(src, dst, Proto::TCP, &header).unwrap();
        FlowKey::of(&IpView::parse(&packet).unwrap())
    }

    #[test]
    fn flows_are_remembered_for_one_generation() {
        let mut table = FlowTable::new();
        table.set_generation(1);
        table.insert(key(2, 80), "a");
        assert_eq!(table.get_mut(&key(2, 80)).copied(), Some("a"));
        assert_eq!(table.get_mut(&key(2, 81)).copied(), None);
        assert_eq!(table.get_mut(&key(3, 80)).copied(), None);
        table.set_generation(2);
        assert_eq!(table.get_mut(&key(2, 80)).copied(), None);
    }

    #[test]
    fn more_flows_than_places_are_never_mixed_up() {
        let mut table = FlowTable::new();
        for port in 0..5000 {
            table.insert(key(2, port), port);
        }
        let found = (0..5000)
            .filter(|port| table.get_mut(&key(2, *port)).is_some())
            .count();
        let right = (0..5000)
            .filter(|port| table.get_mut(&key(2, *port)).copied() == Some(*port))
            .count();
        assert!(found == right && found > FLOWS / 2, "{found} {right}");
    }
}
