//! The same while the daemon that uses an exit node is dead, until `--cleanup`.

use anyhow::{Result, ensure};

use super::Verdict;
use crate::host::capture::Capture;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let exit = stage.exit_node()?;
    let client = stage.node("client")?;
    let outside = Stage::OUTSIDE[0];
    stage.use_exit(&client)?;
    client.until_pings(outside)?;
    let daemon = client.pid()?;
    let verdict = stage.nothing_else_leaves(&client, exit.site.address().into(), || {
        client.sh(&format!("kill -9 {daemon}"))?;
        client.until_sh("! ip link show tailscale0")?;
        Ok(())
    })?;
    client.clean_up()?;
    let capture = Capture::start(&client)?;
    client.sh(&format!("ping -c1 -W1 {outside} || true"))?;
    let is_back = capture.stop()?.iter().any(|left| left.to.ip() == outside);
    ensure!(is_back, "after the cleanup nothing leaves");
    Ok(verdict)
}
