//! A machine's own `/etc`, over that of the machine around it.

use std::ffi::CString;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};

/// Every system has this directory, and nothing of ours is below it.
const SCRATCH: &str = "/mnt";
/// Sockets of services that would change the machine around us, if they were asked.
const SERVICES: [&str; 4] = [
    "/run/dbus",
    "/run/systemd",
    "/run/NetworkManager",
    "/run/resolvconf",
];
/// Nobody answers there, but it is a place in the lab's internet.
const RESOLV_CONF: &str =
    "# this machine's own\nnameserver 203.0.113.1\nsearch lan.example\noptions timeout:1\n";

/// Turns the calling thread's mount namespace, which must be its own, into that of a machine.
pub(super) fn separate() -> Result<()> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .context("keep mounts to ourselves")?;
    tmpfs(SCRATCH)?;
    for name in ["upper", "work"] {
        fs::create_dir(Path::new(SCRATCH).join(name))?;
    }
    let layers = CString::new(format!(
        "lowerdir=/etc,upperdir={SCRATCH}/upper,workdir={SCRATCH}/work"
    ))?;
    mount(
        "etc",
        "/etc",
        "overlay",
        MountFlags::empty(),
        Some(&*layers),
    )
    .context("lay a file system over /etc (the kernel needs overlayfs)")?;
    unmount(SCRATCH, UnmountFlags::DETACH).context("unmount a scratch directory")?;
    for name in SERVICES.into_iter().filter(|name| Path::new(name).exists()) {
        tmpfs(name)?;
    }
    // It may be a link, and what it leads to is not ours.
    let new = Path::new("/etc/resolv.conf.lab");
    fs::write(new, RESOLV_CONF)?;
    fs::rename(new, "/etc/resolv.conf").context("write the machine's own resolv.conf")
}

fn tmpfs(at: &str) -> Result<()> {
    mount("lab", at, "tmpfs", MountFlags::empty(), None)
        .with_context(|| format!("mount a file system at `{at}`"))
}
