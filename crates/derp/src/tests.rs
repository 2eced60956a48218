use std::time::Duration;

use keys::{MeshKey, NodePrivate, NodePublic, decode_hex, nacl};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

fn private(byte: u8) -> NodePrivate {
    NodePrivate::from_bytes([byte; 32])
}

fn hex(text: &str) -> Vec<u8> {
    let mut out = vec![0; text.len() / 2];
    decode_hex(text, &mut out).unwrap();
    out
}

/// A client and a server after their handshake, with nothing unread.
fn connected() -> (ClientDecoder, ServerDecoder) {
    let mut server = ServerHandshake::new(private(2));
    let mut client = ClientHandshake::new(private(1), ClientInfo::default(), None);
    client.reader().push(&server.greeting());
    let hello = client.poll(&mut rng()).unwrap().unwrap();
    server.reader().push(&hello.frame);
    let accepted = server
        .poll(&ServerInfo::default(), &mut rng())
        .unwrap()
        .unwrap();
    let mut client = hello.decoder;
    client.reader().push(&accepted.reply);
    assert_eq!(
        client.poll().unwrap(),
        Some(ServerMessage::Info(ServerInfo::default()))
    );
    (client, accepted.decoder)
}

fn client_reads(bytes: &[u8]) -> Vec<String> {
    let (mut client, _) = connected();
    client.reader().push(bytes);
    let mut out = Vec::new();
    while let Some(message) = client.poll().unwrap() {
        out.push(format!("{message:?}"));
    }
    assert!(!client.reader().has_buffered());
    out
}

mod handshake {
    use super::*;

    /// Both keys and the nonce are fixed; made with libsodium.
    const CLIENT_INFO: &str = "0200000068a4e09292b651c278b9772c569f5fa9bb13d906b46ab68c9df9dc2b4409f8a209000102030405060708090a0b0c0d0e0f1011121314151617\
        3886897e2cda6c0d8dc4ad5c4b74ca7f99edf5a6e8428f59d77442f5e0be4499b5921f8df3dea51572626156526589c1";

    #[test]
    fn server_opens_a_known_client_info() {
        let mut server = ServerHandshake::new(private(2));
        server.reader().push(&hex(CLIENT_INFO));
        let accepted = server
            .poll(&ServerInfo::default(), &mut rng())
            .unwrap()
            .unwrap();
        assert_eq!(accepted.key, private(1).public());
        assert_eq!(accepted.info, ClientInfo::default());
    }

    #[test]
    fn greeting_is_magic_and_key() {
        let greeting = ServerHandshake::new(private(2)).greeting();
        assert_eq!(
            greeting,
            hex("0100000028 44455250f09f9491 ce8d3ad1ccb633ec7b70c17814a5c76ecd029685050d344745ba05870e587d59"
                .replace(' ', "")
                .as_str())
        );
    }

    #[test]
    fn both_sides_meet_byte_by_byte() {
        let mut server = ServerHandshake::new(private(2));
        let mut client = ClientHandshake::new(private(1), ClientInfo::default(), None);
        let mut greeting = server.greeting();
        // A newer server may say more.
        greeting.extend_from_slice(b"future");
        greeting[4] += 6;
        let mut hello = None;
        for byte in &greeting {
            assert!(hello.is_none());
            client.reader().push(&[*byte]);
            hello = client.poll(&mut rng()).unwrap();
        }
        let hello = hello.unwrap();
        assert_eq!(hello.decoder.server(), private(2).public());
        let mut accepted = None;
        for byte in &hello.frame {
            assert!(accepted.is_none());
            server.reader().push(&[*byte]);
            accepted = server.poll(&ServerInfo::default(), &mut rng()).unwrap();
        }
        assert_eq!(accepted.unwrap().key, private(1).public());
    }

    #[test]
    fn bytes_after_the_handshake_are_kept() {
        let mut server = ServerHandshake::new(private(2));
        let mut client = ClientHandshake::new(private(1), ClientInfo::default(), None);
        client.reader().push(&server.greeting());
        let mut bytes = client.poll(&mut rng()).unwrap().unwrap().frame;
        put::note_preferred(&mut bytes, true);
        server.reader().push(&bytes);
        let mut accepted = server
            .poll(&ServerInfo::default(), &mut rng())
            .unwrap()
            .unwrap();
        assert_eq!(
            accepted.decoder.poll().unwrap(),
            Some(ClientMessage::NotePreferred(true))
        );
    }

