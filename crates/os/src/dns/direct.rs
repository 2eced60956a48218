//! `/etc/resolv.conf` as a file that is ours while we are on.
//!
//! What was there before waits beside it (`/etc/resolv.pre-tailscale-backup.conf`, as with the originals, so that either
//! cleans up after the other). There is no moment without a whole resolv.conf: the old one gets its second name first, then
//! ours takes its place in one step. Where a container has mounted the file, so that none can take its place, it is
//! written over.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use host::DnsConfig;

use super::resolv_conf::{ResolvConf, is_ours, text};
use super::root::{Root, named};

pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";
const BACKUP: &str = "/etc/resolv.pre-tailscale-backup.conf";
const NEW: &str = "/etc/resolv.conf.tailscale.tmp";
const NEW_BACKUP: &str = "/etc/resolv.pre-tailscale-backup.conf.tmp";
/// An early version of the originals left this.
const RETIRED: &str = "/etc/resolv.tailscale.conf";
/// Every program may read it.
const MODE: u32 = 0o644;

/// See the module.
#[derive(Debug)]
pub(super) struct Direct {
    root: Root,
}

impl Direct {
    pub(super) fn new(root: Root) -> Self {
        Self { root }
    }

    /// What the file says without us.
    pub(super) fn base(&self) -> io::Result<ResolvConf> {
        let live = self.root.read(RESOLV_CONF)?;
        let text = match live {
            Some(text) if !is_ours(&text) => Some(text),
            _ => self.root.read(BACKUP)?,
        };
        let base = ResolvConf::parse(text.as_deref().unwrap_or_default());
        base.map_err(|error| named(&self.root.at(RESOLV_CONF), "understand", &error))
    }

    /// Whether the file says what is wanted.
    pub(super) fn is_as_wanted(&self, want: &DnsConfig) -> io::Result<bool> {
        let live = self.root.read(RESOLV_CONF)?;
        if *want == DnsConfig::default() {
            return Ok(!live.as_deref().is_some_and(is_ours));
        }
        Ok(live == Some(text(want, &self.base()?.kept)))
    }

    /// Has the file say what is wanted.
    pub(super) fn apply(&self, want: &DnsConfig) -> io::Result<()> {
        let base = self.base()?;
        let text = text(want, &base.kept);
        let live = self.root.read(RESOLV_CONF)?;
        if live.as_ref() != Some(&text) {
            let is_link = fs::symlink_metadata(self.root.at(RESOLV_CONF)).is_ok();
            // A link to nothing is somebody's too.
            if is_link && !live.as_deref().is_some_and(is_ours) {
                self.put_aside()?;
            }
            self.put(&text)?;
        }
        Ok(())
    }

    /// Has the file say what it said before us.
    pub(super) fn restore(&self) -> io::Result<()> {
        let [live, backup] = [RESOLV_CONF, BACKUP].map(|name| self.root.at(name));
        let has_backup = fs::symlink_metadata(&backup).is_ok();
        let text = self.root.read(RESOLV_CONF)?;
        let is_gone = fs::symlink_metadata(&live).is_err();
        let is_ours = text.as_deref().is_some_and(is_ours);
        if has_backup && (is_ours || is_gone) {
            self.put_back(&backup, &live)?;
        } else if is_ours {
            // There was none.
            remove(&live)?;
        } else if has_backup {
            // Somebody has written it anew; that one is newer.
            remove(&backup)?;
        }
        for name in [NEW, NEW_BACKUP, RETIRED] {
            remove(&self.root.at(name))?;
        }
        Ok(())
    }

    /// Gives what is there a second name.
    fn put_aside(&self) -> io::Result<()> {
        let [live, backup, new] = [RESOLV_CONF, BACKUP, NEW_BACKUP].map(|name| self.root.at(name));
        remove(&new)?;
        if fs::hard_link(&live, &new).is_err() {
            self.copy(&live, &new)?;
        }
        fs::rename(&new, &backup).map_err(|error| named(&backup, "write", &error))
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let copied = match fs::read_link(from) {
            Ok(target) => symlink(target, to),
            Err(_) => fs::copy(from, to).map(drop),
        };
        copied.map_err(|error| named(to, "write", &error))
    }

    fn put(&self, text: &str) -> io::Result<()> {
        let [live, new] = [RESOLV_CONF, NEW].map(|name| self.root.at(name));
        remove(&new)?;
        let written = write_new(&new, text);
        if written.and_then(|()| fs::rename(&new, &live)).is_ok() {
            return Ok(());
        }
        remove(&new)?;
        fs::write(&live, text).map_err(|error| named(&live, "write", &error))
    }

    fn put_back(&self, backup: &Path, live: &Path) -> io::Result<()> {
        if fs::rename(backup, live).is_ok() {
            return Ok(());
        }
        let text = fs::read(backup).map_err(|error| named(backup, "read", &error))?;
        fs::write(live, text).map_err(|error| named(live, "write", &error))?;
        remove(backup)
    }
}

/// Writes a file that nobody sees yet, so that it is whole also after a loss of power.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(text.as_bytes())?;
    // Whatever the umask says.
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    // What is not there needs no right to be removed: a sandbox without one is asked for nothing.
    let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
    match fs::remove_file(path) {
        Err(error) if is_there(path) => Err(named(path, "remove", &error)),
        _ => Ok(()),
    }
}
