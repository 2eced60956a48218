//! The same after `kill -9` and `--cleanup`, with an exit node in use.

use super::Verdict;
use crate::host::machine::same;
use crate::host::stage::Stage;
use anyhow::Result;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let exit = stage.node("exit")?;
    exit.cli(&["set", "--advertise-exit-node"])?;
    stage.approve(&exit, &["0.0.0.0/0", "::/0"])?;
    let mut client = stage.machine("client")?;
    let before = client.traces()?;
    client.start()?;
    stage.up(&client, &[])?;
    client.until("the exit node is known", |client| {
        Ok(client.cli(&["set", "--exit-node=exit"]).is_ok())
    })?;
    client.until_sh("ip route show table 52 | grep -q default")?;
    client.kill();
    client.clean_up()?;
    same(&before, &client.traces()?)?;
    Verdict::pass()
}
