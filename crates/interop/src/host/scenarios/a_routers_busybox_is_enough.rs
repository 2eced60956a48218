//! All that there is of `ip` is busybox': what the daemon does is shown by it, and mended when it removes something.

use anyhow::{Result, ensure};

use super::Verdict;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let other = stage.node("other")?;
    let mut client = stage.machine("client")?;
    if client.sh("busybox ip rule").is_err() {
        let reason = "the machine has no busybox with `ip`: install the package busybox";
        return Ok(Verdict::Skip(reason.to_owned()));
    }
    client.take_away(&["ip", "iptables", "ip6tables", "nft"])?;
    client.start()?;
    stage.up(&client, &[])?;
    let address = other.address()?;
    client.until_pings(address)?;
    let rules = client.sh("busybox ip rule")?;
    ensure!(rules.contains("5270:\tfrom all lookup 52"), "{rules}");
    let look = "busybox ip route show table 52";
    let routes = client.sh(look)?;
    ensure!(routes.contains(&address.to_string()), "{routes}");
    client.sh("busybox ip rule del pref 5270 && busybox ip route flush table 52")?;
    let took = client.until("it is mended", |client| {
        let is_back = client.sh("busybox ip rule")? == rules && client.sh(look)? == routes;
        Ok(is_back)
    })?;
    client.until_pings(address)?;
    client.stop()?;
    let left = client.sh("busybox ip rule; busybox ip route show table 52")?;
    ensure!(!left.contains("52"), "left behind: {left}");
    Ok(Verdict::Pass(format!("mended in {} ms", took.as_millis())))
}
