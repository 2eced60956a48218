//! The way from the tasks to the engine's thread.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use host::Waker;
use netstack::FlowId;

use super::tcp::TcpShared;
use super::udp::UdpShared;

/// What a task asks of the engine.
#[derive(Debug)]
pub(crate) enum Command {
    DialTcp {
        local: Option<IpAddr>,
        remote: SocketAddr,
        shared: Arc<TcpShared>,
    },
    DialUdp {
        local: Option<IpAddr>,
        remote: SocketAddr,
        shared: Arc<UdpShared>,
    },
    AcceptTcp(Arc<TcpShared>),
    AcceptUdp(Arc<UdpShared>),
    Refuse(FlowId),
    /// The task wrote, read, or let go.
    Tcp(Arc<TcpShared>),
    Udp(Arc<UdpShared>),
}

/// Commands that the engine has not seen yet. Bounded by the flows: each is in it at most once for its buffers.
#[derive(Debug)]
pub(crate) struct Queue {
    /// `None` once the engine has stopped.
    commands: Mutex<Option<Vec<Command>>>,
    waker: Waker,
}

impl Queue {
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            commands: Mutex::new(Some(Vec::new())),
            waker,
        }
    }

    /// Puts a command in. Whoever waits for its outcome hears of it at once if nobody is there to obey.
    pub(crate) fn post(&self, command: Command) {
        match &mut *lock(&self.commands) {
            Some(commands) => commands.push(command),
            None => return command.end(),
        }
        self.waker.wake();
    }

    /// Swaps `into`, which should be empty, with what has been posted.
    pub(crate) fn take(&self, into: &mut Vec<Command>) {
        if let Some(commands) = &mut *lock(&self.commands) {
            std::mem::swap(commands, into);
        }
    }

    /// From here on nobody obeys.
    pub(crate) fn close(&self) {
        let left = lock(&self.commands).take();
        left.into_iter().flatten().for_each(Command::end);
    }
}

impl Command {
    fn end(self) {
        match self {
            Self::DialTcp { shared, .. } | Self::AcceptTcp(shared) => {
                shared.set_ended(io::ErrorKind::NotConnected);
            }
            Self::DialUdp { shared, .. } | Self::AcceptUdp(shared) => {
                shared.set_ended(io::ErrorKind::NotConnected);
            }
            // Buffers of flows that the hub ends itself. Their locks may be held here.
            Self::Refuse(_) | Self::Tcp(_) | Self::Udp(_) => {}
        }
    }
}

/// A lock whose holder panicked still guards consistent data: nothing in here panics half-way.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
