//! `iptables` is there and `ip6tables` is not: both families work all the same.

use anyhow::Result;

use super::Verdict;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let other = stage.node("other")?;
    let mut client = stage.machine("client")?;
    client.take_away(&["ip6tables"])?;
    client.start()?;
    stage.up(&client, &[])?;
    client.until_pings(other.address()?)?;
    client.until_pings(other.address_v6()?)?;
    other.until_pings(client.address_v6()?)?;
    Verdict::pass()
}