    #[test]
    fn fast_start_skips_the_greeting() {
        let server = ServerHandshake::new(private(2));
        let mut client =
            ClientHandshake::new(private(1), ClientInfo::default(), Some(private(2).public()));
        let mut hello = client.poll(&mut rng()).unwrap().unwrap();
        let mut bytes = server.greeting();
        put::keep_alive(&mut bytes);
        hello.decoder.reader().push(&bytes);
        assert_eq!(
            hello.decoder.poll().unwrap(),
            Some(ServerMessage::Other(FrameType::SERVER_KEY))
        );
        assert_eq!(
            hello.decoder.poll().unwrap(),
            Some(ServerMessage::KeepAlive)
        );
    }

    #[test]
    fn bad_greetings_are_refused() {
        let good = ServerHandshake::new(private(2)).greeting();
        let mut wrong_type = good.clone();
        wrong_type[0] = 6;
        let mut wrong_magic = good.clone();
        wrong_magic[7] ^= 1;
        let mut short = good.clone();
        short[4] = 39;
        let mut long = good.clone();
        long[3] = 5;
        let mut low_order = good;
        low_order[13..].fill(0);
        for (bytes, want) in [
            (
                wrong_type,
                HandshakeError::UnexpectedFrame {
                    got: FrameType::KEEP_ALIVE,
                    want: FrameType::SERVER_KEY,
                },
            ),
            (wrong_magic, HandshakeError::BadGreeting),
            (short, HandshakeError::BadGreeting),
            (
                long,
                HandshakeError::Frame(FrameError::TooLong {
                    frame: FrameType::SERVER_KEY,
                    len: 0x528,
                    max: 1024,
                }),
            ),
            (low_order, HandshakeError::BadKey),
        ] {
            let mut client = ClientHandshake::new(private(1), ClientInfo::default(), None);
            client.reader().push(&bytes);
            assert_eq!(client.poll(&mut rng()).unwrap_err(), want);
        }
    }

    #[test]
    fn a_stranger_proves_nothing() {
        let refused = |bytes: &[u8]| {
            let mut server = ServerHandshake::new(private(2));
            server.reader().push(bytes);
            server.poll(&ServerInfo::default(), &mut rng()).unwrap_err()
        };
        let mut forged = hex(CLIENT_INFO);
        forged[5..37].copy_from_slice(private(3).public().as_bytes());
        assert_eq!(refused(&forged), HandshakeError::BadBox);
        let mut huge = hex(CLIENT_INFO);
        huge[2] = 5;
        assert!(matches!(
            refused(&huge),
            HandshakeError::Frame(FrameError::TooLong { .. })
        ));
        assert!(matches!(
            refused(&[2, 0, 0, 0, 3, 1, 2, 3]),
            HandshakeError::Frame(FrameError::WrongLength { .. })
        ));
        assert!(matches!(
            refused(b"GET / HTTP/1.1\r\n"),
            HandshakeError::UnexpectedFrame { .. }
        ));
    }

    #[test]
    fn server_info_from_another_server_is_refused() {
        let mut client =
            ClientHandshake::new(private(1), ClientInfo::default(), Some(private(3).public()));
        let mut decoder = client.poll(&mut rng()).unwrap().unwrap().decoder;
        let key = nacl::SharedKey::new(&[2; 32], private(1).public().as_bytes()).unwrap();
        let mut bytes = Vec::new();
        put::frame(
            &mut bytes,
            FrameType::SERVER_INFO,
            &[&key.seal(&mut rng(), b"{\"version\":2}")],
        );
        decoder.reader().push(&bytes);
        assert_eq!(decoder.poll(), Err(FrameError::BadServerInfo));
    }
}

mod info {
    use super::*;

    #[test]
    fn client_info_is_written_as_the_originals_do() {
        assert_eq!(
            *ClientInfo::default().to_json(),
            r#"{"version":2,"CanAckPings":true}"#
        );
        let full = ClientInfo {
            mesh_key: Some(
                "6d529e9d4ef632d22d4a4214cb49da8f1ba1b72697061fb24e312984c35ec8d8"
                    .parse()
                    .unwrap(),
            ),
            version: 2,
            can_ack_pings: false,
            is_prober: true,
            app_name: "a\"b".to_owned(),
        };
        assert_eq!(
            *full.to_json(),
            r#"{"meshKey":"6d529e9d4ef632d22d4a4214cb49da8f1ba1b72697061fb24e312984c35ec8d8","version":2,"CanAckPings":false,"IsProber":true,"AppName":"a\"b"}"#
        );
        assert_eq!(ClientInfo::from_json(full.to_json().as_bytes()), Some(full));
    }

