//! The two programs named `resolvconf`, which make `/etc/resolv.conf` of what each interface's client says: Debian's, and
//! openresolv. Both are told by their own command.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use host::DnsConfig;

use super::choose::Resolvconf;
use super::command::{output, program, run, said};
use super::resolv_conf::{ResolvConf, text};
use super::root::{Root, named};

/// Debian's exits with this when it is asked for what it does not know.
const UNKNOWN_OPTION: i32 = 99;
/// Our record. Compat: the originals' name, so that either cleans up after the other; Debian's sorts `tun*` first.
const DEBIAN_RECORD: &str = "tun-tailscale.inet";
const OPENRESOLV_RECORD: &str = "tailscale";
const HOOKS: &str = "/etc/resolvconf/update-libc.d";
const HOOK: &str = "/etc/resolvconf/update-libc.d/tailscale";
/// Debian's mixes our servers with the others'. It runs this after each change, in the directory of its records.
const HOOK_TEXT: &str = r#"#!/bin/sh
# Installed by tailscaled while it is on, and removed when it is not: has resolv.conf name Tailscale's servers only.
record=tun-tailscale.inet
parts=/etc/resolvconf/resolv.conf.d
[ -z "$TAILSCALED_HOOK_RUNS" ] && [ -f "$record" ] || exit 0
grep -q resolvconf /etc/resolv.conf || exit 0
print() { [ ! -f "$1" ] || cat "$1"; }
{
  print "$parts/head"
  print "$record"
  print "$parts/base" | grep -E '^(options|sortlist)[[:space:]]'
  print "$parts/tail"
} >/etc/resolv.conf
# Who wants to know of changes has not seen this one.
TAILSCALED_HOOK_RUNS=1 exec run-parts /etc/resolvconf/update-libc.d
"#;

/// Which of the two there is.
pub(super) async fn kind() -> Option<Resolvconf> {
    let mut command = program("resolvconf");
    command.arg("--version");
    let ended = output(command, "resolvconf", None).await.ok()?;
    let is_debian = ended.status.code() == Some(UNKNOWN_OPTION)
        || ended.stdout.starts_with(b"Debian resolvconf");
    Some(match is_debian {
        true => Resolvconf::Debian,
        false => Resolvconf::Openresolv,
    })
}

/// Has Debian's resolvconf give out `want`, and nothing else.
pub(super) async fn debian(root: &Root, want: &DnsConfig) -> Result<(), String> {
    let hook = root.at(HOOK);
    if *want == DnsConfig::default() {
        match fs::remove_file(&hook) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(named(&hook, "remove", &error).to_string());
            }
            _ => {}
        }
        return run("resolvconf", &["-d", DEBIAN_RECORD], None)
            .await
            .map(drop);
    }
    install_hook(root).map_err(|error| named(&hook, "write", &error).to_string())?;
    let text = text(want, &[]);
    run("resolvconf", &["-a", DEBIAN_RECORD], Some(&text))
        .await
        .map(drop)
}

fn install_hook(root: &Root) -> io::Result<()> {
    fs::create_dir_all(root.at(HOOKS))?;
    fs::write(root.at(HOOK), HOOK_TEXT)?;
    fs::set_permissions(root.at(HOOK), Permissions::from_mode(0o755))
}

/// What everybody else has told Debian's resolvconf.
pub(super) async fn debian_base(root: &Root) -> Result<ResolvConf, String> {
    let there = |names: &[&str]| -> Option<PathBuf> {
        names
            .iter()
            .map(|name| root.at(name))
            .find(|path| path.exists())
    };
    let list = there(&[
        "/lib/resolvconf/list-records",
        "/usr/lib/resolvconf/list-records",
    ]);
    let records = there(&[
        "/etc/resolvconf/run/interface",
        "/run/resolvconf/interface",
        "/var/run/resolvconf/interface",
    ]);
    let (Some(list), Some(records)) = (list, records) else {
        return Err("resolvconf: there is no list of its records".into());
    };
    let mut command = program(&list.to_string_lossy());
    // It lists the directory that it is in.
    command.current_dir(&records);
    let names = said(command, "list-records", None).await?;
    let mut text = String::new();
    for name in names.lines().filter(|name| *name != DEBIAN_RECORD) {
        // One that has just gone says nothing.
        text.push_str(&fs::read_to_string(records.join(name)).unwrap_or_default());
        text.push('\n');
    }
    ResolvConf::parse_records(&text).map_err(|error| format!("resolvconf: {error}"))
}

/// Has openresolv give out `want`, and nothing else.
pub(super) async fn openresolv(want: &DnsConfig) -> Result<(), String> {
    if *want == DnsConfig::default() {
        return run("resolvconf", &["-f", "-d", OPENRESOLV_RECORD], None)
            .await
            .map(drop);
    }
    let text = text(want, &[]);
    // First of all, and exclusive.
    let args = ["-m", "0", "-x", "-a", OPENRESOLV_RECORD];
    run("resolvconf", &args, Some(&text)).await.map(drop)
}

/// What everybody else has told openresolv.
pub(super) async fn openresolv_base() -> Result<ResolvConf, String> {
    let names = run("resolvconf", &["-i"], None).await?;
    let others = names
        .split_whitespace()
        .filter(|name| *name != OPENRESOLV_RECORD);
    let args: Vec<&str> = std::iter::once("-l").chain(others).collect();
    if args.len() == 1 {
        // Without names it would list all, ours too.
        return Ok(ResolvConf::default());
    }
    let text = run("resolvconf", &args, None).await?;
    ResolvConf::parse_records(&text).map_err(|error| format!("resolvconf: {error}"))
}
