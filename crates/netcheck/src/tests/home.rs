//! The tables of the originals' `netcheck_test.go`, as facts.

use std::time::Duration;

use derp::{DerpMap, FamilyAddr, Node, Region, RegionId};
use proptest::prelude::*;

use super::{at, basic_map, latencies, ms};
use crate::{HomePicker, Report, fallback_home};

const S: u64 = 1000;

struct Case {
    map: DerpMap,
    heard: Vec<(RegionId, Duration)>,
    forced: Option<RegionId>,
}

impl Case {
    fn new() -> Self {
        Self {
            map: DerpMap::default(),
            heard: Vec::new(),
            forced: None,
        }
    }

    /// Each step is how long after the one before, and the latencies, all in milliseconds. The last choice and how many
    /// reports are remembered.
    fn run(&self, steps: &[(u64, &[(RegionId, u64)])]) -> (Option<RegionId>, usize) {
        let mut picker = HomePicker::new();
        picker.force(self.forced);
        let mut now = at(Duration::ZERO);
        let mut choice = None;
        for (after, pairs) in steps {
            now += ms(*after);
            let mut report = Report {
                region_latency: latencies(pairs),
                ..Report::default()
            };
            let heard = |region| {
                let found = self.heard.iter().find(|(id, _)| *id == region);
                found.map(|(_, t)| at(*t))
            };
            picker.choose(&mut report, &self.map, &heard, now - ms(100), now);
            choice = report.preferred_derp;
        }
        (choice, picker.remembered())
    }
}

#[test]
fn first_and_best_of_history() {
    let case = Case::new();
    let (d23, d43): (&[_], &[_]) = (&[(1, 2 * S), (2, 3 * S)], &[(1, 4 * S), (2, 3 * S)]);
    let only2: &[_] = &[(2, 3 * S)];
    assert_eq!(case.run(&[(0, d23)]), (Some(1), 1));
    assert_eq!(case.run(&[(0, d23), (S, d43)]), (Some(1), 2));
    assert_eq!(case.run(&[(0, d23), (S, d43), (S, only2)]), (Some(2), 3));
    assert_eq!(
        case.run(&[(0, d23), (S, d43), (S, only2), (S, d43)]),
        (Some(1), 4)
    );
}

#[test]
fn history_ends() {
    let step: &[_] = &[(1, S), (2, 2 * S)];
    assert_eq!(
        Case::new().run(&[
            (0, step),
            (S, step),
            (S, step),
            (S, step),
            (600 * S, &[(3, 3 * S)])
        ]),
        (Some(3), 1)
    );
}

#[test]
fn small_gains_do_not_move_the_home() {
    let case = Case::new();
    for (old, new, want) in [
        ([4 * S, 5 * S], [4 * S, 3 * S], 1),
        ([4, 5], [4, 1], 1),
        ([4 * S, 5 * S], [4 * S, S], 2),
        ([34, 35], [34, 23], 1),
    ] {
        let steps: [(u64, &[_]); 2] = [
            (0, &[(1, old[0]), (2, old[1])]),
            (S, &[(1, new[0]), (2, new[1])]),
        ];
        assert_eq!(case.run(&steps), (Some(want), 2), "{old:?} {new:?}");
    }
}

#[test]
fn scores_weigh_regions() {
    let mut case = Case::new();
    case.map.region_score.insert(1, 2.0 / 3.0);
    assert_eq!(case.run(&[(S, &[(1, 10 * S), (2, 8 * S)])]).0, Some(1));
    assert_eq!(case.run(&[(S, &[(1, 100 * S), (2, 10 * S)])]).0, Some(2));
    case.map.region_score = [(1, 0.0), (2, -1.0), (3, f64::NAN)].into();
    assert_eq!(case.run(&[(S, &[(1, 4 * S), (2, 5 * S)])]).0, Some(1));
}

#[test]
fn traffic_shows_that_a_region_works() {
    let steps: [(u64, &[_]); 3] = [
        (0, &[(1, 2 * S), (2, 3 * S)]),
        (2 * S, &[(1, 4 * S), (2, 3 * S)]),
        (2 * S, &[(2, 3 * S)]),
    ];
    let mut case = Case::new();
    case.heard = vec![(1, ms(6000))];
    assert_eq!(case.run(&steps).0, Some(1));
    case.heard.clear();
    assert_eq!(case.run(&steps).0, Some(2));
    let late: [(u64, &[_]); 3] = [steps[0], steps[1], (20 * S, steps[2].1)];
    case.heard = vec![(1, ms(13_999))];
    assert_eq!(case.run(&late).0, Some(2));
    case.heard = vec![(1, ms(14_001))];
    assert_eq!(case.run(&late).0, Some(1));
}

