//! What happens in a round, drawn from a seed.

use std::fmt;
use std::time::Duration;

use rand_core::Rng;

/// A small generator that gives the same numbers for the same seed on every machine (SplitMix64).
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed that a person can type again.
    pub(super) fn seed(rng: &mut dyn Rng) -> u64 {
        rng.next_u64() % 1_000_000
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap_or_default()
    }

    fn millis(&mut self, end: usize) -> Duration {
        Duration::from_millis(self.below(end) as u64)
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// A program that is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Victim {
    Control,
    Relay,
    /// The node with this index.
    Node(usize),
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control => f.write_str("control"),
            Self::Relay => f.write_str("relay"),
            Self::Node(index) => write!(f, "node{}", index + 1),
        }
    }
}

/// What goes on meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum During {
    /// Nothing.
    Idle,
    /// Data flows.
    Transfer,
    /// Users change settings, which daemons write to disk and tell the control server.
    Edits,
    /// Administrators give orders, which the control server writes to disk.
    Orders,
    /// A node authenticates again, with a new key.
    Renewal,
}

impl fmt::Display for During {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Transfer => "transfer",
            Self::Edits => "edits",
            Self::Orders => "orders",
            Self::Renewal => "renewal",
        })
    }
}

/// One round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// Each once, in the order in which they are killed and started.
    pub(super) victims: Vec<Victim>,
    pub(super) during: During,
    /// From the beginning of what goes on to the kill.
    pub(super) kill_after: Duration,
    /// From the kill to the start.
    pub(super) down_for: Duration,
    /// Whether they are killed once more, so long after their start.
    pub(super) again_after: Option<Duration>,
}

impl Plan {
    /// Draws a round for so many nodes.
    pub(super) fn draw(random: &mut Random, nodes: usize) -> Self {
        let mut victims = Vec::new();
        while victims.is_empty() || random.chance(30) {
            let victim = match random.below(10) {
                0..=2 => Victim::Control,
                3 | 4 => Victim::Relay,
                _ => Victim::Node(random.below(nodes)),
            };
            if !victims.contains(&victim) {
                victims.push(victim);
            }
        }
        let during = match random.below(6) {
            0 => During::Idle,
            1 | 2 => During::Transfer,
            3 => During::Edits,
            4 => During::Orders,
            _ => During::Renewal,
        };
        Self {
            victims,
            during,
            kill_after: random.millis(700),
            down_for: random.millis(1000),
            again_after: random.chance(30).then(|| random.millis(400)),
        }
    }

    /// Processes that are killed.
    pub(super) fn kills(&self) -> usize {
        self.victims.len() * if self.again_after.is_some() { 2 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_leads_to_the_same_rounds_and_rounds_hit_all() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..200)
                .map(|_| Plan::draw(&mut random, 3))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let plans = draw(7);
        for victim in [
            Victim::Control,
            Victim::Relay,
            Victim::Node(0),
            Victim::Node(2),
        ] {
            assert!(
                plans.iter().any(|plan| plan.victims.contains(&victim)),
                "{victim}"
            );
        }
        for during in [
            During::Idle,
            During::Transfer,
            During::Edits,
            During::Orders,
            During::Renewal,
        ] {
            assert!(plans.iter().any(|plan| plan.during == during), "{during}");
        }
        assert!(plans.iter().any(|plan| plan.victims.len() > 2));
        assert!(plans.iter().all(|plan| {
            let mut once = plan.victims.clone();
            once.sort_unstable();
            once.dedup();
            once.len() == plan.victims.len()
        }));
    }
}
