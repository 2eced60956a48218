//! Tables and chains that somebody else made, in our own tables too, while we come, mend and go.

use super::Verdict;
use crate::host::machine::same;
use crate::host::stage::Stage;
use anyhow::Result;

const FOREIGN: &str = "table inet theirs { chain in { type filter hook input priority 10; policy accept; tcp dport 9999 drop; }; }
table ip filter { chain theirs { ip saddr 192.0.2.0/24 accept; }; }";
const LOOK: &str = "nft -s list table inet theirs; nft -s list chain ip filter theirs";

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let mut client = stage.machine("client")?;
    client.sh(&format!("nft '{FOREIGN}'"))?;
    let before = client.sh("nft -s list ruleset")?;
    let theirs = client.sh(LOOK)?;
    client.start()?;
    stage.up(&client, &[])?;
    same(&theirs, &client.sh(LOOK)?)?;
    let ours = client.sh("nft -s list ruleset")?;
    client.sh("nft flush chain ip filter ts-input")?;
    client.until("it is mended", |client| {
        Ok(client.sh("nft -s list ruleset")? == ours)
    })?;
    same(&theirs, &client.sh(LOOK)?)?;
    client.stop()?;
    same(&before, &client.sh("nft -s list ruleset")?)?;
    Verdict::pass()
}
