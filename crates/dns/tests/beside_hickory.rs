//! Our codec beside hickory's: what one writes, the other reads.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::net::IpAddr;

use dns::{Kind, Name, Query, Rcode, Response, limit};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name as TheirName, RData, Record, RecordType};
use proptest::prelude::*;

fn name() -> impl Strategy<Value = String> {
    proptest::collection::vec("[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", 1..6)
        .prop_map(|labels| labels.join(".") + ".")
}

fn theirs(name: &str) -> TheirName {
    TheirName::from_ascii(name).unwrap()
}

/// Data of a record, and what we must say of it.
fn data() -> impl Strategy<Value = (RData, String)> {
    let text = "[a-zA-Z0-9 =;-]{0,40}";
    prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| (RData::A(A(ip.into())), IpAddr::from(ip).to_string())),
        any::<[u8; 16]>()
            .prop_map(|ip| { (RData::AAAA(AAAA(ip.into())), IpAddr::from(ip).to_string()) }),
        name().prop_map(|to| (RData::CNAME(CNAME(theirs(&to))), to)),
        name().prop_map(|to| (RData::NS(NS(theirs(&to))), to)),
        name().prop_map(|to| (RData::PTR(PTR(theirs(&to))), to)),
        (any::<u16>(), name()).prop_map(|(priority, to)| {
            let shown = format!("{to} (Priority={priority})");
            (RData::MX(MX::new(priority, theirs(&to))), shown)
        }),
        (any::<[u16; 3]>(), name()).prop_map(|([priority, weight, port], to)| {
            let shown = format!("Target={to}, Port={port}, Priority={priority}, Weight={weight}");
            (
                RData::SRV(SRV::new(priority, weight, port, theirs(&to))),
                shown,
            )
        }),
        proptest::collection::vec(text, 1..4).prop_map(|texts| {
            let shown: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
            (
                RData::TXT(TXT::new(texts)),
                format!("[{}]", shown.join(" ")),
            )
        }),
        (name(), any::<u32>()).prop_map(|(zone, serial)| {
            let zone = theirs(&zone);
            let soa = SOA::new(zone.clone(), zone, serial, 1, 2, 3, 4);
            (RData::SOA(soa), String::new())
        }),
    ]
}

proptest! {
    #[test]
    fn their_questions_are_ours(asked in name(), kind in 1_u16..60, id: u16, edns in proptest::option::of(any::<u16>())) {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.add_query(Question::query(theirs(&asked), RecordType::from(kind)));
        if let Some(max) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(max);
            message.set_edns(edns);
        }
        let query = Query::parse(&message.to_vec().unwrap()).unwrap();
        prop_assert_eq!((query.name.to_string(), query.kind), (asked, Kind(kind)));
        prop_assert_eq!(query.udp_len, edns.unwrap_or(512).clamp(512, dns::MAX_UDP));
        let sent = Message::from_vec(&query.to_send(!id)).unwrap();
        prop_assert_eq!(sent.metadata.id, !id);
        prop_assert_eq!(&sent.queries, &message.queries);
        let ours = Query::new(id, &query.name, query.kind);
        let read = Message::from_vec(ours.bytes()).unwrap();
        prop_assert_eq!(&read.queries, &message.queries);
        prop_assert!(read.metadata.recursion_desired);
    }

    #[test]
    fn their_answers_are_ours(
        asked in name(),
        all in proptest::collection::vec((name(), data(), any::<u32>()), 0..12),
        max in 100_u16..800,
    ) {
        let query = Query::new(5, &asked.parse().unwrap(), Kind::ANY);
        let mut message = Message::new(5, MessageType::Response, OpCode::Query);
        message.metadata.response_code = ResponseCode::NoError;
        message.add_query(Question::query(theirs(&asked), RecordType::ANY));
        for (owner, (data, _), ttl) in &all {
            // They write no more than this.
            let ttl = ttl & 0x7fff_ffff;
            message.add_answer(Record::from_rdata(theirs(owner), ttl, data.clone()));
        }
        let bytes = message.to_vec().unwrap();
        let response = Response::parse(&bytes, &query, 5).unwrap();
        let answers = response.answers().unwrap();
        prop_assert_eq!(answers.len(), all.len());
        for (answer, (owner, (data, shown), ttl)) in answers.iter().zip(&all) {
            prop_assert_eq!(&answer.name.to_string(), owner);
            prop_assert_eq!(&answer.text, shown);
            prop_assert_eq!(answer.kind.0, u16::from(data.record_type()));
            prop_assert_eq!(answer.ttl, ttl & 0x7fff_ffff);
        }
        // Cut, it is a message still, and begins the same.
        let mut short = bytes.clone();
        limit(&mut short, max);
        let is_cut = bytes.len() > usize::from(max);
        if short.len() > 12 && is_cut && usize::from(max) > query.bytes().len() {
            let read = Message::from_vec(&short).unwrap();
            prop_assert!(read.metadata.truncation && short.len() <= usize::from(max));
            prop_assert_eq!(&message.answers[..read.answers.len()], &read.answers[..]);
        }
    }

    #[test]
    fn our_answers_are_theirs(asked in name(), zone in name(), ips in proptest::collection::vec(any::<IpAddr>(), 0..9), serial: u32) {
        let query = Query::new(77, &asked.parse().unwrap(), Kind::A);
        let read = Message::from_vec(&query.answer_addresses(&ips)).unwrap();
        prop_assert!(read.metadata.authoritative && read.metadata.recursion_available);
        let found: Vec<IpAddr> = read
            .answers
            .iter()
            .filter_map(|record| record.data.ip_addr())
            .collect();
        prop_assert_eq!(found, ips);
        prop_assert!(read.answers.iter().all(|record| record.name == theirs(&asked)));
        let zone: Name = zone.parse().unwrap();
        let read = query.answer_nothing(Rcode::NX_DOMAIN, Some((&zone, serial)));
        let read = Message::from_vec(&read).unwrap();
        prop_assert_eq!(read.metadata.response_code, ResponseCode::NXDomain);
        match &read.authorities[0].data {
            RData::SOA(soa) => prop_assert_eq!((soa.serial, soa.minimum), (serial, 10)),
            other => prop_assert!(false, "{:?}", other),
        }
        let read = Message::from_vec(&query.answer_name(&zone)).unwrap();
        prop_assert_eq!(&read.answers[0].data, &RData::PTR(PTR(theirs(&zone.to_string()))));
    }
}
