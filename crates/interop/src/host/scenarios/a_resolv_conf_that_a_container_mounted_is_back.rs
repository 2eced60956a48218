//! Nothing can take the place of a file that is a mount of its own.

use super::Verdict;
use crate::host::machine::same;
use crate::host::stage::Stage;
use anyhow::Result;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let mut client = stage.machine("client")?;
    client.sh("cp /etc/resolv.conf /etc/mounted && mount --bind /etc/mounted /etc/resolv.conf")?;
    let before = client.sh("cat /etc/resolv.conf; ls -i /etc/resolv*")?;
    client.start()?;
    stage.up(&client, &[])?;
    client.until_asks_us()?;
    client.stop()?;
    same(
        &before,
        &client.sh("cat /etc/resolv.conf; ls -i /etc/resolv*")?,
    )?;
    Verdict::pass()
}