    #[test]
    fn names_match_in_any_case() {
        let info = ClientInfo::from_json(
            br#"{"MESHKEY":"6d529e9d4ef632d22d4a4214cb49da8f1ba1b72697061fb24e312984c35ec8d8","Version":1,"canackpings":true,"isProber":true,"appname":"x","later":[{}]}"#,
        )
        .unwrap();
        assert!(info.mesh_key.is_some() && info.can_ack_pings && info.is_prober);
        assert_eq!((info.version, info.app_name.as_str()), (1, "x"));
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            "",
            "[]",
            "7",
            r#"{"version":"2"}"#,
            r#"{"version":2.5}"#,
            r#"{"CanAckPings":1}"#,
            r#"{"meshKey":""}"#,
            r#"{"meshKey":null}"#,
            r#"{"meshKey":"6d529e9d4ef632d22d4a4214cb49da8f1ba1b72697061fb24e312984c35ec8d"}"#,
            r#"{"meshKey":"zz529e9d4ef632d22d4a4214cb49da8f1ba1b72697061fb24e312984c35ec8d8"}"#,
        ] {
            assert_eq!(ClientInfo::from_json(text.as_bytes()), None, "{text}");
        }
        let nulls = br#"{"version":null,"CanAckPings":null,"IsProber":null,"AppName":null}"#;
        let info = ClientInfo::from_json(nulls).unwrap();
        assert_eq!(info.version, 0);
        let zero_key = format!(r#"{{"meshKey":"{}"}}"#, "0".repeat(64));
        assert_eq!(
            ClientInfo::from_json(zero_key.as_bytes()).unwrap().mesh_key,
            None
        );
    }

