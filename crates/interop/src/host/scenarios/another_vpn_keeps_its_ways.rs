//! Beside a VPN that takes everything, set up as wg-quick does: it keeps what is not the tailnet's, and all that is its own.

use anyhow::{Result, ensure};

use super::Verdict;
use crate::host::machine::same;
use crate::host::stage::Stage;

/// Its device, table, rules and firewall; what it sends itself has a mark of its own.
const VPN: &str = "ip link add wg0 type veth peer name wg1; ip link set wg1 up; ip link set wg0 up; ip addr add 10.8.0.2/24 dev wg0; \
     ip route add default dev wg0 table 51820; ip rule add not fwmark 51820 table 51820 pref 32764; \
     ip rule add table main suppress_prefixlength 0 pref 32763; \
     nft 'table ip wg-quick-wg0 { chain premangle { type filter hook prerouting priority -150; meta l4proto udp meta mark set ct mark; }; }'";
const LOOK: &str = "ip -4 rule | grep '^327'; ip route show table 51820; ip route show table main; nft -s list table ip wg-quick-wg0";

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let other = stage.node("other")?;
    let mut client = stage.node("client")?;
    let peer = other.address()?;
    client.until_pings(peer)?;
    client.sh(VPN)?;
    let theirs = client.sh(LOOK)?;
    for (to, device) in [
        (peer.to_string(), "tailscale0"),
        ("192.0.2.77".to_owned(), "wg0"),
    ] {
        let way = client.sh(&format!("ip route get {to}"))?;
        ensure!(way.contains(&format!("dev {device} ")), "{to}: {way}");
    }
    // A new path, and what is mended, changes nothing of theirs.
    client.sh("ip rule del pref 5270; nft flush chain ip filter ts-input")?;
    client.until_sh(
        "ip rule | grep -q '^5270:' && nft list chain ip filter ts-input | grep -q accept",
    )?;
    client.until_pings(peer)?;
    same(&theirs, &client.sh(LOOK)?)?;
    client.stop()?;
    same(&theirs, &client.sh(LOOK)?)?;
    client.sh("ip rule del pref 32764; ip rule del pref 32763; ip link del wg0; nft delete table ip wg-quick-wg0")?;
    client.start()?;
    client.until_pings(peer)?;
    Verdict::pass()
}
