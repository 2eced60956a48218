//! Other programs, for what is told by their commands only.

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// How long another program may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Runs another program to its end; what it printed.
pub(super) async fn run(name: &str, args: &[&str], input: Option<&str>) -> Result<String, String> {
    let mut command = program(name);
    command.args(args);
    said(command, name, input).await
}

#[expect(
    clippy::disallowed_methods,
    reason = "these are told by their commands only"
)]
pub(super) fn program(name: &str) -> Command {
    Command::from(std::process::Command::new(name))
}

/// What a program that succeeds prints.
pub(super) async fn said(
    command: Command,
    name: &str,
    input: Option<&str>,
) -> Result<String, String> {
    let output = output(command, name, input).await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("run {name}: {}: {}", output.status, said.trim()))
}

/// How a program ends, and what it printed.
pub(super) async fn output(
    mut command: Command,
    name: &str,
    input: Option<&str>,
) -> Result<Output, String> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let ended = async {
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            stdin.write_all(input.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    match tokio::time::timeout(TIMEOUT, ended).await {
        Ok(output) => output.map_err(|error: io::Error| format!("run {name}: {error}")),
        Err(_) => Err(format!(
            "run {name}: it takes longer than {} s",
            TIMEOUT.as_secs()
        )),
    }
}
