//! A sorted map whose copies share what they have in common.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Entries per chunk before it is split. A change of a shared map copies one chunk and the list of chunks.
const CHUNK: usize = 128;

type Chunk<K, V> = Arc<Vec<(K, V)>>;
type Entries<'a, K, V> = Vec<&'a (K, V)>;

/// A sorted map in chunks. `clone` is one reference count; a change of one entry copies one chunk of at most 128
/// entries, and the list of chunks, if they are shared.
pub struct ChunkMap<K, V> {
    chunks: Arc<Vec<Chunk<K, V>>>,
    len: usize,
}

impl<K: Ord + Clone, V: Clone> ChunkMap<K, V> {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        let chunk = self.chunks.get(self.chunk_of(key))?;
        let at = chunk.binary_search_by(|(k, _)| k.cmp(key)).ok()?;
        chunk.get(at).map(|(_, value)| value)
    }

    /// Whether the key is there.
    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Sets a value and returns the one that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let index = self.chunk_of(&key);
        let chunks = Arc::make_mut(&mut self.chunks);
        let Some(chunk) = chunks.get_mut(index) else {
            chunks.push(Arc::new(vec![(key, value)]));
            self.len += 1;
            return None;
        };
        let entries = Arc::make_mut(chunk);
        match entries.binary_search_by(|(k, _)| k.cmp(&key)) {
            Ok(at) => Some(std::mem::replace(&mut entries[at].1, value)),
            Err(at) => {
                entries.insert(at, (key, value));
                self.len += 1;
                if entries.len() > CHUNK {
                    // In the order of their keys, entries fill one chunk after the other.
                    let is_append = at + 1 == entries.len();
                    let keep = if is_append { CHUNK } else { CHUNK / 2 };
                    let tail = entries.split_off(keep);
                    entries.shrink_to_fit();
                    chunks.insert(index + 1, Arc::new(tail));
                }
                None
            }
        }
    }

    /// Removes a key and returns its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let index = self.chunk_of(key);
        let at = self
            .chunks
            .get(index)?
            .binary_search_by(|(k, _)| k.cmp(key))
            .ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let entries = Arc::make_mut(chunks.get_mut(index)?);
        let (_, value) = entries.remove(at);
        self.len -= 1;
        let left = entries.len();
        if left < CHUNK / 4 {
            Self::merge_into_neighbour(chunks, index, left);
        }
        Some(value)
    }

    /// Keeps the number of chunks proportional to the number of entries.
    fn merge_into_neighbour(chunks: &mut Vec<Chunk<K, V>>, index: usize, left: usize) {
        let Some(before) = index.checked_sub(1) else {
            if left == 0 {
                chunks.remove(index);
            }
            return;
        };
        if chunks[before].len() + left <= CHUNK {
            let tail = chunks.remove(index);
            Arc::make_mut(&mut chunks[before]).extend(tail.iter().cloned());
        }
    }

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.iter().map(|(k, v)| (k, v)))
    }

    /// The entries from a key on, in order.
    pub fn iter_from<'a>(&'a self, key: &K) -> impl Iterator<Item = (&'a K, &'a V)> {
        let index = self.chunk_of(key);
        let skip = self
            .chunks
            .get(index)
            .map_or(0, |chunk| chunk.partition_point(|(k, _)| k < key));
        self.chunks
            .iter()
            .skip(index)
            .flat_map(|chunk| chunk.iter())
            .skip(skip)
            .map(|(k, v)| (k, v))
    }

    /// All keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The first entry.
    #[must_use]
    pub fn first(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// What may differ from an older copy: for each such key, the value there and the value here. Costs as much as was
    /// changed since; entries of a chunk that was copied come even if they are equal.
    pub fn since<'a>(&'a self, old: &'a Self) -> Vec<(&'a K, Option<&'a V>, Option<&'a V>)> {
        let (before, after) = Self::unshared(&old.chunks, &self.chunks);
        let mut before = before.into_iter().peekable();
        let mut after = after.into_iter().peekable();
        let mut out = Vec::new();
        loop {
            let order = match (before.peek(), after.peek()) {
                (Some((b, _)), Some((a, _))) => b.cmp(a),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return out,
            };
            let was = before.next_if(|_| order.is_le());
            let is = after.next_if(|_| order.is_ge());
            if let Some((key, _)) = was.or(is) {
                out.push((key, was.map(|(_, v)| v), is.map(|(_, v)| v)));
            }
        }
    }

    /// The entries of each side's chunks that the other side does not have.
    fn unshared<'a>(
        mut old: &'a [Chunk<K, V>],
        mut new: &'a [Chunk<K, V>],
    ) -> (Entries<'a, K, V>, Entries<'a, K, V>) {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        loop {
            match (old.split_first(), new.split_first()) {
                (Some((o, rest_o)), Some((n, rest_n))) if Arc::ptr_eq(o, n) => {
                    (old, new) = (rest_o, rest_n);
                }
                // A chunk that both have starts with the same key on both sides, so the lower one has no partner.
                (Some((o, rest)), other)
                    if other.is_none_or(|(n, _)| first_key(o) <= first_key(n)) =>
                {
                    before.extend(o.iter());
                    old = rest;
                }
                (_, Some((n, rest))) => {
                    after.extend(n.iter());
                    new = rest;
                }
                (_, None) => return (before, after),
            }
        }
    }

    /// The chunk that holds the key if any does; the last one for keys beyond all.
    fn chunk_of(&self, key: &K) -> usize {
        self.chunks
            .partition_point(|chunk| chunk.first().is_some_and(|(first, _)| first <= key))
            .saturating_sub(1)
    }
}

