//! Of what the machine sends, only the tunnel's own packets, control, relays and STUN leave its link.

use super::Verdict;
use crate::host::capture::Capture;
use crate::host::stage::Stage;
use anyhow::Result;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let exit = stage.exit_node()?;
    let client = stage.node("client")?;
    stage.use_exit(&client, &[])?;
    client.until_pings(Stage::OUTSIDE[0])?;
    let capture = Capture::start(&client)?;
    stage.exercise(&client)?;
    let seen = capture.stop()?;
    stage.only_the_tunnels_own(&seen, &exit)?;
    Ok(Verdict::Pass(format!(
        "{} flows, all of the tunnel's",
        seen.len()
    )))
}
