//! Who sits at SSH and changes what may cut that connection is asked, and without an answer all is as before. A script is not asked.

use super::Verdict;
use crate::host::machine::Machine;
use crate::host::stage::Stage;
use anyhow::{Result, ensure};

/// The exit node that the machine uses.
fn exit_node(machine: &Machine) -> Result<String> {
    let prefs: serde_json::Value = serde_json::from_str(&machine.cli(&["debug", "prefs"])?)?;
    Ok(prefs["ExitNodeID"].as_str().unwrap_or_default().to_owned())
}

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let _exit = stage.exit_node()?;
    let client = stage.node("client")?;
    client.until_sh("which script")?;
    let by_terminal = |answer: &str| -> Result<String> {
        let command = client.command_line(&["set", "--exit-node=exit"])?;
        client.sh(&format!(
            "(sleep 1; echo {answer}) | SSH_CLIENT='192.0.2.1 50000 22' script -qec '{command}' /dev/null || true"
        ))
    };
    client.until("the exit node is known", |client| {
        Ok(client.cli(&["exit-node", "list"]).is_ok())
    })?;
    let said = by_terminal("n")?;
    ensure!(said.contains("192.0.2.1"), "nobody was asked: {said}");
    ensure!(
        exit_node(&client)?.is_empty(),
        "it stays although it was refused: {said}"
    );
    let said = by_terminal("y")?;
    ensure!(
        !exit_node(&client)?.is_empty(),
        "it is undone although it was confirmed: {said}"
    );
    client.cli(&["set", "--exit-node="])?;
    let command = client.command_line(&["set", "--exit-node=exit"])?;
    let start = rt::now();
    client.sh(&format!(
        "SSH_CLIENT='192.0.2.1 50000 22' {command} 2>&1 </dev/null"
    ))?;
    ensure!(rt::now().since(start).as_secs() < 5, "a script waited");
    ensure!(
        !exit_node(&client)?.is_empty(),
        "a script's change was undone"
    );
    Verdict::pass()
}
