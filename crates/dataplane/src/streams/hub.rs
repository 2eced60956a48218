//! The engine's side: which flow belongs to which stream.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use host::{Instant, Waker};
use netstack::{Closed, Error, Event, FlowId, Netstack, Transport};
use rand_core::CryptoRng;
use tokio::sync::mpsc;

use super::dial::{Dialer, Incoming, IncomingFlows, IncomingTcp, IncomingUdp};
use super::queue::{Command, Queue};
use super::tcp::{TcpShared, error_kind};
use super::udp::UdpShared;

/// Callers that nobody has looked at yet. More are refused.
const MAX_CALLERS: usize = 8192;
/// How often streams that are quiet give back their buffers.
const TRIM_EVERY: Duration = Duration::from_secs(5);

/// Connects streams with the flows of one [`Netstack`]. Owned by the engine's thread; dropping it ends all streams.
pub struct FlowHub {
    queue: Arc<Queue>,
    commands: Vec<Command>,
    flows: HashMap<FlowId, Shared>,
    callers: mpsc::Sender<Incoming>,
    trimmed_at: Instant,
}

#[derive(Debug, Clone)]
enum Shared {
    Tcp(Arc<TcpShared>),
    Udp(Arc<UdpShared>),
}

impl Shared {
    fn set_ended(&self, why: io::ErrorKind) {
        match self {
            Self::Tcp(shared) => shared.set_ended(why),
            Self::Udp(shared) => shared.set_ended(why),
        }
    }
}

impl FlowHub {
    /// A hub, the handle that opens flows, and the flows that others open. `waker` makes the engine's thread call
    /// [`turn`](Self::turn).
    pub fn new(waker: Waker) -> (Self, Dialer, IncomingFlows) {
        let queue = Arc::new(Queue::new(waker));
        let (callers, incoming) = mpsc::channel(MAX_CALLERS);
        let hub = Self {
            queue: queue.clone(),
            commands: Vec::new(),
            flows: HashMap::new(),
            callers,
            trimmed_at: Instant::ZERO,
        };
        (hub, Dialer::new(queue), IncomingFlows(incoming))
    }

    /// Does what the tasks asked for and tells them what happened. To be called once per round of the engine, after packets
    /// and timeouts were handed to the stack and before packets are taken from it. Returns what is the engine's own affair:
    /// answers to echo requests.
    pub fn turn(
        &mut self,
        stack: &mut Netstack,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) -> Vec<Event> {
        let mut commands = std::mem::take(&mut self.commands);
        self.queue.take(&mut commands);
        for command in commands.drain(..) {
            self.obey(command, stack, now, rng);
        }
        self.commands = commands;
        if now.since(self.trimmed_at) >= TRIM_EVERY {
            self.trimmed_at = now;
            self.trim();
        }
        let mut others = Vec::new();
        while let Some(event) = stack.poll_event() {
            match event {
                Event::Incoming {
                    id,
                    transport,
                    local,
                    remote,
                } => {
                    self.announce(id, transport, (local, remote), stack);
                }
                Event::Connected { id } => {
                    if let Some(Shared::Tcp(shared)) = self.flows.get(&id) {
                        shared.set_connected(stack.endpoints(id));
                    }
                    self.carry(id, stack, now);
                }
                Event::Progress { id } => self.carry(id, stack, now),
                Event::Closed { id, reason } => self.end(id, reason),
                Event::EchoReply { .. } => others.push(event),
            }
        }
        others
    }

