//! Names are asked by the exit node of the servers that its own machine asks, whichever kind of daemon either end has.

use super::Verdict;
use crate::host::servers;
use crate::host::stage::Stage;
use anyhow::{Result, ensure};
use lab::netns::World;

const NAME: &str = "only-there.example";
/// A server that the exit node's machine asks, and its answer.
const SERVER: &str = "198.51.100.1";

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let own = stage.whose;
    let internet = stage.tailnet.world.internet();
    servers::dns(internet, World::SERVERS[0].into(), [192, 0, 2, 33].into())?;
    let mut pairs = vec![(own, own)];
    if let Some(other) = stage.other_kind() {
        pairs.extend([(own, other), (other, own)]);
    }
    let mut serves = false;
    for (of_exit, of_client) in &pairs {
        stage.whose = *of_exit;
        let mut exit = stage.exit_node()?;
        if !std::mem::replace(&mut serves, true) {
            let internet = stage.tailnet.world.internet();
            servers::dns(internet, SERVER.parse()?, [192, 0, 2, 77].into())?;
        }
        stage.whose = *of_client;
        let client = stage.node("client")?;
        stage.use_exit(&client)?;
        exit.kill();
        exit.sh(&format!("echo nameserver {SERVER} >/etc/resolv.conf"))?;
        exit.start()?;
        let found = client.until(
            &format!("a {of_client} finds names through a {of_exit}"),
            |client| {
                let found = client.sh(&format!("getent ahostsv4 {NAME} || true"))?;
                Ok(found.starts_with("192.0.2.77 "))
            },
        );
        found?;
        let by_query = client.cli(&["dns", "query", NAME])?;
        ensure!(by_query.contains("192.0.2.77"), "dns query: {by_query}");
        let address = exit.address()?;
        let ping = client.cli(&["ping", "--peerapi", "--c=1", &address.to_string()])?;
        ensure!(ping.contains("hit peerapi of"), "ping --peerapi: {ping}");
        stage.remove(address)?;
        stage.remove(client.address()?)?;
    }
    stage.whose = own;
    Ok(Verdict::Pass(format!("{} pairs of daemons", pairs.len())))
}
