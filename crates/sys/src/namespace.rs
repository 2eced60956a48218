//! Namespaces of networks and mounts.

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Moves the calling thread into a network namespace that did not exist before: it has a loopback interface that is down,
/// and nothing else. It lives as long as a thread is in it or a file of it is open.
pub fn enter_new_network() -> io::Result<()> {
    // SAFETY: of the things that can be unshared only the table of open files is dangerous, and that stays shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(Into::into)
}

/// Moves the calling thread into a network namespace, as [`enter_new_network`], and a mount namespace that begins as a copy.
pub fn enter_new_machine() -> io::Result<()> {
    // SAFETY: as above; that the thread has a working directory of its own from now on concerns nobody else.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }.map_err(Into::into)
}

/// Gives the calling thread a working directory of its own, without which it cannot change its mount namespace.
pub fn own_working_directory() -> io::Result<()> {
    // SAFETY: as above.
    unsafe { unshare_unsafe(UnshareFlags::FS) }.map_err(Into::into)
}
