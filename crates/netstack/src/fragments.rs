//! IP fragments: putting those of others together, and cutting our own datagrams (RFC 791 3.2, RFC 8200 4.5).
//!
//! TCP never needs them. Datagrams that are larger than the tunnel's packets do: the originals carry those too.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use host::Instant;
use packet::{IpView, checksum};

/// As the reference.
const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_BYTES: usize = 4 << 20;
const MAX_LEN: usize = 65535;
/// More pieces than a datagram of minimal fragments of the tunnel would have are an attempt to make us hold many.
const MAX_PIECES: usize = 128;
/// Entries of the queue that may be about datagrams that are complete.
const MAX_STALE: usize = 1024;
const FRAGMENT_HEADER: usize = 8;

/// Datagrams of which some fragments are here.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    by_key: BTreeMap<Key, Partial>,
    /// By arrival of the first fragment. What is complete or spoilt leaves its entry behind.
    queue: VecDeque<(Instant, Key)>,
    bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    id: u32,
}

#[derive(Debug)]
struct Partial {
    until: Instant,
    /// The IP header of the first fragment, without the fragment header of IPv6.
    header: Option<Vec<u8>>,
    pieces: BTreeMap<usize, Vec<u8>>,
    /// Bytes in `pieces`.
    have: usize,
    /// The whole length, once the last fragment is here.
    total: Option<usize>,
}

/// Where one fragment belongs.
struct Place {
    id: u32,
    offset: usize,
    more: bool,
}

impl Fragments {
    /// Takes a fragment; gives the whole packet if this was the last that was missing.
    pub(crate) fn handle(&mut self, view: &IpView<'_>, now: Instant) -> Option<Vec<u8>> {
        let place = place(view)?;
        let key = Key {
            src: view.src(),
            dst: view.dst(),
            proto: view.proto().0,
            id: place.id,
        };
        let payload = view.transport();
        while self.bytes + payload.len() > MAX_BYTES {
            self.drop_oldest()?;
        }
        let queue = &mut self.queue;
        let partial = self.by_key.entry(key).or_insert_with(|| {
            let until = now + TIMEOUT;
            queue.push_back((until, key));
            Partial {
                until,
                header: None,
                pieces: BTreeMap::new(),
                have: 0,
                total: None,
            }
        });
        let before = partial.have;
        let fits = partial.add(view, &place, payload);
        self.bytes += partial.have - before;
        if !fits {
            self.remove(&key);
            return None;
        }
        if partial.total != Some(partial.have) {
            return None;
        }
        let whole = self.remove(&key)?.assemble();
        if self.queue.len() > self.by_key.len() + MAX_STALE {
            let live = &self.by_key;
            self.queue.retain(|(until, key)| {
                live.get(key).is_some_and(|partial| partial.until == *until)
            });
        }
        whole
    }

    fn remove(&mut self, key: &Key) -> Option<Partial> {
        let partial = self.by_key.remove(key)?;
        self.bytes -= partial.have;
        Some(partial)
    }

    /// `None` if there is nothing to drop.
    fn drop_oldest(&mut self) -> Option<()> {
        let (until, key) = self.queue.pop_front()?;
        if self
            .by_key
            .get(&key)
            .is_some_and(|partial| partial.until == until)
        {
            self.remove(&key);
        }
        Some(())
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        while self.queue.front().is_some_and(|(until, _)| *until <= now) {
            let _ = self.drop_oldest();
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.queue.front().map(|(until, _)| *until)
    }
}

impl Partial {
    /// False if the fragment contradicts the others. Overlaps are attacks or errors (RFC 5722), but the same fragment may
    /// come twice.
    fn add(&mut self, view: &IpView<'_>, place: &Place, payload: &[u8]) -> bool {
        let end = place.offset + payload.len();
        let aligned = !place.more || (payload.len().is_multiple_of(8) && !payload.is_empty());
        if end > MAX_LEN || !aligned || self.total.is_some_and(|total| end > total) {
            return false;
        }
        if !place.more {
            let beyond = self
                .pieces
                .last_key_value()
                .is_some_and(|(at, piece)| at + piece.len() > end);
            if beyond || self.total.is_some_and(|total| total != end) {
                return false;
            }
            self.total = Some(end);
        }
        if place.offset == 0 && self.header.is_none() {
            self.header = header(view);
        }
        if let Some((at, piece)) = self.pieces.range(..end.max(1)).next_back()
            && at + piece.len() > place.offset
        {
            return *at == place.offset && piece.as_slice() == payload;
        }
        if self.pieces.len() >= MAX_PIECES {
            return false;
        }
        self.have += payload.len();
        self.pieces.insert(place.offset, payload.to_vec());
        true
    }

