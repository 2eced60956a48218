//! Poly1305 (RFC 8439, 2.5), eight packets side by side, and two such groups in turn so that the one computes while the other waits.
//!
//! A number modulo 2^130 - 5 has limbs of 44, 44 and 42 bits. A product of limbs comes in two halves, the lower 52 bits and
//! those above; what is above counts 2^52, which is 2^8 times the next limb's 2^44, or 2^10 times 2^130, that is 5.

use std::arch::x86_64::{
    __m512i, __mmask8, _mm512_add_epi64, _mm512_and_si512, _mm512_cmpgt_epu64_mask,
    _mm512_loadu_si512, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_mask_mov_epi64,
    _mm512_maskz_loadu_epi8, _mm512_or_si512, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_shrdi_epi64, _mm512_shuffle_i64x2, _mm512_slli_epi64, _mm512_srli_epi64,
    _mm512_storeu_si512, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use zeroize::Zeroize as _;

use super::AT_ONCE;
use crate::{Place, TAG_LEN};

/// r and s.
pub(super) type PolyKey = [u8; 32];

/// Packets of a group.
const LANES: usize = 8;
/// Bytes read of each packet at once.
const CHUNK: usize = 64;
/// Blocks of a chunk.
const BLOCKS: usize = 4;

const MASK44: u64 = (1 << 44) - 1;
const MASK42: u64 = (1 << 42) - 1;
/// Bits of r that must be zero (RFC 8439, 2.5.1).
const CLAMP: u128 = 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff;

/// The tag of each packet: over its cipher text, filled up with zeroes, and both lengths (RFC 8439, 2.8).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
pub(super) fn tags(
    keys: &[PolyKey; AT_ONCE],
    buffer: &[u8],
    places: &[Place],
) -> [[u8; TAG_LEN]; AT_ONCE] {
    let mut tags = [[0; TAG_LEN]; AT_ONCE];
    if places.len() <= LANES {
        let mut groups = [Group::new(keys, places)];
        run(&mut groups, buffer);
        groups[0].finish(keys, &mut tags);
    } else {
        let (first, second) = places.split_at(LANES);
        let (first_keys, second_keys) = keys.split_at(LANES);
        let (first_tags, second_tags) = tags.split_at_mut(LANES);
        let mut groups = [
            Group::new(first_keys, first),
            Group::new(second_keys, second),
        ];
        run(&mut groups, buffer);
        groups[0].finish(first_keys, first_tags);
        groups[1].finish(second_keys, second_tags);
    }
    tags
}

/// Eight packets. Lanes that have none compute along, and nobody looks.
struct Group {
    r: [__m512i; 3],
    /// 20 times r's upper limbs: what leaves at 2^132 comes back as 5 times 4.
    s: [__m512i; 2],
    h: [__m512i; 3],
    /// Where each packet starts, and how long its text is.
    start: [usize; LANES],
    len: [usize; LANES],
    packets: usize,
    /// Blocks of each packet.
    blocks: __m512i,
}

impl Group {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
    fn new(keys: &[PolyKey], places: &[Place]) -> Self {
        let mut r = [[0; LANES]; 3];
        let (mut start, mut len, mut blocks) = ([0; LANES], [0; LANES], [0; LANES]);
        for (at, (key, place)) in keys.iter().zip(places).enumerate().take(LANES) {
            let number = low_half(key) & CLAMP;
            r[0][at] = number as u64 & MASK44;
            r[1][at] = (number >> 44) as u64 & MASK44;
            r[2][at] = (number >> 88) as u64;
            start[at] = place.range.start;
            len[at] = place.range.len() - TAG_LEN;
            blocks[at] = len[at].div_ceil(16) as u64;
        }
        let limbs = [load(&r[0]), load(&r[1]), load(&r[2])];
        r.zeroize();
        Self {
            r: limbs,
            s: [times20(limbs[1]), times20(limbs[2])],
            h: [_mm512_setzero_si512(); 3],
            start,
            len,
            packets: places.len(),
            blocks: load(&blocks),
        }
    }

    /// Chunks that all packets of the group have whole; lanes without a packet have any.
    fn common_chunks(&self) -> usize {
        let packets = self.len.iter().take(self.packets);
        packets.min().map_or(0, |len| len / CHUNK)
    }

    fn most_chunks(&self) -> usize {
        let most = self.len.iter().max();
        most.map_or(0, |len| len.div_ceil(CHUNK))
    }

    /// The chunk's blocks: lower and upper half of each packet's first, and so on.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
    #[inline]
    fn read(&self, buffer: &[u8], chunk: usize) -> [__m512i; 2 * BLOCKS] {
        let mut rows = [_mm512_setzero_si512(); LANES];
        for (row, (start, len)) in rows.iter_mut().zip(self.start.iter().zip(&self.len)) {
            let left = len.saturating_sub(chunk * CHUNK).min(CHUNK);
            if left > 0 {
                let at = start + chunk * CHUNK;
                *row = load_bytes(buffer.get(at..at + left).unwrap_or_default());
            }
        }
        transpose(rows)
    }

    /// h = (h + block) r, of those lanes that have one.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
    #[inline]
    fn step(&mut self, low: __m512i, high: __m512i, active: Option<__mmask8>) {
        let mask44 = _mm512_set1_epi64(MASK44 as i64);
        let mask42 = _mm512_set1_epi64(MASK42 as i64);
        let zero = _mm512_setzero_si512();
        // The block as limbs, with the bit behind its end.
        let m0 = _mm512_and_si512(low, mask44);
        let m1 = _mm512_and_si512(_mm512_shrdi_epi64::<44>(low, high), mask44);
        let m2 = _mm512_or_si512(_mm512_srli_epi64::<24>(high), _mm512_set1_epi64(1 << 40));
        let h0 = _mm512_add_epi64(self.h[0], m0);
        let h1 = _mm512_add_epi64(self.h[1], m1);
        let h2 = _mm512_add_epi64(self.h[2], m2);
        let [r0, r1, r2] = self.r;
        let [s1, s2] = self.s;

        // The limb that is ready last comes last.
        let mut low0 = _mm512_madd52lo_epu64(zero, h2, s1);
        let mut high0 = _mm512_madd52hi_epu64(zero, h2, s1);
        let mut low1 = _mm512_madd52lo_epu64(zero, h2, s2);
        let mut high1 = _mm512_madd52hi_epu64(zero, h2, s2);
        let mut low2 = _mm512_madd52lo_epu64(zero, h2, r0);
        let mut high2 = _mm512_madd52hi_epu64(zero, h2, r0);
        low0 = _mm512_madd52lo_epu64(low0, h0, r0);
        high0 = _mm512_madd52hi_epu64(high0, h0, r0);
        low1 = _mm512_madd52lo_epu64(low1, h0, r1);
        high1 = _mm512_madd52hi_epu64(high1, h0, r1);
        low2 = _mm512_madd52lo_epu64(low2, h0, r2);
        high2 = _mm512_madd52hi_epu64(high2, h0, r2);
        low0 = _mm512_madd52lo_epu64(low0, h1, s2);
        high0 = _mm512_madd52hi_epu64(high0, h1, s2);
        low1 = _mm512_madd52lo_epu64(low1, h1, r0);
        high1 = _mm512_madd52hi_epu64(high1, h1, r0);
        low2 = _mm512_madd52lo_epu64(low2, h1, r1);
        high2 = _mm512_madd52hi_epu64(high2, h1, r1);

        let carry0 = _mm512_add_epi64(_mm512_srli_epi64::<44>(low0), _mm512_slli_epi64::<8>(high0));
        let low1 = _mm512_add_epi64(low1, carry0);
        let carry1 = _mm512_add_epi64(_mm512_srli_epi64::<44>(low1), _mm512_slli_epi64::<8>(high1));
        let low2 = _mm512_add_epi64(low2, carry1);
        let carry2 = _mm512_add_epi64(
            _mm512_srli_epi64::<42>(low2),
            _mm512_slli_epi64::<10>(high2),
        );
        let times5 = _mm512_add_epi64(carry2, _mm512_slli_epi64::<2>(carry2));
        let low0 = _mm512_add_epi64(_mm512_and_si512(low0, mask44), times5);
        let h0 = _mm512_and_si512(low0, mask44);
        let h1 = _mm512_add_epi64(
            _mm512_and_si512(low1, mask44),
            _mm512_srli_epi64::<44>(low0),
        );
        let h2 = _mm512_and_si512(low2, mask42);
        self.h = match active {
            None => [h0, h1, h2],
            Some(active) => [
                _mm512_mask_mov_epi64(self.h[0], active, h0),
                _mm512_mask_mov_epi64(self.h[1], active, h1),
                _mm512_mask_mov_epi64(self.h[2], active, h2),
            ],
        };
    }

    /// The last block has the lengths; there is no additional data.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
    fn finish(&mut self, keys: &[PolyKey], tags: &mut [[u8; TAG_LEN]]) {
        let lengths = self.len.map(|len| len as u64);
        self.step(_mm512_setzero_si512(), load(&lengths), None);
        let limbs = self.h.map(|limb| store(limb));
        for (at, (key, tag)) in keys.iter().zip(tags).enumerate().take(LANES) {
            let h = [limbs[0][at], limbs[1][at], limbs[2][at]];
            let mut high = [0; 16];
            high.copy_from_slice(&key[16..]);
            let sum = reduce(h).wrapping_add(u128::from_le_bytes(high));
            *tag = sum.to_le_bytes();
        }
    }
}

/// All blocks of all groups.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
#[inline]
fn run<const N: usize>(groups: &mut [Group; N], buffer: &[u8]) {
    let common = groups.iter().map(Group::common_chunks).min().unwrap_or(0);
    let most = groups.iter().map(Group::most_chunks).max().unwrap_or(0);
    for chunk in 0..common {
        let mut words = [[_mm512_setzero_si512(); 2 * BLOCKS]; N];
        for (words, group) in words.iter_mut().zip(groups.iter()) {
            *words = group.read(buffer, chunk);
        }
        for block in 0..BLOCKS {
            for (words, group) in words.iter().zip(groups.iter_mut()) {
                group.step(words[2 * block], words[2 * block + 1], None);
            }
        }
    }
    for chunk in common..most {
        for group in groups.iter_mut() {
            let words = group.read(buffer, chunk);
            for block in 0..BLOCKS {
                let number = _mm512_set1_epi64((chunk * BLOCKS + block) as i64);
                let active = _mm512_cmpgt_epu64_mask(group.blocks, number);
                group.step(words[2 * block], words[2 * block + 1], Some(active));
            }
        }
    }
}

/// The remainder of a number modulo 2^130 - 5, modulo 2^128.
fn reduce(mut h: [u64; 3]) -> u128 {
    for _ in 0..2 {
        h[1] += h[0] >> 44;
        h[0] &= MASK44;
        h[2] += h[1] >> 44;
        h[1] &= MASK44;
        h[0] += (h[2] >> 42) * 5;
        h[2] &= MASK42;
    }
    h[1] += h[0] >> 44;
    h[0] &= MASK44;
    // h - p is h + 5 - 2^130: it is the remainder if that is not negative.
    let mut g = h;
    g[0] += 5;
    g[1] += g[0] >> 44;
    g[0] &= MASK44;
    g[2] += g[1] >> 44;
    g[1] &= MASK44;
    let take = 0_u64.wrapping_sub(g[2] >> 42);
    g[2] &= MASK42;
    for (h, g) in h.iter_mut().zip(g) {
        *h = (*h & !take) | (g & take);
    }
    u128::from(h[0]) | u128::from(h[1]) << 44 | u128::from(h[2]) << 88
}

fn low_half(key: &PolyKey) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&key[..16]);
    u128::from_le_bytes(bytes)
}

