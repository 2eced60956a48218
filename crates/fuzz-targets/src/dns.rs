//! DNS messages, from programs of this machine and from servers.

use std::net::IpAddr;

use dns::{BadQuery, Lookup, Name, Names, Query, Response, Zones, limit, look_up, reverse_zones};

/// A tailnet in which every other name exists.
struct Half;

impl Names for Half {
    fn addresses(&self, name: &Name) -> Option<Vec<IpAddr>> {
        let first = name.labels().next()?;
        let ips = [
            [100, 64, 0, 1].into(),
            [0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1].into(),
        ];
        first.len().is_multiple_of(2).then(|| ips.to_vec())
    }
    fn has_names_below(&self, name: &Name) -> bool {
        name.labels().next().is_some_and(|first| first.len() > 8)
    }
    fn name_of(&self, address: IpAddr) -> Option<Name> {
        matches!(address, IpAddr::V4(v4) if v4.octets()[3].is_multiple_of(2)).then(Name::root)
    }
}

/// A limit, then a message: read as a question, which is answered; and as an answer to it, which is shortened. What we answer is an
/// answer to what was asked, and not too long.
pub(crate) fn message(data: &[u8]) {
    let Some((max, message)) = data.split_first() else {
        return;
    };
    let max = 12 + u16::from(*max) * 8;
    let mut short = message.to_vec();
    limit(&mut short, max);
    assert!(short.len() <= message.len().max(usize::from(max)));
    let query = match Query::parse(message) {
        Ok(query) => query,
        Err(BadQuery::Answered(reply)) => return assert_eq!(reply.len(), 12),
        Err(BadQuery::Silent) => return,
    };
    assert!(query.udp_len >= 512);
    let again = Query::parse(&query.to_send(7)).expect("what we send is a question");
    assert_eq!((&again.name, again.kind), (&query.name, query.kind));
    let id = u16::from_be_bytes([message[0], message[1]]);
    let mut zones = Zones::default();
    reverse_zones().for_each(|zone| zones.set_own(zone));
    zones.set_own("ts.net".parse().expect("a name"));
    if let Lookup::Answer(mut reply) = look_up(&query, &Half, &zones, 1) {
        let read = Response::parse(&reply, &query, id).expect("it is the answer");
        assert!(!read.truncated);
        limit(&mut reply, query.udp_len);
        let read = Response::parse(&reply, &query, id).expect("it is still the answer");
        assert_eq!(read.into_reply(&query), reply);
    }
}
