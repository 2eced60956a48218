//! As systemd-networkd removes rules that it does not know.

use super::Verdict;
use crate::host::stage::Stage;
use anyhow::Result;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let client = stage.node("client")?;
    let other = stage.node("other")?;
    client.until_pings(other.address()?)?;
    let before = client.sh(LOOK)?;
    client.sh("for n in 5210 5230 5250 5270; do ip rule del priority $n; ip -6 rule del priority $n; done")?;
    let took = client.until("it is mended", |client| Ok(client.sh(LOOK)? == before))?;
    client.until_pings(other.address()?)?;
    Ok(Verdict::Pass(format!("{} ms", took.as_millis())))
}

const LOOK: &str = "ip -4 rule; ip -6 rule";
