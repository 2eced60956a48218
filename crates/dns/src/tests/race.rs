use std::time::Duration;

use host::Instant;

use super::name;
use crate::{Attempt, Kind, Query, Race, Rcode, Response, Transport};

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(5000 + millis)
}

fn query() -> Query {
    Query::new(3, &name("a.example"), Kind::A)
}

fn response(rcode: Rcode, truncated: bool) -> Response {
    let mut bytes = query().answer_nothing(rcode, None);
    bytes[2] |= u8::from(truncated) << 1;
    Response::parse(&bytes, &query(), 3).unwrap()
}

fn udp(server: usize) -> Attempt {
    Attempt {
        server,
        transport: Transport::Udp,
    }
}

fn tcp(server: usize) -> Attempt {
    Attempt {
        server,
        transport: Transport::Tcp,
    }
}

fn rcode(race: &Race) -> Option<u8> {
    race.outcome(&query()).map(|reply| reply[3] & 15)
}

#[test]
fn the_first_real_answer_wins() {
    let mut race = Race::new(2, Transport::Udp, at(0));
    assert_eq!(race.poll(at(0)), [udp(0), udp(1)]);
    assert_eq!(race.next_timeout(), Some(at(2000)));
    race.answered(udp(0), response(Rcode::SERV_FAIL, false));
    assert_eq!(rcode(&race), None);
    race.answered(udp(1), response(Rcode::NX_DOMAIN, false));
    assert_eq!((rcode(&race), race.has_answer()), (Some(3), true));
    assert_eq!((race.poll(at(1)), race.next_timeout()), (vec![], None));
}

#[test]
fn tcp_follows_those_that_are_silent() {
    let mut race = Race::new(2, Transport::Udp, at(0));
    race.poll(at(0));
    race.answered(udp(0), response(Rcode::REFUSED, false));
    assert_eq!(race.poll(at(1999)), []);
    // The other one has spoken.
    assert_eq!(race.poll(at(2000)), [tcp(1)]);
    race.failed(tcp(1), at(2100));
    assert_eq!(rcode(&race), None);
    race.failed(udp(1), at(2200));
    assert_eq!((rcode(&race), race.has_answer()), (Some(5), false));
}

#[test]
fn where_no_datagram_can_go_tcp_goes_at_once() {
    let mut race = Race::new(1, Transport::Udp, at(0));
    race.poll(at(0));
    race.failed(udp(0), at(5));
    assert_eq!(race.next_timeout(), Some(at(5)));
    assert_eq!(race.poll(at(5)), [tcp(0)]);
    race.failed(tcp(0), at(6));
    assert_eq!(rcode(&race), Some(2));
}

#[test]
fn a_client_by_tcp_gets_all_of_it() {
    let mut race = Race::new(1, Transport::Tcp, at(0));
    assert_eq!(race.poll(at(0)), [udp(0), tcp(0)]);
    race.answered(udp(0), response(Rcode::NO_ERROR, true));
    assert_eq!(rcode(&race), None);
    race.answered(tcp(0), response(Rcode::NO_ERROR, false));
    assert_eq!(race.outcome(&query()).unwrap()[2] & 2, 0);
    // By UDP it is told that there is more.
    let mut race = Race::new(1, Transport::Udp, at(0));
    race.poll(at(0));
    race.answered(udp(0), response(Rcode::NO_ERROR, true));
    assert_eq!(race.outcome(&query()).unwrap()[2] & 2, 2);
}

#[test]
fn servers_that_say_nothing_do_not_keep_a_client() {
    let mut race = Race::new(3, Transport::Udp, at(0));
    let mut now = at(0);
    let mut asked = 0;
    while let Some(next) = race.next_timeout() {
        now = now.max(next);
        asked += race.poll(now).len();
    }
    assert_eq!((asked, rcode(&race)), (6, Some(2)));
    assert!(now < at(5000));
    // Nobody to ask is an answer, too.
    assert_eq!(rcode(&Race::new(0, Transport::Udp, at(0))), Some(2));
}

#[test]
fn the_better_of_two_refusals_is_told() {
    for order in [
        [Rcode::REFUSED, Rcode::SERV_FAIL],
        [Rcode::SERV_FAIL, Rcode::REFUSED],
    ] {
        let mut race = Race::new(2, Transport::Udp, at(0));
        race.poll(at(0));
        for (server, said) in order.into_iter().enumerate() {
            race.answered(udp(server), response(said, false));
        }
        assert_eq!(rcode(&race), Some(2));
    }
}
