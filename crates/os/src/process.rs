//! Facts about, and protections of, our own process.

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Whether we run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Our user.
pub fn euid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Keeps private keys out of core dumps and away from other processes of the same user. Best effort: a system that
/// refuses is no worse off.
pub fn forbid_core_dumps() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = rustix::process::setrlimit(Resource::Core, none) {
        tracing::debug!("no limit on core dumps: {error}");
    }
    if let Err(error) = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::debug!("process stays dumpable: {error}");
    }
}

/// The user id of `name`, which may also be a number, from `/etc/passwd`.
pub fn uid_of(name: &str) -> Option<u32> {
    if let Ok(uid) = name.parse() {
        return Some(uid);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name))
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    })
}
