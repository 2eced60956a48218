//! Another network has another server; who overwrites the file names it.

use super::Verdict;
use crate::host::servers;
use crate::host::stage::Stage;
use anyhow::{Result, ensure};
use lab::netns::World;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let server = World::SERVERS[1];
    servers::dns(
        stage.tailnet.world.internet(),
        server.into(),
        [192, 0, 2, 44].into(),
    )?;
    let client = stage.node("client")?;
    client.until_asks_us()?;
    let text = format!("nameserver {server}\\n");
    client.sh(&format!(
        "printf '{text}' >/etc/new; mv /etc/new /etc/resolv.conf"
    ))?;
    client.until_asks_us()?;
    client.until_sh("getent ahostsv4 www.example | grep -q ^192.0.2.44")?;
    client.cli(&["down"])?;
    client.until_asks_others()?;
    let left = client.resolv_conf()?;
    ensure!(
        left == format!("nameserver {server}\n"),
        "resolv.conf is not the newer one: {left}"
    );
    Verdict::pass()
}
