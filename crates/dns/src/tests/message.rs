use proptest::prelude::*;

use super::{name, read};
use crate::{BadName, BadQuery, Kind, MAX_UDP, Name, Query, Rcode, Response, limit};

fn query(text: &str) -> Query {
    Query::new(0x1234, &name(text), Kind::A)
}

/// A server's answer with so many addresses.
fn response(query: &Query, id: u16, addresses: u16) -> Vec<u8> {
    let mut bytes = query.bytes().to_vec();
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    bytes[2..4].copy_from_slice(&[0x81, 0x80]);
    bytes[6..8].copy_from_slice(&addresses.to_be_bytes());
    for at in 0..addresses {
        bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0]);
        bytes.extend_from_slice(&at.to_be_bytes());
    }
    bytes
}

fn with_edns(query: &Query, udp_len: u16) -> Vec<u8> {
    let mut bytes = query.bytes().to_vec();
    bytes[11] = 1;
    bytes.extend_from_slice(&[0, 0, 41]);
    bytes.extend_from_slice(&udp_len.to_be_bytes());
    bytes.extend_from_slice(&[0; 6]);
    bytes
}

#[test]
fn names_are_read_and_written() {
    for text in ["a.b.example.", "."] {
        assert_eq!(name(text).to_string(), text);
    }
    assert_eq!(name("A.Example"), name("a.example."));
    assert_eq!("a..b".parse::<Name>(), Err(BadName::EmptyLabel));
    assert_eq!("x".repeat(64).parse::<Name>(), Err(BadName::TooLong));
    assert_eq!(
        vec!["abcdefg"; 32].join(".").parse::<Name>(),
        Err(BadName::TooLong)
    );
    assert!(vec!["abcdefg"; 31].join(".").parse::<Name>().is_ok());
    assert!(name("a.b.c").is_under(&name("b.c")));
    assert!(name("b.c").is_under(&name("b.c")) && name("b.c").is_under(&Name::root()));
    assert!(!name("ab.c").is_under(&name("b.c")) && !name("c").is_under(&name("b.c")));
    assert_eq!(name("a.b").parent(), Some(name("b")));
    assert_eq!(Name::root().parent(), None);
}

#[test]
fn references_go_back_only() {
    let message = b"\x03com\0\x01a\xc0\x00\x01b\xc0\x05\xc0\x0d\xc0\x20";
    assert_eq!(Name::read(message, 5), Ok((name("a.com"), 9)));
    assert_eq!(Name::read(message, 9), Ok((name("b.a.com"), 13)));
    for at in [13, 15] {
        assert_eq!(Name::read(message, at), Err(BadName::BadPointer));
    }
    assert_eq!(Name::read(b"\x05abc", 0), Err(BadName::CutOff));
    assert_eq!(Name::read(b"\x41a\0", 0), Err(BadName::BadPointer));
}

#[test]
fn what_is_no_question_gets_no_answer_or_says_why() {
    assert_eq!(Query::parse(b"short"), Err(BadQuery::Silent));
    let asked = query("a.example");
    let mut answer = asked.bytes().to_vec();
    answer[2] |= 0x80;
    assert_eq!(Query::parse(&answer), Err(BadQuery::Silent));
    let rcode = |bytes: &[u8]| match Query::parse(bytes) {
        Err(BadQuery::Answered(reply)) => {
            assert_eq!(reply.len(), 12);
            assert_eq!((&reply[..2], reply[2] & 0x80), (&bytes[..2], 0x80));
            Rcode(reply[3] & 15)
        }
        other => panic!("{other:?}"),
    };
    let mut update = asked.bytes().to_vec();
    update[2] |= 5 << 3;
    assert_eq!(rcode(&update), Rcode::NOT_IMP);
    let mut two = asked.bytes().to_vec();
    two[5] = 2;
    assert_eq!(rcode(&two), Rcode::FORM_ERR);
    let cut = &asked.bytes()[..asked.bytes().len() - 1];
    assert_eq!(rcode(cut), Rcode::FORM_ERR);
    let parsed = Query::parse(asked.bytes()).unwrap();
    assert_eq!(parsed, asked);
}

