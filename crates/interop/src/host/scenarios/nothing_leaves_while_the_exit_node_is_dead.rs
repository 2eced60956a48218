//! The same while the exit node is gone, and when it is removed from the tailnet.

use super::Verdict;
use crate::host::capture::Capture;
use crate::host::stage::Stage;
use anyhow::{Result, ensure};

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let mut exit = stage.exit_node()?;
    let client = stage.node("client")?;
    stage.use_exit(&client, &[])?;
    client.until_pings(Stage::OUTSIDE[0])?;
    let capture = Capture::start(&client)?;
    exit.kill();
    let is_out = client
        .sh(&format!("ping -c1 -W1 {}", Stage::OUTSIDE[0]))
        .is_ok();
    ensure!(!is_out, "the internet is reached without the exit node");
    stage.exercise(&client)?;
    let seen = capture.stop()?;
    stage.only_the_tunnels_own(&seen, &exit)?;
    Ok(Verdict::Pass(format!(
        "{} flows, all of the tunnel's",
        seen.len()
    )))
}
