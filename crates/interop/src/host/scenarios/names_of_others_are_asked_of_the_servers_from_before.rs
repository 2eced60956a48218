//! MagicDNS stands in for the server that the machine asked before.

use super::Verdict;
use crate::host::servers;
use crate::host::stage::Stage;
use anyhow::{Result, ensure};
use lab::netns::World;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    // Each machine's resolv.conf names this one.
    let server = World::SERVERS[0].into();
    servers::dns(
        stage.tailnet.world.internet(),
        server,
        [192, 0, 2, 33].into(),
    )?;
    let client = stage.node("client")?;
    client.until_asks_us()?;
    let found = client.sh("getent ahostsv4 www.example")?;
    ensure!(found.starts_with("192.0.2.33 "), "www.example is {found}");
    Verdict::pass()
}