#[test]
fn a_client_may_take_more_and_a_server_is_not_told_more_than_we_take() {
    let asked = query("a.example");
    assert_eq!(asked.udp_len, 512);
    for (said, counts) in [(100, 512), (1232, 1232), (65000, MAX_UDP)] {
        let query = Query::parse(&with_edns(&asked, said)).unwrap();
        assert_eq!(query.udp_len, counts);
        assert_eq!(
            query.to_send(9),
            [&[0, 9], &with_edns(&asked, said.min(MAX_UDP))[2..]].concat()
        );
    }
}

#[test]
fn only_the_answer_to_the_question_is_one() {
    let asked = query("a.example");
    let good = response(&asked, 77, 1);
    let parsed = Response::parse(&good, &asked, 77).unwrap();
    assert_eq!((parsed.rcode, parsed.truncated), (Rcode::NO_ERROR, false));
    assert_eq!(parsed.into_reply(&asked), response(&asked, 0x1234, 1));
    assert_eq!(Response::parse(&good, &asked, 78), None);
    assert_eq!(Response::parse(&good, &query("b.example"), 77), None);
    let other = Query::new(1, &asked.name, Kind::AAAA);
    assert_eq!(Response::parse(&good, &other, 77), None);
    assert_eq!(Response::parse(asked.bytes(), &asked, 0x1234), None);
    // A server that will not need not say what.
    let bare = [0, 77, 0x80, 5, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(
        Response::parse(&bare, &asked, 77).unwrap().rcode,
        Rcode::REFUSED
    );
    let mut empty = bare;
    empty[3] = 0;
    assert_eq!(Response::parse(&empty, &asked, 77), None);
}

#[test]
fn a_long_reply_loses_whole_records() {
    let asked = query("a.example");
    let mut reply = response(&asked, 1, 100);
    let whole = reply.clone();
    limit(&mut reply, 4000);
    assert_eq!(reply, whole);
    limit(&mut reply, 512);
    let kept = (512 - asked.bytes().len()) / 16;
    assert_eq!(reply.len(), asked.bytes().len() + kept * 16);
    assert_eq!(u16::from_be_bytes([reply[6], reply[7]]), kept as u16);
    assert_eq!(reply[2] & 2, 2);
    assert_eq!(reply[12..], whole[12..reply.len()]);
    // What the server says of itself stays.
    let mut reply = whole;
    reply[11] = 1;
    let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    reply.extend_from_slice(&opt);
    limit(&mut reply, 512);
    assert!(reply.len() <= 512 && reply.ends_with(&opt));
    assert_eq!((reply[11], reply[2] & 2), (1, 2));
}

#[test]
fn our_answers_are_read_by_ourselves() {
    let asked = query("a.example");
    let ips = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    assert_eq!(read(&asked.answer_addresses(&ips), &asked).1, 2);
    assert_eq!(
        read(&asked.answer_name(&name("b.c")), &asked).3,
        b"\x01b\x01c\0"
    );
}

proptest! {
    #[test]
    fn nothing_breaks_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200), max in 0_u16..600) {
        let mut reply = bytes.clone();
        limit(&mut reply, max);
        prop_assert!(reply.len() <= bytes.len().max(usize::from(max)));
        if let Ok(query) = Query::parse(&bytes) {
            let mut written = Vec::new();
            query.name.write(&mut written);
            prop_assert_eq!(Name::read(&written, 0), Ok((query.name.clone(), written.len())));
            let nothing = query.answer_nothing(Rcode::NX_DOMAIN, Some((&Name::root(), 1)));
            prop_assert!(Response::parse(&nothing, &query, u16::from_be_bytes([bytes[0], bytes[1]])).is_some());
        }
    }

    #[test]
    fn names_come_back(labels in proptest::collection::vec("[a-z0-9-]{1,20}", 1..8)) {
        let text = format!("{}.", labels.join("."));
        let name: Name = text.parse().unwrap();
        prop_assert_eq!(name.to_string(), text);
        let mut bytes = Vec::new();
        name.write(&mut bytes);
        prop_assert_eq!(Name::read(&bytes, 0), Ok((name, bytes.len())));
    }
}