/// From eight words of each packet to a word of all eight.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
#[inline]
fn transpose(rows: [__m512i; 8]) -> [__m512i; 8] {
    let mut words = rows;
    for odd in 0..2 {
        let pair = |at: usize| match odd {
            0 => _mm512_unpacklo_epi64(rows[at], rows[at + 1]),
            _ => _mm512_unpackhi_epi64(rows[at], rows[at + 1]),
        };
        let (a, b, c, d) = (pair(0), pair(2), pair(4), pair(6));
        let ab_even = _mm512_shuffle_i64x2::<0x88>(a, b);
        let ab_odd = _mm512_shuffle_i64x2::<0xdd>(a, b);
        let cd_even = _mm512_shuffle_i64x2::<0x88>(c, d);
        let cd_odd = _mm512_shuffle_i64x2::<0xdd>(c, d);
        words[odd] = _mm512_shuffle_i64x2::<0x88>(ab_even, cd_even);
        words[odd + 2] = _mm512_shuffle_i64x2::<0x88>(ab_odd, cd_odd);
        words[odd + 4] = _mm512_shuffle_i64x2::<0xdd>(ab_even, cd_even);
        words[odd + 6] = _mm512_shuffle_i64x2::<0xdd>(ab_odd, cd_odd);
    }
    words
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
#[inline]
fn times20(x: __m512i) -> __m512i {
    _mm512_add_epi64(_mm512_slli_epi64::<4>(x), _mm512_slli_epi64::<2>(x))
}

/// At most 64 bytes, and zeroes behind them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
#[inline]
fn load_bytes(bytes: &[u8]) -> __m512i {
    match bytes.len() {
        0 => _mm512_setzero_si512(),
        // SAFETY: 64 bytes are read, of at least 64.
        CHUNK.. => unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) },
        // SAFETY: the mask has one bit for each byte, and no other is read.
        len => unsafe { _mm512_maskz_loadu_epi8(u64::MAX >> (CHUNK - len), bytes.as_ptr().cast()) },
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
#[inline]
fn load(words: &[u64; LANES]) -> __m512i {
    // SAFETY: it is 64 bytes of plain numbers.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
#[inline]
fn store(vector: __m512i) -> [u64; LANES] {
    let mut words = [0; LANES];
    // SAFETY: it is 64 bytes of plain numbers.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) };
    words
}
