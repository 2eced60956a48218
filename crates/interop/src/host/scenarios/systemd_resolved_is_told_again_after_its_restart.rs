//! systemd-resolved forgets what it was told when it restarts, and is told again.

use super::Verdict;
use crate::host::stage::Stage;
use crate::host::systems::{self, Resolver};
use anyhow::Result;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let Some(mut client) = stage.machine_with("client", Resolver::Systemd)? else {
        return systems::skip();
    };
    let other = stage.node("other")?;
    client.start()?;
    stage.up(&client, &[])?;
    client.until_finds("other", other.address()?)?;
    client.sh("systemctl restart systemd-resolved")?;
    let took = client.until_sh("resolvectl dns tailscale0 | grep -q 100.100.100.100")?;
    client.until_finds("other", other.address()?)?;
    client.kill();
    client.clean_up()?;
    client.until_sh("! resolvectl dns | grep -q 100.100.100.100")?;
    Ok(Verdict::Pass(format!("{} ms", took.as_millis())))
}
