use proptest::prelude::*;

use super::*;

#[test]
fn greetings() {
    let check = |bytes: &[u8], expected| assert_eq!(Greeting::parse(bytes), expected, "{bytes:?}");
    let offers = |offers| {
        Ok(Some(Greeting {
            offers_no_authentication: offers,
        }))
    };
    check(&[], Err(Incomplete(2)));
    check(&[5], Err(Incomplete(1)));
    check(&[5, 2, 1], Err(Incomplete(1)));
    check(&[5, 2, 2, 0], offers(true));
    check(&[5, 1, 2], offers(false));
    check(&[5, 0], offers(false));
    check(&[4, 1], Ok(None));
}

#[test]
fn requests() {
    let check = |bytes: &[u8], command, text: &str| {
        let request = Request::parse(bytes).unwrap().unwrap();
        assert_eq!(
            (request.command, request.target.to_string().as_str()),
            (command, text)
        );
    };
    check(
        &[5, 1, 0, 1, 100, 64, 0, 1, 0, 80],
        Command::Connect,
        "100.64.0.1:80",
    );
    check(
        &[5, 3, 0, 3, 2, b'a', b'b', 1, 1],
        Command::UdpAssociate,
        "\"ab\":257",
    );
    check(
        &[
            5, 2, 0, 4, 0xfd, 0x7a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 255, 255,
        ],
        Command::Other,
        "[fd7a::1]:65535",
    );
    assert_eq!(Request::parse(&[5, 1, 0, 2, 0]), Ok(None));
    assert_eq!(
        Request::parse(&[5, 1, 0, 3, 1, 0xff, 0, 0]),
        Ok(None),
        "not text"
    );
    assert_eq!(Request::parse(&[5, 1, 0, 3, 200]), Err(Incomplete(202)));
}

#[test]
fn replies() {
    assert_eq!(
        Reply::GeneralFailure.bytes(None),
        [5, 1, 0, 1, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(
        Reply::Succeeded.bytes(Some("1.2.3.4:5".parse().unwrap())),
        [5, 0, 0, 1, 1, 2, 3, 4, 0, 5]
    );
    assert_eq!(
        Reply::CommandNotSupported
            .bytes(Some("[::1]:5".parse().unwrap()))
            .len(),
        22
    );
}

fn target() -> impl Strategy<Value = Target> {
    let host = prop_oneof![
        any::<Ipv4Addr>().prop_map(|ip| Host::Ip(ip.into())),
        any::<Ipv6Addr>().prop_map(|ip| Host::Ip(ip.into())),
        "[a-z.äö]{0,80}".prop_map(Host::Name),
    ];
    (host, any::<u16>()).prop_map(|(host, port)| Target { host, port })
}

proptest! {
    #[test]
    fn any_bytes_parse_or_ask_for_a_bounded_rest(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for missing in [Greeting::parse(&bytes).err(), Request::parse(&bytes).err()].into_iter().flatten() {
            prop_assert!(missing.0 > 0 && bytes.len() + missing.0 <= MAX_REQUEST);
        }
        let _ = open_datagram(&bytes);
    }

    #[test]
    fn addresses_and_datagrams_round_trip(target in target(), data in prop::collection::vec(any::<u8>(), 0..100)) {
        let sealed = seal_datagram(&target, &data);
        prop_assert_eq!(open_datagram(&sealed), Some((target.clone(), &data[..])));
        let mut request = vec![5, 1, 0];
        target.write(&mut request);
        // As it is read from a stream: only as much as is known to be missing.
        let mut have = 0;
        while let Err(Incomplete(missing)) = Request::parse(&request[..have]) {
            have += missing;
            prop_assert!(have <= request.len(), "asks for too much");
        }
        prop_assert_eq!(have, request.len());
    }
}
