//! What waits for the engine's thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use magicsock::LinkId;

use crate::core::Command;
use crate::link::LinkEvent;
use crate::probe::ProbeAnswer;
use crate::sockets::Datagrams;
use crate::tun::FromHost;

/// Everything that arrived since the thread last looked. Commands come from our own process and are few; packets are
/// bounded by the credit that each link has (see [`crate::link`]) and the buffers that sockets and device have, probe answers
/// by the probes asked for.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) commands: VecDeque<Command>,
    pub(crate) links: VecDeque<(LinkId, LinkEvent)>,
    pub(crate) datagrams: VecDeque<Datagrams>,
    pub(crate) from_host: VecDeque<FromHost>,
    /// Why the TUN device can be read no more.
    pub(crate) tun_lost: Option<String>,
    pub(crate) probes: VecDeque<ProbeAnswer>,
    /// Something that the thread polls by itself has changed.
    pub(crate) woken: bool,
    /// The last handle is gone.
    pub(crate) closed: bool,
}

impl Inbox {
    fn is_empty(&self) -> bool {
        self.commands.is_empty()
            && self.links.is_empty()
            && self.datagrams.is_empty()
            && self.from_host.is_empty()
            && self.tun_lost.is_none()
            && self.probes.is_empty()
            && !self.woken
            && !self.closed
    }
}

/// The way to the engine's thread. Many threads put in, one takes everything at once.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    inbox: Mutex<Inbox>,
    filled: Condvar,
}

impl Mailbox {
    /// Puts something in and wakes the thread.
    pub(crate) fn post(&self, put: impl FnOnce(&mut Inbox)) {
        put(&mut self.lock());
        self.filled.notify_one();
    }

    /// Swaps `inbox`, which should be empty, with what has arrived; waits for it, but not longer than `timeout`.
    pub(crate) fn take(&self, inbox: &mut Inbox, timeout: Option<Duration>) {
        let mut guard = self.lock();
        if guard.is_empty() && timeout != Some(Duration::ZERO) {
            guard = match timeout {
                None => self
                    .filled
                    .wait_while(guard, |inbox| inbox.is_empty())
                    .unwrap_or_else(PoisonError::into_inner),
                Some(timeout) => {
                    self.filled
                        .wait_timeout_while(guard, timeout, |inbox| inbox.is_empty())
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        std::mem::swap(&mut *guard, inbox);
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
