//! A peer that control has jailed: connections to it work, and none from it.

use anyhow::{Result, ensure};

use super::Verdict;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let jailed = stage.node("jailed")?;
    let other = stage.node("other")?;
    let (its, others) = (jailed.address()?, other.address()?);
    jailed.until_pings(others)?;
    other.until_pings(its)?;
    stage.jail(its)?;
    jailed.until("nothing of it gets in", |jailed| {
        Ok(jailed.sh(&format!("ping -c1 -W1 {others}")).is_err())
    })?;
    for _ in 0..3 {
        let is_reached = jailed.sh(&format!("ping -c1 -W1 {others}")).is_ok();
        ensure!(!is_reached, "it reaches others again");
        // The answers to what others begin get in.
        other.sh(&format!("ping -c1 -W2 {its}"))?;
    }
    Verdict::pass()
}
