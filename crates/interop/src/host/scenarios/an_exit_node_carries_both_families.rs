//! Everything of the client's goes out there, with the exit node's addresses.

use super::Verdict;
use crate::host::servers;
use crate::host::stage::Stage;
use anyhow::{Context as _, Result, ensure};
use std::net::IpAddr;

const MEBIBYTES: usize = 16;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let exit = stage.exit_node()?;
    let client = stage.node("client")?;
    stage.use_exit(&client)?;
    let (mut seen, mut took) = (Vec::new(), Vec::new());
    for at in Stage::OUTSIDE {
        let mirror = servers::mirror(stage.tailnet.world.internet(), at)?;
        client.until(&format!("{at} is reached"), |client| {
            Ok(servers::seen_as(client.site.node(), mirror).is_ok())
        })?;
        seen.push(servers::seen_as(client.site.node(), mirror)?);
        let sink = servers::sink(stage.tailnet.world.internet(), at)?;
        let start = rt::now();
        for _ in 0..MEBIBYTES {
            servers::pour(client.site.node(), sink).with_context(|| format!("to {at}"))?;
        }
        took.push(format!(
            "{MEBIBYTES} MiB in {} ms",
            rt::now().since(start).as_millis()
        ));
    }
    let expected: [IpAddr; 2] = [exit.site.address().into(), Stage::EXIT_V6.into()];
    ensure!(
        seen == expected,
        "the internet sees {seen:?}, not {expected:?}"
    );
    Ok(Verdict::Pass(took.join(", ")))
}
