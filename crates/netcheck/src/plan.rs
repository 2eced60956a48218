//! Which servers to ask, how often and when.

use std::time::Duration;

use derp::{DerpMap, Node, Region, RegionId};

use crate::Report;

/// The first gap between tries when nothing is known yet.
const INITIAL_RETRANSMIT: Duration = Duration::from_millis(100);
/// The gap for a region without a known latency.
const ACTIVE_RETRANSMIT: Duration = Duration::from_millis(200);
/// How many of the nearest regions an incremental measurement asks.
const INCREMENTAL_REGIONS: usize = 3;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Which families the machine's interfaces have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interfaces {
    /// Some interface has a usable IPv4 address.
    pub v4: bool,
    /// Some interface has a usable IPv6 address.
    pub v6: bool,
}

/// One request to send unless its set is done by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// When, from the start.
    pub delay: Duration,
    /// To which of the region's nodes.
    pub node: usize,
}

/// All probes of one region in one family; the first answer ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSet {
    /// The region.
    pub region: RegionId,
    /// The family.
    pub family: Family,
    /// By rising delay.
    pub probes: Vec<Probe>,
}

/// Plans a measurement: of all regions if `last` is `None` or empty, else of the nearest ones and `home`.
pub fn probe_plan(
    map: &DerpMap,
    interfaces: Interfaces,
    last: Option<&Report>,
    home: Option<RegionId>,
) -> Vec<ProbeSet> {
    match last.filter(|last| !last.region_latency.is_empty()) {
        None => initial_plan(map, interfaces),
        Some(last) => incremental_plan(map, interfaces, last, home),
    }
}

fn initial_plan(map: &DerpMap, interfaces: Interfaces) -> Vec<ProbeSet> {
    let mut plan = Vec::new();
    for region in map.regions.values().filter(|r| !r.no_measure_no_home) {
        let tries = (0..3).map(|n| (n, INITIAL_RETRANSMIT * n));
        push_sets(&mut plan, region, tries, |_| interfaces);
    }
    plan
}

fn incremental_plan(
    map: &DerpMap,
    interfaces: Interfaces,
    last: &Report,
    home: Option<RegionId>,
) -> Vec<ProbeSet> {
    let had4 = !last.region_v4_latency.is_empty();
    let had6 = !last.region_v6_latency.is_empty();
    let had_both = interfaces.v6 && had4 && had6;
    let mut plan = Vec::new();
    for (rank, region) in by_latency(map, last, home).into_iter().enumerate() {
        let is_home = Some(region.id) == home;
        // The home is always asked: one slow answer must not push it out of the plan, or it would move and come back.
        if rank >= INCREMENTAL_REGIONS && !is_home {
            continue;
        }
        let fastest_two = rank < 2;
        let mut families = interfaces;
        if !fastest_two && !is_home && had_both {
            families.v4 = rank % 2 == 0;
            families.v6 = !families.v4;
        }
        if !is_home && !fastest_two && !had6 {
            families.v6 = false;
        }
        let tries = match (is_home, fastest_two) {
            (true, _) => 4,
            (false, true) => 2,
            (false, false) => 1,
        };
        let gap = match last.region_latency.get(&region.id) {
            Some(latency) if !latency.is_zero() => *latency * 120 / 100,
            _ => ACTIVE_RETRANSMIT,
        };
        let tries = (0..tries).map(|n: u32| {
            let extra = if n > 1 { n * 50 } else { 0 };
            (n, gap * n + Duration::from_millis(u64::from(extra)))
        });
        push_sets(&mut plan, region, tries, |n| Interfaces {
            v6: families.v6 && (n == 0 || had6),
            ..families
        });
    }
    plan
}

/// Regions that may be asked, nearest first, those without a latency last.
fn by_latency<'a>(map: &'a DerpMap, last: &Report, home: Option<RegionId>) -> Vec<&'a Region> {
    let mut regions: Vec<&Region> = map
        .regions
        .values()
        .filter(|r| !r.no_measure_no_home && (!r.avoid || Some(r.id) == home))
        .collect();
    regions.sort_by_key(|region| {
        last.region_latency
            .get(&region.id)
            .copied()
            .filter(|latency| !latency.is_zero())
            .unwrap_or(Duration::MAX)
    });
    regions
}

fn push_sets(
    plan: &mut Vec<ProbeSet>,
    region: &Region,
    tries: impl Iterator<Item = (u32, Duration)>,
    families: impl Fn(u32) -> Interfaces,
) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (n, delay) in tries {
        let Some(index) = (n as usize).checked_rem(region.nodes.len()) else {
            return;
        };
        let Some(node) = region.nodes.get(index) else {
            return;
        };
        let families = families(n);
        let probe = Probe { delay, node: index };
        if wanted(node, families.v4, node.ipv4.possible()) {
            v4.push(probe);
        }
        if wanted(node, families.v6, node.ipv6.possible()) {
            v6.push(probe);
        }
    }
    for (family, probes) in [(Family::V4, v4), (Family::V6, v6)] {
        if !probes.is_empty() {
            plan.push(ProbeSet {
                region: region.id,
                family,
                probes,
            });
        }
    }
}

fn wanted(node: &Node, family_up: bool, possible: bool) -> bool {
    possible && (family_up || node.is_test_node())
}
