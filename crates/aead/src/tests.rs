//! Both ways of doing it against each other, and against the RFC.

use proptest::prelude::*;

use super::*;

const KEY: [u8; KEY_LEN] = [7; KEY_LEN];

/// A key that never works on many.
fn alone(key: &[u8; KEY_LEN]) -> Key {
    Key {
        #[cfg(target_arch = "x86_64")]
        wide: None,
        ..Key::new(key)
    }
}

/// Packets one behind the other, with a gap before each.
fn lay_out(lens: &[usize], gap: usize, first: u64) -> (Vec<u8>, Vec<Place>) {
    let mut places = Vec::new();
    let mut end = 0;
    for (counter, len) in (first..).zip(lens) {
        let start = end + gap;
        end = start + len + TAG_LEN;
        places.push(Place {
            counter,
            range: start..end,
        });
    }
    let bytes = (0..end + gap)
        .map(|at| (at * 31 + at / 251) as u8)
        .collect();
    (bytes, places)
}

fn all(places: &[Place]) -> Authentic {
    Authentic::MAX
        .checked_shr(64 - places.len() as u32)
        .unwrap_or(0)
}

/// The same key stream and the same sums as [`alone`]'s, so a vector for one is a vector for both: RFC 8439, A.3 (test 1) has an
/// all-zero one-time key, whose tag is zero; ours never has that, but a packet of no bytes under the zero key shows that the
/// lengths are in the sum and that the right half of the block is added.
#[test]
fn an_empty_packet_has_the_tag_that_its_key_block_says() {
    // RFC 8439, A.1, test 1: the first block under the zero key and nonce. r is its first half, clamped; s its second.
    let block = [
        0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90, 0x40, 0x5d, 0x6a, 0xe5, 0x53, 0x86, 0xbd,
        0x28, 0xbd, 0xd2, 0x19, 0xb8, 0xa0, 0x8d, 0xed, 0x1a, 0xa8, 0x36, 0xef, 0xcc, 0x8b, 0x77,
        0x0d, 0xc7,
    ];
    let (r, s) = block.split_at(16);
    let word = |bytes: &[u8]| u128::from_le_bytes(bytes.try_into().expect("16 bytes"));
    let r = word(r) & 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff;
    // The only block is 2^128, the bit behind two lengths of zero: 2^128 r mod 2^130 - 5. With r = 4q + t that is
    // 2^130 q + 2^128 t = 5 q + 2^128 t, of which the tag has the lower 128 bits.
    let tag = (5 * (r >> 2)).wrapping_add(word(s));
    let (mut buffer, places) = lay_out(&[0; 8], 0, 0);
    Key::new(&[0; KEY_LEN])
        .seal(&mut buffer, &places)
        .expect("sealed");
    assert_eq!(buffer[..TAG_LEN], tag.to_le_bytes());
}

#[test]
fn every_length_is_the_same_both_ways() {
    for len in (0..600).chain([1279, 1280, 1281, 1420, 8192, 65_000]) {
        for count in [1, 2, 4, 9] {
            let (mut buffer, places) = lay_out(&vec![len; count], 3, 1 << 40);
            let plain = buffer.clone();
            Key::new(&KEY).seal(&mut buffer, &places).expect("sealed");
            let mut other = plain.clone();
            alone(&KEY).seal(&mut other, &places).expect("sealed");
            assert!(buffer == other, "{count} packets of {len} bytes");
            let opened = Key::new(&KEY).open(&mut buffer, &places);
            assert_eq!(opened, Ok(all(&places)));
            for place in &places {
                let text = place.range.start..place.range.end - TAG_LEN;
                assert!(buffer[text.clone()] == plain[text], "{len}");
            }
        }
    }
}

#[test]
fn what_is_not_a_place_is_refused_before_anything_is_touched() {
    let key = Key::new(&KEY);
    let (plain, places) = lay_out(&[100; 5], 0, 0);
    let outside = plain.len();
    let bad = [
        (0, 15),
        (20, 10),
        (outside - 10, outside + 10),
        (usize::MAX, 3),
    ];
    for range in bad.map(|(start, end)| Range { start, end }) {
        let mut buffer = plain.clone();
        let mut places = places.clone();
        places[3].range = range;
        assert_eq!(key.seal(&mut buffer, &places), Err(BadPlace));
        assert_eq!(key.open(&mut buffer, &places), Err(BadPlace));
        assert_eq!(buffer, plain);
    }
    let (mut many, places) = lay_out(&[1; MAX_PACKETS + 1], 0, 0);
    assert_eq!(key.seal(&mut many, &places), Err(BadPlace));
}

#[test]
fn overlapping_places_hurt_nobody_else() {
    let key = Key::new(&KEY);
    let (mut buffer, mut places) = lay_out(&[200; 6], 1, 0);
    places[2].range = 10..90;
    places[3].range = 10..90;
    let before = buffer.clone();
    key.seal(&mut buffer, &places).expect("sealed");
    assert_eq!(buffer[0], before[0]);
    assert_eq!(buffer.last(), before.last());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_batch_is_the_same_both_ways(
        key in any::<[u8; KEY_LEN]>(),
        first in any::<u64>().prop_map(|first| first >> 1),
        lens in proptest::collection::vec(0_usize..2000, 0..=MAX_PACKETS),
        gap in 0_usize..40,
    ) {
        let (plain, places) = lay_out(&lens, gap, first);
        let (mut wide, mut single) = (plain.clone(), plain);
        Key::new(&key).seal(&mut wide, &places).expect("sealed");
        alone(&key).seal(&mut single, &places).expect("sealed");
        prop_assert!(wide == single);
    }

    #[test]
    fn a_flipped_bit_is_seen_and_only_there(
        lens in proptest::collection::vec(0_usize..300, 1..=MAX_PACKETS),
        victim in any::<prop::sample::Index>(),
        place_of_bit in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let key = Key::new(&KEY);
        let (plain, places) = lay_out(&lens, 2, 5);
        let mut sealed = plain.clone();
        key.seal(&mut sealed, &places).expect("sealed");
        let victim = victim.index(places.len());
        let range = places[victim].range.clone();
        sealed[range.start + place_of_bit.index(range.len())] ^= 1_u8 << bit;
        let opened = key.open(&mut sealed, &places).expect("looked at");
        prop_assert_eq!(opened, all(&places) & !(1 << victim));
        for (at, place) in places.iter().enumerate().filter(|(at, _)| *at != victim) {
            let text = place.range.start..place.range.end - TAG_LEN;
            prop_assert!(sealed[text.clone()] == plain[text], "packet {}", at);
        }
    }

    #[test]
    fn another_counter_or_key_opens_nothing(
        lens in proptest::collection::vec(0_usize..300, 1..=MAX_PACKETS),
    ) {
        let (mut buffer, mut places) = lay_out(&lens, 2, 5);
        Key::new(&KEY).seal(&mut buffer, &places).expect("sealed");
        prop_assert_eq!(Key::new(&[8; KEY_LEN]).open(&mut buffer.clone(), &places), Ok(0));
        for place in &mut places {
            place.counter += 1 << 33;
        }
        prop_assert_eq!(Key::new(&KEY).open(&mut buffer, &places), Ok(0));
    }
}