    #[test]
    fn server_info_round_trips() {
        assert_eq!(ServerInfo::default().to_json(), r#"{"version":2}"#);
        let limited = ServerInfo {
            version: 2,
            bytes_per_second: 1000,
            burst: 5,
        };
        assert_eq!(
            limited.to_json(),
            r#"{"version":2,"TokenBucketBytesPerSecond":1000,"TokenBucketBytesBurst":5}"#
        );
        assert_eq!(
            ServerInfo::from_json(limited.to_json().as_bytes()),
            Some(limited)
        );
        assert_eq!(ServerInfo::from_json(b"{\"version\":true}"), None);
        let negative = ServerInfo::from_json(br#"{"TokenBucketBytesPerSecond":-4}"#).unwrap();
        assert_eq!(negative.bytes_per_second, 0);
    }

    #[test]
    fn a_mesh_key_does_not_print() {
        let key: MeshKey = "6d529e9d4ef632d22d4a4214cb49da8f1ba1b72697061fb24e312984c35ec8d8"
            .parse()
            .unwrap();
        let info = ClientInfo {
            mesh_key: Some(key),
            ..ClientInfo::default()
        };
        assert!(!format!("{info:?}").contains("6d52"));
    }
}

mod client {
    use super::*;

    /// Facts of the originals' `derp/client_test.go`.
    #[test]
    fn frames_of_the_originals() {
        for (bytes, want) in [
            (
                "1200000008 0102030405060708",
                "Ping([1, 2, 3, 4, 5, 6, 7, 8])",
            ),
            (
                "1300000008 0102030405060708",
                "Pong([1, 2, 3, 4, 5, 6, 7, 8])",
            ),
            ("1400000003 424144", "Health(\"BAD\")"),
            ("1400000000", "Health(\"\")"),
            (
                "1500000008 0000000100000002",
                "Restarting { reconnect_in: 1ms, try_for: 2ms }",
            ),
            ("0600000000", "KeepAlive"),
        ] {
            assert_eq!(client_reads(&hex(&bytes.replace(' ', ""))), [want]);
        }
        let mut out = Vec::new();
        put::ping(&mut out, [1, 2, 3, 4, 5, 6, 7, 8]);
        put::pong(&mut out, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(
            out,
            hex("120000000801020304050607081300000008 0102030405060708"
                .replace(' ', "")
                .as_str())
        );
    }

    #[test]
    fn peer_gone_with_and_without_a_reason() {
        let key = private(1).public();
        let mut bytes = Vec::new();
        put::frame(
            &mut bytes,
            FrameType::PEER_GONE,
            &[key.as_bytes().as_slice()],
        );
        put::peer_gone(&mut bytes, &key, PeerGoneReason::NOT_HERE);
        assert_eq!(
            client_reads(&bytes),
            [
                format!("PeerGone {{ peer: {key}, reason: PeerGoneReason(0) }}"),
                format!("PeerGone {{ peer: {key}, reason: PeerGoneReason(1) }}"),
            ]
        );
    }

    #[test]
    fn peer_present_of_every_age() {
        let present = PeerPresent {
            key: private(1).public(),
            addr: Some("1.2.3.4:567".parse().unwrap()),
            flags: PresentFlags(PresentFlags::REGULAR),
        };
        let mut frame = Vec::new();
        put::peer_present(&mut frame, &present);
        assert_eq!(frame.len(), HEADER_LEN + 51);
        let parse = |len: usize| {
            let mut bytes = frame[..HEADER_LEN + len].to_vec();
            bytes[4] = len as u8;
            client_reads(&bytes).remove(0)
        };
        assert_eq!(
            parse(51),
            format!("{:?}", ServerMessage::PeerPresent(present))
        );
        let no_flags = PeerPresent {
            flags: PresentFlags(0),
            ..present
        };
        assert_eq!(
            parse(50),
            format!("{:?}", ServerMessage::PeerPresent(no_flags))
        );
        let old = PeerPresent {
            addr: None,
            ..no_flags
        };
        for len in [32, 33, 48, 49] {
            assert_eq!(parse(len), format!("{:?}", ServerMessage::PeerPresent(old)));
        }
        assert_eq!(parse(31), "Other(FrameType(9))");
    }

    #[test]
    fn short_and_unknown_frames_are_skipped() {
        let mut bytes = Vec::new();
        for kind in [0, 5, 8, 9, 0x12, 0x13, 0x15, 0x77, 0xff] {
            put::frame(&mut bytes, FrameType(kind), &[&[1; 7]]);
        }
        // More than is ever buffered of an unknown frame at once.
        put::frame(&mut bytes, FrameType(0x40), &[&vec![0; 900_000]]);
        put::keep_alive(&mut bytes);
        let read = client_reads(&bytes);
        assert_eq!(read.len(), 11);
        assert!(read[..10].iter().all(|text| text.starts_with("Other")));
        assert_eq!(read[10], "KeepAlive");
    }

    #[test]
    fn a_frame_above_a_mebibyte_is_fatal() {
        for kind in [0x05, 0x06, 0x77] {
            let (mut client, _) = connected();
            client.reader().push(&[kind, 0, 0x10, 0, 1]);
            assert_eq!(
                client.poll(),
                Err(FrameError::TooLong {
                    frame: FrameType(kind),
                    len: (1 << 20) + 1,
                    max: 1 << 20
                })
            );
        }
    }

    #[test]
    fn health_need_not_be_text() {
        let mut bytes = Vec::new();
        put::frame(&mut bytes, FrameType::HEALTH, &[&[0xff, b'x']]);
        assert_eq!(client_reads(&bytes), ["Health(\"\u{fffd}x\")"]);
    }
}

mod server {
    use super::*;

    fn reads(bytes: &[u8]) -> Result<Vec<String>, FrameError> {
        let (_, mut server) = connected();
        server.reader().push(bytes);
        let mut out = Vec::new();
        while let Some(message) = server.poll()? {
            out.push(format!("{message:?}"));
        }
        Ok(out)
    }

    #[test]
    fn every_message_round_trips() {
        let (a, b) = (private(1).public(), private(2).public());
        let mut bytes = Vec::new();
        put::send_packet(&mut bytes, &a, b"hi").unwrap();
        put::forward_packet(&mut bytes, &a, &b, b"yo").unwrap();
        put::note_preferred(&mut bytes, false);
        put::watch_conns(&mut bytes);
        put::close_peer(&mut bytes, &a);
        put::ping(&mut bytes, [3; 8]);
        put::pong(&mut bytes, [4; 8]);
        assert_eq!(
            reads(&bytes).unwrap(),
            [
                format!("SendPacket {{ dst: {a}, packet: [104, 105] }}"),
                format!("ForwardPacket {{ src: {a}, dst: {b}, packet: [121, 111] }}"),
                "NotePreferred(false)".to_owned(),
                "WatchConns".to_owned(),
                format!("ClosePeer({a})"),
                "Ping([3, 3, 3, 3, 3, 3, 3, 3])".to_owned(),
                "Pong([4, 4, 4, 4, 4, 4, 4, 4])".to_owned(),
            ]
        );
    }

    #[test]
    fn wrong_lengths_end_the_connection() {
        for (kind, len) in [
            (0x04, 31),
            (0x04, 65536 + 33),
            (0x0a, 63),
            (0x0a, 65536 + 65),
            (0x07, 0),
            (0x07, 2),
            (0x10, 1),
            (0x11, 31),
            (0x11, 33),
            (0x12, 7),
            (0x12, 1001),
        ] {
            let mut bytes = Vec::new();
            put::frame(&mut bytes, FrameType(kind), &[&vec![0; len]]);
            assert!(reads(&bytes).is_err(), "{kind} {len}");
        }
    }

    #[test]
    fn unknown_frames_of_any_length_are_skipped() {
        let mut bytes = Vec::new();
        put::frame(&mut bytes, FrameType(0x99), &[&vec![0; 3 << 20]]);
        put::frame(&mut bytes, FrameType::PING, &[&[9; 1000]]);
        put::frame(&mut bytes, FrameType::PONG, &[&[9; 3]]);
        assert_eq!(
            reads(&bytes).unwrap(),
            [
                "Other(FrameType(153))",
                "Ping([9, 9, 9, 9, 9, 9, 9, 9])",
                "Other(FrameType(19))"
            ]
        );
    }

    #[test]
    fn packets_above_the_limit_are_not_written() {
        let key = private(1).public();
        let mut out = Vec::new();
        let packet = vec![0; MAX_PACKET_LEN + 1];
        assert!(put::send_packet(&mut out, &key, &packet).is_err());
        assert!(put::recv_packet(&mut out, &key, &packet).is_err());
        assert!(put::forward_packet(&mut out, &key, &key, &packet).is_err());
        assert!(out.is_empty());
        put::send_packet(&mut out, &key, &packet[1..]).unwrap();
        assert_eq!(out.len(), put::packet_frame_len(MAX_PACKET_LEN));
        assert_eq!(reads(&out).unwrap().len(), 1);
    }
}

#[test]
fn disco_is_recognised_by_magic_and_length() {
    let mut packet = b"TS\xf0\x9f\x92\xac".to_vec();
    packet.resize(61, 0);
    assert!(!looks_like_disco(&packet));
    packet.push(0);
    assert!(looks_like_disco(&packet));
    packet[0] = 0;
    assert!(!looks_like_disco(&packet));
}

#[test]
fn the_bucket_counts_framing_and_refills() {
    let info = ServerInfo {
        version: 2,
        bytes_per_second: 100,
        burst: 300,
    };
    assert!(TokenBucket::from_info(&ServerInfo::default(), Duration::ZERO).is_none());
    let mut bucket = TokenBucket::from_info(&info, Duration::ZERO).unwrap();
    assert!(bucket.allow_packet(263, Duration::ZERO));
    assert!(!bucket.allow(1, Duration::ZERO));
    assert!(!bucket.allow(101, Duration::from_secs(1)));
    assert!(bucket.allow(100, Duration::from_secs(1)));
    assert!(!bucket.allow(301, Duration::from_secs(100)));
    assert!(bucket.allow(300, Duration::from_secs(100)));
    assert!(!bucket.allow(1, Duration::from_secs(50)), "clock went back");
}

#[test]
fn the_reader_grows_under_load_and_shrinks_when_idle() {
    let mut reader = FrameReader::new();
    assert_eq!(reader.room().len(), FrameReader::IDLE);
    let take = |reader: &mut FrameReader, n: usize| {
        let n = n.min(reader.room().len());
        reader.room()[..n].fill(0);
        reader.filled(n);
        while reader.poll(|_| Keep::Whole { max: 0 }).unwrap().is_some() {}
    };
    for _ in 0..20 {
        take(&mut reader, usize::MAX);
    }
    assert!(reader.room().len() >= FrameReader::BUSY);
    for _ in 0..40 {
        take(&mut reader, 5);
    }
    assert!(reader.room().len() <= 4 * FrameReader::IDLE);
}

#[test]
fn wire_values_of_the_map() {
    assert_eq!(Node::stun_port_from_wire(0), Some(3478));
    assert_eq!(Node::stun_port_from_wire(-1), None);
    assert_eq!(Node::stun_port_from_wire(70000), None);
    assert_eq!(Node::derp_port_from_wire(0), 443);
    assert_eq!(Node::derp_port_from_wire(3340), 3340);
    assert_eq!(
        FamilyAddr::<std::net::Ipv4Addr>::from_wire(""),
        FamilyAddr::Dns
    );
    assert_eq!(
        FamilyAddr::<std::net::Ipv4Addr>::from_wire("none"),
        FamilyAddr::None
    );
    assert_eq!(
        FamilyAddr::from_wire("127.0.0.1"),
        FamilyAddr::Ip(std::net::Ipv4Addr::LOCALHOST)
    );
    assert_eq!(NodeCert::from_wire(""), NodeCert::HostName);
    assert_eq!(
        NodeCert::from_wire("a.example"),
        NodeCert::Name("a.example".to_owned())
    );
    let pin = NodeCert::pin_text(&[0xab; 32]);
    assert_eq!(NodeCert::from_wire(&pin), NodeCert::Sha256([0xab; 32]));
    assert_eq!(
        NodeCert::from_wire("sha256-raw:12"),
        NodeCert::Unsatisfiable
    );
}

proptest! {
    #[test]
    fn junk_never_panics_and_progress_is_made(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
        chunk in 1usize..700,
    ) {
        let (mut client, mut server) = connected();
        let (mut client_ok, mut server_ok) = (true, true);
        for piece in bytes.chunks(chunk) {
            client.reader().push(piece);
            while client_ok {
                match client.poll() {
                    Ok(None) => break,
                    Ok(Some(_)) => {}
                    Err(_) => client_ok = false,
                }
            }
            server.reader().push(piece);
            while server_ok {
                match server.poll() {
                    Ok(None) => break,
                    Ok(Some(_)) => {}
                    Err(_) => server_ok = false,
                }
            }
        }
        let mut handshake = ServerHandshake::new(private(2));
        handshake.reader().push(&bytes);
        let _ = handshake.poll(&ServerInfo::default(), &mut rng());
        let mut handshake = ClientHandshake::new(private(2), ClientInfo::default(), None);
        handshake.reader().push(&bytes);
        let _ = handshake.poll(&mut rng());
    }

    #[test]
    fn nearly_valid_frames_never_panic(
        frames in prop::collection::vec((0u8..0x18, prop::collection::vec(any::<u8>(), 0..80)), 0..40),
        flip in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut bytes = Vec::new();
        for (kind, body) in &frames {
            put::frame(&mut bytes, FrameType(*kind), &[body]);
        }
        if !bytes.is_empty() {
            let at = flip.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let (mut client, mut server) = connected();
        client.reader().push(&bytes);
        while let Ok(Some(_)) = client.poll() {}
        server.reader().push(&bytes);
        while let Ok(Some(_)) = server.poll() {}
    }

    #[test]
    fn packets_survive_any_chunking(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 1..20),
        chunk in 1usize..5000,
    ) {
        let src = private(1).public();
        let mut bytes = Vec::new();
        for packet in &packets {
            put::recv_packet(&mut bytes, &src, packet).unwrap();
        }
        let (mut client, _) = connected();
        let mut got: Vec<Vec<u8>> = Vec::new();
        for piece in bytes.chunks(chunk) {
            client.reader().push(piece);
            while let Some(message) = client.poll().unwrap() {
                let ServerMessage::Packet { packet, .. } = message else { panic!("{message:?}") };
                got.push(packet.to_vec());
            }
        }
        prop_assert_eq!(got, packets);
        prop_assert!(!client.reader().has_buffered());
    }

    #[test]
    fn infos_read_any_text(text in any::<Vec<u8>>()) {
        let _ = ClientInfo::from_json(&text);
        let _ = ServerInfo::from_json(&text);
    }

    #[test]
    fn present_round_trips(key in any::<[u8; 32]>(), ip in any::<[u8; 16]>(), port in any::<u16>(), flags in any::<u8>()) {
        let present = PeerPresent {
            key: NodePublic::from_bytes(key),
            addr: Some((std::net::IpAddr::from(ip).to_canonical(), port).into()),
            flags: PresentFlags(flags),
        };
        let mut bytes = Vec::new();
        put::peer_present(&mut bytes, &present);
        prop_assert_eq!(client_reads(&bytes), [format!("{:?}", ServerMessage::PeerPresent(present))]);
    }
}
