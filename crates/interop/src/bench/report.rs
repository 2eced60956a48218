//! Medians, ratios and tables.

use std::collections::BTreeMap;

use super::measure::{Figures, Sample};
use super::{Options, Row, Test};
use crate::report::markdown;

/// A figure: its name, and how it is found.
type Metric = (&'static str, fn(&Figures) -> Option<f64>);

const METRICS: [Metric; 4] = [
    ("Gbit/s", |figures| figures.gbps),
    ("CPU-s/GB", |figures| figures.cpu_s_per_gb),
    ("µs/packet", |figures| figures.us_per_packet),
    ("ping ms", |figures| figures.ping_ms),
];

/// The middle one; of an even number, the lower of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)? / 2;
    values.get(middle).copied()
}

/// Ours beside each other peer's, round by round.
pub(super) fn rows(options: &Options, samples: &[Sample]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut peers: Vec<&str> = Vec::new();
    let mut tests: Vec<Test> = Vec::new();
    for sample in samples {
        if sample.peer != "ours" && !peers.contains(&sample.peer.as_str()) {
            peers.push(&sample.peer);
        }
        if !tests.contains(&sample.test) {
            tests.push(sample.test);
        }
    }
    for test in tests {
        for (metric, of) in METRICS {
            let by_round = |peer: &str| -> BTreeMap<usize, f64> {
                samples
                    .iter()
                    .filter(|sample| sample.peer == peer && sample.test == test)
                    .filter_map(|sample| Some((sample.round, of(&sample.figures)?)))
                    .collect()
            };
            let ours = by_round("ours");
            for peer in &peers {
                let theirs = by_round(peer);
                let both = || {
                    ours.iter()
                        .filter_map(|(round, own)| Some((*own, *theirs.get(round)?)))
                };
                let (Some(own), Some(other), Some(ratio)) = (
                    median(both().map(|(own, _)| own).collect()),
                    median(both().map(|(_, other)| other).collect()),
                    median(both().map(|(own, other)| own / other).collect()),
                ) else {
                    continue;
                };
                rows.push(Row {
                    peer: (*peer).to_owned(),
                    test,
                    mtu: options.mtu,
                    offload: !options.no_uso,
                    mode: options.mode,
                    path: options.path,
                    metric,
                    ours: own,
                    theirs: other,
                    ratio,
                    n: both().count(),
                });
            }
        }
    }
    rows
}

pub(crate) fn table(rows: &[Row]) -> String {
    let head = [
        "test",
        "figure",
        "beside",
        "ours",
        "theirs",
        "ours / theirs",
        "rounds",
    ];
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                format!("{:?}", row.test).to_lowercase(),
                row.metric.to_owned(),
                row.peer.clone(),
                format!("{:.2}", row.ours),
                format!("{:.2}", row.theirs),
                format!("{:.2}", row.ratio),
                row.n.to_string(),
            ]
        })
        .collect();
    markdown(&head, &cells)
}

/// Memory of each peer's larger daemon.
pub(crate) fn memory(samples: &[Sample]) -> String {
    let mut peers: BTreeMap<&str, (Vec<f64>, u64)> = BTreeMap::new();
    for sample in samples {
        let entry = peers.entry(&sample.peer).or_default();
        entry.0.push(sample.figures.memory.0 as f64);
        entry.1 = entry.1.max(sample.figures.memory.1);
    }
    let mib = |kib: f64| format!("{:.1}", kib / 1024.0);
    let cells: Vec<Vec<String>> = peers
        .into_iter()
        .map(|(peer, (now, most))| {
            vec![
                peer.to_owned(),
                median(now).map(mib).unwrap_or_default(),
                mib(most as f64),
            ]
        })
        .collect();
    markdown(&["peer", "memory MiB, median", "at most"], &cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(1.0));
        assert_eq!(median(vec![]), None);
    }
}
