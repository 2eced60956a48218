//! Tasks for developers: `cargo xtask tidy` checks the structure, `cargo xtask loom` tries all orders in which threads can run,
//! `cargo xtask matrix` compares
//! command lines and daemons with the originals, `cargo lab` starts a tailnet on this machine,
//! `cargo xtask chaos` kills its programs, `cargo xtask interop` mixes nodes with the originals behind NATs,
//! `cargo xtask host` plays what a daemon does to its machine, ours and the original,
//! `cargo xtask roots` makes the systems that some of these need, `cargo xtask dist` what people install,
//! `cargo xtask bench` measures beside other programs.

mod dist;
mod lab;
mod matrix;
mod micro;
mod roots;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((task, rest)) if task == "lab" => lab::run(rest),
        Some((task, rest)) if task == "chaos" => lab::chaos(rest),
        Some((task, rest)) if task == "host" => lab::host(rest),
        Some((task, rest)) if task == "interop" => lab::interop(rest),
        Some((task, rest)) if task == "bench" && rest == ["micro"] => micro::stages(),
        Some((task, rest)) if task == "bench" && rest == ["tax"] => micro::tax(),
        Some((task, rest)) if task == "bench" => lab::bench(rest),
        Some((task, [])) if task == "loom" => micro::loom(),
        Some((task, [])) if task == "dist" => dist::run(),
        Some((task, [])) if task == "roots" => roots::run(),
        Some((task, [])) if task == "matrix" => matrix::run(),
        Some((task, [])) if task == "tidy" => tidy::run(&root()),
        _ => {
            eprintln!(
                "usage: cargo xtask tidy\n       cargo xtask loom\n       cargo xtask matrix\n       cargo xtask lab [--help | options of the lab]\n       cargo xtask chaos [--help | options of the chaos]\n       cargo xtask interop [--help | options of the comparison]\n       cargo xtask host [--json | --help | options of the scenarios]\n       cargo xtask roots\n       cargo xtask dist\n       cargo xtask bench net|goals|flood|dns|soak|model [--help | options]\n       cargo xtask bench micro|tax"
            );
            ExitCode::from(2)
        }
    }
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(PathBuf::from).unwrap_or(manifest)
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| root().join("target"))
}
