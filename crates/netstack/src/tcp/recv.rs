//! The receiving half of a connection: putting segments in order, and how much the other side may send.

use std::collections::{BTreeMap, VecDeque};

use super::segment::SackBlocks;
use super::send::{ORIGIN, near};

/// Our shift: windows up to 16 MiB, in steps of 256 bytes.
pub(crate) const WINDOW_SCALE: u8 = 8;
/// Where the window starts; it doubles with each windowful that is read in time.
const FIRST_WINDOW: usize = 128 << 10;
/// Pieces kept out of order. A peer that sends single bytes with gaps must not make us hold a node for each.
const MAX_PIECES: usize = 4096;
/// Blocks in one acknowledgement.
const MAX_SACK: usize = 3;

#[derive(Debug)]
pub(crate) struct RecvHalf {
    irs: u32,
    nxt: u64,
    /// First offset that the other side was not told it may send.
    edge: u64,
    ready: VecDeque<u8>,
    /// Disjoint pieces behind a gap, by offset.
    pieces: BTreeMap<u64, Vec<u8>>,
    /// The piece that the last segment went into.
    newest: u64,
    fin: Option<u64>,
    limit: usize,
    max: usize,
    read_since_growth: usize,
    pub(crate) scale: u8,
    /// The application reads no more: bytes are counted, not kept.
    discard: bool,
}

/// What a segment's bytes did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Taken {
    /// Bytes or the end of the stream became readable.
    pub(crate) progress: bool,
    /// It arrived out of order, filled a gap, or was seen before: the sender should know at once.
    pub(crate) ack_at_once: bool,
}

impl RecvHalf {
    pub(crate) fn new(irs: u32, max: usize) -> Self {
        let limit = FIRST_WINDOW.min(max);
        Self {
            irs,
            nxt: ORIGIN + 1,
            // The window of a SYN is not scaled.
            edge: ORIGIN + 1 + limit.min(usize::from(u16::MAX)) as u64,
            ready: VecDeque::new(),
            pieces: BTreeMap::new(),
            newest: 0,
            fin: None,
            limit,
            max,
            read_since_growth: 0,
            scale: WINDOW_SCALE,
            discard: false,
        }
    }

    pub(crate) fn offset(&self, seq: u32) -> u64 {
        near(self.nxt, self.seq(self.nxt), seq)
    }

    pub(crate) fn seq(&self, offset: u64) -> u32 {
        self.irs.wrapping_add(offset.wrapping_sub(ORIGIN) as u32)
    }

    pub(crate) fn nxt(&self) -> u64 {
        self.nxt
    }

    /// Whether the other side has ended its stream and all of it is here.
    pub(crate) fn finished(&self) -> bool {
        self.fin.is_some_and(|fin| self.nxt > fin)
    }

    pub(crate) fn readable(&self) -> usize {
        self.ready.len()
    }

    /// Whether a segment at `from` that takes `len` of the sequence space touches the window (RFC 9293 3.10.7.4). At the
    /// left edge anything is let in, so that acknowledgements work while the window is closed.
    pub(crate) fn acceptable(&self, from: u64, len: u64) -> bool {
        if from == self.nxt {
            return true;
        }
        if len == 0 {
            return from > self.nxt && from <= self.edge;
        }
        from < self.edge && from + len > self.nxt
    }

    /// Takes the bytes of a segment, and the FIN behind them.
    pub(crate) fn handle_data(&mut self, from: u64, payload: &[u8], fin: bool) -> Taken {
        let end = from + payload.len() as u64;
        let mut taken = Taken::default();
        if fin && self.fin.is_none() && end >= self.nxt && end <= self.edge {
            self.fin = Some(end);
        }
        let skip = self.nxt.saturating_sub(from);
        let stop = self
            .edge
            .min(self.fin.unwrap_or(u64::MAX))
            .saturating_sub(from);
        let stop = usize::try_from(stop)
            .unwrap_or(usize::MAX)
            .min(payload.len());
        let part = usize::try_from(skip)
            .ok()
            .and_then(|skip| payload.get(skip..stop))
            .unwrap_or_default();
        let start = from + skip;
        if !part.is_empty() {
            if start == self.nxt {
                taken.ack_at_once = !self.pieces.is_empty();
                self.append(part);
                self.join_pieces();
                taken.progress = true;
            } else {
                taken.ack_at_once = true;
                self.keep_piece(start, part);
            }
        } else if !payload.is_empty() {
            taken.ack_at_once = true;
        }
        if self.fin == Some(self.nxt) {
            self.nxt += 1;
            self.edge = self.edge.max(self.nxt);
            taken.progress = true;
            taken.ack_at_once = true;
        }
        taken
    }

    fn append(&mut self, bytes: &[u8]) {
        self.nxt += bytes.len() as u64;
        if !self.discard {
            self.ready.extend(bytes);
        }
    }

    fn join_pieces(&mut self) {
        while let Some(entry) = self.pieces.first_entry() {
            if *entry.key() > self.nxt {
                return;
            }
            let (start, piece) = entry.remove_entry();
            let skip = usize::try_from(self.nxt - start).unwrap_or(usize::MAX);
            self.append(piece.get(skip..).unwrap_or_default());
        }
    }

