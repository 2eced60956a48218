//! A machine boots, the cable comes later.

use super::Verdict;
use crate::host::stage::Stage;
use anyhow::Result;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let other = stage.node("other")?;
    let mut client = stage.node("client")?;
    let address = other.address()?;
    client.until_pings(address)?;
    client.stop()?;
    client.site.set_plugged(false)?;
    client.start()?;
    std::thread::sleep(std::time::Duration::from_secs(3));
    client.site.set_plugged(true)?;
    let took = client.until_pings(address)?;
    Ok(Verdict::Pass(format!("{} ms", took.as_millis())))
}
