//! Where the server itself says that it can be reached, beside its name.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tailcfg::ControlDialPlan;

use crate::ServerUrl;

/// More ways than this are not tried: each costs a connection.
const CANDIDATES_MAX: usize = 16;
/// The whole dial may take so long at least, and so much longer than the slowest candidate.
const MARGIN: Duration = Duration::from_secs(5);
/// And so long at most.
const TOTAL_MAX: Duration = Duration::from_secs(60);

/// The last plan of a server. Outlives the client: the next one with the same server starts with it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct DialPlan(Arc<Mutex<Option<Stored>>>);

#[derive(Debug, Clone)]
struct Stored {
    /// Which server said so.
    of: String,
    candidates: Vec<Candidate>,
}

/// One way to the server. Where it leads needs no trust: the handshake proves who is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) ip: IpAddr,
    /// How long others may try before.
    pub(crate) after: Duration,
    /// How long it is tried.
    pub(crate) limit: Duration,
}

impl DialPlan {
    /// Remembers a plan; one without a candidate of use forgets the last.
    pub(crate) fn store(&self, url: &ServerUrl, plan: &ControlDialPlan) {
        let candidates = candidates(plan);
        if let Ok(mut stored) = self.0.lock() {
            *stored = (!candidates.is_empty()).then(|| Stored {
                of: url.authority().to_owned(),
                candidates,
            });
        }
    }

    /// What the server of this URL said last.
    pub(crate) fn load(&self, url: &ServerUrl) -> Vec<Candidate> {
        let stored = self.0.lock().ok().and_then(|stored| stored.clone());
        stored
            .filter(|stored| stored.of == url.authority())
            .map(|stored| stored.candidates)
            .unwrap_or_default()
    }
}

/// The candidates that can be tried: a time limit of zero means never, and forwarding hosts are nobody that we know.
fn candidates(plan: &ControlDialPlan) -> Vec<Candidate> {
    let seconds = |value: f64| Duration::try_from_secs_f64(value).unwrap_or_default();
    plan.candidates
        .iter()
        .filter(|candidate| candidate.ace_host.is_empty())
        .filter_map(|candidate| {
            Some(Candidate {
                ip: candidate.ip?,
                after: seconds(candidate.dial_start_delay_sec).min(TOTAL_MAX),
                limit: seconds(candidate.dial_timeout_sec).min(TOTAL_MAX),
            })
        })
        .filter(|candidate| !candidate.limit.is_zero())
        .take(CANDIDATES_MAX)
        .collect()
}

/// How long a dial with these candidates may take in all.
pub(crate) fn total(candidates: &[Candidate]) -> Duration {
    let slowest = candidates.iter().map(|way| way.after + way.limit).max();
    (slowest.unwrap_or_default().max(MARGIN) + MARGIN).min(TOTAL_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> ControlDialPlan {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        for (json, want) in [
            (r#"{"Candidates":null}"#, 0),
            (r#"{"Candidates":[{"IP":"192.0.2.1"}]}"#, 0),
            (
                r#"{"Candidates":[{"IP":"192.0.2.1","DialTimeoutSec":-1}]}"#,
                0,
            ),
            (
                r#"{"Candidates":[{"IP":"192.0.2.1","DialTimeoutSec":1e300}]}"#,
                0,
            ),
            (r#"{"Candidates":[{"DialTimeoutSec":1}]}"#, 0),
            (
                r#"{"Candidates":[{"IP":"192.0.2.1","ACEHost":"h","DialTimeoutSec":1}]}"#,
                0,
            ),
            (
                r#"{"Candidates":[{"IP":"192.0.2.1","DialTimeoutSec":1,"DialStartDelaySec":-5}]}"#,
                1,
            ),
            (
                r#"{"Candidates":[{"IP":"::1","DialTimeoutSec":0.5,"Priority":7}]}"#,
                1,
            ),
        ] {
            assert_eq!(candidates(&read(json)).len(), want, "{json}");
        }
        let one = r#"{"IP":"192.0.2.1","DialTimeoutSec":1}"#;
        let many = format!(r#"{{"Candidates":[{}]}}"#, vec![one; 1000].join(","));
        assert_eq!(candidates(&read(&many)).len(), CANDIDATES_MAX);
    }

    #[test]
    fn a_plan_is_for_one_server() {
        let plan = DialPlan::default();
        let url = |text| ServerUrl::parse(text).unwrap();
        let one = read(r#"{"Candidates":[{"IP":"192.0.2.1","DialTimeoutSec":1}]}"#);
        plan.store(&url("https://a.example"), &one);
        assert_eq!(plan.clone().load(&url("https://a.example/")).len(), 1);
        assert!(plan.load(&url("https://b.example")).is_empty());
        plan.store(&url("https://a.example"), &read(r#"{"Candidates":[]}"#));
        assert!(plan.load(&url("https://a.example")).is_empty());
    }

    #[test]
    fn the_whole_has_its_limit() {
        let way = |after, limit| Candidate {
            ip: [192, 0, 2, 1].into(),
            after: Duration::from_secs(after),
            limit: Duration::from_secs(limit),
        };
        for (ways, want) in [
            (vec![], 10),
            (vec![way(0, 1)], 10),
            (vec![way(0, 1), way(10, 10)], 25),
            (vec![way(50, 50)], 60),
        ] {
            assert_eq!(total(&ways), Duration::from_secs(want));
        }
    }
}
