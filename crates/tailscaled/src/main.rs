//! The daemon.
//!
//! This is the only place that names the operating system (`os`) and the features (`features.rs`).

mod features;
mod flags;
mod logging;
mod start;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args();
    let program = args.next().unwrap_or_else(|| "tailscaled".into());
    let args: Vec<String> = args.collect();
    if let Some(end) = start::subcommand(args.first().map(String::as_str)) {
        return end;
    }
    let env = |name: &str| std::env::var(name).ok();
    let flags = match flags::parse(&program, args, &env) {
        Ok(flags) => flags,
        Err(end) => {
            eprint!("{end}");
            return ExitCode::from(end.exit_code());
        }
    };
    match start::run(flags, &env) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Compat: the originals end with one line on standard error and exit code 1.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
