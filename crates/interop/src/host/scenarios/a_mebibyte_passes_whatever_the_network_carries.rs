//! However long the packets are that the networks around carry: a mebibyte passes by TCP and by UDP, in both families.

use super::Verdict;
use crate::host::servers;
use crate::host::stage::Stage;
use anyhow::{Context as _, Result};
use std::net::IpAddr;

/// Of Ethernet, of a tunnel, the least that IPv6 asks for, and less.
const LONGEST: [u32; 4] = [1500, 1400, 1280, 1124];

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let server = stage.node("server")?;
    let client = stage.node("client")?;
    let mut said = Vec::new();
    for mtu in LONGEST {
        for machine in [&server, &client] {
            machine.site.set_path_mtu(mtu)?;
        }
        client.cli(&["ping", "--until-direct", "--c=20", "server"])?;
        for family in ["-4", "-6"] {
            let at: IpAddr = server.cli(&["ip", family])?.trim().parse()?;
            let sink = servers::sink(server.site.node(), at)?;
            let what = |how: &str| format!("{mtu} bytes, {how}, IPv{}", &family[1..]);
            let start = rt::now();
            servers::pour(client.site.node(), sink).with_context(|| what("TCP"))?;
            let poured = rt::now().since(start).as_millis();
            let lost = servers::drip(client.site.node(), sink).with_context(|| what("UDP"))?;
            said.push(format!("{mtu} v{}: {poured} ms, {lost} lost", &family[1..]));
        }
    }
    Ok(Verdict::Pass(said.join("; ")))
}
