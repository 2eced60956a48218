use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The echo request of the originals' `net/packet/packet_test.go`, whose checksums are right.
#[test]
fn echo_of_the_originals() {
    let mut bytes = vec![0; 39];
    keys::decode_hex(
        "45000027dead000040018c15010203040506070808007d22726571756573745f7061796c6f6164",
        &mut bytes,
    )
    .expect("hex");
    let view = IpView::parse(&bytes).expect("a packet");
    let echo = Echo::parse(&view).expect("an echo request");
    assert!(!echo.reply);
    assert_eq!(checksum::of(&bytes[..20]), 0);
    assert_eq!(checksum::of(&bytes[20..]), 0);
    let mut made = echo.packet(view.src(), view.dst()).expect("one family");
    made[4..6].copy_from_slice(&bytes[4..6]);
    made[10..12].copy_from_slice(&bytes[10..12]);
    assert_eq!(made, bytes);
}

#[test]
fn echo_round_trip() {
    for (a, b) in [("1.2.3.4", "5.6.7.8"), ("fd00::1", "fd00::2")] {
        for reply in [false, true] {
            let echo = Echo {
                reply,
                id: 7,
                seq: 0xff01,
                data: b"odd length!",
            };
            let bytes = echo.packet(ip(a), ip(b)).expect("one family");
            let view = IpView::parse(&bytes).expect("a packet");
            assert_eq!(Echo::parse(&view), Some(echo));
            assert_eq!(is_echo_reply(&view), reply);
            assert!(!is_error(&view));
            if view.src().is_ipv6() {
                let start = checksum::pseudo_header(ip(a), ip(b), Proto::ICMP6, bytes.len() - 40);
                assert_eq!(checksum::finish(checksum::add(start, &bytes[40..])), 0);
            }
        }
    }
    let echo = Echo {
        reply: false,
        id: 0,
        seq: 0,
        data: &[],
    };
    assert_eq!(echo.packet(ip("1.2.3.4"), ip("fd00::1")), None);
}

#[test]
fn errors_quote_what_they_are_about() {
    for (src, dst, router, kind, at) in [
        ("1.2.3.4", "5.6.7.8", "9.9.9.9", (3, 4), 20),
        ("fd00::1", "fd00::2", "fd00::9", (2, 0), 40),
    ] {
        let about = ip_packet(ip(src), ip(dst), Proto::UDP, &[7; 1400]).expect("one family");
        let view = IpView::parse(&about).expect("a packet");
        let bytes = error(&view, ip(router), Error::TooBig(1280)).expect("an error");
        let answer = IpView::parse(&bytes).expect("a packet");
        assert_eq!((answer.src(), answer.dst()), (ip(router), ip(src)));
        assert_eq!(answer.icmp(), Some(kind));
        assert!(is_error(&answer));
        assert_eq!(bytes[at + 6..at + 8], 1280_u16.to_be_bytes());
        assert!(about.starts_with(&bytes[at + 8..]));
        assert!(bytes.len() <= if view.src().is_ipv4() { 576 } else { 1280 });
        assert_eq!(
            error(&answer, ip(router), Error::NoRoute),
            None,
            "never about an error"
        );
    }
}

#[test]
fn errors_have_their_codes() {
    let v4 = ip_packet(ip("1.2.3.4"), ip("5.6.7.8"), Proto::UDP, &[0; 8]).expect("one family");
    let v6 = ip_packet(ip("fd00::1"), ip("fd00::2"), Proto::UDP, &[0; 8]).expect("one family");
    for (kind, code4, code6) in [
        (Error::NoRoute, (3, 0), (1, 0)),
        (Error::HostUnreachable, (3, 1), (1, 3)),
        (Error::PortUnreachable, (3, 3), (1, 4)),
        (Error::Prohibited, (3, 13), (1, 1)),
        (Error::TimeExceeded, (11, 0), (3, 0)),
    ] {
        for (about, router, want) in [(&v4, "9.9.9.9", code4), (&v6, "fd00::9", code6)] {
            let view = IpView::parse(about).expect("a packet");
            let bytes = error(&view, ip(router), kind).expect("an error");
            let answer = IpView::parse(&bytes).expect("a packet");
            assert_eq!(answer.icmp(), Some(want), "{kind:?}");
        }
    }
}

#[test]
fn no_errors_about_what_was_sent_to_many() {
    let bytes = ip_packet(ip("1.2.3.4"), ip("224.0.0.1"), Proto::UDP, &[0; 8]).expect("one family");
    let view = IpView::parse(&bytes).expect("a packet");
    assert_eq!(error(&view, ip("9.9.9.9"), Error::NoRoute), None);
}
