//! Vectors come from tailscale-rs' `ts_noise` (a) and from an independent implementation confirmed with snow (b).

use base64::Engine as _;
use keys::{ChallengePublic, MachinePrivate, MachinePublic};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

fn ramp(start: u8) -> MachinePrivate {
    MachinePrivate::from_bytes(std::array::from_fn(|i| start + u8::try_from(i).unwrap()))
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .map(|b| u8::try_from(char::from(b).to_digit(16).unwrap()).unwrap())
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] * 16 + pair[1])
        .collect()
}

/// Client and server session of vector (b), with the frames that went between them.
fn vector_b() -> (Session, Session, Vec<u8>, Vec<u8>) {
    let (initiator, initiation) = Initiator::with_ephemeral(
        &ramp(0x00),
        &ramp(0x40).public(),
        145,
        b"Tailscale Control Protocol v145",
        ramp(0x20),
    )
    .unwrap();
    let responder = Responder::open(&ramp(0x40), &initiation).unwrap();
    assert_eq!(responder.client(), ramp(0x00).public());
    assert_eq!(responder.version(), 145);
    let (server, response) = responder.with_ephemeral(&ramp(0x60)).unwrap();
    let client = initiator.finish(&response).unwrap();
    (client, server, initiation.to_vec(), response.to_vec())
}

#[test]
fn vector_a_bare_messages() {
    let (initiator, initiation) = Initiator::with_ephemeral(
        &ramp(0x00),
        &ramp(0x40).public(),
        1,
        b"TEST HANDSHAKE",
        ramp(0x20),
    )
    .unwrap();
    assert_eq!(
        initiation[5..],
        hex(
            "358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254ad5b8febedeb97415be53612205e6bfab385e34cb127dd8854c4f9afb10f9b0e49075a6f14f9d5bc61412f096ae4950589aef8286944be93ca02ab76a5483b51"
        )[..]
    );
    let responder =
        Responder::with_prologue(&ramp(0x40), 1, b"TEST HANDSHAKE", &initiation[2..]).unwrap();
    let (_, response) = responder.with_ephemeral(&ramp(0x60)).unwrap();
    assert_eq!(
        response[3..],
        hex(
            "675dd574ed7789310b3d2e7681f3790b466c773b1521fecf36577958371ea52f5ef5508032efff8066fc858410f411e8"
        )[..]
    );
    initiator.finish(&response).unwrap();
}

#[test]
fn vector_b_handshake() {
    let (client, server, initiation, response) = vector_b();
    assert_eq!(
        base64::engine::general_purpose::STANDARD.encode(&initiation),
        "AJEBAGA1gHLWNliA0a7qMprfkSE4OFHtIaKOO3XpZdDSzRZiVK1bj+vt65dBW+U2EiBea/qzheNMsSfdiFTE+a+xD5sOrO9MO5KLNw+U8oW2l23+Z57LpcRI7oG0iFTeNRNAxZk="
    );
    assert_eq!(
        response,
        hex(
            "020030675dd574ed7789310b3d2e7681f3790b466c773b1521fecf36577958371ea52f75865d7f4720afaf7ee19199abb14b28"
        )
    );
    let hash = hex("2227aa90cf06044d78a6681737f0be48fac6a2e13f12086e076cb5bbbef55f20");
    assert_eq!(client.handshake_hash[..], hash[..]);
    assert_eq!(server.handshake_hash[..], hash[..]);
    assert_eq!(server.peer, ramp(0x00).public());
}

fn seal_one(sealer: &mut Sealer, plaintext: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    sealer.seal_record(plaintext, &mut out).unwrap();
    out
}

