//! Opening flows from tasks, and taking those that others open.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use netstack::FlowId;
use tokio::sync::mpsc;

use super::queue::{Command, Queue};
use super::tcp::{TcpShared, TcpStream};
use super::udp::{UdpFlow, UdpShared};

/// Opens flows through the tunnel. Clones are handles to the same engine.
#[derive(Debug, Clone)]
pub struct Dialer {
    queue: Arc<Queue>,
}

impl Dialer {
    pub(crate) fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }

    /// Opens a TCP connection from our address of the same family. There is no time limit but the stack's own of about two
    /// minutes; dropping the future gives up.
    pub async fn tcp(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        self.tcp_from(None, remote).await
    }

    /// As [`tcp`](Self::tcp), from a given local address.
    pub async fn tcp_from(
        &self,
        local: Option<IpAddr>,
        remote: SocketAddr,
    ) -> io::Result<TcpStream> {
        let shared = TcpShared::new(self.queue.clone(), None);
        self.queue.post(Command::DialTcp {
            local,
            remote,
            shared: shared.clone(),
        });
        shared.connected().await
    }

    /// Opens a UDP flow from our address of the same family.
    pub async fn udp(&self, remote: SocketAddr) -> io::Result<UdpFlow> {
        let shared = UdpShared::new(self.queue.clone(), None);
        self.queue.post(Command::DialUdp {
            local: None,
            remote,
            shared: shared.clone(),
        });
        shared.opened().await
    }
}

/// Flows that others open, in the order in which they came.
#[derive(Debug)]
pub struct IncomingFlows(pub(crate) mpsc::Receiver<Incoming>);

impl IncomingFlows {
    /// The next one; `None` once the engine has stopped.
    pub async fn recv(&mut self) -> Option<Incoming> {
        self.0.recv().await
    }
}

/// Somebody wants to talk.
#[derive(Debug)]
pub enum Incoming {
    /// Over TCP.
    Tcp(IncomingTcp),
    /// Over UDP.
    Udp(IncomingUdp),
}

/// A TCP caller that has no answer yet. Dropping it refuses the connection.
#[derive(Debug)]
pub struct IncomingTcp {
    /// Where it wants to go.
    pub local: SocketAddr,
    /// Who it is.
    pub remote: SocketAddr,
    pending: Pending,
    shared: Arc<TcpShared>,
}

/// A UDP caller whose first datagrams wait. Dropping it drops them.
#[derive(Debug)]
pub struct IncomingUdp {
    /// Where it wants to go.
    pub local: SocketAddr,
    /// Who it is.
    pub remote: SocketAddr,
    pending: Pending,
    shared: Arc<UdpShared>,
}

/// Refuses a flow unless it was accepted.
#[derive(Debug)]
struct Pending {
    queue: Arc<Queue>,
    flow: Option<FlowId>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(flow) = self.flow {
            self.queue.post(Command::Refuse(flow));
        }
    }
}

impl IncomingTcp {
    pub(crate) fn new(
        queue: Arc<Queue>,
        flow: FlowId,
        (local, remote): (SocketAddr, SocketAddr),
        shared: Arc<TcpShared>,
    ) -> Self {
        Self {
            local,
            remote,
            pending: Pending {
                queue,
                flow: Some(flow),
            },
            shared,
        }
    }

    /// Lets the handshake go on and waits until it is over.
    pub async fn accept(mut self) -> io::Result<TcpStream> {
        self.pending.flow = None;
        self.pending
            .queue
            .post(Command::AcceptTcp(self.shared.clone()));
        self.shared.clone().connected().await
    }

    /// Tells the caller that nobody is there.
    pub fn refuse(self) {}

    /// Resolves when the caller has given up.
    pub async fn gone(&self) {
        self.shared.ended().await;
    }
}

impl IncomingUdp {
    pub(crate) fn new(
        queue: Arc<Queue>,
        flow: FlowId,
        (local, remote): (SocketAddr, SocketAddr),
        shared: Arc<UdpShared>,
    ) -> Self {
        Self {
            local,
            remote,
            pending: Pending {
                queue,
                flow: Some(flow),
            },
            shared,
        }
    }

    /// Takes the flow. It ends by itself after two minutes without traffic (30 seconds for DNS), as the originals'.
    pub async fn accept(mut self) -> io::Result<UdpFlow> {
        self.pending.flow = None;
        self.pending
            .queue
            .post(Command::AcceptUdp(self.shared.clone()));
        self.shared.clone().opened().await
    }
}
