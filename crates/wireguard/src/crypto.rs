//! The primitives: BLAKE2s in three forms, the AEAD, and its extended-nonce form for cookies.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit as _, Mac as _};
use blake2::{Blake2s256, Blake2sMac, Digest as _};
use chacha20::R20;
use zeroize::Zeroizing;

/// A secret that is wiped when dropped.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// HASH of the concatenation.
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Blake2s256::new();
    for part in parts {
        state.update(part);
    }
    state.finalize().into()
}

/// MAC: keyed BLAKE2s with 16 bytes of output.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    // Only a key longer than 32 bytes is refused, and all of ours are 16 or 32.
    let Ok(mut state) = Blake2sMac::<U16>::new_from_slice(key) else {
        return [0; 16];
    };
    for part in parts {
        state.update(part);
    }
    state.finalize().into_bytes().into()
}

/// HMAC-BLAKE2s (RFC 2104), whose block is 64 bytes.
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut inner = Zeroizing::new([0x36; 64]);
    let mut outer = Zeroizing::new([0x5c; 64]);
    for (at, byte) in key.iter().enumerate() {
        inner[at] ^= byte;
        outer[at] ^= byte;
    }
    let mut state = Blake2s256::new();
    state.update(inner.as_slice());
    for part in parts {
        state.update(part);
    }
    let digest: [u8; 32] = state.finalize().into();
    hash(&[outer.as_slice(), &digest])
}

/// KDF_n: `N` secrets out of a chaining key and input material.
pub(crate) fn kdf<const N: usize>(chain: &[u8; 32], input: &[u8]) -> [Secret; N] {
    let prk = Zeroizing::new(hmac(chain, &[input]));
    let mut last = Secret::default();
    let mut first = true;
    let mut number = 0;
    [(); N].map(|()| {
        number += 1;
        let prefix: &[u8] = if first { &[] } else { last.as_slice() };
        let next = Zeroizing::new(hmac(&prk, &[prefix, &[number]]));
        first = false;
        last.copy_from_slice(next.as_slice());
        next
    })
}

/// An AEAD key for one message of a handshake.
fn aead_key(key: &[u8; 32]) -> LessSafeKey {
    match UnboundKey::new(&CHACHA20_POLY1305, key) {
        Ok(key) => LessSafeKey::new(key),
        // The only error is a wrong key length, which the type excludes.
        Err(_) => unreachable!("a ChaCha20-Poly1305 key has 32 bytes"),
    }
}

/// The nonce of a message: four zero bytes and the counter, little-endian.
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Seals `plain` into `out`, which is 16 bytes longer, with a key that is used once.
pub(crate) fn seal_once(key: &[u8; 32], aad: &[u8], plain: &[u8], out: &mut [u8]) {
    seal_with_nonce(key, nonce(0), aad, plain, out);
}

/// Opens what [`seal_once`] made; `None` if it is not authentic. `M` is 16 more than `N`.
pub(crate) fn open_once<const N: usize, const M: usize>(
    key: &[u8; 32],
    aad: &[u8],
    sealed: &[u8; M],
) -> Option<[u8; N]> {
    open_with_nonce(key, nonce(0), aad, sealed)
}

/// XAEAD: ChaCha20-Poly1305 with a nonce that is long enough to be random.
pub(crate) fn xseal(key: &[u8; 32], nonce: &[u8; 24], aad: &[u8], plain: &[u8], out: &mut [u8]) {
    let (key, nonce) = extend(key, nonce);
    seal_with_nonce(&key, nonce, aad, plain, out);
}

/// Opens what [`xseal`] made.
pub(crate) fn xopen<const N: usize, const M: usize>(
    key: &[u8; 32],
    nonce: &[u8; 24],
    aad: &[u8],
    sealed: &[u8; M],
) -> Option<[u8; N]> {
    let (key, nonce) = extend(key, nonce);
    open_with_nonce(&key, nonce, aad, sealed)
}

/// draft-irtf-cfrg-xchacha 2.3: 16 bytes of the nonce go into the key, 8 into a nonce that begins with four zero bytes.
fn extend(key: &[u8; 32], nonce: &[u8; 24]) -> (Secret, Nonce) {
    let mut head = [0; 16];
    let mut tail = [0; 12];
    head.copy_from_slice(&nonce[..16]);
    tail[4..].copy_from_slice(&nonce[16..]);
    let key = chacha20::hchacha::<R20>(&(*key).into(), &head.into());
    (
        Zeroizing::new(key.into()),
        Nonce::assume_unique_for_key(tail),
    )
}

fn seal_with_nonce(key: &[u8; 32], nonce: Nonce, aad: &[u8], plain: &[u8], out: &mut [u8]) {
    let Some((ciphertext, tag)) = out.split_at_mut_checked(plain.len()) else {
        return;
    };
    // It fails only where the lengths do not fit, which is a mistake in this file: the zeroes left in `out` then open
    // nowhere.
    let _ =
        aead_key(key).seal_out_of_place_scatter(nonce, Aad::from(aad), plain, ciphertext, &[], tag);
}

fn open_with_nonce<const N: usize, const M: usize>(
    key: &[u8; 32],
    nonce: Nonce,
    aad: &[u8],
    sealed: &[u8; M],
) -> Option<[u8; N]> {
    let (ciphertext, tag) = sealed.split_at_checked(N)?;
    let mut out = [0; N];
    aead_key(key)
        .open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, &mut out)
        .ok()?;
    Some(out)
}

#[cfg(test)]
mod tests;
