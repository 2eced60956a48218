//! Whoever changes from one to the other has the new one's `--cleanup` only.

use super::Verdict;
use crate::host::machine::same;
use crate::host::stage::Stage;
use crate::tailnet::{Whose, program};
use anyhow::Result;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let other = match stage.whose {
        Whose::Ours => Whose::Go,
        Whose::Go => Whose::Ours,
    };
    let Ok(other) = program(other, "tailscaled", "TS_GO_TAILSCALED") else {
        return Ok(Verdict::Skip("TS_GO_TAILSCALED names no original".into()));
    };
    let mut client = stage.machine("client")?;
    let resolv_conf = "cat /etc/resolv.conf; ls /etc/resolv*; ip -o addr show scope global; nft list ruleset | grep -c ts- || true";
    let before = client.sh(resolv_conf)?;
    client.start()?;
    stage.up(&client, &[])?;
    client.until_asks_us()?;
    client.kill();
    client.clean_up_with(&other)?;
    same(&before, &client.sh(resolv_conf)?)?;
    Verdict::pass()
}
