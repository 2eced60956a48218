//! A link whose target comes later, as at boot, is somebody's too.

use super::Verdict;
use crate::host::stage::Stage;
use anyhow::{Result, ensure};

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let mut client = stage.machine("client")?;
    client.sh("ln -sf ../run/later/resolv.conf /etc/resolv.conf")?;
    client.start()?;
    stage.up(&client, &[])?;
    client.until_asks_us()?;
    client.stop()?;
    let link = client.sh("readlink /etc/resolv.conf || echo no link: $(ls /etc/resolv*)")?;
    ensure!(link.trim() == "../run/later/resolv.conf", "{link}");
    Verdict::pass()
}