#[test]
fn vector_b_records() {
    let (mut client, mut server, ..) = vector_b();
    assert_eq!(
        seal_one(&mut client.sealer, b"hello"),
        hex("040015dc192494126dbf7536fc5739545df3ba74e6dc4970")
    );
    assert_eq!(
        seal_one(&mut client.sealer, b""),
        hex("04001055cf9e7a5c64551f511231b1ac7dbdaf")
    );
    client.sealer.skip_to(256);
    assert_eq!(
        seal_one(&mut client.sealer, b"hello"),
        hex("0400152ec8d47a76d7df15925b8bb34f9b3e0e48fc8b6669")
    );
    assert_eq!(
        seal_one(&mut server.sealer, b"world"),
        hex("0400151f9a994f2943daba9ea312ffbafc58552337cdff1c")
    );
    let challenge = ChallengePublic::from_bytes(*ramp(0x20).public().as_bytes());
    assert_eq!(
        seal_one(&mut server.sealer, &encode_early(&challenge)),
        hex(
            "0400781e8475b7137ddb1a96546798630ad530c9c21cffb7bfade9be204f4acb3cfe993fdabf352f84f8cb0be66a5f2fb4f0ffef0ca2dd0f6c55fe6aae536267df3dd8b32ce66f5a5adae7d0975e2f01c04adc181cee30147d994e9635ddde9f1b4ad9fd93f046e3ceb45399596b1ef00ee5e1807c7f9b31e94354"
        )
    );
}

#[test]
fn opener_reads_the_vectors_and_skips_empty_records() {
    let (_, mut server, ..) = vector_b();
    let mut wire = hex("040015dc192494126dbf7536fc5739545df3ba74e6dc4970");
    wire.extend(hex("04001055cf9e7a5c64551f511231b1ac7dbdaf"));
    let mut plain = Vec::new();
    server.opener.handle_input(&wire, &mut plain).unwrap();
    assert_eq!(plain, b"hello");
    assert!(server.opener.is_at_boundary());
}

#[test]
fn error_frames() {
    assert_eq!(
        error_frame("unsupported"),
        hex("03000b756e737570706f72746564")
    );
    assert!(error_frame(&"x".repeat(10_000)).len() <= FRAME_LEN_MAX);
    let frame = error_frame("go\x1b[2J away");
    assert_eq!(Initiator::answer_len(&frame), Ok(Some(frame.len())));
    let (initiator, _) = fresh_initiator();
    assert_eq!(
        initiator.finish(&frame).unwrap_err(),
        HandshakeError::Refused {
            text: "go [2J away".into()
        }
    );
}

fn fresh_initiator() -> (Initiator, [u8; INITIATION_LEN]) {
    let mut rng = StdRng::seed_from_u64(7);
    Initiator::new(&ramp(1), &ramp(0x40).public(), 113, &mut rng).unwrap()
}

#[test]
fn answers_are_recognised_in_pieces() {
    let (_, initiation) = fresh_initiator();
    let mut rng = StdRng::seed_from_u64(8);
    let responder = Responder::open(&ramp(0x40), &initiation).unwrap();
    let (_, response) = responder.respond(&mut rng).unwrap();
    for end in 0..response.len() {
        assert_eq!(Initiator::answer_len(&response[..end]), Ok(None));
    }
    let mut more = response.to_vec();
    more.extend_from_slice(b"records");
    assert_eq!(Initiator::answer_len(&more), Ok(Some(RESPONSE_LEN)));
    assert!(Initiator::answer_len(b"HTTP/1.1 200 OK").is_err());
    assert!(Initiator::answer_len(&[2, 0, 47]).is_err());
}

#[test]
fn low_order_keys_are_refused() {
    let mut rng = StdRng::seed_from_u64(1);
    let zero = MachinePublic::from_bytes([0; 32]);
    assert_eq!(
        Initiator::new(&ramp(1), &zero, 113, &mut rng).unwrap_err(),
        HandshakeError::WeakKey
    );
    let (_, mut initiation) = fresh_initiator();
    initiation[5..37].fill(0);
    assert_eq!(
        Responder::open(&ramp(0x40), &initiation).unwrap_err(),
        HandshakeError::WeakKey
    );
}

#[test]
fn every_altered_bit_of_the_handshake_is_noticed() {
    let (_, initiation) = fresh_initiator();
    for at in 0..initiation.len() {
        let mut bad = initiation;
        bad[at] ^= 1;
        assert!(Responder::open(&ramp(0x40), &bad).is_err(), "byte {at}");
    }
    let (.., response) = vector_b();
    for at in 0..response.len() {
        let (initiator, _) = Initiator::with_ephemeral(
            &ramp(0x00),
            &ramp(0x40).public(),
            145,
            b"Tailscale Control Protocol v145",
            ramp(0x20),
        )
        .unwrap();
        let mut bad = response.clone();
        bad[at] ^= 1;
        assert!(initiator.finish(&bad).is_err(), "byte {at}");
    }
}

