use proptest::prelude::*;

use super::*;
use crate::ip_packet;

fn hex(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    let mut out = vec![0; text.len() / 2];
    keys::decode_hex(&text, &mut out).expect("hex");
    out
}

/// The packets of the originals' `net/packet/packet_test.go`.
#[test]
fn packets_of_the_originals() {
    let tcp = hex(
        "45000037dead00004006495f 01020304 05060708 007b023700001234000000005012010000000000
         726571756573745f7061796c6f6164",
    );
    let view = IpView::parse(&tcp).expect("a packet");
    assert_eq!(view.src_addr(), "1.2.3.4:123".parse().expect("an address"));
    assert_eq!(view.dst_addr(), "5.6.7.8:567".parse().expect("an address"));
    assert_eq!(view.proto(), Proto::TCP);
    assert_eq!(view.tcp_flags(), TcpFlags(0x12));
    assert!(!view.is_tcp_syn());
    assert_eq!(view.payload(), b"request_payload");

    let tcp6 = hex(
        "6006efcc00280640 20010559bc13540017494628 39340e1b 2607f8b0400a08090000000000 00200e
         a4600050f382a12500000000a002fd20b1c60000020405a00402080aca76a68e0000000001030307",
    );
    let view = IpView::parse(&tcp6).expect("a packet");
    assert_eq!(view.dst_port(), 80);
    assert!(view.is_tcp_syn());
    assert_eq!(view.payload(), b"");

    let udp = hex("4500002bdead000040118c01 01020304 05060708 007b02370017721d
         726571756573745f7061796c6f6164");
    let view = IpView::parse(&udp).expect("a packet");
    assert_eq!((view.src_port(), view.dst_port()), (123, 567));
    assert_eq!(view.payload(), b"request_payload");

    let icmp6 = hex(
        "6000000000083aff fe80000000000000fb571dea9c398fb7 ff020000000000000000000000000002
         8500380400000000",
    );
    let view = IpView::parse(&icmp6).expect("a packet");
    assert_eq!(view.icmp(), Some((0x85, 0)));
    assert!(view.dst().is_multicast());

    let truncated_header = hex("4a000014dead000040118c01 01020304 05060708");
    assert_eq!(IpView::parse(&truncated_header), Err(Unparsed::Malformed));
    assert_eq!(
        IpView::parse(&hex("457463705f7061796c6f6164")),
        Err(Unparsed::TooShort)
    );
}

fn udp4() -> Vec<u8> {
    let (a, b) = ([1, 2, 3, 4].into(), [5, 6, 7, 8].into());
    ip_packet(a, b, Proto::UDP, &[0, 1, 0, 2, 0, 12, 0, 0, 9, 9, 9, 9]).expect("one family")
}

#[test]
fn padding_is_not_part_of_the_packet() {
    let mut padded = udp4();
    let len = padded.len();
    padded.resize(len + 16, 0);
    let view = IpView::parse(&padded).expect("a packet");
    assert_eq!(view.bytes().len(), len);
    assert_eq!(view.payload(), [9; 4]);
}

#[test]
fn lengths_that_lie() {
    let mut long = udp4();
    long[3] += 1;
    assert_eq!(IpView::parse(&long), Err(Unparsed::Malformed));
    // Ports may not be taken from padding behind the packet.
    let mut short = udp4();
    short[3] = 27;
    assert_eq!(IpView::parse(&short), Err(Unparsed::CutTransport));
    let mut tiny_header = udp4();
    tiny_header[0] = 0x44;
    assert_eq!(IpView::parse(&tiny_header), Err(Unparsed::Malformed));
    assert_eq!(IpView::parse(&[]), Err(Unparsed::Empty));
    assert_eq!(IpView::parse(&[0x75; 40]), Err(Unparsed::NotIp));
    assert_eq!(IpView::parse(&[0x60; 39]), Err(Unparsed::TooShort));
}

#[test]
fn transport_headers_must_be_whole() {
    for (proto, need) in [(1, 4), (2, 8), (6, 20), (17, 8), (132, 12), (99, 7)] {
        for len in 0..24 {
            let (a, b) = ([1, 2, 3, 4].into(), [5, 6, 7, 8].into());
            let bytes = ip_packet(a, b, Proto(proto), &vec![0; len]).expect("one family");
            let parsed = IpView::parse(&bytes).map(|_| ());
            let want = if len < need {
                Err(Unparsed::CutTransport)
            } else {
                Ok(())
            };
            assert_eq!(parsed, want, "{proto} {len}");
        }
    }
}

#[test]
fn fragments4() {
    let with = |word: u16, proto: u8| {
        let mut bytes = udp4();
        bytes[6..8].copy_from_slice(&word.to_be_bytes());
        bytes[9] = proto;
        bytes
    };
    let parse = |bytes: &[u8]| IpView::parse(bytes).map(|v| (v.fragment(), v.dst_port()));
    assert_eq!(parse(&with(0, 17)), Ok((Fragment::Whole, 2)));
    assert_eq!(parse(&with(0x4000, 17)), Ok((Fragment::Whole, 2)), "DF");
    assert_eq!(parse(&with(0x2000, 17)), Ok((Fragment::First, 2)));
    for offset in 1..10 {
        let overlapping = Err(Unparsed::OverlappingFragment);
        assert_eq!(parse(&with(offset, 17)), overlapping);
        assert_eq!(parse(&with(offset | 0x2000, 17)), overlapping);
    }
    assert_eq!(parse(&with(10, 17)), Ok((Fragment::Later, 0)));
    assert_eq!(parse(&with(0x2000, 6)), Err(Unparsed::CutTransport));
    assert_eq!(parse(&with(10, 6)), Ok((Fragment::Later, 0)));
    assert_eq!(parse(&with(0x2000, 99)), Err(Unparsed::BadProtocol));
}

#[test]
fn fragments6() {
    let (a, b) = (
        "fd00::1".parse().expect("v6"),
        "fd00::2".parse().expect("v6"),
    );
    let with = |next: u8, word: u16, rest: &[u8]| {
        let mut body = vec![next, 0];
        body.extend_from_slice(&word.to_be_bytes());
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(rest);
        ip_packet(a, b, Proto::FRAGMENT6, &body).expect("one family")
    };
    let udp = [0, 1, 0, 2, 0, 8, 0, 0];
    let parse =
        |bytes: &[u8]| IpView::parse(bytes).map(|v| (v.fragment(), v.proto(), v.dst_port()));
    assert_eq!(
        parse(&with(17, 1, &udp)),
        Ok((Fragment::First, Proto::UDP, 2))
    );
    assert_eq!(
        parse(&with(17, 0, &udp)),
        Ok((Fragment::Whole, Proto::UDP, 2)),
        "atomic"
    );
    assert_eq!(parse(&with(17, 1, &udp[..7])), Err(Unparsed::CutTransport));
    assert_eq!(
        parse(&with(17, 9 << 3, &udp)),
        Err(Unparsed::OverlappingFragment)
    );
    assert_eq!(
        parse(&with(17, 10 << 3, &[])),
        Ok((Fragment::Later, Proto::UDP, 0))
    );
    assert_eq!(parse(&with(99, 1, &[0; 8])), Err(Unparsed::BadProtocol));
    let cut = ip_packet(a, b, Proto::FRAGMENT6, &[17, 0, 0]).expect("one family");
    assert_eq!(parse(&cut), Err(Unparsed::Malformed));
    // Any other extension header is a protocol without ports; hop-by-hop is number 0.
    let routing = ip_packet(a, b, Proto(43), &udp).expect("one family");
    assert_eq!(parse(&routing), Ok((Fragment::Whole, Proto(43), 0)));
    let hop_by_hop = ip_packet(a, b, Proto(0), &udp).expect("one family");
    assert_eq!(parse(&hop_by_hop), Err(Unparsed::BadProtocol));
}

#[test]
fn icmp_of_the_other_family_is_not_icmp() {
    let (a, b) = ([1, 2, 3, 4].into(), [5, 6, 7, 8].into());
    let bytes = ip_packet(a, b, Proto::ICMP6, &[128, 0, 0, 0]).expect("one family");
    assert_eq!(IpView::parse(&bytes).expect("a packet").icmp(), None);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(
        first in prop_oneof![Just(0x45_u8), Just(0x46), Just(0x60), any::<u8>()],
        mut bytes in proptest::collection::vec(any::<u8>(), 0..120),
        honest: bool,
    ) {
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        if honest && bytes.len() >= 40 {
            let len = bytes.len() as u16;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            if first == 0x60 {
                bytes[4..6].copy_from_slice(&(len - 40).to_be_bytes());
            }
        }
        if let Ok(view) = IpView::parse(&bytes) {
            prop_assert!(view.bytes().len() <= bytes.len());
            prop_assert!(view.transport_offset() <= view.bytes().len());
            prop_assert!(view.payload().len() <= view.transport().len());
            let _ = (view.icmp(), view.is_tcp_syn());
            prop_assert_eq!(IpView::parse(view.bytes()), Ok(view));
        }
    }
}
