//! Keeps our own sockets out of our own tunnel, by a mark that the first of our rules looks at.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use host::Egress;
use rustix::io::Errno;

use super::{BYPASS_MARK, can_mark, stays_here};

/// Marks sockets.
#[derive(Debug, Clone, Copy)]
pub struct Marked {
    /// Whether we may. Without the right there is no device either, unless somebody else made it for us.
    is_able: bool,
}

impl Marked {
    /// Finds out whether sockets can be marked.
    #[must_use]
    pub fn probe() -> Self {
        let is_able = can_mark();
        if !is_able {
            tracing::warn!(
                "cannot mark our own sockets (this needs CAP_NET_ADMIN): traffic of this daemon may loop through its own tunnel"
            );
        }
        Self { is_able }
    }

    /// Marks a socket whatever it will be used for.
    pub(crate) fn mark_all(self, socket: &impl AsFd) -> io::Result<()> {
        if self.is_able { mark(socket) } else { Ok(()) }
    }
}

impl Egress for Marked {
    fn mark(&self, socket: &BorrowedFd<'_>, to: SocketAddr) -> io::Result<()> {
        if !self.is_able || stays_here(to.ip()) {
            return Ok(());
        }
        mark(socket)
    }
}

/// Marks one socket.
pub fn mark(socket: &impl AsFd) -> io::Result<()> {
    match socket2::SockRef::from(socket).set_mark(BYPASS_MARK) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::PERM) => Err(io::Error::new(
            error.kind(),
            format!("mark a socket so that it bypasses the tunnel: {error}"),
        )),
        outcome => outcome,
    }
}
