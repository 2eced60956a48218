//! The tables of the originals' `netcheck_test.go`, as facts.

use super::{basic_map, latencies};
use crate::{Family, Interfaces, Report, probe_plan};

const V4: Interfaces = Interfaces {
    v4: true,
    v6: false,
};
const V6: Interfaces = Interfaces {
    v4: false,
    v6: true,
};
const BOTH: Interfaces = Interfaces { v4: true, v6: true };

/// One line per set: `region-family: node@delay ...`.
fn plan(interfaces: Interfaces, last: Option<&Report>) -> Vec<String> {
    let home = last.and_then(|last| last.preferred_derp);
    let mut lines: Vec<String> = probe_plan(&basic_map(), interfaces, last, home)
        .iter()
        .map(|set| {
            let family = if set.family == Family::V4 { 4 } else { 6 };
            let probes: Vec<String> = set
                .probes
                .iter()
                .map(|p| {
                    format!(
                        "{}@{}",
                        char::from(b'a' + p.node as u8),
                        p.delay.as_millis()
                    )
                })
                .collect();
            format!("{}-v{family}: {}", set.region, probes.join(" "))
        })
        .collect();
    lines.sort();
    lines
}

fn report(all: &[(u16, u64)], v4: &[(u16, u64)], v6: &[(u16, u64)], home: Option<u16>) -> Report {
    Report {
        region_latency: latencies(all),
        region_v4_latency: latencies(v4),
        region_v6_latency: latencies(v6),
        preferred_derp: home,
        ..Report::default()
    }
}

#[test]
fn initial() {
    let four = [
        "1-v4: a@0 a@100 a@200",
        "2-v4: a@0 b@100 a@200",
        "3-v4: a@0 b@100 c@200",
        "4-v4: a@0 b@100 c@200",
        "5-v4: a@0 b@100 c@200",
    ];
    let six = four.map(|line| line.replace("-v4", "-v6"));
    assert_eq!(plan(V4, None), four);
    assert_eq!(plan(V6, None), six);
    let mut both: Vec<String> = four.iter().map(ToString::to_string).chain(six).collect();
    both.sort();
    assert_eq!(plan(BOTH, None), both);
    assert_eq!(
        plan(V4, Some(&Report::default())),
        four,
        "an empty report is none"
    );
}

#[test]
fn second_over_ipv4() {
    let l = [(1, 10), (2, 20), (3, 30), (4, 40)];
    let last = report(&l, &l, &[], None);
    assert_eq!(
        plan(V4, Some(&last)),
        ["1-v4: a@0 a@12", "2-v4: a@0 b@24", "3-v4: a@0"]
    );
    assert_eq!(
        plan(BOTH, Some(&last)),
        [
            "1-v4: a@0 a@12",
            "1-v6: a@0",
            "2-v4: a@0 b@24",
            "2-v6: a@0",
            "3-v4: a@0"
        ]
    );
}

#[test]
fn second_over_both() {
    let l = [(1, 10), (2, 20), (3, 30), (4, 40)];
    let last = report(&l, &l[..2], &l[2..], None);
    assert_eq!(
        plan(BOTH, Some(&last)),
        [
            "1-v4: a@0 a@12",
            "1-v6: a@0 a@12",
            "2-v4: a@0 b@24",
            "2-v6: a@0 b@24",
            "3-v4: a@0"
        ]
    );
}

#[test]
fn home_is_tried_harder() {
    let l = [(1, 10), (2, 20), (3, 30), (4, 40)];
    let last = report(&l, &l[..2], &l[2..], Some(1));
    assert_eq!(
        plan(BOTH, Some(&last)),
        [
            "1-v4: a@0 a@12 a@124 a@186",
            "1-v6: a@0 a@12 a@124 a@186",
            "2-v4: a@0 b@24",
            "2-v6: a@0 b@24",
            "3-v4: a@0"
        ]
    );
}

#[test]
fn home_is_asked_even_if_far() {
    let l = [(1, 50), (2, 20), (3, 30), (4, 40)];
    let last = report(&l, &l[..2], &l[2..], Some(1));
    assert_eq!(
        plan(BOTH, Some(&last)),
        [
            "1-v4: a@0 a@60 a@220 a@330",
            "1-v6: a@0 a@60 a@220 a@330",
            "2-v4: a@0 b@24",
            "2-v6: a@0 b@24",
            "3-v4: a@0 b@36",
            "3-v6: a@0 b@36",
            "4-v4: a@0"
        ]
    );
}

#[test]
fn avoided_regions_are_asked_again_only_if_home() {
    let l = [(1, 10), (2, 20)];
    let mut map = basic_map();
    if let Some(region) = map.regions.get_mut(&1) {
        region.avoid = true;
    }
    let last = report(&l, &l, &[], None);
    let asked = |home| {
        probe_plan(&map, V4, Some(&last), home)
            .iter()
            .map(|set| set.region)
            .collect::<Vec<_>>()
    };
    assert_eq!(asked(None), [2, 3, 4]);
    assert_eq!(asked(Some(1)), [1, 2, 3]);
    assert_eq!(probe_plan(&map, V4, None, None).len(), 5);
}
