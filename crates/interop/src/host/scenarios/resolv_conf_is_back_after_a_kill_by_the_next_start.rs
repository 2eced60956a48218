//! The one that is started after a kill still knows what was there before the one that was killed.

use anyhow::Result;

use super::Verdict;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    stage.resolv_conf_is_back_after(|client| {
        client.kill();
        client.start()?;
        client.cli(&["down"])?;
        client.until_asks_others()?;
        Ok(())
    })
}
