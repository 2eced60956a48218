//! A socket to the kernel.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recvfrom, send,
    socket_with, sockopt,
};

use super::message::{DONE, DUMP_INTERRUPTED, Message, Request, messages};

/// More than any answer of the kernel: it fills at most 32 KiB.
const BUFFER: usize = 64 << 10;
/// Requests that may be under way at once: their answers must fit into the socket's buffer.
const WINDOW: usize = 64;
/// The kernel answers at once; if it does not, something is badly wrong, and waiting would not mend it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a list that changed while it was read is read again.
const DUMP_TRIES: usize = 10;

/// Whom to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes, rules.
    Route,
    /// The firewall.
    Netfilter,
    /// All that has no protocol of its own.
    Generic,
}

/// A socket to the kernel, for requests and their answers. Each blocks until the kernel has done its work.
///
/// It belongs to the network namespace that its maker's thread was in.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A copy of a received message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it is.
    pub kind: u16,
    /// Everything behind the header.
    pub body: Vec<u8>,
}

impl Netlink {
    /// Opens a socket.
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        let socket = open(protocol, 0, SocketFlags::CLOEXEC)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; BUFFER],
        })
    }

    /// Has one thing done.
    pub fn request(&mut self, request: Request) -> io::Result<()> {
        self.requests(vec![request]).pop().unwrap_or(Ok(()))
    }

    /// Has several things done, in order, whatever becomes of each.
    pub fn requests(&mut self, requests: Vec<Request>) -> Vec<io::Result<()>> {
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let window: Vec<Request> = requests.by_ref().take(WINDOW).collect();
            outcomes.extend(self.exchange(window));
        }
        outcomes
    }

    fn exchange(&mut self, window: Vec<Request>) -> Vec<io::Result<()>> {
        let mut outcomes: Vec<Option<io::Result<()>>> = Vec::new();
        let first = self.sequence.wrapping_add(1);
        for request in window {
            self.sequence = self.sequence.wrapping_add(1);
            let sent = send(
                &self.socket,
                &request.finish(self.sequence),
                SendFlags::empty(),
            );
            outcomes.push(sent.err().map(|error| Err(error.into())));
        }
        while outcomes.iter().any(Option::is_none) {
            let received = self.receive(|message| {
                let outcome = message.outcome()?;
                Some((message.sequence, outcome))
            });
            match received {
                Ok(answers) => {
                    for (sequence, outcome) in answers {
                        let index = sequence.wrapping_sub(first) as usize;
                        if let Some(slot) = outcomes.get_mut(index) {
                            slot.get_or_insert(outcome);
                        }
                    }
                }
                Err(error) => {
                    let lost = || Err(io::Error::from(error.kind()));
                    for slot in &mut outcomes {
                        slot.get_or_insert_with(lost);
                    }
                }
            }
        }
        outcomes.into_iter().flatten().collect()
    }

    /// Sends messages that the kernel takes as one, all or nothing. Those that are marked carry `ACK` and are answered; the first error is
    /// the error of all.
    pub fn transaction(&mut self, requests: Vec<(Request, bool)>) -> io::Result<()> {
        let mut all = Vec::new();
        let mut waiting = BTreeSet::new();
        for (request, is_answered) in requests {
            self.sequence = self.sequence.wrapping_add(1);
            if is_answered {
                waiting.insert(self.sequence);
            }
            all.extend(request.finish(self.sequence));
        }
        send(&self.socket, &all, SendFlags::empty())?;
        let mut first_error = Ok(());
        while !waiting.is_empty() {
            for (sequence, outcome) in
                self.receive(|message| Some((message.sequence, message.outcome()?)))?
            {
                waiting.remove(&sequence);
                if let (Ok(()), Err(error)) = (&first_error, outcome) {
                    first_error = Err(error);
                    // What comes behind a refused message may stay unanswered.
                    waiting.retain(|waiting| *waiting < sequence);
                }
            }
        }
        first_error
    }

    /// All objects that `request` asks for.
    pub fn dump(&mut self, request: &Request) -> io::Result<Vec<Answer>> {
        for _ in 0..DUMP_TRIES {
            if let Some(all) = self.try_dump(request.clone())? {
                return Ok(all);
            }
        }
        Err(io::Error::other(
            "the kernel's list changed whenever it was read",
        ))
    }

    /// `None` if the list changed meanwhile.
    fn try_dump(&mut self, request: Request) -> io::Result<Option<Vec<Answer>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        send(&self.socket, &request.finish(sequence), SendFlags::empty())?;
        let (mut all, mut is_whole) = (Vec::new(), true);
        loop {
            let part = self.receive(|message| {
                (message.sequence == sequence).then(|| {
                    let answer = Answer {
                        kind: message.kind,
                        body: message.body.to_vec(),
                    };
                    (answer, message.flags, message.outcome())
                })
            })?;
            for (answer, flags, outcome) in part {
                is_whole &= flags & DUMP_INTERRUPTED == 0;
                if let Some(outcome) = outcome {
                    outcome?;
                } else if answer.kind == DONE {
                    return Ok(is_whole.then_some(all));
                } else {
                    all.push(answer);
                }
            }
        }
    }

    /// What `pick` takes of the next datagram.
    fn receive<T>(&mut self, pick: impl Fn(Message<'_>) -> Option<T>) -> io::Result<Vec<T>> {
        loop {
            match recvfrom(&self.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((len, _, from)) if is_kernel(from.as_ref()) => {
                    let bytes = self.buffer.get(..len).unwrap_or_default();
                    return Ok(messages(bytes).filter_map(pick).collect());
                }
                Ok(_) => {}
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A socket on which the kernel tells of changes.
#[derive(Debug)]
pub struct Subscription {
    /// The runtime takes only sockets of its own types without unsafe code, and looks at none of their properties but
    /// whether they can be read.
    socket: tokio::net::UdpSocket,
    buffer: Vec<u8>,
}

impl Subscription {
    /// Listens to multicast groups of a protocol, as a set of bits. Must be called inside the async runtime.
    pub fn open(protocol: Protocol, groups: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = open(protocol, groups, flags)?;
        Ok(Self {
            socket: tokio::net::UdpSocket::from_std(socket.into())?,
            buffer: vec![0; BUFFER],
        })
    }

    /// Resolves when something may have arrived.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Gives `look` all that has arrived. `true` means that some was lost because there was too much.
    pub fn drain(&mut self, mut look: impl FnMut(Message<'_>)) -> io::Result<bool> {
        let mut is_lossy = false;
        loop {
            let (socket, buffer) = (&self.socket, &mut self.buffer);
            let received = socket.try_io(tokio::io::Interest::READABLE, || {
                Ok(recvfrom(socket, &mut buffer[..], RecvFlags::DONTWAIT)?)
            });
            match received {
                Ok((len, _, from)) if is_kernel(from.as_ref()) => {
                    messages(self.buffer.get(..len).unwrap_or_default()).for_each(&mut look);
                }
                Ok(_) => {}
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => {}
                    Some(Errno::NOBUFS) => is_lossy = true,
                    _ if error.kind() == io::ErrorKind::WouldBlock => return Ok(is_lossy),
                    _ => return Err(error),
                },
            }
        }
    }
}

fn open(protocol: Protocol, groups: u32, flags: SocketFlags) -> io::Result<OwnedFd> {
    let number = match protocol {
        // A protocol number of 0 cannot be written as one: it is what "none" stands for.
        Protocol::Route => None,
        Protocol::Netfilter => Some(netlink::NETFILTER),
        Protocol::Generic => Some(netlink::GENERIC),
    };
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, number)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// Port 0 is the kernel's; other programs may send to us too.
fn is_kernel(from: Option<&rustix::net::SocketAddrAny>) -> bool {
    from.and_then(|from| SocketAddrNetlink::try_from(from.clone()).ok())
        .is_some_and(|from| from.pid() == 0)
}
