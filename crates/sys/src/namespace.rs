//! Network namespaces.

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Moves the calling thread into a network namespace that did not exist before: it has a loopback interface that is down,
/// and nothing else. It lives as long as a thread is in it or a file of it is open.
pub fn enter_new_network() -> io::Result<()> {
    // SAFETY: of the things that can be unshared only the table of open files is dangerous, and that stays shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(Into::into)
}
