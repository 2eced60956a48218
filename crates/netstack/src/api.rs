//! What goes in and comes out of the [`Netstack`](crate::Netstack), as plain values.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use packet::offload::{Csum, Gso};

/// One TCP connection or UDP flow of the stack. Never used again once its flow is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub(crate) u64);

/// Which transport a flow speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A packet to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// Where it goes.
    pub to: IpAddr,
    /// How it is made, if it is several in one.
    pub gso: Gso,
    /// Its transport checksum.
    pub csum: Csum,
}

/// How the stack behaves. [`Config::default`] is what the reference does.
#[derive(Debug, Clone)]
pub struct Config {
    /// The largest IP packet that is sent, in bytes.
    pub mtu: usize,
    /// Our own addresses: echo requests to them are answered, and packets from the stack to them stay inside.
    pub addresses: Vec<IpAddr>,
    /// How many connection attempts may wait for [`accept`](crate::Netstack::accept).
    pub max_pending: usize,
    /// How many of these may come from one address.
    pub max_pending_per_source: usize,
    /// Silence after which a TCP connection is probed.
    pub keep_alive_idle: Duration,
    /// Time between two probes.
    pub keep_alive_interval: Duration,
    /// The largest receive window of one TCP connection, in bytes; it starts small and grows while its reader keeps up.
    pub max_receive_buffer: usize,
    /// The most unacknowledged and unsent bytes of one TCP connection; grows with the congestion window.
    pub max_send_buffer: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mtu: 1280,
            addresses: Vec::new(),
            max_pending: 8192,
            max_pending_per_source: 8192 * 2 / 3,
            keep_alive_idle: Duration::from_secs(2 * 60 * 60),
            keep_alive_interval: Duration::from_secs(75),
            max_receive_buffer: 8 << 20,
            max_send_buffer: 6 << 20,
        }
    }
}

/// What happened, in the order in which it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants to talk. A TCP caller gets no answer, and a UDP caller no further packet is looked at, before
    /// [`accept`](crate::Netstack::accept) or [`refuse`](crate::Netstack::refuse).
    Incoming {
        /// The flow, from here on.
        id: FlowId,
        /// Its transport.
        transport: Transport,
        /// Where the caller wants to go.
        local: SocketAddr,
        /// The caller.
        remote: SocketAddr,
    },
    /// A TCP connection is established: ours was answered, or an accepted one completed.
    Connected {
        /// The flow.
        id: FlowId,
    },
    /// There is something new to receive (data, a datagram, the end of the stream), or room to send after there was none.
    /// At most one is queued per flow.
    Progress {
        /// The flow.
        id: FlowId,
    },
    /// The flow is gone, and its id with it. Everything received in order was read before, or this would not have come.
    Closed {
        /// The flow.
        id: FlowId,
        /// Why.
        reason: Closed,
    },
    /// An answer to [`send_echo`](crate::Netstack::send_echo).
    EchoReply {
        /// Which of our addresses asked.
        local: IpAddr,
        /// Who answered.
        remote: IpAddr,
        /// The identifier of the request.
        ident: u16,
        /// The sequence number of the request.
        seq: u16,
    },
}

/// Why a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// Both directions ended in order and everything was delivered.
    Finished,
    /// The other side refused the connection.
    Refused,
    /// The other side reset the connection, or gave up an attempt before it was accepted.
    Reset,
    /// The other side stopped answering.
    TimedOut,
    /// A UDP flow without traffic.
    Idle,
    /// [`abort`](crate::Netstack::abort), [`refuse`](crate::Netstack::refuse) or the loss of the local address.
    Aborted,
}

/// What a receive found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recv {
    /// So many bytes (at least one) were copied.
    Data(usize),
    /// Nothing for the moment; a [`Event::Progress`] follows.
    Empty,
    /// The other side sends no more.
    Eof,
    /// There is no such flow (any more).
    Gone,
}

/// Why a flow could not be opened or a datagram not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// There is no such flow (any more).
    Gone,
    /// Local and remote address are of different families, or one of them cannot be talked to.
    BadAddress,
    /// Every local port is taken.
    NoPorts,
    /// No packet can carry so long a datagram.
    TooLarge,
    /// Too much is waiting to be sent; try after the next [`poll_transmit`](crate::Netstack::poll_transmit).
    Full,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gone => "the flow is gone",
            Self::BadAddress => "local and remote address do not go together",
            Self::NoPorts => "every local port is taken",
            Self::TooLarge => "no packet can carry so long a datagram",
            Self::Full => "too much is waiting to be sent",
        })
    }
}

impl std::error::Error for Error {}

/// What the stack has seen; sums since its start, but for the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// TCP flows, from the accepted or sent SYN on.
    pub tcp_flows: usize,
    /// UDP flows.
    pub udp_flows: usize,
    /// Packets that were not well-formed IP, or whose checksum was wrong.
    pub malformed: u64,
    /// Packets for which there is no use (unknown protocols, no such flow).
    pub ignored: u64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// Connection attempts refused because too many were waiting.
    pub dropped_attempts: u64,
    /// Connection attempts refused because too many were waiting from one address.
    pub dropped_attempts_per_source: u64,
    /// Packets and datagrams dropped because a queue was full.
    pub queue_full: u64,
}
