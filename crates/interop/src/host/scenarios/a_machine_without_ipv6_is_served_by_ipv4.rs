//! IPv6 is switched off on the whole machine, or the kernel shows none of its switches: the rest works, nothing is complained of, and
//! nothing is left.

use anyhow::{Result, ensure};

use super::Verdict;
use crate::host::machine::same;
use crate::host::stage::Stage;

const WITHOUT: [&str; 2] = [
    "sysctl -q net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1",
    "mount -t tmpfs lab /proc/sys/net/ipv6",
];

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let other = stage.node("other")?;
    for (number, without) in WITHOUT.into_iter().enumerate() {
        let mut client = stage.machine(&format!("client-{number}"))?;
        client.sh(without)?;
        let before = client.traces()?;
        client.start()?;
        stage.up(&client, &[])?;
        client.until_pings(other.address()?)?;
        other.until_pings(client.address()?)?;
        let status = client.cli(&["status"])?;
        ensure!(!status.to_lowercase().contains("router"), "{status}");
        let rules = client.sh("ip -6 rule")?;
        ensure!(!rules.contains("5270:"), "rules for nothing: {rules}");
        client.stop()?;
        same(&before, &client.traces()?)?;
    }
    Verdict::pass()
}
