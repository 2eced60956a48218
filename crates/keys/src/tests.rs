use proptest::prelude::*;

use super::*;

/// Vectors of the originals' `types/key` tests: text encodings only, the halves do not belong together.
const PRIVATE: &str = "40ab1b58e9076c7a4d9d07291f5edf9d1aa017eb949624ba683317f48a640369";
const PUBLIC: &str = "50d20b455ecf12bc453f83c2cfdb2a24925d06cf2598dcaa54e91af82ce9f765";

struct Counter(u8);

impl rand_core::TryRng for Counter {
    type Error = std::convert::Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(7)
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(7)
    }
    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
        for byte in dst {
            self.0 = self.0.wrapping_add(41);
            *byte = self.0;
        }
        Ok(())
    }
}
impl rand_core::TryCryptoRng for Counter {}

#[test]
fn texts_are_those_of_the_originals() {
    let private: NodePrivate = format!("privkey:{PRIVATE}").parse().unwrap();
    assert_eq!(*private.expose_text(), format!("privkey:{PRIVATE}"));
    for text in [
        format!("nodekey:{PUBLIC}"),
        format!("nodekey:{}", PUBLIC.to_uppercase()),
    ] {
        let key: NodePublic = text.parse().unwrap();
        assert_eq!(key.to_string(), format!("nodekey:{PUBLIC}"));
        assert_eq!(key.short(), "[UNILR]");
    }
    let key: DiscoPublic = format!("discokey:{PUBLIC}").parse().unwrap();
    assert_eq!(key.short(), "d:50d20b455ecf12bc");
    assert_eq!(
        serde_json::to_string(&NodePublic::ZERO).unwrap(),
        format!("\"nodekey:{}\"", "0".repeat(64))
    );
    assert_eq!(
        serde_json::from_str::<NodePublic>("null").unwrap(),
        NodePublic::ZERO
    );
    assert!(
        serde_json::from_str::<LockPublic>("null")
            .unwrap()
            .is_zero()
    );
    assert_eq!(
        serde_json::from_str::<MachinePrivate>("null").unwrap(),
        MachinePrivate::default()
    );
}

#[test]
fn bad_texts_are_refused() {
    for text in [
        "",
        "nodekey:",
        "mkey:00",
        "nodekey:0",
        &format!("mkey:{PUBLIC}"),
    ] {
        assert!(text.parse::<NodePublic>().is_err(), "{text}");
    }
    assert!(
        format!("nodekey:{}é", &PUBLIC[..62])
            .parse::<NodePublic>()
            .is_err()
    );
    assert!(format!("nodekey:{PUBLIC}00").parse::<NodePublic>().is_err());
}

/// The key pairs of the Noise vectors in the control protocol's tests: scalars are byte ramps.
#[test]
fn x25519_matches_known_keys() {
    let ramp = |first: u8| std::array::from_fn::<u8, 32, _>(|i| first + i as u8);
    let hex = |bytes: &[u8]| {
        let mut text = String::new();
        encode_hex(bytes, &mut text);
        text
    };
    let (a, b) = (ramp(0), ramp(0x40));
    assert_eq!(
        hex(&public_key(&a)),
        "8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f"
    );
    assert_eq!(
        hex(&public_key(&b)),
        "79a631eede1bf9c98f12032cdeadd0e7a079398fc786b88cc846ec89af85a51a"
    );
    let ab = shared_secret(&a, &public_key(&b)).unwrap();
    let ba = shared_secret(&b, &public_key(&a)).unwrap();
    assert_eq!(*ab, *ba);
    assert!(shared_secret(&a, &[0; 32]).is_none(), "low order");
}

#[test]
fn secrets_do_not_print() {
    let key = NodePrivate::generate(&mut Counter(3));
    assert_eq!(format!("{key:?}"), "NodePrivate(..)");
    assert_eq!(
        format!("{:?}", LockPrivate::generate(&mut Counter(3))),
        "LockPrivate(..)"
    );
}

#[test]
fn fresh_scalars_are_clamped() {
    for seed in 0..50 {
        let key = MachinePrivate::generate(&mut Counter(seed));
        let bytes = key.expose_bytes();
        assert_eq!(bytes[0] & 7, 0);
        assert_eq!(bytes[31] & 0xc0, 0x40);
    }
}

#[test]
fn lock_keys_round_trip() {
    let key = LockPrivate::generate(&mut Counter(9));
    let again: LockPrivate = key.expose_text().parse().unwrap();
    assert_eq!(key, again);
    let text = key.public().to_string();
    assert_eq!(
        text.replace("nlpub:", "tlpub:")
            .parse::<LockPublic>()
            .unwrap(),
        key.public()
    );
}

/// Sealed by Go's `nacl/box`: sender scalar 00..1f, receiver scalar 40..5f, nonce a0..b7.
#[test]
fn nacl_box_opens_what_go_sealed() {
    let ramp = |first: u8| std::array::from_fn::<u8, 32, _>(|i| first + i as u8);
    let mut sealed = [0; 24 + 16 + 19];
    decode_hex(
        "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b79e01ff591b75041d7e29a44599b669155486c6372ea3dd85595200af842e3b3bb69dad",
        &mut sealed,
    )
    .unwrap();
    let key = nacl::SharedKey::new(&ramp(0x40), &public_key(&ramp(0))).unwrap();
    assert_eq!(key.open(&sealed).unwrap(), b"the quick brown fox");
    assert_eq!(
        nacl::SharedKey::new(&ramp(0), &public_key(&ramp(0x40)))
            .unwrap()
            .open(&sealed)
            .unwrap(),
        b"the quick brown fox"
    );
    let sealed = key.seal(&mut Counter(5), b"hello");
    assert_eq!(sealed.len(), 5 + nacl::OVERHEAD);
    assert_eq!(key.open(&sealed).unwrap(), b"hello");
}

proptest! {
    #[test]
    fn any_text_parses_or_fails_cleanly(text in ".{0,80}") {
        let _ = text.parse::<NodePublic>();
        let _ = text.parse::<LockPrivate>();
        let _ = format!("nodekey:{text}").parse::<NodePublic>();
    }

    #[test]
    fn boxes_reject_every_flipped_byte(at in 0usize..60, bit in 0u8..8) {
        let key = nacl::SharedKey::new(&[8; 32], &public_key(&[16; 32])).unwrap();
        let mut sealed = key.seal(&mut Counter(1), &[7; 20]);
        sealed[at] ^= 1 << bit;
        prop_assert!(key.open(&sealed).is_none());
        prop_assert!(key.open(&sealed[..at]).is_none());
    }
}
