//! On a router whose mwan3 shares out what goes to the internet, what is for the tunnel goes into the tunnel.

use super::Verdict;
use crate::host::stage::Stage;
use anyhow::{Result, ensure};

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let mut client = stage.machine("client")?;
    let other = stage.node("other")?;
    // As mwan3 has it for its second way out: what is marked so asks a table of its own.
    client.sh(
        "mkdir -p /etc/config && touch /etc/config/mwan3; \
         ip rule add pref 2002 fwmark 0x200/0x3f00 lookup 2; ip route add default via 192.168.2.1 table 2 2>/dev/null || \
         ip route add unreachable default table 2",
    )?;
    client.start()?;
    stage.up(&client, &[])?;
    client.until_pings(other.address()?)?;
    let rules = client.sh("ip -4 rule")?;
    ensure!(
        rules.contains("1370:") && !rules.contains("5270:"),
        "{rules}"
    );
    // Even what mwan3 has marked.
    client.until_sh(&format!("ping -m 512 -c1 -W1 {}", other.address()?))?;
    client.cli(&["down"])?;
    client.until_sh("! ip -4 rule | grep -q '^13.0:'")?;
    Verdict::pass()
}
