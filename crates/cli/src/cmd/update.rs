//! `tailscale update`: says how this program came here and who brings a newer one. It never fetches anything itself.

use std::path::Path;

use goflag::Parsed;

use crate::command::{Context, Error};

/// Names that packages of this program have; the original's has its place, too.
const PACKAGES: [&str; 2] = ["tailscale-rust", "tailscale"];
/// What lies where rpm keeps its records.
const RPM: [&str; 2] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm"];

pub(crate) fn run(_context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    if !parsed.args().is_empty() {
        return Err("too many arguments, expected none".into());
    }
    let program = std::env::current_exe().unwrap_or_default();
    let is_there = |path: &str| Path::new(path).exists();
    Err(advice(&program.display().to_string(), is_there).into())
}

fn advice(program: &str, is_there: impl Fn(&str) -> bool) -> String {
    let is_packaged = program.starts_with("/usr/") && !program.starts_with("/usr/local/");
    let of_dpkg = PACKAGES
        .iter()
        .find(|name| is_there(&format!("/var/lib/dpkg/info/{name}.list")));
    let (how, then) = match of_dpkg {
        Some(name) if is_packaged => (
            format!("came with the package {name}"),
            format!("apt-get update && apt-get install --only-upgrade {name}"),
        ),
        None if is_packaged && RPM.iter().any(|place| is_there(place)) => (
            format!("came with the package {}", PACKAGES[0]),
            format!("dnf upgrade {}", PACKAGES[0]),
        ),
        _ => (
            format!("was put at {program} by hand"),
            "put a newer one there".to_owned(),
        ),
    };
    format!("this program never updates itself; it {how}. To update it: {then}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_brought_it_brings_the_next() {
        let deb = advice("/usr/bin/tailscale", |path| {
            path.ends_with("/tailscale-rust.list")
        });
        assert!(
            deb.ends_with("install --only-upgrade tailscale-rust"),
            "{deb}"
        );
        let rpm = advice("/usr/bin/tailscale", |path| path == "/var/lib/rpm");
        assert!(rpm.ends_with("dnf upgrade tailscale-rust"), "{rpm}");
        for program in ["/usr/local/bin/tailscale", "/home/x/tailscale"] {
            let other = advice(program, |_| true);
            assert!(other.contains(program), "{other}");
        }
        assert!(advice("/usr/bin/tailscale", |_| false).contains("by hand"));
    }
}
