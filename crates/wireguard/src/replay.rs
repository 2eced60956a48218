//! The sliding window that lets each counter through once (RFC 6479).

/// Remembers which of the latest counters have been seen.
///
/// Blocks form a ring, of which one is always being overwritten, so the window is one block shorter than the ring.
#[derive(Clone)]
pub struct ReplayWindow {
    /// One more than the highest counter seen.
    next: u64,
    ring: [u64; BLOCKS as usize],
}

const BLOCKS: u64 = 256;
const BLOCK_BITS: u64 = 64;

impl Default for ReplayWindow {
    fn default() -> Self {
        Self {
            next: 0,
            ring: [0; BLOCKS as usize],
        }
    }
}

impl ReplayWindow {
    /// How far behind the highest counter one may be and still pass: 16 320, twice the originals' window, so that
    /// several sending threads with their own counter ranges fit in.
    pub const SIZE: u64 = (BLOCKS - 1) * BLOCK_BITS;

    /// Whether `counter` would be accepted: in or ahead of the window, and new.
    pub fn would_accept(&self, counter: u64) -> bool {
        if counter >= self.next {
            return true;
        }
        if self.next - counter > Self::SIZE {
            return false;
        }
        let (block, bit) = place(counter);
        self.ring[block] & bit == 0
    }

    /// Accepts `counter` if it is new. Only for authenticated messages.
    pub fn accept(&mut self, counter: u64) -> bool {
        if !self.would_accept(counter) {
            return false;
        }
        if counter >= self.next {
            let old = self.next / BLOCK_BITS;
            let new = counter / BLOCK_BITS;
            // The block that holds `next` may be untouched so far; blocks after it are stale.
            for block in (old..=new).take(BLOCKS as usize + 1) {
                if block * BLOCK_BITS >= self.next {
                    self.ring[(block % BLOCKS) as usize] = 0;
                }
            }
            self.next = counter.saturating_add(1);
        }
        let (block, bit) = place(counter);
        self.ring[block] |= bit;
        true
    }
}

fn place(counter: u64) -> (usize, u64) {
    (
        (counter / BLOCK_BITS % BLOCKS) as usize,
        1 << (counter % BLOCK_BITS),
    )
}

#[cfg(test)]
mod tests;
