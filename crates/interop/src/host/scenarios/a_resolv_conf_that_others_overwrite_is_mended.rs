//! As a DHCP client does it.

use super::Verdict;
use crate::host::stage::Stage;
use anyhow::Result;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let client = stage.node("client")?;
    client.until_asks_us()?;
    client.sh("echo nameserver 192.0.2.7 >/etc/new; mv /etc/new /etc/resolv.conf")?;
    let took = client.until_asks_us()?;
    Ok(Verdict::Pass(format!("{} ms", took.as_millis())))
}
