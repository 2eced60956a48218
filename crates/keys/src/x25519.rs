//! X25519 (RFC 7748) by aws-lc-rs.

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use zeroize::Zeroizing;

/// The public key of `private`.
pub fn public_key(private: &[u8; 32]) -> [u8; 32] {
    let mut out = [0; 32];
    // Neither step can fail for a 32-byte X25519 scalar; a zero result would be an unusable key, never a wrong one.
    if let Ok(key) = PrivateKey::from_private_key(&X25519, private)
        && let Ok(public) = key.compute_public_key()
    {
        out.copy_from_slice(public.as_ref());
    }
    out
}

/// The Diffie-Hellman result, or `None` where the peer's key is of low order and the result would be all zero.
pub fn shared_secret(private: &[u8; 32], public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    let key = PrivateKey::from_private_key(&X25519, private).ok()?;
    let peer = UnparsedPublicKey::new(&X25519, public);
    agreement::agree(&key, peer, (), |secret| {
        let mut out = Zeroizing::new([0; 32]);
        out.copy_from_slice(secret);
        Ok(out)
    })
    .ok()
    .filter(|secret| secret.iter().any(|b| *b != 0))
}
