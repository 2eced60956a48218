//! NetworkManager with systemd-resolved: names are shared out, and neither its settings nor its device are touched.

use super::Verdict;
use crate::host::machine::same;
use crate::host::stage::Stage;
use crate::host::systems::{self, Resolver};
use anyhow::Result;

const LOOK: &str = "nmcli -t -f DEVICE,STATE,CONNECTION device | grep -v tailscale0; nmcli -t -f NAME,DEVICE connection show --active | grep -v tailscale0; grep -v ^search /etc/resolv.conf";

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let Some(mut client) = stage.machine_with("client", Resolver::Systemd)? else {
        return systems::skip();
    };
    let other = stage.node("other")?;
    client.sh("systemctl start NetworkManager")?;
    client.until_sh("nmcli -t -f RUNNING general | grep -q running")?;
    let before = client.sh(LOOK)?;
    client.start()?;
    stage.up(&client, &[])?;
    client.until_finds("other", other.address()?)?;
    same(&before, &client.sh(LOOK)?)?;
    // What it writes anew does not push us aside.
    client.sh("systemctl restart NetworkManager")?;
    client.until_sh("nmcli -t -f RUNNING general | grep -q running")?;
    client.until_finds("other", other.address()?)?;
    client.until_pings(other.address()?)?;
    client.cli(&["down"])?;
    client.until_sh("! resolvectl dns | grep -q 100.100.100.100")?;
    same(&before, &client.sh(LOOK)?)?;
    Verdict::pass()
}