    fn obey(
        &mut self,
        command: Command,
        stack: &mut Netstack,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) {
        match command {
            Command::DialTcp {
                local,
                remote,
                shared,
            } => {
                let opened = source(stack, local, remote)
                    .and_then(|local| stack.connect(local, remote, now, rng).map_err(refusal));
                match opened {
                    Ok(id) => {
                        shared.opened(id);
                        self.flows.insert(id, Shared::Tcp(shared));
                        // It may have been let go of already.
                        self.carry(id, stack, now);
                    }
                    Err(why) => shared.set_ended(why),
                }
            }
            Command::DialUdp {
                local,
                remote,
                shared,
            } => {
                let opened = source(stack, local, remote)
                    .and_then(|local| stack.udp_connect(local, remote, rng).map_err(refusal));
                match opened {
                    Ok(id) => {
                        shared.set_opened(id, stack);
                        self.flows.insert(id, Shared::Udp(shared));
                    }
                    Err(why) => shared.set_ended(why),
                }
            }
            Command::AcceptTcp(shared) => {
                if let Some(id) = shared.flow()
                    && !stack.accept(id, now, rng)
                {
                    self.end(id, Closed::Reset);
                }
            }
            Command::AcceptUdp(shared) => {
                if let Some(id) = shared.flow() {
                    match stack.accept(id, now, rng) {
                        true => shared.set_opened(id, stack),
                        false => self.end(id, Closed::Idle),
                    }
                }
            }
            Command::Refuse(id) => {
                self.flows.remove(&id);
                stack.refuse(id);
            }
            Command::Tcp(shared) => {
                if let Some(id) = shared.flow() {
                    self.carry(id, stack, now);
                }
            }
            Command::Udp(shared) => {
                if let Some(id) = shared.flow() {
                    self.carry(id, stack, now);
                }
            }
        }
    }

    fn announce(
        &mut self,
        id: FlowId,
        transport: Transport,
        ends: (SocketAddr, SocketAddr),
        stack: &mut Netstack,
    ) {
        let queue = self.queue.clone();
        let (shared, caller) = match transport {
            Transport::Tcp => {
                let shared = TcpShared::new(queue.clone(), Some(id));
                let caller = IncomingTcp::new(queue, id, ends, shared.clone());
                (Shared::Tcp(shared), Incoming::Tcp(caller))
            }
            Transport::Udp => {
                let shared = UdpShared::new(queue.clone(), Some(id));
                let caller = IncomingUdp::new(queue, id, ends, shared.clone());
                (Shared::Udp(shared), Incoming::Udp(caller))
            }
        };
        match self.callers.try_send(caller) {
            Ok(()) => {
                self.flows.insert(id, shared);
            }
            // Nobody looks, or nobody looks fast enough.
            Err(_) => stack.refuse(id),
        }
    }

    fn carry(&mut self, id: FlowId, stack: &mut Netstack, now: Instant) {
        let goes_on = match self.flows.get(&id) {
            Some(Shared::Tcp(shared)) => shared.carry(stack, now),
            Some(Shared::Udp(shared)) => shared.carry(stack, now),
            None => return,
        };
        if !goes_on {
            self.flows.remove(&id);
        }
    }

    fn trim(&self) {
        for shared in self.flows.values() {
            if let Shared::Tcp(shared) = shared {
                shared.trim();
            }
        }
    }

    fn end(&mut self, id: FlowId, reason: Closed) {
        if let Some(shared) = self.flows.remove(&id) {
            shared.set_ended(error_kind(reason));
        }
    }
}

impl Drop for FlowHub {
    fn drop(&mut self) {
        self.queue.close();
        for shared in self.flows.values() {
            shared.set_ended(io::ErrorKind::ConnectionAborted);
        }
    }
}

/// The local address for a flow to `remote`.
fn source(
    stack: &Netstack,
    local: Option<IpAddr>,
    remote: SocketAddr,
) -> Result<IpAddr, io::ErrorKind> {
    local
        .or_else(|| {
            stack
                .addresses()
                .iter()
                .copied()
                .find(|ip| ip.is_ipv4() == remote.is_ipv4())
        })
        .ok_or(io::ErrorKind::AddrNotAvailable)
}

fn refusal(error: Error) -> io::ErrorKind {
    match error {
        Error::BadAddress | Error::TooLarge => io::ErrorKind::InvalidInput,
        Error::NoPorts => io::ErrorKind::AddrInUse,
        Error::Gone | Error::Full => io::ErrorKind::NotConnected,
    }
}
