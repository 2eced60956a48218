//! AVX-512 with IFMA.
//!
//! Everything here works on a buffer and places that [`check`](super::check) has seen to lie within it.

mod chacha;
mod poly;

use std::arch::is_x86_feature_detected;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{KEY_LEN, Place, Secret, TAG_LEN};
use chacha::{BLOCK, Lanes};
use poly::PolyKey;

/// The most packets of one call.
pub(super) const AT_ONCE: usize = 16;
/// Two or three packets are worth it up to this many bytes, measured on a Zen 5: beyond, aws-lc has done them first.
pub(super) const FEW_LEN: usize = 1024;

/// A key as the little-endian words of RFC 8439, 2.3. Its existence proves that the processor can do what this module does.
pub(super) struct Key {
    words: Secret<8>,
}

impl Key {
    /// `None` where the processor cannot.
    pub(super) fn new(key: &[u8; KEY_LEN]) -> Option<Self> {
        let can = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512ifma")
            && is_x86_feature_detected!("avx512vbmi2");
        can.then(|| {
            let mut words = Zeroizing::new([0; 8]);
            for (word, bytes) in words.iter_mut().zip(key.as_chunks::<4>().0) {
                *word = u32::from_le_bytes(*bytes);
            }
            Self { words }
        })
    }

    /// Seals at most [`AT_ONCE`] packets.
    pub(super) fn seal(&self, buffer: &mut [u8], places: &[Place]) {
        // SAFETY: `new` has made sure that the processor has all that these functions are compiled for.
        unsafe {
            let keys = poly_keys(&self.words, places);
            encrypt(&self.words, buffer, places, u16::MAX);
            let tags = poly::tags(&keys, buffer, places);
            for (place, tag) in places.iter().zip(&tags) {
                if let Some(at) = buffer.get_mut(place.range.end - TAG_LEN..place.range.end) {
                    at.copy_from_slice(tag);
                }
            }
        }
    }

    /// Opens at most [`AT_ONCE`] packets; bit `i` says whether packet `i` is authentic.
    pub(super) fn open(&self, buffer: &mut [u8], places: &[Place]) -> u16 {
        // SAFETY: as in `seal`.
        unsafe {
            let keys = poly_keys(&self.words, places);
            let tags = poly::tags(&keys, buffer, places);
            let mut authentic = 0;
            for (at, (place, tag)) in places.iter().zip(&tags).enumerate() {
                let there = buffer.get(place.range.end - TAG_LEN..place.range.end);
                let is_same = there.is_some_and(|there| bool::from(there.ct_eq(tag)));
                authentic |= u16::from(is_same) << at;
            }
            encrypt(&self.words, buffer, places, authentic);
            authentic
        }
    }
}

/// The first key stream block of each packet makes its Poly1305 key (RFC 8439, 2.6).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
fn poly_keys(words: &[u32; 8], places: &[Place]) -> Zeroizing<[PolyKey; AT_ONCE]> {
    let mut lanes = Lanes::default();
    for (at, place) in places.iter().take(AT_ONCE).enumerate() {
        lanes.push(0, place.counter, at * BLOCK, BLOCK);
    }
    let mut blocks = Zeroizing::new([0; AT_ONCE * BLOCK]);
    chacha::xor(words, &lanes, blocks.as_mut_slice());
    let mut keys = Zeroizing::new([[0; 32]; AT_ONCE]);
    for (key, block) in keys.iter_mut().zip(blocks.as_chunks::<BLOCK>().0) {
        key.copy_from_slice(&block[..32]);
    }
    keys
}

/// Encrypts or decrypts those packets whose bit is set.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma,avx512vbmi2")]
fn encrypt(words: &[u32; 8], buffer: &mut [u8], places: &[Place], which: u16) {
    let mut lanes = Lanes::default();
    for (at, place) in places.iter().enumerate() {
        if which >> at & 1 == 0 {
            continue;
        }
        let end = place.range.end - TAG_LEN;
        let starts = (place.range.start..end).step_by(BLOCK);
        for (block, start) in (1..).zip(starts) {
            lanes.push(block, place.counter, start, (end - start).min(BLOCK));
            if lanes.is_full() {
                chacha::xor(words, &lanes, buffer);
                lanes.clear();
            }
        }
    }
    if !lanes.is_empty() {
        chacha::xor(words, &lanes, buffer);
    }
}
