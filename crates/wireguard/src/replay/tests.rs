use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// All counters ever seen, and the rule in one line.
#[derive(Default)]
struct Naive {
    seen: BTreeSet<u64>,
}

impl Naive {
    fn accept(&mut self, counter: u64) -> bool {
        let next = self.seen.last().map_or(0, |last| last + 1);
        let in_reach = counter >= next || next - counter <= ReplayWindow::SIZE;
        in_reach && self.seen.insert(counter)
    }
}

fn counters() -> impl Strategy<Value = Vec<u64>> {
    let window = ReplayWindow::SIZE as i64;
    let step = prop_oneof![
        8 => 1..3_i64,
        4 => -70_i64..130,
        2 => -20_000_i64..20_000,
        1 => (0..6_i64).prop_map(move |n| -window - 3 + n),
        1 => (0..6_i64).prop_map(move |n| window + 61 + n),
        1 => (0..6_i64).prop_map(move |n| 61 + n),
    ];
    proptest::collection::vec(step, 1..400).prop_map(|steps| {
        let mut at = 0_u64;
        steps
            .into_iter()
            .map(|step| {
                at = at.saturating_add_signed(step);
                at
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn wg_replay_window_agrees_with_a_set(counters in counters()) {
        let mut window = ReplayWindow::default();
        let mut naive = Naive::default();
        for counter in counters {
            let want = naive.accept(counter);
            prop_assert_eq!(window.would_accept(counter), want, "{}", counter);
            prop_assert_eq!(window.accept(counter), want, "{}", counter);
        }
    }
}

#[test]
fn wg_replay_window_covers_8192_counters() {
    let mut window = ReplayWindow::default();
    assert!(window.accept(10_000));
    for counter in 10_000 - 8192..10_000 {
        assert!(window.accept(counter), "{counter}");
        assert!(!window.accept(counter), "{counter}");
    }
    assert!(!window.accept(10_000));
}

#[test]
fn wg_replay_window_survives_a_long_jump() {
    let mut window = ReplayWindow::default();
    for counter in 0..20_000 {
        assert!(window.accept(counter));
    }
    let far = u64::MAX - 9000;
    assert!(window.accept(far));
    assert!(!window.accept(5));
    assert!(!window.accept(far));
    for counter in far + 1 - ReplayWindow::SIZE..far {
        assert!(window.accept(counter), "{counter}");
    }
}
