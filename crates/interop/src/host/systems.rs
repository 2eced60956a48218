//! Machines with systems of their own, from the trees that `cargo xtask roots` makes.

use std::path::{Path, PathBuf};

use anyhow::Result;
use lab::netns::{Init, Nat, System};

use super::Verdict;
use super::machine::{Machine, same};
use super::stage::Stage;

/// What every tree lies over.
const BASE: &str = "trixie";

/// Who has charge of resolv.conf on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolver {
    /// The daemon that comes with systemd.
    Systemd,
    /// The program `resolvconf` of this package, whose tree lies over the base.
    Resolvconf(&'static str),
}

/// The machine has no trees.
pub(super) fn skip() -> Result<Verdict> {
    Ok(Verdict::Skip(
        "no trees of other systems: `cargo xtask roots` makes them".to_owned(),
    ))
}

/// Where the trees are: beside what cargo builds.
fn roots() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let mut places = own.ancestors().map(|place| place.join("roots"));
    places.find(|place| place.join(BASE).is_dir())
}

impl Stage {
    /// A machine on which a resolver of its own is at work; `None` without its tree.
    pub(super) fn machine_with(
        &mut self,
        name: &str,
        resolver: Resolver,
    ) -> Result<Option<Machine>> {
        let Some(roots) = roots() else {
            return Ok(None);
        };
        let (init, mut layers) = match resolver {
            Resolver::Systemd => (Init::Systemd, Vec::new()),
            Resolver::Resolvconf(package) => (Init::Sleep, vec![roots.join(package)]),
        };
        layers.push(roots.join(BASE));
        let mut machine = self.machine_behind(name, Nat::Easy)?;
        let shared = machine.programs().map(|program| {
            program
                .parent()
                .unwrap_or_else(|| Path::new("/"))
                .to_owned()
        });
        machine.site.start_system(&System {
            layers,
            init,
            shared: shared.into(),
        })?;
        match resolver {
            Resolver::Systemd => {
                machine.until_sh("test -S /run/dbus/system_bus_socket && resolvectl status")?;
            }
            Resolver::Resolvconf(_) => {
                machine
                    .sh("printf 'nameserver 203.0.113.1\\nsearch lan.example\\n' >/tmp/lease")?;
            }
        }
        Ok(Some(machine))
    }

    /// A node whose machine asks a `resolvconf` for its servers: names are found, and all is as before in the end.
    pub(super) fn resolvconf_is_told_and_told_back(
        &mut self,
        package: &'static str,
        prepare: &str,
    ) -> Result<Verdict> {
        const LOOK: &str =
            "cat /etc/resolv.conf; ls -l /etc/resolv.conf; resolvconf -l 2>/dev/null || true";
        let Some(mut client) = self.machine_with("client", Resolver::Resolvconf(package))? else {
            return skip();
        };
        let other = self.node("other")?;
        client.sh(prepare)?;
        let before = client.sh(LOOK)?;
        client.start()?;
        self.up(&client, &[])?;
        client.until_finds("other", other.address()?)?;
        client.until_asks_us()?;
        // A new lease does not push us aside.
        client.sh("resolvconf -d eth0; resolvconf -a eth0 </tmp/lease")?;
        client.until_asks_us()?;
        client.until_finds("other", other.address()?)?;
        client.cli(&["down"])?;
        client.until("all is as before", |client| Ok(client.sh(LOOK)? == before))?;
        client.cli(&["up"])?;
        client.until_asks_us()?;
        client.kill();
        client.clean_up()?;
        same(&before, &client.sh(LOOK)?)?;
        Verdict::pass()
    }
}

impl Machine {
    /// Waits until a program of the machine finds a name.
    pub(super) fn until_finds(&self, name: &str, address: std::net::IpAddr) -> Result<()> {
        let line = format!("getent ahostsv4 {name} | grep -q '^{address} '");
        self.until_sh(&line)?;
        Ok(())
    }
}
