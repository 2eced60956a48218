//! A real dpkg and a real systemd: installed, it serves; killed, it comes back; upgraded, it is who it was; removed and purged, nothing is
//! left.

use anyhow::{Result, ensure};

use super::Verdict;
use crate::host::machine::same;
use crate::host::stage::Stage;
use crate::host::systems;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    if !stage.has_package() {
        return Ok(Verdict::Skip(
            "the original's package is nobody's here".to_owned(),
        ));
    }
    let other = stage.node("other")?;
    let Some((client, package)) = stage.packaged()? else {
        return systems::skip();
    };
    let (files, traces) = (client.files()?, client.traces()?);
    client.dpkg("-i", &package)?;
    ensure!(client.unit("ActiveState")? == "active", "it does not run");
    client.until("systemd knows that it needs a login", |client| {
        Ok(client.unit("StatusText")?.starts_with("Needs login:"))
    })?;
    client.until_sh("systemctl is-enabled tailscaled.service")?;
    let own = stage.up_installed(&client)?;
    client.until_pings(other.address()?)?;
    client.until("systemd knows that it is connected", |client| {
        let text = client.unit("StatusText")?;
        Ok(text.starts_with("Connected; ") && text.contains(own.trim()))
    })?;
    // The journal has a time of its own.
    let journal = client.sh("journalctl -u tailscaled -o cat")?;
    ensure!(
        journal
            .lines()
            .any(|line| line.starts_with("Switching ipn state Starting -> Running")),
        "{journal}"
    );
    client.sh("systemctl start tailscale-online.target")?;

    let first = client.unit("MainPID")?;
    client.sh(&format!("kill -9 {first}"))?;
    client.until("it is started again", |client| {
        Ok(client.unit("ActiveState")? == "active" && client.unit("MainPID")? != first)
    })?;
    client.until_pings(other.address()?)?;

    let second = client.unit("MainPID")?;
    client.dpkg("-i", &package)?;
    ensure!(client.unit("MainPID")? != second, "the old one still runs");
    client.until_pings(other.address()?)?;
    same(&own, &client.sh("tailscale ip -4")?)?;

    client.sh("tailscale down")?;
    client.until("systemd knows that it is stopped", |client| {
        Ok(client.unit("StatusText")? == "Stopped; run 'tailscale up' to log in")
    })?;
    client.sh("tailscale up && systemctl stop tailscaled")?;
    ensure!(client.unit("Result")? == "success", "it did not end well");
    same(&traces, &client.traces()?)?;

    client.dpkg("-r", "tailscale-rust".as_ref())?;
    client.sh("test -e /var/lib/tailscale/tailscaled.state && test -e /etc/default/tailscaled")?;
    client.dpkg("-P", "tailscale-rust".as_ref())?;
    // The user stays, as Debian wants it.
    same(&files, &client.files()?)?;
    same(&traces, &client.traces()?)?;
    Verdict::pass()
}
