//! Somebody switches IPv6 off on our device, and on again: IPv4 goes on, and then IPv6 does.

use anyhow::{Result, ensure};

use super::Verdict;
use crate::host::machine::TUN;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let other = stage.node("other")?;
    let client = stage.node("client")?;
    let (v4, v6) = (other.address()?, other.address_v6()?);
    client.until_pings(v4)?;
    client.until_pings(v6)?;
    let look =
        format!("ip -o -6 addr show dev {TUN} scope global; ip -6 route show table 52; ip -6 rule");
    let before = client.sh(&look)?;
    let switch = |value| {
        client.sh(&format!(
            "sysctl -q net.ipv6.conf.{TUN}.disable_ipv6={value}"
        ))
    };
    switch(1)?;
    client.until_sh(&format!(
        "! ip -o -6 addr show dev {TUN} scope global | grep -q ."
    ))?;
    client.until_pings(v4)?;
    let status = client.cli(&["status"])?;
    ensure!(!status.to_lowercase().contains("router"), "{status}");
    switch(0)?;
    let took = client.until("IPv6 is back", |client| Ok(client.sh(&look)? == before))?;
    client.until_pings(v6)?;
    Ok(Verdict::Pass(format!("{} ms", took.as_millis())))
}