#[test]
fn a_server_with_another_key_is_noticed() {
    let (_, initiation) = fresh_initiator();
    assert_eq!(
        Responder::open(&ramp(0x41), &initiation).unwrap_err(),
        HandshakeError::NotAuthentic
    );
}

#[test]
fn every_altered_bit_of_a_record_is_fatal() {
    let wire = hex("040015dc192494126dbf7536fc5739545df3ba74e6dc4970");
    for at in 0..wire.len() {
        let (_, mut server, ..) = vector_b();
        let mut bad = wire.clone();
        bad[at] ^= 1;
        let mut plain = Vec::new();
        // A longer claimed length waits for more; what follows cannot save it.
        let outcome = server
            .opener
            .handle_input(&bad, &mut plain)
            .and_then(|()| server.opener.handle_input(&[0; FRAME_LEN_MAX], &mut plain));
        assert!(outcome.is_err(), "byte {at}");
        assert!(plain.is_empty(), "byte {at}");
        assert_eq!(
            server.opener.handle_input(&wire, &mut plain),
            Err(RecordError::Dead)
        );
    }
}

#[test]
fn replayed_and_reordered_records_are_fatal() {
    let first = hex("040015dc192494126dbf7536fc5739545df3ba74e6dc4970");
    let second = hex("04001055cf9e7a5c64551f511231b1ac7dbdaf");
    let mut plain = Vec::new();
    let (_, mut server, ..) = vector_b();
    assert_eq!(
        server.opener.handle_input(&second, &mut plain),
        Err(RecordError::NotAuthentic)
    );
    let (_, mut server, ..) = vector_b();
    server.opener.handle_input(&first, &mut plain).unwrap();
    assert_eq!(
        server.opener.handle_input(&first, &mut plain),
        Err(RecordError::NotAuthentic)
    );
}

#[test]
fn record_limits() {
    let (mut client, mut server, ..) = vector_b();
    let mut wire = Vec::new();
    client
        .sealer
        .seal(&[7; 2 * PLAINTEXT_LEN_MAX + 1], &mut wire)
        .unwrap();
    assert_eq!(wire.len(), 2 * FRAME_LEN_MAX + 3 + 1 + 16);
    let mut plain = Vec::new();
    server.opener.handle_input(&wire, &mut plain).unwrap();
    assert_eq!(plain, vec![7; 2 * PLAINTEXT_LEN_MAX + 1]);

    let check = |header: [u8; 3], want: RecordError| {
        let (_, mut server, ..) = vector_b();
        assert_eq!(
            server.opener.handle_input(&header, &mut Vec::new()),
            Err(want)
        );
    };
    check([4, 0x0f, 0xfe], RecordError::TooLong(4094));
    check([4, 0xff, 0xff], RecordError::TooLong(65535));
    check([4, 0, 15], RecordError::TooShort(15));
    check([4, 0, 0], RecordError::TooShort(0));
    check([3, 0, 20], RecordError::UnexpectedType(3));
}

#[test]
fn the_last_nonce_is_never_used() {
    let (mut client, ..) = vector_b();
    client.sealer.skip_to(u64::MAX - 1);
    seal_one(&mut client.sealer, b"last");
    let mut out = Vec::new();
    assert_eq!(
        client.sealer.seal(b"one more", &mut out),
        Err(RecordError::Exhausted)
    );
    assert!(out.is_empty());
}

#[test]
fn early_payload_or_none() {
    let check = |input: &[u8], want: Result<&[u8], ()>, challenge: Option<ChallengePublic>| {
        let mut reader = EarlyReader::new();
        let mut out = Vec::new();
        let got = reader.handle_plaintext(input, &mut out);
        assert_eq!(got.is_ok(), want.is_ok());
        assert_eq!(out, want.unwrap_or_default());
        assert_eq!(reader.challenge(), challenge);
    };
    let key = ChallengePublic::from_bytes([9; 32]);
    let mut payload = encode_early(&key);
    payload.extend_from_slice(b"rest");
    check(&payload, Ok(b"rest"), Some(key));
    check(
        &[0, 0, 0, 4, 0, 0, 0, 0, 0],
        Ok(&[0, 0, 0, 4, 0, 0, 0, 0, 0]),
        None,
    );
    check(&[0xff; 8], Ok(b""), None);
    check(b"\xff\xff\xffTS\xff\xff\xff\xff", Err(()), None);
    check(b"\xff\xff\xffTS\0\0\0\x02{x", Err(()), None);
    check(
        b"\xff\xff\xffTS\0\0\0\x04null",
        Ok(b""),
        Some(ChallengePublic::ZERO),
    );
    check(
        b"\xff\xff\xffTS\0\0\0\x0a{\"new\": 1}",
        Ok(b""),
        Some(ChallengePublic::ZERO),
    );
}

