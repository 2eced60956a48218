//! Which exit node is best (the originals' `suggestExitNode` in `ipn/ipnlocal/local.go`).
//!
//! Where the tailnet steers traffic, by its scores. Else by the relay regions: those who are near a region are as far away as that region,
//! which has been measured. Who is at no relay says where on earth he is, and our home region stands for where we are.

use std::collections::BTreeMap;

use netmap::{NetMap, Peer};
use packet::addr::is_exit_route;
use rand_core::Rng;
use tailcfg::{Location, NetInfo, cap};

/// An exit node that would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// Which.
    pub id: String,
    /// Its full name.
    pub name: String,
    /// Where it is, if it says so.
    pub location: Option<Location>,
}

/// Why there can be no suggestion yet: nothing has been measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoHome;

/// Differences in distance that mean nothing: a place is a city, and a relay stands for us. In metres.
const ALLOWANCE: f64 = 100_000.0;
const EARTH_RADIUS: f64 = 6_371_000.0;

/// The best exit node; among equals the `previous`, else any.
pub(crate) fn suggest(
    map: &NetMap,
    net_info: Option<&NetInfo>,
    previous: &str,
    rng: &mut (impl Rng + ?Sized),
) -> Result<Option<Suggestion>, NoHome> {
    let candidates: Vec<&Peer> = map
        .peers
        .iter()
        .map(|peer| &**peer)
        .filter(offers)
        .collect();
    if map.self_node.has_cap(cap::TRAFFIC_STEERING) {
        let best = candidates.into_iter().max_by_key(|peer| score(map, peer));
        return Ok(best.map(suggestion));
    }
    let home = net_info.and_then(|info| u16::try_from(info.preferred_derp).ok());
    let home = home
        .and_then(|home| map.derp_map.region(home))
        .ok_or(NoHome)?;
    let equals = match candidates[..] {
        [] | [_] => candidates,
        _ if candidates.iter().any(|peer| peer.home_derp != 0) => {
            nearest_by_relay(&candidates, net_info, rng)
        }
        _ => nearest_on_earth(&candidates, (home.latitude, home.longitude)),
    };
    Ok(choose(&equals, previous, rng).map(suggestion))
}

fn offers(peer: &&Peer) -> bool {
    let exits = peer.allowed_ips.iter().filter(|net| is_exit_route(net));
    peer.online == Some(true)
        && !peer.expired
        && peer.cap_map.contains_key(cap::SUGGEST_EXIT_NODE)
        && exits.count() >= 2
}

fn suggestion(peer: &Peer) -> Suggestion {
    Suggestion {
        id: peer.stable_id.to_string(),
        name: peer.name.to_string(),
        location: location(peer),
    }
}

fn location(peer: &Peer) -> Option<Location> {
    peer.hostinfo().location.map(|location| *location)
}

fn choose<'a>(
    equals: &[&'a Peer],
    previous: &str,
    rng: &mut (impl Rng + ?Sized),
) -> Option<&'a Peer> {
    let mut all = equals.iter().copied();
    let again = all.find(|peer| *peer.stable_id == *previous);
    again.or_else(|| equals.get(any_below(equals.len(), rng)).copied())
}

fn any_below(count: usize, rng: &mut (impl Rng + ?Sized)) -> usize {
    let any = usize::try_from(rng.next_u32()).unwrap_or_default();
    any.checked_rem(count).unwrap_or_default()
}

fn nearest_by_relay<'a>(
    candidates: &[&'a Peer],
    net_info: Option<&NetInfo>,
    rng: &mut (impl Rng + ?Sized),
) -> Vec<&'a Peer> {
    let latencies = net_info.map(latencies).unwrap_or_default();
    let mut regions: Vec<u16> = candidates.iter().map(|peer| peer.home_derp).collect();
    regions.retain(|region| *region != 0);
    let measured = regions
        .iter()
        .filter_map(|region| Some((*latencies.get(region)?, *region)));
    let nearest = measured.min_by(|(a, _), (b, _)| a.total_cmp(b));
    let any = || regions.get(any_below(regions.len(), rng)).copied();
    let region = nearest.map(|(_, region)| region).or_else(any);
    let there = candidates
        .iter()
        .filter(|peer| Some(peer.home_derp) == region);
    there.copied().collect()
}

