//! The same when the service is stopped.

use super::Verdict;
use crate::host::machine::same;
use crate::host::stage::Stage;
use anyhow::Result;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let mut client = stage.machine("client")?;
    let before = client.sh(LOOK)?;
    client.start()?;
    stage.up(&client, &[])?;
    client.until_sh("grep -q 100.100.100.100 /etc/resolv.conf")?;
    client.stop()?;
    same(&before, &client.sh(LOOK)?)?;
    Verdict::pass()
}

const LOOK: &str = "cat /etc/resolv.conf; ls -l /etc/resolv*";
