//! The same on a machine whose link has IPv6 and whose new devices have not.

use anyhow::Result;

use super::Verdict;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let exit = stage.exit_node()?;
    let mut client = stage.machine("client")?;
    client.sh(
        "ip addr add 2001:db8:7::2/64 dev eth0 nodad; ip route add default via 2001:db8:7::1; \
         ip neigh add 2001:db8:7::1 lladdr 02:00:00:00:00:01 dev eth0; \
         sysctl -q net.ipv6.conf.default.disable_ipv6=1",
    )?;
    client.start()?;
    stage.up(&client, &[])?;
    stage.use_exit(&client)?;
    client.until_pings(Stage::OUTSIDE[0])?;
    stage.nothing_else_leaves(&client, exit.site.address().into(), || Ok(()))
}
