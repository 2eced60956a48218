//! As `nft flush ruleset` in another program's start script.

use anyhow::Result;

use super::Verdict;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    stage.mends("nft -s list ruleset", "nft flush ruleset")
}
