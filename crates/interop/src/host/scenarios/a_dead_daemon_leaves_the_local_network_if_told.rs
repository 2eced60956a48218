//! With `--exit-node-allow-lan-access` the neighbours stay reachable while the daemon is dead, and the Internet does not become so; the guard
//! that it left is not in the next daemon's way.

use anyhow::{Result, ensure};

use super::Verdict;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let _exit = stage.exit_node()?;
    let mut client = stage.node("client")?;
    let octets = client.site.address().octets();
    let neighbour = [octets[0], octets[1], octets[2], 1].into();
    let outside = Stage::OUTSIDE[0];
    stage.use_exit(&client)?;
    client.cli(&["set", "--exit-node-allow-lan-access"])?;
    client.until_pings(neighbour)?;
    client.until_pings(outside)?;
    client.kill();
    client.until_sh("! ip link show tailscale0")?;
    client.sh(&format!("ping -c1 -W1 {neighbour}"))?;
    let way = client.sh(&format!("ip route get {outside} || true"))?;
    ensure!(
        !way.contains("dev eth0"),
        "it would leave beside the exit node: {way}"
    );
    client.start()?;
    client.until_pings(outside)?;
    client.cli(&["set", "--exit-node="])?;
    client.until_sh("! ip route show table 52 | grep -Eq 'default|unreachable'")?;
    Verdict::pass()
}
