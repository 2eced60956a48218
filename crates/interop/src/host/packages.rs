//! Our package, installed on a machine under systemd.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};

use super::machine::{Machine, sh};
use super::stage::Stage;
use super::systems::Resolver;
use crate::tailnet::Whose;

/// The files of a machine that a package may leave behind.
const FILES: &str = "find /usr /etc /var/lib /var/cache -xdev ! -path '/var/lib/dpkg/*' ! -path '/var/cache/ldconfig*' \
     ! -path '/var/lib/systemd/*' ! -path '/etc/*-' ! -name '.pwd.lock' ! -name '*.wants' | sort";

impl Stage {
    /// A machine with systemd, and our package for it; `None` without its tree or the program that makes packages.
    pub(super) fn packaged(&mut self) -> Result<Option<(Machine, PathBuf)>> {
        let Some(machine) = self.machine_with("client", Resolver::Systemd)? else {
            return Ok(None);
        };
        let programs = machine.programs()[0]
            .parent()
            .context("a program has a folder")?;
        // Scenarios are played at the same time, and each makes its own.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let package = programs.join(format!("scenario-packages/{number}.deb"));
        let make = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/deb/make.sh");
        let line = format!(
            "command -v dpkg-deb >/dev/null || exit 0; {make} {} {} {}",
            programs.display(),
            env!("CARGO_PKG_VERSION"),
            package.display()
        );
        sh(self.tailnet.world.internet(), &line)?;
        Ok(package.exists().then_some((machine, package)))
    }

    /// Whether this stage has a package of the daemons that it is for.
    pub(super) fn has_package(&self) -> bool {
        self.whose == Whose::Ours
    }

    /// Logs in a machine that runs an installed package; its address in the tailnet.
    pub(super) fn up_installed(&self, machine: &Machine) -> Result<String> {
        let (server, key) = (&self.tailnet.url, &self.tailnet.auth_key);
        machine.sh(&format!(
            "tailscale up --login-server={server} --auth-key={key} --hostname=client --timeout=60s"
        ))?;
        machine.sh("tailscale ip -4")
    }
}

impl Machine {
    /// Has dpkg do something.
    pub(super) fn dpkg(&self, what: &str, package: &Path) -> Result<()> {
        self.sh(&format!(
            "DEBIAN_FRONTEND=noninteractive dpkg --force-depends {what} {} </dev/null",
            package.display()
        ))?;
        Ok(())
    }

    /// The files that a package may leave behind.
    pub(super) fn files(&self) -> Result<String> {
        self.sh(FILES)
    }

    /// What systemd says of the daemon.
    pub(super) fn unit(&self, property: &str) -> Result<String> {
        let said = self.sh(&format!("systemctl show -P {property} tailscaled.service"))?;
        Ok(said.trim().to_owned())
    }
}