/// The best latency of each region, of either family.
fn latencies(info: &NetInfo) -> BTreeMap<u16, f64> {
    let mut best = BTreeMap::new();
    for (name, latency) in &info.derp_latency {
        let region = name
            .split('-')
            .next()
            .and_then(|number| number.parse().ok());
        if let Some(region) = region.filter(|_| *latency > 0.0) {
            let known = best.entry(region).or_insert(*latency);
            *known = known.min(*latency);
        }
    }
    best
}

fn nearest_on_earth<'a>(candidates: &[&'a Peer], from: (f64, f64)) -> Vec<&'a Peer> {
    let placed = candidates.iter().filter_map(|peer| {
        let there = location(peer)?;
        let away = distance(from, (there.latitude, there.longitude));
        Some((away, there.priority, *peer))
    });
    let placed: Vec<(f64, i64, &Peer)> = placed.collect();
    let nearest = placed
        .iter()
        .map(|(away, ..)| *away)
        .fold(f64::MAX, f64::min);
    let near = || {
        placed
            .iter()
            .filter(|(away, ..)| *away <= nearest + ALLOWANCE)
    };
    let best = near()
        .map(|(_, priority, _)| *priority)
        .max()
        .unwrap_or_default();
    let equals: Vec<&Peer> = near()
        .filter(|(_, priority, _)| *priority == best)
        .map(|(.., peer)| *peer)
        .collect();
    match equals.is_empty() {
        true => candidates.to_vec(),
        false => equals,
    }
}

/// Between two places in degrees north and east, in metres.
fn distance(from: (f64, f64), to: (f64, f64)) -> f64 {
    let haversine = |angle: f64| (angle.to_radians() / 2.0).sin().powi(2);
    let both = from.0.to_radians().cos() * to.0.to_radians().cos();
    let a = haversine(from.0 - to.0) + both * haversine(from.1 - to.1);
    2.0 * EARTH_RADIUS * a.sqrt().atan2((1.0 - a).sqrt())
}

/// Higher is better. Those with equal scores share the nodes that look for one by a number that is different for each of these.
fn score(map: &NetMap, peer: &Peer) -> (i64, u64) {
    let priority = location(peer).map_or(0, |location| location.priority);
    (priority, rendezvous(map.self_node.id.0, peer.id.0))
}

/// FNV-1a over both numbers, and a finaliser that spreads its bits.
fn rendezvous(own: i64, other: i64) -> u64 {
    let bytes = [own, other].map(i64::to_be_bytes).concat();
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_earth() {
        // Berlin to Paris.
        let away = distance((52.52, 13.405), (48.8566, 2.3522));
        assert!((870_000.0..885_000.0).contains(&away), "{away}");
        assert_eq!(distance((1.0, 2.0), (1.0, 2.0)), 0.0);
    }

    #[test]
    fn regions_count_by_their_better_family() {
        let info = NetInfo {
            derp_latency: [("1-v4", 0.03), ("1-v6", 0.01), ("2-v4", 0.02), ("x", 0.001)]
                .map(|(name, latency)| (name.to_owned(), latency))
                .into(),
            ..NetInfo::default()
        };
        assert_eq!(latencies(&info), [(1, 0.01), (2, 0.02)].into());
    }

    #[test]
    fn nodes_share_out_what_scores_alike() {
        let choice = |own| (1..=4).max_by_key(|other| rendezvous(own, *other));
        let choices: std::collections::BTreeSet<_> = (1..40).map(choice).collect();
        assert_eq!(choices.len(), 4);
    }
}
