//! Addresses, rules, routes, firewall and resolv.conf are what they were.

use super::Verdict;
use crate::host::machine::same;
use crate::host::stage::Stage;
use anyhow::Result;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let mut client = stage.machine("client")?;
    let before = client.traces()?;
    client.start()?;
    stage.up(&client, &["--advertise-exit-node", "--accept-routes"])?;
    client.cli(&["down"])?;
    client.stop()?;
    same(&before, &client.traces()?)?;
    Verdict::pass()
}
