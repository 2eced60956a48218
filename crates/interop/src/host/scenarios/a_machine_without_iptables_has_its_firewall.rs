//! Neither `iptables` nor `ip6tables` is there, as on small routers: the tables of nftables have our rules, and nothing is left.

use anyhow::{Result, ensure};

use super::Verdict;
use crate::host::machine::same;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let other = stage.node("other")?;
    let mut client = stage.machine("client")?;
    client.take_away(&["iptables", "ip6tables"])?;
    // Nothing gets in that nobody has asked for.
    client.sh(
        "nft 'table ip filter { chain INPUT { type filter hook input priority 0; policy drop; \
         ct state established,related accept; iifname \"lo\" accept; }; }'",
    )?;
    let before = client.traces()?;
    client.start()?;
    stage.up(&client, &[])?;
    client.until_pings(other.address()?)?;
    other.until_pings(client.address()?)?;
    let rules = client.sh("nft list ruleset")?;
    ensure!(!rules.contains("xt target"), "{rules}");
    client.stop()?;
    same(&before, &client.traces()?)?;
    Verdict::pass()
}
