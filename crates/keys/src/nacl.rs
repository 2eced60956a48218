//! NaCl `crypto_box` (X25519, HSalsa20, XSalsa20-Poly1305), which disco and DERP's handshake use.
//!
//! A sealed box is a 24-byte nonce, a 16-byte tag and the ciphertext. The key agreement is done once per pair of keys
//! and kept in a [`SharedKey`].

use poly1305::universal_hash::KeyInit as _;
use poly1305::{Key as PolyKey, Poly1305};
use rand_core::CryptoRng;
use salsa20::cipher::consts::U10;
use salsa20::cipher::{KeyIvInit as _, StreamCipher as _};
use salsa20::{XSalsa20, hsalsa};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::x25519;

/// Bytes of the nonce in front of a sealed box.
pub const NONCE_LEN: usize = 24;
/// Bytes of the authenticator.
pub const TAG_LEN: usize = 16;
/// How much longer a sealed box is than its plaintext.
pub const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// The precomputed key of one pair of Curve25519 keys.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SharedKey([u8; 32]);

impl std::fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedKey(..)")
    }
}

impl SharedKey {
    /// Agrees on a key; `None` where the peer's key is of low order.
    pub fn new(private: &[u8; 32], public: &[u8; 32]) -> Option<Self> {
        let secret = x25519::shared_secret(private, public)?;
        Some(Self(
            hsalsa::<U10>(&(*secret).into(), &[0; 16].into()).into(),
        ))
    }

    /// Seals `plaintext` under a random nonce: nonce, tag, ciphertext.
    pub fn seal(&self, rng: &mut dyn CryptoRng, plaintext: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        let mut out = Vec::with_capacity(OVERHEAD + plaintext.len());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&[0; TAG_LEN]);
        out.extend_from_slice(plaintext);
        let (mut cipher, mac) = self.start(&nonce);
        cipher.apply_keystream(&mut out[OVERHEAD..]);
        let tag = mac.compute_unpadded(&out[OVERHEAD..]);
        out[NONCE_LEN..OVERHEAD].copy_from_slice(&tag);
        out
    }

    /// Opens what [`seal`](Self::seal) made; `None` if it is not from the holder of the other key.
    pub fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let (tag, ciphertext) = rest.split_first_chunk::<TAG_LEN>()?;
        let (mut cipher, mac) = self.start(nonce);
        let want = mac.compute_unpadded(ciphertext);
        if !bool::from(want.as_slice().ct_eq(tag)) {
            return None;
        }
        let mut plaintext = ciphertext.to_vec();
        cipher.apply_keystream(&mut plaintext);
        Some(plaintext)
    }

    /// The first 32 bytes of the key stream are the authenticator's key.
    fn start(&self, nonce: &[u8; NONCE_LEN]) -> (XSalsa20, Poly1305) {
        let mut cipher = XSalsa20::new(&self.0.into(), &(*nonce).into());
        let mut mac_key = PolyKey::default();
        cipher.apply_keystream(&mut mac_key);
        let mac = Poly1305::new(&mac_key);
        mac_key.zeroize();
        (cipher, mac)
    }
}