#[test]
fn map_frames() {
    let keep_alive = hex("28b52ffd24129100007b224b656570416c697665223a747275657d0e260c10");
    let mut wire = map_frame_header(31).to_vec();
    assert_eq!(wire, hex("1f000000"));
    wire.extend_from_slice(&keep_alive);
    wire.extend_from_slice(&[0, 0, 0, 0, 1, 0]);
    let mut frames = MapFrames::new(100);
    let mut input = wire.as_slice();
    assert_eq!(frames.next_frame(&mut input), Ok(Some(keep_alive)));
    assert!(frames.is_at_boundary());
    assert_eq!(frames.next_frame(&mut input), Ok(Some(Vec::new())));
    assert_eq!(frames.next_frame(&mut input), Ok(None));
    assert!(!frames.is_at_boundary());

    let mut input: &[u8] = &[101, 0, 0, 0];
    assert_eq!(
        MapFrames::new(100).next_frame(&mut input),
        Err(MapFrameError::TooLong { len: 101, max: 100 })
    );
}

/// Splits `data` at `cuts`.
fn pieces<'a>(data: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
    ends.push(data.len());
    ends.sort_unstable();
    let mut from = 0;
    ends.into_iter()
        .map(|end| &data[std::mem::replace(&mut from, end)..end])
        .collect()
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Responder::open(&ramp(0x40), &bytes);
        let _ = Initiator::answer_len(&bytes);
        let _ = fresh_initiator().0.finish(&bytes);
        let (mut client, ..) = vector_b();
        let _ = client.opener.handle_input(&bytes, &mut Vec::new());
        let _ = EarlyReader::new().handle_plaintext(&bytes, &mut Vec::new());
        let mut frames = MapFrames::new(1000);
        let mut input = bytes.as_slice();
        while let Ok(Some(_)) = frames.next_frame(&mut input) {}
    }

    #[test]
    fn initiations_of_random_content_never_panic(mut bytes in prop::collection::vec(any::<u8>(), INITIATION_LEN)) {
        bytes[2..5].copy_from_slice(&[1, 0, 96]);
        prop_assert!(Responder::open(&ramp(0x40), &bytes).is_err());
    }

    #[test]
    fn chunking_does_not_matter(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 0..4),
        early in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        cuts_inside in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let (mut client, mut server, ..) = vector_b();
        let mut plain = if early { encode_early(&ChallengePublic::from_bytes([3; 32])) } else { vec![0; 9] };
        let mut body = if early { Vec::new() } else { vec![0; 9] };
        for message in &messages {
            for part in [&map_frame_header(u32::try_from(message.len()).unwrap())[..], message] {
                plain.extend_from_slice(part);
                body.extend_from_slice(part);
            }
        }
        let mut wire = Vec::new();
        for piece in pieces(&plain, &cuts_inside) {
            server.sealer.seal(piece, &mut wire).unwrap();
        }
        let mut reader = EarlyReader::new();
        let mut got = Vec::new();
        for piece in pieces(&wire, &cuts) {
            let mut opened = Vec::new();
            client.opener.handle_input(piece, &mut opened).unwrap();
            reader.handle_plaintext(&opened, &mut got).unwrap();
        }
        prop_assert!(client.opener.is_at_boundary());
        prop_assert_eq!(reader.challenge().is_some(), early);
        prop_assert_eq!(&got, &body);

        let skip = if early { 0 } else { 9 };
        let mut frames = MapFrames::new(MAP_FRAME_LEN_MAX);
        let mut split = Vec::new();
        for mut piece in pieces(&got[skip..], &cuts) {
            while let Some(frame) = frames.next_frame(&mut piece).unwrap() {
                split.push(frame);
            }
        }
        prop_assert_eq!(split, messages);
    }
}
