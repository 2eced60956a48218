//! Routers drop packets that are too long and do not say so: a mebibyte passes all the same, once that has been found out.

use super::Verdict;
use crate::host::servers;
use crate::host::stage::Stage;
use anyhow::{Context as _, Result};
use std::net::IpAddr;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let server = stage.node("server")?;
    let client = stage.node("client")?;
    for machine in [&server, &client] {
        machine.site.set_path_mtu(1280)?;
        machine.site.hush()?;
    }
    client.cli(&["ping", "--until-direct", "--c=20", "server"])?;
    let mut said = Vec::new();
    for family in ["-4", "-6"] {
        let at: IpAddr = server.cli(&["ip", family])?.trim().parse()?;
        let sink = servers::sink(server.site.node(), at)?;
        let start = rt::now();
        // Who is in a hurry fails until the way is known.
        client.until("a mebibyte passes", |client| {
            client.sh(&format!("ping -c1 -W1 {at} || true"))?;
            Ok(servers::pour_within(client.site.node(), sink, 2).is_ok())
        })?;
        said.push(format!(
            "IPv{} after {} ms",
            &family[1..],
            rt::now().since(start).as_millis()
        ));
        let again = rt::now();
        servers::pour(client.site.node(), sink).context("once more")?;
        said.push(format!("then {} ms", rt::now().since(again).as_millis()));
    }
    Ok(Verdict::Pass(said.join(", ")))
}
