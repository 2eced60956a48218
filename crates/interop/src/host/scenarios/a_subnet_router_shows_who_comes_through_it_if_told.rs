//! With `--snat-subnet-routes=false` hosts behind it see who it is.

use anyhow::{Result, ensure};

use super::Verdict;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let (seen, own) = stage.seen_behind_a_subnet_router(false)?;
    ensure!(seen == own, "the host behind it sees {seen}, not {own}");
    Verdict::pass()
}
