//! The only unsafe code, speaking byte slices and file descriptors.
//!
//! Every function here is safe to call with any argument: what could be wrong is checked before the unsafe line, and
//! the line says why it holds.

#[cfg(target_os = "linux")]
pub mod namespace;
#[cfg(target_os = "linux")]
pub mod tun;
#[cfg(target_os = "linux")]
pub mod udp;

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd as _, RawFd};

/// Takes over a file descriptor that our parent left open for us and named in the environment.
///
/// It is made close-on-exec. An error means that no such descriptor is open.
pub fn inherited_file(fd: RawFd) -> io::Result<File> {
    if fd < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the borrow ends with this statement, and fcntl on a closed number only answers EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: the descriptor is open, as fcntl has just answered, and was left to us by the parent: nothing else in
    // this process knows its number.
    Ok(unsafe { File::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_open_is_refused() {
        assert!(inherited_file(-1).is_err());
        assert!(inherited_file(1_000_000).is_err());
    }
}
