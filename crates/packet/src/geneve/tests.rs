use proptest::prelude::*;

use super::*;

#[test]
fn header_wire_form() {
    let header = Header {
        vni: 0x0a_0b0c,
        control: true,
        inner: Inner::Disco,
    };
    assert_eq!(header.bytes(), [0, 0x80, 0x7a, 0x11, 0x0a, 0x0b, 0x0c, 0]);
    let data = [&header.bytes()[..], b"rest"].concat();
    assert_eq!(Header::split(&data), Some((header, &b"rest"[..])));
}

#[test]
fn what_is_not_ours() {
    let good = Header {
        vni: 1,
        control: false,
        inner: Inner::WireGuard,
    }
    .bytes();
    assert!(Header::split(&good).is_some());
    assert_eq!(Header::split(&good[..7]), None);
    for (at, bits) in [
        (0, 0x40),
        (0, 0x01),
        (1, 0x01),
        (2, 0x01),
        (3, 0x80),
        (7, 1),
    ] {
        let mut bad = good;
        bad[at] |= bits;
        assert_eq!(Header::split(&bad), None, "{at}");
    }
}

proptest! {
    #[test]
    fn round_trip(vni in 0..1_u32 << 24, control: bool, disco: bool) {
        let inner = if disco { Inner::Disco } else { Inner::WireGuard };
        let header = Header { vni, control, inner };
        let bytes = header.bytes();
        prop_assert_eq!(Header::split(&bytes), Some((header, &[][..])));
    }
}
