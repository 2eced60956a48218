//! Of what the machine sends, only the tunnel's own packets, control, relays and STUN leave its link.

use anyhow::{Result, ensure};

use super::Verdict;
use crate::host::capture::Capture;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let exit = stage.exit_node()?;
    let client = stage.node("client")?;
    let outside = Stage::OUTSIDE[0];
    // Without an exit node it does leave, and is seen.
    let capture = Capture::start(&client)?;
    client.sh(&format!("ping -c1 -W1 {outside} || true"))?;
    let is_seen = capture.stop()?.iter().any(|left| left.to.ip() == outside);
    ensure!(is_seen, "what leaves is not seen");
    stage.use_exit(&client)?;
    client.until_pings(outside)?;
    stage.nothing_else_leaves(&client, exit.site.address().into(), || Ok(()))
}
