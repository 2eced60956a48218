//! `cargo lab`, `cargo xtask chaos` and `cargo xtask interop`: build the release programs and become one of them.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

/// The programs that a tailnet on one machine needs.
const PROGRAMS: [&str; 3] = ["lab", "tailscaled", "tailscale"];
/// Those that are killed in it.
const VICTIMS: [&str; 4] = ["lab", "tailscaled", "tailscale", "derper"];
/// Those that are compared with the originals.
const COMPARED: [&str; 4] = ["interop", "tailscaled", "tailscale", "derper"];

/// Those that are measured.
const BENCHED: [&str; 5] = ["interop", "tailscaled", "tailscale", "derper", "bound"];

/// Builds, then replaces this process by the lab.
pub(crate) fn run(args: &[String]) -> ExitCode {
    build_and_become(&PROGRAMS, &[], args)
}

/// Builds, then replaces this process by the lab that kills its programs.
pub(crate) fn chaos(args: &[String]) -> ExitCode {
    build_and_become(&VICTIMS, &["chaos"], args)
}

/// Builds, then replaces this process by the comparison with the originals.
pub(crate) fn interop(args: &[String]) -> ExitCode {
    build_and_become(&COMPARED, &[], args)
}

/// Builds, then replaces this process by the scenarios of a machine.
pub(crate) fn host(args: &[String]) -> ExitCode {
    build_and_become(&COMPARED, &["host"], args)
}

/// Builds, then replaces this process by the benchmark beside other programs.
pub(crate) fn bench(args: &[String]) -> ExitCode {
    let (task, rest) = match args.split_first() {
        Some((first, rest)) if first == "net" => ("bench", rest),
        Some((first, rest)) if first == "flood" => ("flood", rest),
        Some((first, rest)) if first == "dns" => ("dns", rest),
        Some((first, rest)) if first == "soak" => ("soak", rest),
        Some((first, rest)) if first == "goals" => ("goals", rest),
        Some((first, rest)) if first == "model" => ("model", rest),
        _ => {
            eprintln!(
                "usage: cargo xtask bench net|goals|flood|dns|soak|model|micro|tax [--help | options]"
            );
            return ExitCode::from(2);
        }
    };
    build_and_become(&BENCHED, &[task], rest)
}

/// Builds programs, then replaces this process by the first of them.
fn build_and_become(programs: &[&str], task: &[&str], args: &[String]) -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    #[expect(
        clippy::disallowed_methods,
        reason = "xtask is a tool for developers: it starts cargo"
    )]
    let mut build = Command::new(cargo);
    build.args(["build", "--release"]);
    for program in programs {
        build.args(["--package", program]);
    }
    match build.status() {
        Ok(status) if status.success() => {}
        Ok(_) => return ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cannot start cargo: {error}");
            return ExitCode::FAILURE;
        }
    }
    let first = programs.first().copied().unwrap_or_default();
    let program = crate::target_dir().join("release").join(first);
    #[expect(
        clippy::disallowed_methods,
        reason = "xtask is a tool for developers: it starts what it has built"
    )]
    let error = Command::new(&program).args(task).args(args).exec();
    eprintln!("cannot start `{}`: {error}", program.display());
    ExitCode::FAILURE
}
