use std::net::SocketAddr;
use std::time::Duration;

use keys::NodePublic;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    let mut out = vec![0; text.len() / 2];
    keys::decode_hex(&text, &mut out).expect("hex");
    out
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn key(third: u8, fourth: u8) -> [u8; 32] {
    let mut key = [0; 32];
    (key[1], key[2], key[3], key[4]) = (1, 2, third, fourth);
    (key[30], key[31]) = (30, 31);
    key
}

fn endpoint() -> RelayEndpoint {
    RelayEndpoint {
        server: DiscoPublic::from_bytes(key(0, 0)),
        clients: [key(3, 0), key(0, 4)].map(DiscoPublic::from_bytes),
        lamport_id: 123,
        vni: 456,
        bind_lifetime: Duration::from_secs(1),
        steady_state_lifetime: Duration::from_secs(60),
        addresses: vec![addr("1.2.3.4:567"), addr("[2001::3456]:789")],
    }
}

const TX: TxId = TxId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
const KEY: &str = "0001020000000000000000000000000000000000000000000000000000001e1f";
const CLIENTS: &str = "0001020300000000000000000000000000000000000000000000000000001e1f
     0001020004000000000000000000000000000000000000000000000000001e1f";
const ADDRS: &str = "00000000000000000000ffff010203040237 200100000000000000000000000034560315";
const TX_HEX: &str = "0102030405060708090a0b0c";

/// The vectors of the originals' `disco/disco_test.go`.
#[test]
fn messages_of_the_originals() {
    let common = RelayCommon {
        vni: 1,
        generation: 2,
        remote: DiscoPublic::from_bytes(key(0, 0)),
        challenge: std::array::from_fn(|n| n as u8),
    };
    let common_hex = format!(
        "00000001 00000002 {KEY} 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
    );
    let relay = format!(
        "{KEY} {CLIENTS} 000000000000007b 000001c8 000000003b9aca00 0000000df8475800 {ADDRS}"
    );
    let ping = |node_key, padding| {
        Message::Ping(Ping {
            tx: TX,
            node_key,
            padding,
        })
    };
    let node = NodePublic::from_bytes(key(0, 0));
    let pong = |src| Message::Pong(Pong { tx: TX, src });
    for (message, want) in [
        (ping(NodePublic::ZERO, 0), format!("0100 {TX_HEX}")),
        (ping(node, 0), format!("0100 {TX_HEX} {KEY}")),
        (ping(NodePublic::ZERO, 3), format!("0100 {TX_HEX} 000000")),
        (ping(node, 3), format!("0100 {TX_HEX} {KEY} 000000")),
        (
            pong(addr("2.3.4.5:1234")),
            format!("0200 {TX_HEX} 00000000000000000000ffff0203040504d2"),
        ),
        (
            pong(addr("[fed0::12]:6666")),
            format!("0200 {TX_HEX} fed00000000000000000000000000012 1a0a"),
        ),
        (Message::CallMeMaybe(vec![]), "0300".into()),
        (
            Message::CallMeMaybe(endpoint().addresses),
            format!("0300 {ADDRS}"),
        ),
        (Message::BindEndpoint(common), format!("0400 {common_hex}")),
        (Message::BindChallenge(common), format!("0500 {common_hex}")),
        (Message::BindAnswer(common), format!("0600 {common_hex}")),
        (Message::CallMeMaybeVia(endpoint()), format!("0700 {relay}")),
        (
            Message::AllocateRequest(Allocate {
                clients: endpoint().clients,
                generation: 1,
            }),
            format!("0800 {CLIENTS} 00000001"),
        ),
        (
            Message::AllocateResponse {
                generation: 1,
                endpoint: endpoint(),
            },
            format!("0900 00000001 {relay}"),
        ),
    ] {
        let mut out = Vec::new();
        message.encode(&mut out);
        assert_eq!(out, hex(&want), "{}", message.name());
        assert_eq!(Message::parse(&out), Ok(message));
    }
}

#[test]
fn lenient_where_the_originals_are() {
    let parse = |text: &str| Message::parse(&hex(text));
    let none = Ok(Message::CallMeMaybe(vec![]));
    assert_eq!(parse(&format!("0301 {ADDRS}")), none, "another version");
    assert_eq!(parse("0300 aabbcc"), none, "not whole addresses");
    let long = parse(&format!(
        "0205 {TX_HEX} 00000000000000000000ffff0203040504d2 99"
    ));
    assert!(matches!(long, Ok(Message::Pong(_))));
    assert!(matches!(
        parse(&format!("0107 {TX_HEX}")),
        Ok(Message::Ping(_))
    ));
}

#[test]
fn refused_messages() {
    let parse = |text: &str| Message::parse(&hex(text));
    assert_eq!(parse(""), Err(ParseError::Length));
    assert_eq!(parse("01"), Err(ParseError::Length));
    assert_eq!(parse("0100 0102"), Err(ParseError::Length));
    assert_eq!(parse("0a00"), Err(ParseError::UnknownType(10)));
    assert_eq!(parse("0701"), Err(ParseError::UnknownVersion(1)));
    let mut no_address = Vec::new();
    let endpoint = RelayEndpoint {
        addresses: vec![],
        ..endpoint()
    };
    Message::CallMeMaybeVia(endpoint).encode(&mut no_address);
    assert_eq!(Message::parse(&no_address), Err(ParseError::Length));
}

#[test]
fn envelopes() {
    let mut rng = StdRng::seed_from_u64(1);
    let (a, b) = (
        DiscoPrivate::generate(&mut rng),
        DiscoPrivate::generate(&mut rng),
    );
    let ping = Message::Ping(Ping {
        tx: TX,
        node_key: NodePublic::from_bytes([9; 32]),
        padding: 0,
    });
    let shared = shared_key(&a, &b.public()).expect("good keys");
    let datagram = seal(&ping, &a.public(), &shared, &mut rng);
    assert_eq!(datagram.len(), 124, "a ping's size is part of the protocol");
    assert!(looks_like(&datagram));

    let envelope = Envelope::parse(&datagram).expect("an envelope");
    assert_eq!(envelope.sender, a.public());
    let shared = shared_key(&b, &envelope.sender).expect("good keys");
    assert_eq!(envelope.open(&shared), Ok(ping));

    let stranger = DiscoPrivate::generate(&mut rng);
    let wrong = shared_key(&stranger, &envelope.sender).expect("good keys");
    assert_eq!(envelope.open(&wrong), Err(OpenError::Seal));
    assert_eq!(Envelope::parse(&datagram[..61 + 16]), None);
    assert!(looks_like(&datagram[..38]));
    assert!(!looks_like(&datagram[..37]));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic_and_written_back(
        kind in 0..11_u8,
        version in prop_oneof![4 => Just(0_u8), 1 => any::<u8>()],
        body in proptest::collection::vec(any::<u8>(), 0..260),
    ) {
        let bytes = [&[kind, version][..], &body].concat();
        if let Ok(message) = Message::parse(&bytes) {
            let mut out = Vec::new();
            message.encode(&mut out);
            prop_assert!(out.len() <= bytes.len());
            // Lifetimes below zero and padding are not kept as they were.
            let again = Message::parse(&out).expect("what we write can be read");
            prop_assert_eq!(again.name(), message.name());
            let mut twice = Vec::new();
            again.encode(&mut twice);
            prop_assert_eq!(twice, out);
        }
    }

    #[test]
    fn any_datagram_is_split_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [&MAGIC[..], &bytes].concat();
        prop_assert_eq!(Envelope::parse(&bytes).is_some(), bytes.len() >= 78);
    }
}
