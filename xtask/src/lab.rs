//! `cargo lab` and `cargo xtask chaos`: build the release programs and become the lab.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

/// The programs that a tailnet on one machine needs.
const PROGRAMS: [&str; 3] = ["lab", "tailscaled", "tailscale"];
/// Those that are killed in it.
const VICTIMS: [&str; 4] = ["lab", "tailscaled", "tailscale", "derper"];

/// Builds, then replaces this process by the lab.
pub(crate) fn run(args: &[String]) -> ExitCode {
    build_and_become(&PROGRAMS, &[], args)
}

/// Builds, then replaces this process by the lab that kills its programs.
pub(crate) fn chaos(args: &[String]) -> ExitCode {
    build_and_become(&VICTIMS, &["chaos"], args)
}

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
    let lab = crate::target_dir().join("release/lab");
    #[expect(
        clippy::disallowed_methods,
        reason = "xtask is a tool for developers: it starts the lab"
    )]
    let error = Command::new(&lab).args(task).args(args).exec();
    eprintln!("cannot start `{}`: {error}", lab.display());
    ExitCode::FAILURE
}
