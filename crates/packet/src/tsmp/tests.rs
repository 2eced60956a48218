use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn round_trip(message: Message) {
    for (a, b) in [("100.64.0.1", "100.64.0.2"), ("fd7a::1", "fd7a::2")] {
        let bytes = message.packet(ip(a), ip(b)).expect("one family");
        let view = IpView::parse(&bytes).expect("a packet");
        assert_eq!(view.proto(), Proto::TSMP);
        assert_eq!(Message::parse(&view), Some(message));
    }
}

#[test]
fn ping_and_pong() {
    round_trip(Message::Ping([1, 2, 3, 4, 5, 6, 7, 8]));
    round_trip(Message::Pong {
        data: [8; 8],
        peer_api_port: 4321,
    });
}

#[test]
fn pong_of_old_nodes_has_no_port() {
    let body = [b"o".as_slice(), &[8; 8], &[1]].concat();
    let bytes = ip_packet(ip("1.1.1.1"), ip("2.2.2.2"), Proto::TSMP, &body).expect("one family");
    let view = IpView::parse(&bytes).expect("a packet");
    let want = Message::Pong {
        data: [8; 8],
        peer_api_port: 0,
    };
    assert_eq!(Message::parse(&view), Some(want));
}

#[test]
fn disco_advertisement_wire_form() {
    let key = DiscoPublic::from_bytes([7; 32]);
    round_trip(Message::DiscoKey(key));
    let bytes = Message::DiscoKey(key)
        .packet(ip("1.2.3.4"), ip("4.3.2.1"))
        .expect("one family");
    assert_eq!(bytes.len(), 20 + 33);
    assert_eq!(bytes[..10], [0x45, 0, 0, 53, 0, 0, 0, 0, 64, 99]);
    assert_eq!(crate::checksum::of(&bytes[..20]), 0);
    assert_eq!(bytes[20], b'a');
}

/// The headers of the originals' `net/packet/tsmp_test.go`.
#[test]
fn rejects() {
    for (src, dst, maybe_broken, len) in [
        ("5.5.5.5:22", "1.2.3.4:567", false, 27),
        ("[2::2]:22", "[1::1]:567", true, 48),
    ] {
        let reject = Reject {
            proto: Proto::TCP,
            reason: RejectReason::ACL,
            src: src.parse().expect("an address"),
            dst: dst.parse().expect("an address"),
            maybe_broken,
        };
        let bytes = reject.packet().expect("one family");
        assert_eq!(bytes.len(), len);
        let view = IpView::parse(&bytes).expect("a packet");
        assert_eq!(view.dst(), reject.src.ip(), "it goes to the opener");
        assert_eq!(Message::parse(&view), Some(Message::Reject(reject)));
    }
    assert_eq!(RejectReason::ACL.to_string(), "acl");
    assert_eq!(RejectReason(7).to_string(), "0x07");
}

#[test]
fn a_reject_names_the_flow_of_the_packet() {
    let body = [&[0, 80, 0, 90][..], &[0; 8], &[0x50, 2], &[0; 6]].concat();
    let bytes = ip_packet(ip("1.1.1.1"), ip("2.2.2.2"), Proto::TCP, &body).expect("one family");
    let view = IpView::parse(&bytes).expect("a packet");
    let reject = Reject::of(&view, RejectReason::SHIELDS_UP);
    assert_eq!(reject.src, "1.1.1.1:80".parse().expect("an address"));
    assert_eq!(reject.dst, "2.2.2.2:90".parse().expect("an address"));
}

proptest! {
    #[test]
    fn any_body_is_read_without_panic(body in proptest::collection::vec(any::<u8>(), 7..60)) {
        let bytes = ip_packet(ip("1.1.1.1"), ip("2.2.2.2"), Proto::TSMP, &body).expect("one family");
        let view = IpView::parse(&bytes).expect("a packet");
        if let Some(message) = Message::parse(&view) {
            let again = message.packet(view.src(), view.dst()).expect("one family");
            let view = IpView::parse(&again).expect("a packet");
            prop_assert_eq!(Message::parse(&view), Some(message));
        }
    }
}
