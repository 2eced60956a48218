//! A program that knows nothing of MagicDNS asks the C library, by the long and by the short name.

use anyhow::{Result, ensure};

use super::Verdict;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let client = stage.node("client")?;
    let server = stage.node("server")?;
    let address = server.address()?.to_string();
    for name in ["server.tailnet.test", "server"] {
        client.until_sh(&format!("getent ahostsv4 {name}"))?;
        let found = client.sh(&format!("getent ahostsv4 {name}"))?;
        ensure!(
            found.starts_with(&address),
            "{name} is {found}, not {address}"
        );
    }
    Verdict::pass()
}
