//! The same package with `strict.conf`: another user, few rights, and it still routes, filters and has names asked.

use anyhow::{Context as _, Result, ensure};

use super::Verdict;
use crate::host::machine::same;
use crate::host::stage::Stage;
use crate::host::systems;

/// The most that `systemd-analyze security` may find.
const EXPOSURE: f32 = 2.2;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    if !stage.has_package() {
        return Ok(Verdict::Skip("the original has no such unit".to_owned()));
    }
    let other = stage.node("other")?;
    let Some((client, package)) = stage.packaged()? else {
        return systems::skip();
    };
    // As udev has it.
    client.sh("chmod 0666 /dev/net/tun")?;
    let traces = client.traces()?;
    // A state of root's is taken over.
    client.dpkg("-i", &package)?;
    let own = stage.up_installed(&client)?;
    client.sh("mkdir -p /etc/systemd/system/tailscaled.service.d && \
         ln -s /usr/share/tailscale/strict.conf /etc/systemd/system/tailscaled.service.d/ && \
         systemctl daemon-reload && systemctl restart polkit && systemctl restart tailscaled")?;
    let user = client.sh(&format!("stat -c %U /proc/{}", client.unit("MainPID")?))?;
    ensure!(user.trim() == "tailscale", "it runs as {user}");
    let pinged = client.until_pings(other.address()?);
    pinged.with_context(|| {
        client
            .sh("journalctl -u tailscaled -o cat | tail -20")
            .unwrap_or_default()
    })?;
    same(&own, &client.sh("tailscale ip -4")?)?;
    client.until_finds("other", other.address()?)?;
    client.sh("nft list chain ip filter ts-input | grep -q accept")?;
    let said = client.sh("systemd-analyze security --no-pager tailscaled.service | tail -1")?;
    let level: f32 = said
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .with_context(|| said.clone())?;
    ensure!(level <= EXPOSURE, "{said}");
    // What it must not write, it says that it cannot.
    let as_file = "cp -L /etc/resolv.conf /tmp/resolv && rm /etc/resolv.conf && \
         sed '/^#/d; s/127.0.0.53/203.0.113.1/' /tmp/resolv >/etc/resolv.conf";
    let link = client.sh(&format!("readlink /etc/resolv.conf; {as_file}"))?;
    client.until("health tells of it", |client| {
        let status = client.sh("tailscale status --json")?;
        Ok(status.contains("failed to set the DNS configuration"))
    })?;
    client.until_pings(other.address()?)?;
    client.sh(&format!("ln -sf {} /etc/resolv.conf", link.trim()))?;
    client.until_finds("other", other.address()?)?;
    client.sh("systemctl stop tailscaled")?;
    ensure!(client.unit("Result")? == "success", "it did not end well");
    same(&traces, &client.traces()?)?;
    Ok(Verdict::Pass(format!("exposure {level}")))
}
