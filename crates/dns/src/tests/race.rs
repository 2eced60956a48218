use std::time::Duration;

use host::Instant;

use super::name;
use crate::{Attempt, Entrant, Kind, Query, Race, Rcode, Response, Server, Transport, entrants};

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

fn plain(count: u8) -> Vec<Entrant> {
    let server = |last| Server::Plain(([192, 0, 2, last], 53).into());
    entrants(&(0..count).map(server).collect::<Vec<_>>())
}

fn named(servers: &[&str]) -> Vec<Entrant> {
    let servers = servers.iter().map(|text| Server::named(text).unwrap());
    entrants(&servers.collect::<Vec<_>>())
}

fn http(server: usize) -> Attempt {
    Attempt {
        server,
        transport: Transport::Http,
    }
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
    let mut race = Race::new(&plain(2), Transport::Udp, at(0));
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
    let mut race = Race::new(&plain(2), Transport::Udp, at(0));
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
    let mut race = Race::new(&plain(1), Transport::Udp, at(0));
    race.poll(at(0));
    race.failed(udp(0), at(5));
    assert_eq!(race.next_timeout(), Some(at(5)));
    assert_eq!(race.poll(at(5)), [tcp(0)]);
    race.failed(tcp(0), at(6));
    assert_eq!(rcode(&race), Some(2));
}

#[test]
fn a_client_by_tcp_gets_all_of_it() {
    let mut race = Race::new(&plain(1), Transport::Tcp, at(0));
    assert_eq!(race.poll(at(0)), [udp(0), tcp(0)]);
    race.answered(udp(0), response(Rcode::NO_ERROR, true));
    assert_eq!(rcode(&race), None);
    race.answered(tcp(0), response(Rcode::NO_ERROR, false));
    assert_eq!(race.outcome(&query()).unwrap()[2] & 2, 0);
    // By UDP it is told that there is more.
    let mut race = Race::new(&plain(1), Transport::Udp, at(0));
    race.poll(at(0));
    race.answered(udp(0), response(Rcode::NO_ERROR, true));
    assert_eq!(race.outcome(&query()).unwrap()[2] & 2, 2);
}

#[test]
fn servers_that_say_nothing_do_not_keep_a_client() {
    let mut race = Race::new(&plain(3), Transport::Udp, at(0));
    let mut now = at(0);
    let mut asked = 0;
    while let Some(next) = race.next_timeout() {
        now = now.max(next);
        asked += race.poll(now).len();
    }
    assert_eq!((asked, rcode(&race)), (6, Some(2)));
    assert!(now < at(5000));
    // Nobody to ask is an answer, too.
    assert_eq!(rcode(&Race::new(&plain(0), Transport::Udp, at(0))), Some(2));
}

#[test]
fn the_better_of_two_refusals_is_told() {
    for order in [
        [Rcode::REFUSED, Rcode::SERV_FAIL],
        [Rcode::SERV_FAIL, Rcode::REFUSED],
    ] {
        let mut race = Race::new(&plain(2), Transport::Udp, at(0));
        race.poll(at(0));
        for (server, said) in order.into_iter().enumerate() {
            race.answered(udp(server), response(said, false));
        }
        assert_eq!(rcode(&race), Some(2));
    }
}

#[test]
fn a_provider_is_asked_by_https_first() {
    let entrants = named(&["1.1.1.1", "1.0.0.1", "192.0.2.1"]);
    let shown: Vec<_> = entrants
        .iter()
        .map(|entrant| (entrant.server.to_string(), entrant.after.as_millis()))
        .collect();
    let expected = [
        ("https://cloudflare-dns.com/dns-query", 0),
        ("1.1.1.1", 500),
        ("1.0.0.1", 700),
        ("192.0.2.1", 0),
    ];
    assert_eq!(
        shown,
        expected.map(|(text, after)| (text.to_owned(), after))
    );
    let mut race = Race::new(&entrants, Transport::Udp, at(0));
    assert_eq!(race.poll(at(0)), [http(0), udp(3)]);
    assert_eq!(race.next_timeout(), Some(at(500)));
    assert_eq!(race.poll(at(500)), [udp(1)]);
    race.answered(http(0), response(Rcode::NO_ERROR, false));
    assert_eq!(rcode(&race), Some(0));
}

#[test]
fn where_https_is_blocked_nobody_waits_for_it() {
    let mut race = Race::new(
        &named(&["9.9.9.9", "149.112.112.112"]),
        Transport::Udp,
        at(0),
    );
    assert_eq!(race.poll(at(0)), [http(0)]);
    race.failed(http(0), at(10));
    assert_eq!(race.poll(at(10)), [udp(1), udp(2)]);
    race.answered(udp(2), response(Rcode::NO_ERROR, false));
    assert_eq!(rcode(&race), Some(0));
}

#[test]
fn profiles_are_part_of_addresses() {
    let url = "https://dns.nextdns.io/c3a884";
    let v6 = Server::named("2a07:a8c0::c3:a884").unwrap();
    assert_eq!(v6.plain_ip(), None);
    let asked = entrants(&[v6]);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].server, Server::named(url).unwrap());
    let Server::Http { addresses, .. } = &asked[0].server else {
        panic!("by HTTPS only")
    };
    let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "45.90.28.0:443",
            "45.90.30.0:443",
            "[2a07:a8c0::c3:a884]:443",
            "[2a07:a8c1::c3:a884]:443"
        ]
    );
    for other in [
        "https://dns.nextdns.io/",
        "https://dns.nextdns.io/xyz",
        "https://example.com/dns-query",
        "tls://1.1.1.1",
        "",
    ] {
        assert_eq!(Server::named(other), None, "{other}");
    }
    assert!(Server::named("https://dns.controld.com/abc").is_some());
}
