//! ChaCha20 (RFC 8439, 2.3), 16 blocks side by side: vector `i` holds word `i` of each block's state. Two such sets are made in
//! turn, so that the one computes while the other waits; together they fill the 32 registers.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_mask_storeu_epi8,
    _mm512_maskz_loadu_epi8, _mm512_rol_epi32, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64, _mm512_xor_si512,
};

/// Bytes of a block.
pub(super) const BLOCK: usize = 64;
/// Blocks of a set.
const LANES: usize = 16;
/// The most blocks made at once.
const MOST: usize = 2 * LANES;

/// "expand 32-byte k".
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Which blocks are made, and where in a buffer they go.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    block: [[u32; LANES]; 2],
    counter_low: [[u32; LANES]; 2],
    counter_high: [[u32; LANES]; 2],
    start: [usize; MOST],
    len: [usize; MOST],
    count: usize,
}

impl Lanes {
    /// Block `block` of the packet with that counter, for `len` bytes at `start`. There must be room.
    #[inline(always)]
    pub(super) fn push(&mut self, block: u32, counter: u64, start: usize, len: usize) {
        let at = self.count % MOST;
        let (set, lane) = (at / LANES, at % LANES);
        self.block[set][lane] = block;
        self.counter_low[set][lane] = counter as u32;
        self.counter_high[set][lane] = (counter >> 32) as u32;
        self.start[at] = start;
        self.len[at] = len;
        self.count += 1;
    }

    pub(super) fn is_full(&self) -> bool {
        self.count == MOST
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn clear(&mut self) {
        self.count = 0;
    }
}

/// x += y, then z = (z ^ x) <<< n, for the same quarter round of all sets.
macro_rules! half {
    ($v:ident, $sets:ident, $n:literal, $([$x:literal, $y:literal, $z:literal]),*) => {
        for set in 0..$sets {
            $($v[set][$x] = _mm512_add_epi32($v[set][$x], $v[set][$y]);)*
            $($v[set][$z] = _mm512_xor_si512($v[set][$z], $v[set][$x]);)*
            $($v[set][$z] = _mm512_rol_epi32::<$n>($v[set][$z]);)*
        }
    };
}

/// Four quarter rounds that have nothing in common, in step.
macro_rules! quarters {
    ($v:ident, $sets:ident, $([$a:literal, $b:literal, $c:literal, $d:literal]),*) => {
        half!($v, $sets, 16, $([$a, $b, $d]),*);
        half!($v, $sets, 12, $([$c, $d, $b]),*);
        half!($v, $sets, 8, $([$a, $b, $d]),*);
        half!($v, $sets, 7, $([$c, $d, $b]),*);
    };
}

/// Makes the blocks and adds each to its place.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
pub(super) fn xor(key: &[u32; 8], lanes: &Lanes, buffer: &mut [u8]) {
    match lanes.count > LANES {
        true => xor_sets::<2>(key, lanes, buffer),
        false => xor_sets::<1>(key, lanes, buffer),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
#[inline]
fn xor_sets<const SETS: usize>(key: &[u32; 8], lanes: &Lanes, buffer: &mut [u8]) {
    let mut v = [initial(key, lanes, 0); SETS];
    for (set, v) in v.iter_mut().enumerate().skip(1) {
        *v = initial(key, lanes, set);
    }
    for _ in 0..10 {
        quarters!(
            v,
            SETS,
            [0, 4, 8, 12],
            [1, 5, 9, 13],
            [2, 6, 10, 14],
            [3, 7, 11, 15]
        );
        quarters!(
            v,
            SETS,
            [0, 5, 10, 15],
            [1, 6, 11, 12],
            [2, 7, 8, 13],
            [3, 4, 9, 14]
        );
    }
    for (set, mut v) in v.into_iter().enumerate() {
        for (vector, initial) in v.iter_mut().zip(initial(key, lanes, set)) {
            *vector = _mm512_add_epi32(*vector, initial);
        }
        let first = set * LANES;
        for (at, block) in (first..lanes.count).zip(transpose(v)) {
            add(buffer, lanes.start[at], lanes.len[at], block);
        }
    }
}

/// The state of a set's blocks before the first round.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
#[inline]
fn initial(key: &[u32; 8], lanes: &Lanes, set: usize) -> [__m512i; 16] {
    let mut v = [_mm512_setzero_si512(); 16];
    for (vector, word) in v.iter_mut().zip(CONSTANTS.iter().chain(key)) {
        *vector = _mm512_set1_epi32(*word as i32);
    }
    v[12] = load(&lanes.block[set]);
    v[14] = load(&lanes.counter_low[set]);
    v[15] = load(&lanes.counter_high[set]);
    v
}

/// From a word of each block to all words of one.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
#[inline]
fn transpose(v: [__m512i; 16]) -> [__m512i; 16] {
    let mut rows = v;
    for group in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| v[4 * group + i]);
        let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        // Now vector `i` has the group's four words of blocks i, i+4, i+8 and i+12, a quarter each.
        rows[4 * group] = _mm512_unpacklo_epi64(ab_low, cd_low);
        rows[4 * group + 1] = _mm512_unpackhi_epi64(ab_low, cd_low);
        rows[4 * group + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
        rows[4 * group + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
    }
    let mut blocks = v;
    for i in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|group| rows[4 * group + i]);
        let even_ab = _mm512_shuffle_i32x4::<0x88>(a, b);
        let odd_ab = _mm512_shuffle_i32x4::<0xdd>(a, b);
        let even_cd = _mm512_shuffle_i32x4::<0x88>(c, d);
        let odd_cd = _mm512_shuffle_i32x4::<0xdd>(c, d);
        blocks[i] = _mm512_shuffle_i32x4::<0x88>(even_ab, even_cd);
        blocks[i + 4] = _mm512_shuffle_i32x4::<0x88>(odd_ab, odd_cd);
        blocks[i + 8] = _mm512_shuffle_i32x4::<0xdd>(even_ab, even_cd);
        blocks[i + 12] = _mm512_shuffle_i32x4::<0xdd>(odd_ab, odd_cd);
    }
    blocks
}

/// Adds the first `len` bytes of a block to what is at `start`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
#[inline]
fn add(buffer: &mut [u8], start: usize, len: usize, block: __m512i) {
    let Some(place) = buffer.get_mut(start..start + len) else {
        return;
    };
    let at = place.as_mut_ptr();
    if len == BLOCK {
        // SAFETY: `place` is 64 bytes that are ours to read and write.
        unsafe {
            let text = _mm512_loadu_si512(at.cast());
            _mm512_storeu_si512(at.cast(), _mm512_xor_si512(text, block));
        }
    } else if len > 0 && len < BLOCK {
        let mask = u64::MAX >> (BLOCK - len);
        // SAFETY: the mask has one bit for each byte of `place`, and bytes outside it are not touched.
        unsafe {
            let text = _mm512_maskz_loadu_epi8(mask, at.cast());
            _mm512_mask_storeu_epi8(at.cast(), mask, _mm512_xor_si512(text, block));
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
#[inline]
fn load(words: &[u32; LANES]) -> __m512i {
    // SAFETY: it is 64 bytes of plain numbers.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}
