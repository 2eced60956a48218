//! `cargo xtask bench micro` and `cargo xtask bench tax`: the data plane's stages, measured inside one process. And `cargo xtask loom`.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// Times of each stage, beside a bare seal.
pub(crate) fn stages() -> ExitCode {
    end(run_stages())
}

/// Tries every order in which threads can move jobs. What is built for that is built apart: a model stands in for the library's locks.
pub(crate) fn loom() -> ExitCode {
    end(run_loom())
}

fn run_loom() -> Result<()> {
    let status = command(&cargo_path())
        .args([
            "test",
            "--release",
            "--package",
            "tickets",
            "--test",
            "loom",
            "--target-dir",
        ])
        .arg(crate::target_dir().join("loom"))
        .env("RUSTFLAGS", "--cfg loom")
        .status()
        .context("start cargo")?;
    ensure!(status.success(), "an order was found that should not be");
    Ok(())
}

fn run_stages() -> Result<()> {
    let status = command(&cargo_path())
        .args(BUILD)
        .args([
            "--",
            "--nocapture",
            "--test-threads=1",
            "--ignored",
            "micro",
        ])
        .status()
        .context("start cargo")?;
    ensure!(status.success(), "the benchmark failed");
    Ok(())
}

/// Instructions with everything on, against those of moving packets alone. Instructions are the same in each run, whatever else the
/// machine does; valgrind has no AVX-512, so the seal is aws-lc's.
pub(crate) fn tax() -> ExitCode {
    end(compare())
}

fn compare() -> Result<()> {
    let program = test_program()?;
    let on = instructions(&program, "everything_on")?;
    let off = instructions(&program, "everything_off")?;
    println!("| filter, flows, masquerade, counters | instructions |\n|---|---|");
    println!(
        "| on | {on} |\n| off | {off} |\n| on/off | {:.4} |",
        on as f64 / off as f64
    );
    Ok(())
}

fn instructions(program: &PathBuf, function: &str) -> Result<u64> {
    let output = command("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect=*{function}*"))
        .arg(program)
        .args(["--ignored", "--test-threads=1", "what_it_costs"])
        .output()
        .context("start valgrind (install the package valgrind)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let count: u64 = match collected {
        Some((_, count)) if output.status.success() => count.trim().parse()?,
        _ => bail!("valgrind says nothing of use: {said}"),
    };
    ensure!(count > 0, "valgrind does not see `{function}`");
    Ok(count)
}

/// Builds the tests with optimisation and symbols.
fn test_program() -> Result<PathBuf> {
    let output = command(&cargo_path())
        .args(BUILD)
        .args(["--no-run", "--message-format=json"])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the tests do not build");
    let text = String::from_utf8_lossy(&output.stdout);
    let executable = text.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executable.context("cargo does not say where the tests are")
}

const BUILD: [&str; 6] = [
    "test",
    "--profile",
    "bench",
    "--package",
    "dataplane",
    "--lib",
];

fn cargo_path() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "xtask is a tool for developers: it starts cargo and valgrind"
)]
fn command(program: &str) -> Command {
    Command::new(program)
}

fn end(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
