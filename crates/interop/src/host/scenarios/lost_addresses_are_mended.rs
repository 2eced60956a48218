//! Of the device.

use super::Verdict;
use crate::host::stage::Stage;
use anyhow::Result;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let client = stage.node("client")?;
    let other = stage.node("other")?;
    client.until_pings(other.address()?)?;
    let before = client.sh(LOOK)?;
    client.sh("ip addr flush dev tailscale0 scope global")?;
    let took = client.until("it is mended", |client| Ok(client.sh(LOOK)? == before))?;
    client.until_pings(other.address()?)?;
    Ok(Verdict::Pass(format!("{} ms", took.as_millis())))
}

const LOOK: &str = "ip -o addr show dev tailscale0 scope global | sed s/.*inet/inet/ | sort; ip route show table 52";