    fn assemble(self) -> Option<Vec<u8>> {
        let mut packet = self.header?;
        let start = packet.len();
        self.pieces
            .into_values()
            .for_each(|piece| packet.extend_from_slice(&piece));
        let payload = u16::try_from(packet.len() - start).ok()?;
        match packet.first()? >> 4 {
            4 => {
                let total = u16::try_from(packet.len()).ok()?;
                packet.get_mut(2..4)?.copy_from_slice(&total.to_be_bytes());
                packet.get_mut(6..8)?.fill(0);
                seal_header(packet.get_mut(..start)?);
            }
            _ => packet
                .get_mut(4..6)?
                .copy_from_slice(&payload.to_be_bytes()),
        }
        Some(packet)
    }
}

/// Computes an IPv4 header's checksum anew.
fn seal_header(header: &mut [u8]) {
    if let Some(sum) = header.get_mut(10..12) {
        sum.fill(0);
    }
    let sum = checksum::of(header);
    if let Some(place) = header.get_mut(10..12) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
}

fn place(view: &IpView<'_>) -> Option<Place> {
    let bytes = view.bytes();
    match view.src() {
        IpAddr::V4(_) => {
            let [a, b, c, d] = *bytes.get(4..)?.first_chunk::<4>()?;
            let word = u16::from_be_bytes([c, d]);
            Some(Place {
                id: u16::from_be_bytes([a, b]).into(),
                offset: usize::from(word & 0x1fff) * 8,
                more: word & 0x2000 != 0,
            })
        }
        IpAddr::V6(_) => {
            let [_, _, a, b, id @ ..] = *bytes.get(40..)?.first_chunk::<FRAGMENT_HEADER>()?;
            let word = u16::from_be_bytes([a, b]);
            Some(Place {
                id: u32::from_be_bytes(id),
                offset: usize::from(word & 0xfff8),
                more: word & 1 != 0,
            })
        }
    }
}

/// The IP header as it would be without fragmentation, but for lengths and checksum.
fn header(view: &IpView<'_>) -> Option<Vec<u8>> {
    let bytes = view.bytes();
    match view.src() {
        IpAddr::V4(_) => Some(bytes.get(..view.transport_offset())?.to_vec()),
        IpAddr::V6(_) => {
            let mut header = bytes.get(..40)?.to_vec();
            *header.get_mut(6)? = view.proto().0;
            Some(header)
        }
    }
}

/// Cuts a packet of ours, which has no options or extension headers, into fragments of at most `mtu` bytes.
pub(crate) fn cut(packet: &[u8], mtu: usize, id: u32) -> Vec<Vec<u8>> {
    let v4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
    let Some((header, payload)) = packet.split_at_checked(if v4 { 20 } else { 40 }) else {
        return Vec::new();
    };
    let extra = if v4 { 0 } else { FRAGMENT_HEADER };
    let most = (mtu.saturating_sub(header.len() + extra) / 8 * 8).max(8);
    let last = payload.len().div_ceil(most).saturating_sub(1);
    payload
        .chunks(most)
        .enumerate()
        .map(|(n, piece)| {
            let offset = (n * most) as u16;
            let mut fragment = header.to_vec();
            if v4 {
                write_v4(&mut fragment, piece.len(), id, offset, n < last);
            } else {
                write_v6(&mut fragment, piece.len(), id, offset, n < last);
            }
            fragment.extend_from_slice(piece);
            fragment
        })
        .collect()
}

fn write_v4(header: &mut [u8], len: usize, id: u32, offset: u16, more: bool) {
    let Ok(header) = <&mut [u8; 20]>::try_from(header) else {
        return;
    };
    let total = (header.len() + len) as u16;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[4..6].copy_from_slice(&(id as u16).to_be_bytes());
    let word = (offset / 8) | if more { 0x2000 } else { 0 };
    header[6..8].copy_from_slice(&word.to_be_bytes());
    seal_header(header);
}

fn write_v6(header: &mut Vec<u8>, len: usize, id: u32, offset: u16, more: bool) {
    let payload = (FRAGMENT_HEADER + len) as u16;
    let mut next = 0;
    if let Some([a, b, protocol]) = header.get_mut(4..7) {
        [*a, *b] = payload.to_be_bytes();
        next = std::mem::replace(protocol, packet::Proto::FRAGMENT6.0);
    }
    let word = offset | u16::from(more);
    header.extend_from_slice(&[next, 0]);
    header.extend_from_slice(&word.to_be_bytes());
    header.extend_from_slice(&id.to_be_bytes());
}

#[cfg(test)]
mod tests;
