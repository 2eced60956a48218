use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use derp::{DerpMap, FamilyAddr, RegionId};
use host::Instant;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::{at, basic_map, ms};
use crate::{Action, Check, CheckOptions, Family, Interfaces, Report, stun};

fn options<'a>() -> CheckOptions<'a> {
    CheckOptions {
        interfaces: Interfaces {
            v4: true,
            v6: false,
        },
        os_has_ipv6: true,
        last: None,
        home: None,
        only_tcp_443: false,
        only_stun: false,
    }
}

/// A world in which region `n`'s servers answer after `rtt[n]`, and see us at `seen`.
struct World {
    rtt: BTreeMap<u8, u64>,
    seen: BTreeMap<u8, SocketAddr>,
    https: BTreeMap<RegionId, u64>,
    dns: Option<IpAddr>,
    sent: Vec<(u64, SocketAddr)>,
    resolved: usize,
}

impl World {
    fn new(rtt: &[(u8, u64)]) -> Self {
        Self {
            rtt: rtt.iter().copied().collect(),
            seen: BTreeMap::new(),
            https: BTreeMap::new(),
            dns: None,
            sent: Vec::new(),
            resolved: 0,
        }
    }

    fn run(&mut self, map: DerpMap, options: &CheckOptions<'_>) -> (Report, Duration) {
        let mut rng = StdRng::seed_from_u64(1);
        let start = at(Duration::ZERO);
        let mut now = start;
        let mut check = Check::start(Arc::new(map), options, now);
        let mut wire: Vec<(Instant, Vec<u8>)> = Vec::new();
        loop {
            while let Some(action) = check.poll_action(now, &mut rng) {
                self.act(&mut check, action, now.since(start), now, &mut wire);
            }
            if let Some(report) = check.poll_report(now) {
                assert_eq!(check.next_timeout(), None);
                return (report, now.since(start));
            }
            wire.sort();
            let next = check.next_timeout().unwrap();
            match wire.first() {
                Some((t, _)) if *t <= next => {
                    let (t, datagram) = wire.remove(0);
                    now = t;
                    check.handle_datagram(&datagram, now);
                }
                _ => now = next,
            }
        }
    }

    fn act(
        &mut self,
        check: &mut Check,
        action: Action,
        elapsed: Duration,
        now: Instant,
        wire: &mut Vec<(Instant, Vec<u8>)>,
    ) {
        match action {
            Action::Send {
                to,
                datagram,
                family,
            } => {
                self.sent.push((elapsed.as_millis() as u64, to));
                check.handle_sent(family, true);
                let tx = stun::parse_request(&datagram).unwrap();
                let server = match to.ip() {
                    IpAddr::V4(ip) => ip.octets()[0],
                    IpAddr::V6(ip) => ip.segments()[0] as u8,
                };
                let default = "203.0.113.9:1000".parse().unwrap();
                let seen = self.seen.get(&server).copied().unwrap_or(default);
                if let Some(rtt) = self.rtt.get(&server) {
                    wire.push((now + ms(*rtt), stun::response(tx, seen)));
                }
            }
            Action::Resolve { probe, .. } => {
                self.resolved += 1;
                check.handle_resolved(probe, self.dns);
            }
            Action::MeasureHttps { regions } => {
                for region in regions {
                    let answer = self.https.get(&region);
                    check.handle_https(
                        region,
                        answer.map(|rtt| (ms(*rtt), IpAddr::from([127, 0, 0, 1]))),
                    );
                }
            }
        }
    }
}

#[test]
fn all_regions_answer() {
    let mut world = World::new(&[(1, 30), (2, 20), (3, 40), (4, 50), (5, 200)]);
    let (report, took) = world.run(basic_map(), &options());
    assert!(report.udp && report.ipv4 && report.ipv4_can_send && report.os_has_ipv6);
    assert!(!report.ipv6 && !report.ipv6_can_send);
    assert_eq!(report.mapping_varies_by_dest_ip, Some(false));
    assert_eq!(report.region_latency[&2], ms(20));
    assert_eq!(report.global_v4, Some("203.0.113.9:1000".parse().unwrap()));
    assert_eq!(report.global_addrs(), ["203.0.113.9:1000".parse().unwrap()]);
    // Three had answered after 40 ms, so twice the slowest of them is enough: region 5 is not waited for.
    assert_eq!(took, ms(120));
    assert_eq!(report.region_latency.len(), 4);
    assert!(world.sent.iter().all(|(_, to)| to.port() == 3478));
}

#[test]
fn a_symmetric_nat_shows() {
    let mut world = World::new(&[(1, 10), (2, 20)]);
    world.seen.insert(2, "203.0.113.9:2000".parse().unwrap());
    let mut map = basic_map();
    map.regions.retain(|id, _| *id <= 2);
    let (report, took) = world.run(map, &options());
    assert_eq!(report.mapping_varies_by_dest_ip, Some(true));
    assert_eq!(report.global_v4, Some("203.0.113.9:1000".parse().unwrap()));
    assert_eq!(took, ms(20));
}

#[test]
fn lost_requests_are_repeated() {
    let mut world = World::new(&[(1, 10)]);
    let (report, took) = world.run(basic_map(), &options());
    assert_eq!(report.region_latency.len(), 1);
    assert_eq!(took, Duration::from_secs(3));
    let to_second: Vec<_> = world
        .sent
        .iter()
        .filter(|(_, to)| to.ip().to_string().starts_with("2."))
        .collect();
    assert_eq!(to_second.len(), 3);
    assert_eq!(to_second[2].0, 200);
}

