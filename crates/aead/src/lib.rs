//! ChaCha20-Poly1305 (RFC 8439) without additional data, over many packets at once.
//!
//! One packet of a tunnel is too short to fill a wide vector unit: its authentication is a chain in which each block waits
//! for the one before. A super-packet, though, gives dozens of packets at once under one key, and nothing in one of them waits for
//! another. So where the processor has AVX-512 with IFMA, 16 blocks of key stream are made at a time, whichever packets they
//! belong to, and up to 16 packets are authenticated side by side. Anywhere else, and for a packet that comes alone, it is aws-lc.
//!
//! Time and memory accesses depend on lengths only, never on keys or contents.

use std::ops::Range;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

#[cfg(target_arch = "x86_64")]
mod wide;

/// Bytes of a key.
pub const KEY_LEN: usize = 32;
/// Bytes of the tag behind each packet.
pub const TAG_LEN: usize = 16;
/// The most packets of one call.
pub const MAX_PACKETS: usize = 64;

/// One direction's key.
pub struct Key {
    alone: LessSafeKey,
    #[cfg(target_arch = "x86_64")]
    wide: Option<wide::Key>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

/// A packet in a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its nonce is four zero bytes and this number, little-endian, as WireGuard has it.
    pub counter: u64,
    /// The packet and the tag behind it.
    pub range: Range<usize>,
}

/// Which packets of a batch are authentic: bit `i` is that of the packet at index `i`.
pub type Authentic = u64;

/// A place is not within the buffer, or shorter than a tag, or they are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPlace;

impl std::fmt::Display for BadPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("packets to seal or open do not lie in their buffer")
    }
}

impl std::error::Error for BadPlace {}

impl Key {
    /// A key for sealing or for opening.
    pub fn new(key: &[u8; KEY_LEN]) -> Self {
        Self {
            alone: match UnboundKey::new(&CHACHA20_POLY1305, key) {
                Ok(key) => LessSafeKey::new(key),
                // The only error is a wrong length, which the type excludes.
                Err(_) => unreachable!("a ChaCha20-Poly1305 key has 32 bytes"),
            },
            #[cfg(target_arch = "x86_64")]
            wide: wide::Key::new(key),
        }
    }

    /// Encrypts packets where they lie, and writes their tags behind them. Each counter must be used once.
    ///
    /// Ranges must not overlap: what comes out otherwise is safe, but nobody can open it.
    pub fn seal(&self, buffer: &mut [u8], places: &[Place]) -> Result<(), BadPlace> {
        check(buffer.len(), places)?;
        #[cfg(target_arch = "x86_64")]
        if let Some(wide) = self.wide_for(places) {
            for places in even_chunks(places, wide::AT_ONCE) {
                wide.seal(buffer, places);
            }
            return Ok(());
        }
        for place in places {
            self.seal_alone(buffer, place);
        }
        Ok(())
    }

    /// Authenticates packets and decrypts the authentic ones where they lie. What lies in the place of a packet that is not authentic
    /// is not to be used.
    pub fn open(&self, buffer: &mut [u8], places: &[Place]) -> Result<Authentic, BadPlace> {
        check(buffer.len(), places)?;
        let mut authentic = 0;
        #[cfg(target_arch = "x86_64")]
        if let Some(wide) = self.wide_for(places) {
            let mut at = 0;
            for places in even_chunks(places, wide::AT_ONCE) {
                authentic |= Authentic::from(wide.open(buffer, places)) << at;
                at += places.len();
            }
            return Ok(authentic);
        }
        for (at, place) in places.iter().enumerate() {
            let opened = self.open_alone(buffer, place);
            authentic |= Authentic::from(opened) << at;
        }
        Ok(authentic)
    }

    /// What works on many, if there are enough of them.
    #[cfg(target_arch = "x86_64")]
    fn wide_for(&self, places: &[Place]) -> Option<&wide::Key> {
        let bytes = || places.iter().map(|place| place.range.len()).sum::<usize>();
        let is_worth = |_: &&wide::Key| match places.len() {
            0 | 1 => false,
            2 | 3 => bytes() <= wide::FEW_LEN,
            _ => true,
        };
        self.wide.as_ref().filter(is_worth)
    }

    fn seal_alone(&self, buffer: &mut [u8], place: &Place) {
        let packet = buffer.get_mut(place.range.clone()).unwrap_or_default();
        let Some((text, tag)) = packet.split_last_chunk_mut::<TAG_LEN>() else {
            return;
        };
        let sealed =
            self.alone
                .seal_in_place_separate_tag(nonce(place.counter), Aad::empty(), text);
        match sealed {
            Ok(sealed) => tag.copy_from_slice(sealed.as_ref()),
            // Only beyond 256 GiB. Whatever happened, no plain text stays.
            Err(_) => packet.fill(0),
        }
    }

    fn open_alone(&self, buffer: &mut [u8], place: &Place) -> bool {
        let packet = buffer.get_mut(place.range.clone()).unwrap_or_default();
        self.alone
            .open_in_place(nonce(place.counter), Aad::empty(), packet)
            .is_ok()
    }
}

fn check(len: usize, places: &[Place]) -> Result<(), BadPlace> {
    let is_good = |place: &Place| {
        let Range { start, end } = place.range;
        start <= end && end <= len && end - start >= TAG_LEN
    };
    match places.len() <= MAX_PACKETS && places.iter().all(is_good) {
        true => Ok(()),
        false => Err(BadPlace),
    }
}

/// Parts of about the same size, since a part that is not full costs as much as one that is.
#[cfg(target_arch = "x86_64")]
fn even_chunks(places: &[Place], most: usize) -> impl Iterator<Item = &[Place]> {
    let parts = places.len().div_ceil(most).max(1);
    let mut rest = places;
    (0..parts).map(move |part| {
        let (now, later) = rest.split_at(rest.len().div_ceil(parts - part));
        rest = later;
        now
    })
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// A secret of 64-bit words that is wiped when dropped.
#[cfg(target_arch = "x86_64")]
type Secret<const N: usize> = Zeroizing<[u32; N]>;

#[cfg(test)]
mod tests;
