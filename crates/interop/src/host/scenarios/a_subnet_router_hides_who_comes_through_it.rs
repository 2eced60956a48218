//! Hosts behind it see its own address, and need no way back.

use std::net::IpAddr;

use anyhow::{Result, ensure};

use super::Verdict;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let (seen, _) = stage.seen_behind_a_subnet_router(true)?;
    let router = IpAddr::from([10, 88, 0, 1]);
    ensure!(seen == router, "the host behind it sees {seen}");
    Verdict::pass()
}