#[test]
fn without_udp_https_is_asked() {
    let mut world = World::new(&[]);
    world.https = [(2, 80), (3, 90)].into();
    let mut map = basic_map();
    if let Some(region) = map.regions.get_mut(&3) {
        region.avoid = true;
    }
    let (report, took) = world.run(map.clone(), &options());
    assert!(!report.udp && report.ipv4);
    assert_eq!(report.region_latency, super::latencies(&[(2, 80)]));
    assert!(report.region_v4_latency.is_empty());
    assert_eq!(took, Duration::from_secs(3));
    let only_stun = CheckOptions {
        only_stun: true,
        ..options()
    };
    assert!(
        world
            .run(map.clone(), &only_stun)
            .0
            .region_latency
            .is_empty()
    );
    let only_tcp = CheckOptions {
        only_tcp_443: true,
        ..options()
    };
    world.sent.clear();
    let (report, took) = world.run(map, &only_tcp);
    assert_eq!((report.region_latency.len(), took), (1, Duration::ZERO));
    assert!(world.sent.is_empty());
}

#[test]
fn names_are_resolved_and_literals_are_not() {
    let mut map = basic_map();
    map.regions.retain(|id, _| *id <= 2);
    for region in map.regions.values_mut() {
        for node in &mut region.nodes {
            node.ipv4 = FamilyAddr::Dns;
            if region.id == 1 {
                node.host = "1.0.0.7".to_owned();
            }
        }
    }
    let mut world = World::new(&[(1, 5), (9, 5)]);
    world.dns = Some([9, 0, 0, 1].into());
    let (report, took) = world.run(map.clone(), &options());
    assert_eq!((report.region_latency.len(), world.resolved), (2, 1));
    assert_eq!(took, ms(5));
    // A name that does not exist is not waited for, nor is an address of the other family used.
    for dns in [None, Some("2001:db8::1".parse().unwrap())] {
        let mut world = World::new(&[(1, 5)]);
        world.dns = dns;
        let (report, took) = world.run(map.clone(), &options());
        assert_eq!((report.region_latency.len(), took), (1, ms(200)));
    }
}

#[test]
fn nodes_without_stun_are_not_asked() {
    let mut map = basic_map();
    map.regions.retain(|id, _| *id == 2);
    for node in map.regions.values_mut().flat_map(|r| &mut r.nodes) {
        node.stun_port = None;
    }
    let mut world = World::new(&[(2, 5)]);
    world.https = [(2, 80)].into();
    let (report, _) = world.run(map, &options());
    assert!(world.sent.is_empty());
    assert_eq!(report.region_latency, super::latencies(&[(2, 80)]));
}

#[test]
fn an_empty_map_is_over_at_once() {
    let (report, took) = World::new(&[]).run(DerpMap::default(), &options());
    assert_eq!((report.region_latency.len(), took), (0, Duration::ZERO));
}

#[test]
fn strangers_answers_do_not_count() {
    let mut rng = StdRng::seed_from_u64(1);
    let now = at(Duration::ZERO);
    let mut check = Check::start(Arc::new(basic_map()), &options(), now);
    let Some(Action::Send {
        datagram,
        family: Family::V4,
        ..
    }) = check.poll_action(now, &mut rng)
    else {
        panic!("a request");
    };
    let tx = stun::parse_request(&datagram).unwrap();
    let seen = "192.0.2.1:1".parse().unwrap();
    let forged = stun::response(stun::TxId([9; 12]), seen);
    assert!(!check.handle_datagram(&forged, now));
    assert!(!check.handle_datagram(&datagram, now));
    assert!(!check.handle_datagram(b"junk", now));
    let answer = stun::response(tx, seen);
    assert!(check.handle_datagram(&answer, now));
    assert!(!check.handle_datagram(&answer, now), "only once");
}

#[test]
fn addresses_seen_twice_are_offered() {
    let mut report = Report::default();
    let mut see = |addr: &str| report.add_stun(1, addr.parse().unwrap(), ms(1));
    for addr in [
        "192.0.2.1:1",
        "192.0.2.1:2",
        "192.0.2.1:2",
        "192.0.2.1:3",
        "[2001:db8::1]:5",
    ] {
        see(addr);
    }
    let want: Vec<SocketAddr> = ["192.0.2.1:1", "[2001:db8::1]:5", "192.0.2.1:2"]
        .iter()
        .map(|addr| addr.parse().unwrap())
        .collect();
    assert_eq!(report.global_addrs(), want);
}

proptest! {
    #[test]
    fn every_world_ends(
        rtt in prop::collection::btree_map(1u8..7, 0u64..6000, 0..6),
        https in prop::collection::btree_map(1u16..7, 0u64..6000, 0..6),
        v6 in any::<bool>(),
    ) {
        let mut world = World::new(&rtt.into_iter().collect::<Vec<_>>());
        world.https = https;
        let options = CheckOptions { interfaces: Interfaces { v4: true, v6 }, ..options() };
        let (report, took) = world.run(basic_map(), &options);
        prop_assert!(took <= Duration::from_secs(5));
        prop_assert!(!report.region_latency.contains_key(&6));
    }
}
