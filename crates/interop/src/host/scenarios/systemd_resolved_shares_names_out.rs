//! systemd-resolved asks us for the tailnet's names, and its own servers for all others; resolv.conf is nobody's business.

use super::Verdict;
use crate::host::machine::same;
use crate::host::servers;
use crate::host::stage::Stage;
use crate::host::systems::{self, Resolver};
use anyhow::Result;
use lab::netns::World;

const LOOK: &str =
    "grep -v ^search /etc/resolv.conf; ls -l /etc/resolv*; resolvectl dns | grep -v tailscale0";

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let Some(mut client) = stage.machine_with("client", Resolver::Systemd)? else {
        return systems::skip();
    };
    let internet = stage.tailnet.world.internet();
    servers::dns(internet, World::SERVERS[0].into(), [192, 0, 2, 33].into())?;
    let other = stage.node("other")?;
    client.until_finds("www.example", [192, 0, 2, 33].into())?;
    let before = client.sh(LOOK)?;
    client.start()?;
    stage.up(&client, &[])?;
    // The other server answers for every name, short ones too.
    client.until_finds("other.tailnet.test", other.address()?)?;
    client.until_finds("www.example", [192, 0, 2, 33].into())?;
    // A name that nobody in the tailnet has is asked of nobody else.
    client.sh("! getent ahostsv4 nobody.tailnet.test")?;
    same(&before, &client.sh(LOOK)?)?;
    client.cli(&["down"])?;
    client.until_sh("! resolvectl dns tailscale0 | grep -q 100.100.100.100")?;
    same(&before, &client.sh(LOOK)?)?;
    client.until_finds("www.example", [192, 0, 2, 33].into())?;
    Verdict::pass()
}
