//! `cargo xtask dist`: what people install, in `target/dist`: a tarball, a `.deb` and an `.rpm`, by the scripts of `packaging/`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};

/// Programs that need nothing of the machine that they run on.
const STATIC: &str = "x86_64-unknown-linux-musl";
/// The C compiler for these.
const STATIC_CC: (&str, &str) = ("CC_x86_64_unknown_linux_musl", "musl-gcc");
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) fn run() -> ExitCode {
    match make() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn make() -> Result<()> {
    let dist = crate::target_dir().join("dist");
    std::fs::create_dir_all(&dist).with_context(|| format!("make `{}`", dist.display()))?;
    let programs = build()?;
    let is_static = programs.components().any(|part| part.as_os_str() == STATIC);
    let arch = std::env::consts::ARCH;
    let name = match is_static {
        true => format!("tailscale-rust_{VERSION}_{arch}_static"),
        false => format!("tailscale-rust_{VERSION}_{arch}"),
    };
    tarball(&programs, &dist, &name)?;
    package(
        "dpkg-deb",
        "deb",
        &programs,
        &dist.join(format!("{name}.deb")),
    )?;
    package(
        "rpmbuild",
        "rpm",
        &programs,
        &dist.join(format!("{name}.rpm")),
    )
}

/// Builds the programs; where they are.
fn build() -> Result<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = command(&cargo);
    command.args([
        "build",
        "--release",
        "--package",
        "tailscaled",
        "--package",
        "tailscale",
    ]);
    let is_static = std::env::consts::ARCH == "x86_64" && can_be_static();
    if is_static {
        command
            .args(["--target", STATIC])
            .env(STATIC_CC.0, STATIC_CC.1);
    } else {
        println!(
            "linked with this machine's C library: for programs that run everywhere, `rustup target add {STATIC}` and `apt install musl-tools`"
        );
    }
    ensure!(
        command.status().context("start cargo")?.success(),
        "the programs do not build"
    );
    let place = if is_static { STATIC } else { "" };
    Ok(crate::target_dir().join(place).join("release"))
}

fn can_be_static() -> bool {
    let libraries = command("rustc")
        .args(["--print", "target-libdir", "--target", STATIC])
        .output();
    let has_std = libraries.is_ok_and(|said| {
        let place = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        said.status.success() && Path::new(&place).is_dir()
    });
    has_std && is_there(STATIC_CC.1)
}

fn is_there(program: &str) -> bool {
    command(program).arg("--version").output().is_ok()
}

/// The programs, the units and the scripts, as they would be installed under `/`.
fn tarball(programs: &Path, dist: &Path, name: &str) -> Result<()> {
    let tree = dist.join(name);
    if tree.exists() {
        std::fs::remove_dir_all(&tree).with_context(|| format!("remove `{}`", tree.display()))?;
    }
    run_script(command("packaging/install.sh").arg(&tree).arg(programs))?;
    let out = dist.join(format!("{name}.tar.gz"));
    run_script(
        command("tar")
            .args(["--owner=0", "--group=0", "--sort=name", "-czf"])
            .arg(&out)
            .arg("-C")
            .arg(dist)
            .arg(name),
    )?;
    std::fs::remove_dir_all(&tree).with_context(|| format!("remove `{}`", tree.display()))?;
    made(&out)
}

fn package(tool: &str, kind: &str, programs: &Path, out: &Path) -> Result<()> {
    if !is_there(tool) {
        println!("no .{kind}: `{tool}` is not installed");
        return Ok(());
    }
    run_script(
        command(&format!("packaging/{kind}/make.sh"))
            .arg(programs)
            .arg(VERSION)
            .arg(out),
    )?;
    made(out)
}

fn made(out: &Path) -> Result<()> {
    let len = std::fs::metadata(out)
        .with_context(|| format!("look at `{}`", out.display()))?
        .len();
    println!("{} ({:.1} MB)", out.display(), len as f64 / 1e6);
    Ok(())
}

fn run_script(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("start {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{:?} failed: {status}", command.get_program());
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "xtask is a tool for developers: packages are made by their own tools"
)]
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command
}