#[test]
fn a_forced_region_wins_while_it_works() {
    let mut case = Case::new();
    case.forced = Some(2);
    assert_eq!(
        case.run(&[
            (S, &[(1, 2 * S), (2, 3 * S)]),
            (2 * S, &[(1, 4 * S), (2, 3 * S)])
        ])
        .0,
        Some(2)
    );
    assert_eq!(
        case.run(&[(S, &[(1, 2 * S), (2, S)]), (2 * S, &[(1, 4 * S)])])
            .0,
        Some(1)
    );
    case.heard = vec![(1, ms(0)), (2, ms(S))];
    assert_eq!(
        case.run(&[(S, &[(1, 2 * S)]), (2 * S, &[(1, 4 * S)])]).0,
        Some(2)
    );
    case.heard = vec![(1, ms(0)), (2, ms(0))];
    assert_eq!(
        case.run(&[(S, &[(1, 2 * S)]), (9 * S, &[(1, 4 * S)])]).0,
        Some(1)
    );
}

#[test]
fn without_data_a_living_home_is_kept() {
    let mut case = Case::new();
    case.heard = vec![(1, ms(0))];
    let two: &[_] = &[(1, 2 * S), (2, 3 * S)];
    assert_eq!(
        case.run(&[
            (0, two),
            (30 * S, &[]),
            (2 * S, &[]),
            (2 * S, &[]),
            (2 * S, &[]),
            (2 * S, &[])
        ]),
        (Some(1), 6)
    );
    assert_eq!(
        case.run(&[(0, two), (30 * S, &[]), (120 * S, &[])]),
        (None, 3)
    );
}

#[test]
fn the_only_region_needs_no_measurement() {
    let mut case = Case::new();
    case.map = basic_map();
    assert_eq!(case.run(&[(0, &[])]).0, None);
    case.map.regions.retain(|id, _| matches!(id, 5 | 6));
    assert_eq!(case.run(&[(0, &[])]).0, Some(5));
    case.map.regions.retain(|id, _| *id == 6);
    assert_eq!(case.run(&[(0, &[])]).0, None, "never the home");
}

#[test]
fn a_region_that_may_not_be_home_is_not_chosen() {
    let mut case = Case::new();
    case.map = basic_map();
    assert_eq!(case.run(&[(0, &[(6, 1), (2, 500)])]).0, Some(2));
}

#[test]
fn fallback_keeps_the_current_home() {
    let map = basic_map();
    assert_eq!(fallback_home(&map, Some(4), 9), Some(4));
    assert_eq!(fallback_home(&map, Some(40), 1), Some(2));
    assert_eq!(fallback_home(&map, None, 4), Some(5));
    assert_eq!(fallback_home(&map, None, 5), Some(1));
    assert_eq!(fallback_home(&DerpMap::default(), Some(1), 0), None);
    let mut stun_only = DerpMap::default();
    let node = Node {
        stun_only: true,
        ipv4: FamilyAddr::None,
        ..Node::default()
    };
    let region = Region {
        id: 1,
        nodes: vec![node],
        ..Region::default()
    };
    stun_only.regions.insert(1, region);
    assert_eq!(fallback_home(&stun_only, None, 0), None);
}

proptest! {
    #[test]
    fn what_was_measured_or_heard_is_chosen(
        steps in prop::collection::vec((0u64..400_000, prop::collection::btree_map(1u16..6, 1u64..5000, 0..5)), 1..12),
    ) {
        let mut case = Case::new();
        case.map = basic_map();
        let steps: Vec<(u64, Vec<(RegionId, u64)>)> =
            steps.into_iter().map(|(t, m)| (t, m.into_iter().collect())).collect();
        let refs: Vec<(u64, &[(RegionId, u64)])> = steps.iter().map(|(t, v)| (*t, v.as_slice())).collect();
        let (choice, remembered) = case.run(&refs);
        let last = &refs[refs.len() - 1].1;
        // Nothing was heard, so only what answered last can be chosen.
        match choice {
            Some(id) => prop_assert!(last.iter().any(|(region, _)| *region == id)),
            None => prop_assert!(last.is_empty()),
        }
        prop_assert!(remembered <= refs.len() && remembered > 0);
    }
}
