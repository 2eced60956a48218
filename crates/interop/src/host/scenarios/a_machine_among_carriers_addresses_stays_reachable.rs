//! The machine's own network uses 100.64.0.0/10, as carriers and some clouds do.

use super::Verdict;
use crate::host::stage::Stage;
use anyhow::Result;
use lab::netns::{Nat, World};

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let mut client = stage.machine_behind("client", Nat::None)?;
    client.sh("ip addr add 100.126.1.2/24 dev eth0")?;
    stage.internet_sh("ip addr add 100.126.1.1/24 dev internet")?;
    let ping = "ping -c1 -W1 100.126.1.2";
    stage.internet_sh(ping)?;
    client.start()?;
    stage.up(&client, &[])?;
    client.until_sh("ip link show tailscale0")?;
    let server = World::SERVERS[0];
    client.sh(&format!("ping -c1 -W2 {server}"))?;
    stage.internet_sh(ping)?;
    Verdict::pass()
}
