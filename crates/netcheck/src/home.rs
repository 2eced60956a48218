//! Which region is home.

use std::collections::BTreeMap;
use std::time::Duration;

use derp::{DerpMap, KEEP_ALIVE, RegionId};
use host::Instant;

use crate::Report;

/// Reports are remembered a little longer than the longest time between two full measurements.
const HISTORY: Duration = Duration::from_secs(5 * 60 + 5);
/// A home is not left for a gain below this.
const ABSOLUTE_GAIN: Duration = Duration::from_millis(10);
/// A region that sent a frame this recently works, whatever STUN says.
const HEARD_RECENTLY: Duration = Duration::from_secs(8);
/// Without any measurement a home is kept while it keeps its connection alive.
const HEARD_AT_ALL: Duration = KEEP_ALIVE.saturating_mul(2);

/// When a DERP frame last came from a region.
pub trait Heard {
    /// The time of the last frame from `region`, if any came.
    fn last_heard(&self, region: RegionId) -> Option<Instant>;
}

impl<F: Fn(RegionId) -> Option<Instant>> Heard for F {
    fn last_heard(&self, region: RegionId) -> Option<Instant> {
        self(region)
    }
}

/// Chooses the home region from report after report, with the originals' reluctance to move: peers learn of a move only
/// through control, and each move costs a connection.
#[derive(Debug, Clone, Default)]
pub struct HomePicker {
    history: Vec<(Instant, BTreeMap<RegionId, Duration>)>,
    previous: Option<RegionId>,
    forced: Option<RegionId>,
}

impl HomePicker {
    /// Nothing measured yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The choice of the last report.
    pub fn previous(&self) -> Option<RegionId> {
        self.previous
    }

    /// Prefers `region` over any measurement while it works (a debugging aid).
    pub fn force(&mut self, region: Option<RegionId>) {
        self.forced = region;
    }

    /// Forgets all measurements, as after a change of networks that makes them meaningless.
    pub fn clear(&mut self) {
        self.history.clear();
    }

    /// How many reports are remembered.
    pub fn remembered(&self) -> usize {
        self.history.len()
    }

    /// Chooses `report.preferred_derp` at `now`; `started` is when the report's measurement began.
    ///
    /// Where nothing was measured and nothing heard, but the map leaves no choice, its one usable region is chosen.
    pub fn choose(
        &mut self,
        report: &mut Report,
        map: &DerpMap,
        heard: &dyn Heard,
        started: Instant,
        now: Instant,
    ) {
        self.history.retain(|(at, _)| now.since(*at) <= HISTORY);
        self.history.push((now, report.region_latency.clone()));
        let recently = |region: RegionId| {
            heard
                .last_heard(region)
                .is_some_and(|at| at > started || at > now - HEARD_RECENTLY)
        };
        let mut choice = self.measured_choice(report, map, &recently);
        if let Some(forced) = self.forced
            && (report.region_latency.contains_key(&forced) || recently(forced))
        {
            choice = Some(forced);
        }
        let alive = |region: &RegionId| {
            heard
                .last_heard(*region)
                .is_some_and(|at| at > now - HEARD_AT_ALL)
        };
        report.preferred_derp = choice
            .or_else(|| self.previous.filter(alive))
            .or_else(|| only_usable(map));
        self.previous = report.preferred_derp;
    }

    fn measured_choice(
        &self,
        report: &Report,
        map: &DerpMap,
        recently: &dyn Fn(RegionId) -> bool,
    ) -> Option<RegionId> {
        let usable = |region: RegionId| {
            map.region(region)
                .is_none_or(|region| !region.no_measure_no_home)
        };
        let (best, candidate) = report
            .region_latency
            .keys()
            .filter(|region| usable(**region))
            .map(|region| (self.best_recent(*region, map), *region))
            .min()?;
        let Some(old) = self.previous.filter(|old| *old != candidate) else {
            return Some(candidate);
        };
        let old_latency = report
            .region_latency
            .get(&old)
            .map_or(Duration::ZERO, |latency| scaled(*latency, old, map));
        let accessible = !old_latency.is_zero() || recently(old);
        let near_enough =
            old_latency.saturating_sub(best) < ABSOLUTE_GAIN || best > old_latency / 3 * 2;
        if accessible && near_enough {
            return Some(old);
        }
        Some(candidate)
    }

    /// The lowest latency of a region among the remembered reports.
    fn best_recent(&self, region: RegionId, map: &DerpMap) -> Duration {
        self.history
            .iter()
            .filter_map(|(_, latencies)| latencies.get(&region))
            .min()
            .map_or(Duration::MAX, |latency| scaled(*latency, region, map))
    }
}

fn scaled(latency: Duration, region: RegionId, map: &DerpMap) -> Duration {
    match map.region_score.get(&region) {
        Some(score) if score.is_finite() && *score > 0.0 => {
            Duration::try_from_secs_f64(latency.as_secs_f64() * score).unwrap_or(latency)
        }
        _ => latency,
    }
}

fn candidates(map: &DerpMap) -> impl Iterator<Item = RegionId> {
    map.regions
        .values()
        .filter(|region| !region.no_measure_no_home && region.relays().next().is_some())
        .map(|region| region.id)
}

fn only_usable(map: &DerpMap) -> Option<RegionId> {
    let mut usable = candidates(map);
    let first = usable.next()?;
    usable.next().is_none().then_some(first)
}

/// A home for when nothing could be measured: the current one if the map still has it, else one picked by `seed`, which
/// should stay the same while the process lives.
pub fn fallback_home(map: &DerpMap, current: Option<RegionId>, seed: u64) -> Option<RegionId> {
    if let Some(current) = current.filter(|current| map.regions.contains_key(current)) {
        return Some(current);
    }
    let usable: Vec<RegionId> = candidates(map).collect();
    let index = seed.checked_rem(usable.len() as u64)?;
    usable.get(usize::try_from(index).ok()?).copied()
}
