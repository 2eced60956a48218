//! The same while the exit node is gone, and when it is removed from the tailnet.

use anyhow::{Result, ensure};

use super::Verdict;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let mut exit = stage.exit_node()?;
    let client = stage.node("client")?;
    let outside = Stage::OUTSIDE[0];
    stage.use_exit(&client)?;
    client.until_pings(outside)?;
    let (own, address) = (exit.address()?, exit.site.address().into());
    exit.kill();
    stage.nothing_else_leaves(&client, address, || {
        let is_out = client.sh(&format!("ping -c1 -W1 {outside}")).is_ok();
        ensure!(!is_out, "the internet is reached without the exit node");
        stage.remove(own)?;
        client.until("the exit node is forgotten", |client| {
            Ok(!client.cli(&["status"])?.contains(&own.to_string()))
        })?;
        Ok(())
    })
}
