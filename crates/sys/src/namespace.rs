//! Namespaces of networks and mounts.

use std::io;
use std::os::fd::AsFd as _;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Moves the calling thread into a network namespace that did not exist before: it has a loopback interface that is down,
/// and nothing else. It lives as long as a thread is in it or a file of it is open.
pub fn enter_new_network() -> io::Result<()> {
    // SAFETY: of the things that can be unshared only the table of open files is dangerous, and that stays shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(Into::into)
}

/// Makes a namespace of clocks for children of this process (time_namespaces(7)); it is set up in `/proc/self/timens_offsets`.
pub fn unshare_time() -> io::Result<()> {
    // SAFETY: of the things that can be unshared only the table of open files is dangerous, and that stays shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWTIME) }.map_err(Into::into)
}

/// Moves this process, which must have one thread only, into the namespace of clocks that its children would be in.
pub fn enter_time_of_children() -> io::Result<()> {
    let namespace = std::fs::File::open("/proc/self/ns/time_for_children")?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Time)).map_err(Into::into)
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
