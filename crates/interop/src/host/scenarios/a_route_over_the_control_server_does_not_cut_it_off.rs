//! A peer offers a route to where the control server and the relays are: the node still reaches them, and the peer.

use super::Verdict;
use crate::host::stage::Stage;
use anyhow::Result;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let router = stage.node("router")?;
    let mut client = stage.node("client")?;
    router.cli(&["set", "--advertise-routes=203.0.113.0/24"])?;
    stage.approve(&router, &["203.0.113.0/24"])?;
    client.cli(&["set", "--accept-routes"])?;
    client.until_sh("ip route show table 52 | grep -q 203.0.113.0/24")?;
    let address = router.address()?;
    client.until_pings(address)?;
    // A start finds its way to them, too.
    client.stop()?;
    client.start()?;
    client.until_pings(address)?;
    client.until("control is heard", |client| {
        let status: serde_json::Value =
            serde_json::from_str(&client.cli(&["status", "--json", "--peers=false"])?)?;
        Ok(status["Self"]["Online"] == true)
    })?;
    Verdict::pass()
}
