//! A machine asks dnsmasq, which runs on it: MagicDNS asks dnsmasq for the names of others, and in the end all is as before.

use super::Verdict;
use crate::host::machine::same;
use crate::host::servers;
use crate::host::stage::Stage;
use crate::host::systems::{self, Resolver};
use anyhow::Result;
use lab::netns::World;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    // Any tree without systemd will do.
    let tree = Resolver::Resolvconf("openresolv");
    let Some(mut client) = stage.machine_with("client", tree)? else {
        return systems::skip();
    };
    let internet = stage.tailnet.world.internet();
    servers::dns(internet, World::SERVERS[0].into(), [192, 0, 2, 33].into())?;
    let other = stage.node("other")?;
    client.sh("printf 'nameserver 127.0.0.1\\nsearch lan.example\\n' >/etc/resolv.conf")?;
    client.sh(
        "dnsmasq --no-resolv --no-hosts --server=203.0.113.1 --address=/lan.example/192.0.2.44 --listen-address=127.0.0.1 --bind-interfaces \
         --pid-file=/run/dnsmasq.pid --user=root",
    )?;
    client.until_finds("www.example", [192, 0, 2, 33].into())?;
    let before = client.resolv_conf()?;
    client.start()?;
    stage.up(&client, &[])?;
    client.until_asks_us()?;
    client.until_finds("other.tailnet.test", other.address()?)?;
    client.until_finds("www.example", [192, 0, 2, 33].into())?;
    // What dnsmasq alone knows.
    client.until_finds("printer.lan.example", [192, 0, 2, 44].into())?;
    client.cli(&["down"])?;
    client.until_asks_others()?;
    same(&before, &client.resolv_conf()?)?;
    client.until_finds("printer.lan.example", [192, 0, 2, 44].into())?;
    Verdict::pass()
}
