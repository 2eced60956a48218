//! As `nft flush ruleset` in another program's start script.

use super::Verdict;
use crate::host::stage::Stage;
use anyhow::Result;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let client = stage.node("client")?;
    let other = stage.node("other")?;
    client.until_pings(other.address()?)?;
    let before = client.sh(LOOK)?;
    client.sh("nft flush ruleset")?;
    let took = client.until("it is mended", |client| Ok(client.sh(LOOK)? == before))?;
    client.until_pings(other.address()?)?;
    Ok(Verdict::Pass(format!("{} ms", took.as_millis())))
}

const LOOK: &str = "nft -s list ruleset";
