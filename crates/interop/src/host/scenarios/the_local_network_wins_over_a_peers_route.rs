//! A peer offers a route to the very network that the machine is on: the neighbours stay reachable.

use super::Verdict;
use crate::host::stage::Stage;
use anyhow::Result;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let client = stage.node("client")?;
    let router = stage.node("router")?;
    let octets = client.site.address().octets();
    let lan = format!("{}.{}.{}.0/24", octets[0], octets[1], octets[2]);
    let neighbour = [octets[0], octets[1], octets[2], 1].into();
    client.until_pings(neighbour)?;
    router.cli(&["set", &format!("--advertise-routes={lan}")])?;
    stage.approve(&router, &[&lan])?;
    client.cli(&["set", "--accept-routes"])?;
    client.until_sh(&format!("ip route show table 52 | grep -q '{lan}'"))?;
    client.sh(&format!("ping -c1 -W2 {neighbour}"))?;
    Verdict::pass()
}
