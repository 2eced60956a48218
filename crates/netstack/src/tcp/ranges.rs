//! Which parts of the sent stream the other side has reported out of order (the scoreboard of RFC 6675).

use std::collections::BTreeMap;

/// Disjoint, non-adjacent, non-empty ranges of stream offsets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ranges {
    by_start: BTreeMap<u64, u64>,
    total: u64,
}

impl Ranges {
    /// More ranges than a window of one's own has packets are not kept: a peer could make us hold them.
    const MAX: usize = 8192;

    /// Bytes covered.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn clear(&mut self) {
        self.by_start.clear();
        self.total = 0;
    }

    /// The end of the last range.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.by_start.last_key_value().map(|(_, end)| *end)
    }

    /// Adds `from..to`; true if any of it was missing.
    pub(crate) fn insert(&mut self, from: u64, to: u64) -> bool {
        if from >= to || self.covers(from, to) || self.by_start.len() >= Self::MAX {
            return false;
        }
        let (mut from, mut to) = (from, to);
        // Everything that starts at or before `to` and ends at or after `from` melts into one.
        while let Some((&start, &end)) = self.by_start.range(..=to).next_back() {
            if end < from {
                break;
            }
            self.by_start.remove(&start);
            self.total -= end - start;
            from = from.min(start);
            to = to.max(end);
        }
        self.by_start.insert(from, to);
        self.total += to - from;
        true
    }

    /// Forgets everything below `edge`.
    pub(crate) fn forget_below(&mut self, edge: u64) {
        while let Some((&start, &end)) = self.by_start.first_key_value() {
            if start >= edge {
                return;
            }
            self.by_start.remove(&start);
            self.total -= end - start;
            if end > edge {
                self.by_start.insert(edge, end);
                self.total += end - edge;
            }
        }
    }

    fn covers(&self, from: u64, to: u64) -> bool {
        self.by_start
            .range(..=from)
            .next_back()
            .is_some_and(|(_, end)| *end >= to)
    }

    /// The first hole at or after `from` and below `limit`.
    pub(crate) fn hole(&self, from: u64, limit: u64) -> Option<(u64, u64)> {
        let mut start = from;
        if let Some((_, &end)) = self.by_start.range(..=from).next_back() {
            start = start.max(end);
        }
        if start >= limit {
            return None;
        }
        // The range behind cannot start at `start`: ranges are not adjacent, and one that covers it was skipped.
        let end = self
            .by_start
            .range(start..)
            .next()
            .map_or(limit, |(&next, _)| next.min(limit));
        (start < end).then_some((start, end))
    }

    /// Bytes within `from..to` that are not covered.
    pub(crate) fn missing(&self, from: u64, to: u64) -> u64 {
        if from >= to {
            return 0;
        }
        let mut covered = 0;
        if let Some((_, &end)) = self.by_start.range(..from).next_back() {
            covered += end.min(to).saturating_sub(from);
        }
        for (&start, &end) in self.by_start.range(from..to) {
            covered += end.min(to) - start;
        }
        to - from - covered
    }

    /// The highest offset above which more than `bytes` are covered: what lies below and is not covered is lost.
    pub(crate) fn edge_below(&self, bytes: u64) -> Option<u64> {
        let mut above = 0;
        for (&start, &end) in self.by_start.iter().rev() {
            above += end - start;
            if above > bytes {
                return Some(start);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set_of_bytes(
            inserts in prop::collection::vec((0u64..100, 0u64..20), 0..20),
            edge in 0u64..120, from in 0u64..120, len in 0u64..120,
        ) {
            let mut ranges = Ranges::default();
            let mut model = [false; 256];
            for (start, len) in inserts {
                let fresh = (start..start + len).any(|i| !model[i as usize]);
                prop_assert_eq!(ranges.insert(start, start + len), fresh);
                model[start as usize..(start + len) as usize].fill(true);
            }
            ranges.forget_below(edge);
            model[..edge as usize].fill(false);
            prop_assert_eq!(ranges.total(), model.iter().filter(|b| **b).count() as u64);
            prop_assert_eq!(ranges.highest().map(|end| end - 1), model.iter().rposition(|b| *b).map(|i| i as u64));
            let part = &model[from as usize..(from + len) as usize];
            prop_assert_eq!(ranges.missing(from, from + len), part.iter().filter(|b| !**b).count() as u64);
            let hole = part.iter().position(|b| !*b).map(|at| {
                let end = part[at..].iter().position(|b| *b).map_or(part.len(), |n| at + n);
                (from + at as u64, from + end as u64)
            });
            prop_assert_eq!(ranges.hole(from, from + len), hole);
        }
    }
}
