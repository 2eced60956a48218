//! Table 52, both families.

use anyhow::Result;

use super::Verdict;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    stage.mends(
        "ip route show table 52; ip -6 route show table 52",
        "ip route flush table 52; ip -6 route flush table 52",
    )
}