fn first_key<K, V>(chunk: &Chunk<K, V>) -> Option<&K> {
    chunk.first().map(|(key, _)| key)
}

impl<K, V> Default for ChunkMap<K, V> {
    fn default() -> Self {
        Self {
            chunks: Arc::new(Vec::new()),
            len: 0,
        }
    }
}

impl<K, V> Clone for ChunkMap<K, V> {
    fn clone(&self) -> Self {
        Self {
            chunks: Arc::clone(&self.chunks),
            len: self.len,
        }
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for ChunkMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K: Ord + Clone + PartialEq, V: Clone + PartialEq> PartialEq for ChunkMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len
            && (Arc::ptr_eq(&self.chunks, &other.chunks) || self.iter().eq(other.iter()))
    }
}

impl<K: Ord + Clone + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug for ChunkMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_change_copies_one_chunk() {
        let mut map: ChunkMap<u32, u32> = (0..10_000).map(|n| (n, n)).collect();
        let before = map.clone();
        map.insert(5_000, 1);
        let shared = map
            .chunks
            .iter()
            .filter(|chunk| before.chunks.iter().any(|old| Arc::ptr_eq(old, chunk)))
            .count();
        assert_eq!(shared, map.chunks.len() - 1);
        assert_eq!(map.chunks.len(), 10_000_usize.div_ceil(CHUNK));
        assert_eq!(
            (before.get(&5_000), map.get(&5_000)),
            (Some(&5_000), Some(&1))
        );
    }

    /// What `since` names turns the older copy into the newer one.
    fn check_since(new: &ChunkMap<u16, usize>, old: &ChunkMap<u16, usize>) {
        let since = new.since(old);
        assert!(since.is_sorted_by(|a, b| a.0 < b.0));
        let mut patched: BTreeMap<u16, usize> = old.iter().map(|(k, v)| (*k, *v)).collect();
        for (key, was, is) in since {
            assert_eq!(patched.remove(key).as_ref(), was);
            patched.extend(is.map(|is| (*key, *is)));
        }
        assert!(new.iter().eq(patched.iter()));
    }

    proptest! {
        #[test]
        fn behaves_as_a_btree_map(steps in prop::collection::vec((any::<bool>(), 0u16..600), 0..1200)) {
            let mut map = ChunkMap::new();
            let mut model = BTreeMap::new();
            let mut snapshot = (map.clone(), model.clone());
            for (step, (insert, key)) in steps.into_iter().enumerate() {
                if step % 50 == 0 {
                    snapshot = (map.clone(), model.clone());
                }
                if insert {
                    prop_assert_eq!(map.insert(key, step), model.insert(key, step));
                } else {
                    prop_assert_eq!(map.remove(&key), model.remove(&key));
                }
                if step % 7 == 0 {
                    check_since(&map, &snapshot.0);
                }
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.get(&key), model.get(&key));
                if step % 64 == 0 {
                    prop_assert!(snapshot.0.iter().eq(snapshot.1.iter()));
                    prop_assert!(map.iter_from(&key).eq(model.range(key..)));
                }
            }
            prop_assert!(map.iter().eq(model.iter()));
            prop_assert!(map.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK));
        }
    }
}
