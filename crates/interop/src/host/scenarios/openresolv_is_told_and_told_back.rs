//! Where openresolv has charge of resolv.conf, it is told, and in the end it knows nothing of us.

use super::Verdict;
use crate::host::stage::Stage;
use anyhow::Result;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    stage.resolvconf_is_told_and_told_back("openresolv", "resolvconf -a eth0 </tmp/lease")
}
