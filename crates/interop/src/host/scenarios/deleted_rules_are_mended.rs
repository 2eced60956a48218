//! As systemd-networkd removes rules that it does not know.

use anyhow::Result;

use super::Verdict;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    stage.mends(
        "ip -4 rule; ip -6 rule",
        "for n in 5210 5230 5250 5270; do ip rule del priority $n; ip -6 rule del priority $n; done",
    )
}
