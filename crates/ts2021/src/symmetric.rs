//! Noise's symmetric state for `Noise_IK_25519_ChaChaPoly_BLAKE2s`.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use blake2::{Blake2s256, Digest as _};
use zeroize::Zeroizing;

use crate::HandshakeError;

const PROTOCOL: &[u8] = b"Noise_IK_25519_ChaChaPoly_BLAKE2s";
const BLOCK_LEN: usize = 64;
/// Bytes that sealing adds.
pub(crate) const TAG_LEN: usize = 16;

type Key = Zeroizing<[u8; 32]>;

/// The chaining key, the running hash and, after the first key agreement, a message key.
pub(crate) struct Symmetric {
    chaining: Key,
    hash: [u8; 32],
    key: Option<Key>,
}

impl Symmetric {
    pub(crate) fn new(prologue: &[u8]) -> Self {
        let start = hash(&[PROTOCOL]);
        let mut this = Self {
            chaining: Zeroizing::new(start),
            hash: start,
            key: None,
        };
        this.mix_hash(prologue);
        this
    }

    pub(crate) fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }

    pub(crate) fn mix_key(&mut self, input: &[u8; 32]) {
        let (chaining, key) = expand(&self.chaining, input);
        self.chaining = chaining;
        self.key = Some(key);
    }

    /// Appends `plaintext` to `out`, encrypted and followed by its tag.
    pub(crate) fn encrypt_and_hash(
        &mut self,
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), HandshakeError> {
        let start = out.len();
        out.extend_from_slice(plaintext);
        let sealed = out.get_mut(start..).unwrap_or_default();
        let tag = self
            .cipher()?
            .seal_in_place_separate_tag(zero_nonce(), Aad::from(&self.hash), sealed)
            .map_err(|_| HandshakeError::Crypto)?;
        out.extend_from_slice(tag.as_ref());
        self.hash = hash(&[&self.hash, out.get(start..).unwrap_or_default()]);
        Ok(())
    }

    /// Opens a ciphertext with its tag.
    pub(crate) fn decrypt_and_hash(&mut self, sealed: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let mut buffer = sealed.to_vec();
        let len = self
            .cipher()?
            .open_in_place(zero_nonce(), Aad::from(&self.hash), &mut buffer)
            .map_err(|_| HandshakeError::NotAuthentic)?
            .len();
        buffer.truncate(len);
        self.mix_hash(sealed);
        Ok(buffer)
    }

    /// The two transport keys, client to server first, and the handshake hash.
    pub(crate) fn split(self) -> (Key, Key, [u8; 32]) {
        let (first, second) = expand(&self.chaining, &[]);
        (first, second, self.hash)
    }

    /// Each key is used for one message, so that its nonce is always zero.
    fn cipher(&mut self) -> Result<LessSafeKey, HandshakeError> {
        let key = self.key.as_ref().ok_or(HandshakeError::Crypto)?;
        cipher(key).ok_or(HandshakeError::Crypto)
    }
}

/// ChaCha20-Poly1305 under `key`.
pub(crate) fn cipher(key: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&CHACHA20_POLY1305, key)
        .ok()
        .map(LessSafeKey::new)
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Blake2s256::new();
    for part in parts {
        state.update(part);
    }
    state.finalize().into()
}

/// HMAC-BLAKE2s (RFC 2104) with a key of at most one block.
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Key {
    let mut pad = Zeroizing::new([0x36; BLOCK_LEN]);
    for (p, k) in pad.iter_mut().zip(key) {
        *p ^= k;
    }
    let mut inner = Blake2s256::new();
    inner.update(pad.as_slice());
    for part in parts {
        inner.update(part);
    }
    let inner: Key = Zeroizing::new(inner.finalize().into());
    for p in pad.iter_mut() {
        *p ^= 0x36 ^ 0x5c;
    }
    Zeroizing::new(hash(&[pad.as_slice(), inner.as_slice()]))
}

/// HKDF (RFC 5869) with the chaining key as salt and two outputs.
fn expand(chaining: &[u8; 32], input: &[u8]) -> (Key, Key) {
    let extracted = hmac(chaining, &[input]);
    let first = hmac(&extracted, &[&[1]]);
    let second = hmac(&extracted, &[first.as_slice(), &[2]]);
    (first, second)
}
