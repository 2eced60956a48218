//! `--exit-node-allow-lan-access` keeps the neighbours; without it they are not reached.

use super::Verdict;
use crate::host::stage::Stage;
use anyhow::{Result, ensure};

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let _exit = stage.exit_node()?;
    let client = stage.node("client")?;
    let octets = client.site.address().octets();
    let neighbour = [octets[0], octets[1], octets[2], 1].into();
    stage.use_exit(&client)?;
    client.until_pings(Stage::OUTSIDE[0])?;
    let is_near = client.sh(&format!("ping -c1 -W1 {neighbour}")).is_ok();
    ensure!(!is_near, "the neighbour is reached without permission");
    client.cli(&["set", "--exit-node-allow-lan-access"])?;
    client.until_pings(neighbour)?;
    client.until_pings(Stage::OUTSIDE[0])?;
    Verdict::pass()
}
