//! A daemon that was killed has no time; `--cleanup` does it.

use anyhow::Result;

use super::Verdict;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    stage.resolv_conf_is_back_after(|client| {
        client.kill();
        client.clean_up()
    })
}
