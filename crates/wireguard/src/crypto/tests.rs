use super::*;

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let mut out = [0; N];
    keys::decode_hex(hex, &mut out).expect("hex");
    out
}

/// wireguard-go's `device/kdf_test.go`.
#[test]
fn kdf_vectors() {
    let key = b"test-key";
    let mut chain = [0; 32];
    chain[..key.len()].copy_from_slice(key);
    // HMAC pads keys with zeroes, so a short key and its padded form are the same.
    let [t0, t1, t2] = kdf(&chain, b"test-input");
    assert_eq!(
        *t0,
        bytes("6f0e5ad38daba1bea8a0d213688736f19763239305e0f58aba697f9ffc41c633")
    );
    assert_eq!(
        *t1,
        bytes("df1194df20802a4fe594cde27e92991c8cae66c366e8106aaa937a55fa371e8a")
    );
    assert_eq!(
        *t2,
        bytes("fac6e2745a325f5dc5d11a5b165aad08b0ada28e7b4e666b7c077934a4d76c24")
    );
    let [only] = kdf(&chain, b"test-input");
    assert_eq!(only, t0);
}

/// draft-irtf-cfrg-xchacha-03, A.3.1.
#[test]
fn xaead_vector() {
    let key = bytes("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
    let nonce = bytes("404142434445464748494a4b4c4d4e4f5051525354555657");
    let aad: [u8; 12] = bytes("50515253c0c1c2c3c4c5c6c7");
    let plain: &[u8] = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
    let mut out = vec![0; plain.len() + 16];
    xseal(&key, &nonce, &aad, plain, &mut out);
    assert_eq!(out[..16], bytes::<16>("bd6d179d3e83d43b9576579493c0e939"));
    assert_eq!(
        out[plain.len()..],
        bytes::<16>("c0875924c1c7987947deafd8780acf49")
    );
}

#[test]
fn sealed_fields_open_only_with_the_same_data() {
    let key = [7; 32];
    let mut sealed = [0; 28];
    seal_once(&key, b"aad", &[1; 12], &mut sealed);
    assert_eq!(open_once(&key, b"aad", &sealed), Some([1; 12]));
    assert_eq!(open_once::<12, 28>(&key, b"bad", &sealed), None);
    sealed[27] ^= 1;
    assert_eq!(open_once::<12, 28>(&key, b"aad", &sealed), None);
}
