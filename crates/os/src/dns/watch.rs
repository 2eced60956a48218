//! Notices changes of files in one directory (inotify(7)).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// Some events at once.
const BUFFER_LEN: usize = 2048;

#[derive(Debug)]
pub(super) struct Watch {
    events: AsyncFd<OwnedFd>,
    /// The file that counts.
    name: &'static str,
}

impl Watch {
    /// Must be called inside the async runtime.
    pub(super) fn start(directory: &Path, name: &'static str) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let flags = WatchFlags::ATTRIB
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::MOVE;
        inotify::add_watch(&events, directory, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types whose descriptor may change; an `OwnedFd`'s does not"
        )]
        let events = AsyncFd::new(events)?;
        Ok(Self { events, name })
    }

    /// Resolves when something has happened to the file. Whoever gives up waiting loses nothing.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.events.readable().await?;
            let is_ours = drain(self.events.get_ref(), self.name)?;
            ready.clear_ready();
            if is_ours {
                return Ok(());
            }
        }
    }
}

/// Takes all events; says whether any is about `name`.
fn drain(events: &OwnedFd, name: &str) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER_LEN];
    let mut reader = Reader::new(events, &mut buffer);
    let mut any = false;
    loop {
        match reader.next() {
            Ok(event) => {
                let is_lossy = event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW);
                let file = event.file_name();
                any |= is_lossy || file.is_some_and(|file| file.to_bytes() == name.as_bytes());
            }
            Err(Errno::AGAIN) => return Ok(any),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
