//! It says that there is one already, ends, and leaves the first one's routes and resolv.conf.

use super::Verdict;
use crate::host::machine::{TUN, same};
use crate::host::stage::Stage;
use anyhow::{Result, ensure};

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let client = stage.node("client")?;
    let other = stage.node("other")?;
    client.until_pings(other.address()?)?;
    client.until_asks_us()?;
    let before = client.traces()?;
    let second = client.second_daemon()?;
    ensure!(!second.trim().is_empty(), "the second daemon says nothing");
    ensure!(
        second.contains(TUN) || second.contains("busy"),
        "the second daemon says: {second}"
    );
    std::thread::sleep(std::time::Duration::from_secs(1));
    same(&before, &client.traces()?)?;
    client.sh(&format!("ping -c1 -W2 {}", other.address()?))?;
    Verdict::pass()
}
