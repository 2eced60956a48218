//! As behind docker's bridge: forwarded and masqueraded by rules of its own, with a filter that drops what it does not know.

use super::Verdict;
use crate::host::machine::sh;
use crate::host::stage::Stage;
use anyhow::Result;
use lab::netns::World;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let mut client = stage.machine("client")?;
    let container = stage.container_on(&client)?;
    let server = World::SERVERS[0];
    let reach = format!("ping -c1 -W2 {server}");
    sh(&container, &reach)?;
    client.start()?;
    stage.up(&client, &["--accept-routes"])?;
    client.until_sh("nft list ruleset | grep -q ts-forward")?;
    sh(&container, &reach)?;
    // And the tailnet, by the machine's own address.
    let other = stage.node("other")?;
    client.until_pings(other.address()?)?;
    client.stop()?;
    sh(&container, &reach)?;
    Verdict::pass()
}