    /// Keeps what of `bytes` is not there yet.
    fn keep_piece(&mut self, start: u64, bytes: &[u8]) {
        let (mut start, mut bytes) = (start, bytes);
        while !bytes.is_empty() {
            // Up to the next piece, then behind it.
            let next = self
                .pieces
                .range(start..)
                .next()
                .map(|(at, piece)| (*at, piece.len()));
            let gap = match next {
                Some((at, _)) => usize::try_from(at - start).unwrap_or(usize::MAX),
                None => usize::MAX,
            };
            let (fresh, rest) = bytes.split_at_checked(gap).unwrap_or((bytes, &[]));
            let skipped = self.extend_piece(start, fresh);
            self.newest = skipped;
            let Some((at, len)) = next else { return };
            if rest.is_empty() {
                return;
            }
            start = at + len as u64;
            bytes = rest.get(len..).unwrap_or_default();
        }
    }

    /// Adds bytes that touch no later piece, to the piece before them if it reaches them. Tells that piece's start.
    fn extend_piece(&mut self, start: u64, bytes: &[u8]) -> u64 {
        if let Some((&at, piece)) = self.pieces.range_mut(..=start).next_back() {
            let end = at + piece.len() as u64;
            if end >= start {
                let skip = usize::try_from(end - start).unwrap_or(usize::MAX);
                piece.extend_from_slice(bytes.get(skip..).unwrap_or_default());
                return at;
            }
        }
        if !bytes.is_empty() && self.pieces.len() < MAX_PIECES {
            self.pieces.insert(start, bytes.to_vec());
        }
        start
    }

    /// What is here behind gaps, the newest first (RFC 2018 4).
    pub(crate) fn sack(&self) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        let block =
            |(at, piece): (&u64, &Vec<u8>)| (self.seq(*at), self.seq(*at + piece.len() as u64));
        if let Some(piece) = self.pieces.get(&self.newest) {
            blocks.push(block((&self.newest, piece)));
        }
        // The highest ones tell most about what is lost; the lower were reported when they were new.
        for entry in self
            .pieces
            .iter()
            .rev()
            .filter(|(at, _)| **at != self.newest)
        {
            if blocks.as_slice().len() >= MAX_SACK {
                break;
            }
            blocks.push(block(entry));
        }
        blocks
    }

    pub(crate) fn has_gaps(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// Copies what is ready; zero if nothing is.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> usize {
        let (front, back) = self.ready.as_slices();
        let mut done = 0;
        for part in [front, back] {
            let Some(space) = into.get_mut(done..) else {
                break;
            };
            let n = part.len().min(space.len());
            if let (Some(to), Some(from)) = (space.get_mut(..n), part.get(..n)) {
                to.copy_from_slice(from);
            }
            done += n;
        }
        self.ready.drain(..done);
        self.grow(done);
        done
    }

    /// Appends what is ready to `into`, up to `limit` bytes in all; an empty one is swapped instead of filled.
    pub(crate) fn read_into(&mut self, into: &mut VecDeque<u8>, limit: usize) -> usize {
        let n = limit.saturating_sub(into.len()).min(self.ready.len());
        if into.is_empty() && n == self.ready.len() {
            std::mem::swap(into, &mut self.ready);
        } else {
            let (front, back) = self.ready.as_slices();
            let split = front.len().min(n);
            into.extend(front.get(..split).unwrap_or_default());
            into.extend(back.get(..n - split).unwrap_or_default());
            self.ready.drain(..n);
        }
        self.grow(n);
        n
    }

    fn grow(&mut self, read: usize) {
        self.read_since_growth += read;
        if self.read_since_growth < self.limit {
            return;
        }
        self.read_since_growth = 0;
        // A reader that lags gains nothing from a larger window.
        if self.ready.len() < self.limit / 4 {
            self.limit = (self.limit * 2).min(self.max);
        }
    }

    /// The edge that our memory allows. What is out of order lies inside of it.
    fn wanted_edge(&self) -> u64 {
        self.nxt + self.limit.saturating_sub(self.ready.len()) as u64
    }

    /// Whether the other side should hear about the room that reading made.
    pub(crate) fn window_update_due(&self) -> bool {
        if self.fin.is_some() {
            return false;
        }
        let gain = self.wanted_edge().saturating_sub(self.edge);
        gain >= self.limit as u64 / 4
    }

    /// The window field of the next segment; the other side may use it from there on.
    pub(crate) fn advertise(&mut self) -> u16 {
        let wanted = self.wanted_edge();
        // Receiver's side of silly windows (RFC 9293 3.8.6.2.2): open by steps worth a segment, never shrink.
        if wanted >= self.edge + (self.limit as u64 / 16) {
            self.edge = wanted;
        }
        let window = self.edge.saturating_sub(self.nxt) >> self.scale;
        u16::try_from(window).unwrap_or(u16::MAX)
    }

    /// The other side does not scale windows.
    pub(crate) fn unscaled(&mut self) {
        self.scale = 0;
        self.max = self.max.min(usize::from(u16::MAX));
        self.limit = self.limit.min(self.max);
    }

    /// The window field of a SYN, which is never scaled.
    pub(crate) fn syn_window(&self) -> u16 {
        u16::try_from(self.edge.saturating_sub(self.nxt)).unwrap_or(u16::MAX)
    }

    /// From here on nobody reads.
    pub(crate) fn discard(&mut self) {
        self.discard = true;
        self.ready = VecDeque::new();
    }

    /// Gives back memory that an idle connection does not need.
    pub(crate) fn trim(&mut self) {
        if self.ready.is_empty() {
            self.ready = VecDeque::new();
        }
    }

    pub(crate) fn holds_memory(&self) -> bool {
        self.ready.is_empty() && self.ready.capacity() > 0
    }
}
