use std::net::SocketAddr;

use proptest::prelude::*;

use crate::stun::{StunError, TxId, is_stun, parse_request, parse_response, request, response};

const TX: TxId = TxId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(u8::is_ascii_hexdigit)
        .map(|c| char::from(c).to_digit(16).unwrap() as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

#[test]
fn request_and_response_bytes() {
    let bytes =
        hex("000100142112a4420102030405060708090a0b0c802200087461696c6e6f646580280004b32c370f");
    assert_eq!(request(TX).as_slice(), bytes);
    assert_eq!(parse_request(&bytes), Ok(TX));
    let addr: SocketAddr = "1.2.3.4:1234".parse().unwrap();
    let bytes = hex("0101000c2112a4420102030405060708090a0b0c00200008000125c02010a746");
    assert_eq!(response(TX, addr), bytes);
    assert_eq!(parse_response(&bytes), Ok((TX, addr)));
}

/// Datagrams of servers in the field, from the originals' `net/stun/stun_test.go`.
#[test]
fn responses_seen_in_the_field() {
    for (name, bytes, tx, want) in [
        (
            "google",
            "0101000c2112a4422360b11e3ec68ffa93e0800700200008 0001c7866957856f",
            "2360b11e3ec68ffa93e08007",
            "72.69.33.45:59028",
        ),
        (
            "draft attribute and a plain one",
            "010100442112a442482eb64715e8b28eaead6444 000100080001e4ab4845212d 0004000800012710d90a4498 \
             0005000800012711d9747a8a 802000080001c5b96957856f 80220010566f766964612e6f726720302e393600",
            "482eb64715e8b28eaead6444",
            "72.69.33.45:58539",
        ),
        (
            "plain attribute only",
            "010100242112a4427e57966829f444609d1deaa6 000100080001e9d34845212d 0004000800010d964d48a9d4 \
             0005000800010d974d48a9d5",
            "7e57966829f444609d1deaa6",
            "72.69.33.45:59859",
        ),
        (
            "bytes after the message",
            "010100242112a442ebc2d36ef471217c4f3e308e 8022000a656e64706f696e7465720000 002000080001ce665e12a443 \
             80280004b699bb02 010100242112a442",
            "ebc2d36ef471217c4f3e308e",
            "127.0.0.1:61300",
        ),
        (
            "ipv6",
            "010100482112a44206f56685d28af3e69ce341e2 0001001400 0290ce260200d1b4cfc10038b231fffeef96f6 \
             802b0014000 20d962604a880000200d10000000000c57001 002000140002b1dc0710a493b23aa785ea38c219620cd714",
            "06f56685d28af3e69ce341e2",
            "[2602:d1:b4cf:c100:38b2:31ff:feef:96f6]:37070",
        ),
        (
            "padding of one-byte software",
            "010100142112a442ebc2d36ef471217c4f3e308e 8022000161000000 002000080001ce665e12a443",
            "ebc2d36ef471217c4f3e308e",
            "127.0.0.1:61300",
        ),
        (
            "padding of three-byte software",
            "010100142112a442ebc2d36ef471217c4f3e308e 8022000361626300 002000080001ce665e12a443",
            "ebc2d36ef471217c4f3e308e",
            "127.0.0.1:61300",
        ),
        (
            "ipv4 in ipv6",
            "010100182112a4424fd5d202dcb37d31fc773306 002000140002cd3d2112a4424fd5d202dcb382ce2dc3fcc7",
            "4fd5d202dcb37d31fc773306",
            "209.180.207.193:60463",
        ),
    ] {
        let (got_tx, got) = parse_response(&hex(bytes)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(got_tx.0.as_slice(), hex(tx), "{name}");
        assert_eq!(got, want.parse().unwrap(), "{name}");
    }
}

#[test]
fn requests_of_others_are_refused() {
    let good = request(TX);
    let mut other_software = good;
    other_software[24] = b'T';
    let mut wrong_crc = good;
    wrong_crc[39] ^= 1;
    let mut wrong_tx = good;
    wrong_tx[9] ^= 1;
    let mut is_response = good;
    is_response[0] = 1;
    let mut overrun = good;
    overrun[23] = 0xff;
    let no_fingerprint = &good[..32];
    let mut swapped = good.to_vec();
    swapped.splice(20..40, [&good[32..40], &good[20..32]].concat());
    for (datagram, want) in [
        (&good[..19], StunError::NotStun),
        (&other_software, StunError::WrongSoftware),
        (&wrong_crc, StunError::WrongFingerprint),
        (&wrong_tx, StunError::WrongFingerprint),
        (&is_response, StunError::NotRequest),
        (&overrun, StunError::BadAttributes),
        (no_fingerprint, StunError::NoFingerprint),
        (&swapped, StunError::NoFingerprint),
    ] {
        assert_eq!(parse_request(datagram), Err(want));
    }
}

#[test]
fn responses_without_an_address_are_refused() {
    let good = response(TX, "1.2.3.4:1234".parse().unwrap());
    let mut empty = good[..20].to_vec();
    empty[3] = 0;
    assert_eq!(parse_response(&empty), Err(StunError::BadAttributes));
    assert_eq!(parse_response(&good[..31]), Err(StunError::BadAttributes));
    let mut family = good.clone();
    family[25] = 3;
    assert_eq!(parse_response(&family), Err(StunError::BadAttributes));
    let mut error_class = good;
    error_class[0] = 1;
    error_class[1] = 0x11;
    assert_eq!(parse_response(&error_class), Err(StunError::NotResponse));
    assert_eq!(parse_response(&request(TX)), Err(StunError::NotResponse));
}

proptest! {
    #[test]
    fn responses_round_trip(tx in any::<[u8; 12]>(), ip in any::<std::net::IpAddr>(), port in any::<u16>()) {
        let addr = SocketAddr::new(ip.to_canonical(), port);
        prop_assert_eq!(parse_response(&response(TxId(tx), addr)), Ok((TxId(tx), addr)));
    }

    #[test]
    fn requests_round_trip(tx in any::<[u8; 12]>()) {
        prop_assert_eq!(parse_request(&request(TxId(tx))), Ok(TxId(tx)));
    }

    #[test]
    fn junk_is_refused_quietly(mut bytes in prop::collection::vec(any::<u8>(), 0..200), dress in any::<bool>()) {
        if dress && bytes.len() >= 20 {
            bytes[..8].copy_from_slice(&[1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
            bytes[3] = (bytes.len() - 20) as u8;
        }
        let _ = is_stun(&bytes);
        let _ = parse_request(&bytes);
        let _ = parse_response(&bytes);
    }
}
