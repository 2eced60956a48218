mod check;
mod home;
mod plan;
mod stun;

use std::time::Duration;

use derp::{DerpMap, FamilyAddr, Node, Region, RegionId};
use host::Instant;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn at(t: Duration) -> Instant {
    Instant::ZERO + Duration::from_secs(3600) + t
}

/// Region `n` has `n` nodes with addresses; region 6 may not be measured. The map of the originals' plan tests.
fn basic_map() -> DerpMap {
    let mut map = DerpMap::default();
    for id in 1..=6u16 {
        let nodes = (0..id)
            .map(|n| Node {
                name: format!("{id}{}", char::from(b'a' + n as u8)),
                host: format!("derp{id}-{n}.example"),
                ipv4: FamilyAddr::Ip([id as u8, 0, 0, n as u8].into()),
                ipv6: FamilyAddr::Ip([id, 0, 0, 0, 0, 0, 0, n].into()),
                ..Node::default()
            })
            .collect();
        map.regions.insert(
            id,
            Region {
                id,
                nodes,
                no_measure_no_home: id == 6,
                ..Region::default()
            },
        );
    }
    map
}

fn latencies(pairs: &[(RegionId, u64)]) -> std::collections::BTreeMap<RegionId, Duration> {
    pairs.iter().map(|(id, n)| (*id, ms(*n))).collect()
}
