//! Packets in and out of the machine: TUN queues and UDP sockets.
//!
//! One virtual call moves a drained batch of up to 64 KB into or out of the caller's buffer, with offload metadata
//! explicit, so that an implementation without offloads and a fast one share these signatures.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use packet::offload::{Csum, Gso, GsoKind, Limits};

use crate::Instant;

/// A slice of the caller's buffer that holds one (super-)packet from the TUN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunRx {
    /// Where it starts.
    pub off: u32,
    /// How long it is.
    pub len: u32,
    /// Its segmentation.
    pub gso: Gso,
    /// Its checksum.
    pub csum: Csum,
}

/// One (super-)packet for the TUN.
#[derive(Debug)]
pub struct TunTx<'a> {
    /// Its segmentation.
    pub gso: Gso,
    /// Its checksum.
    pub csum: Csum,
    /// Its bytes.
    pub iov: &'a [IoSlice<'a>],
}

/// The ECN field of an outer packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ecn(pub u8);

/// A slice of the caller's buffer that holds a train of datagrams from one sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpRx {
    /// Where it starts.
    pub off: u32,
    /// How long it is.
    pub len: u32,
    /// Bytes of each datagram but the last.
    pub stride: u16,
    /// The sender.
    pub from: SocketAddr,
    /// Which of our addresses it came to, where known.
    pub to: Option<IpAddr>,
    /// Its ECN field.
    pub ecn: Ecn,
}

/// A train of datagrams to one receiver.
#[derive(Debug, Clone, Copy)]
pub struct UdpTx<'a> {
    /// The receiver.
    pub to: SocketAddr,
    /// Which of our addresses to send from, if it matters.
    pub src: Option<IpAddr>,
    /// Bytes of each datagram but the last.
    pub stride: u16,
    /// The ECN field to set.
    pub ecn: Ecn,
    /// The datagrams, one behind the other.
    pub data: &'a [u8],
}

/// How long a receive may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Take what is there.
    Now,
    /// Until this instant.
    At(Instant),
    /// Until woken.
    Woken,
}

/// A list that a receive fills; kept by the caller so that nothing is allocated per call.
pub type Batch<T> = Vec<T>;

/// How many packets could not be sent, by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DropCounts {
    /// The path cannot carry so large a datagram.
    pub too_big: u32,
    /// The socket's or device's queue was full.
    pub no_buffer: u32,
    /// No route, or the network is down.
    pub unreachable: u32,
    /// Anything else.
    pub other: u32,
}

/// An offload that the machine turned out not to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// UDP segmentation on send.
    UdpGso,
    /// UDP coalescing on receive.
    UdpGro,
    /// TCP segmentation on the TUN.
    TunTso,
    /// UDP segmentation on the TUN.
    TunUso,
}

/// What is not to be used although the machine says that it can do it: some kernels are wrong about that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Avoid {
    /// UDP segmentation on send.
    pub udp_gso: bool,
    /// UDP coalescing on receive.
    pub udp_gro: bool,
    /// Super-packets of TCP to the TUN.
    pub tun_tcp: bool,
    /// Super-packets of UDP to the TUN.
    pub tun_udp: bool,
    /// Trains whose last datagram is as long as the others.
    pub equal_tail: bool,
}

/// What became of a batch. Errors of the network are data here, not errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// How many entries were handed over.
    pub done: usize,
    /// How many packets were lost, by cause.
    pub lost: DropCounts,
    /// An offload that was switched off because the machine refused it.
    pub downgraded: Option<Offload>,
}

/// Wakes a blocked receive from another thread.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Wakes the receiver.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}

/// A TUN device.
pub trait Tun: Send {
    /// The interface's name.
    fn name(&self) -> &str;
    /// The longest packet that it was made for.
    fn mtu(&self) -> usize;
    /// The device's queues; each is received from by one worker.
    fn queues(&mut self) -> Vec<Arc<dyn TunQueue>>;
}

/// One queue of a TUN device: one thread receives, any may send.
pub trait TunQueue: Send + Sync {
    /// Fills `buf` and `out` with what has arrived. An error means that the device is gone.
    fn recv(&self, buf: &mut [u8], out: &mut Batch<TunRx>, until: Until) -> io::Result<()>;
    /// Sends packets.
    fn send(&self, packets: &[TunTx<'_>]) -> Sent;
    /// Which super-packets `send` takes now.
    fn takes(&self) -> Limits {
        Limits::default()
    }
    /// Says what not to use from now on.
    fn avoid(&self, avoid: Avoid) {
        let _ = avoid;
    }
    /// Wakes a blocked `recv`.
    fn waker(&self) -> Waker;
}

/// Which socket a datagram came through; a rebind is a new socket with a new id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketId(pub u64);

/// Makes UDP sockets.
pub trait UdpBinder: Send + Sync {
    /// Binds to `port` of all addresses of one family; 0 lets the machine choose.
    fn bind(&self, v6: bool, port: u16) -> io::Result<Arc<dyn UdpSocket>>;
    /// Binds up to `count` sockets to one port, each for a thread of its own: what one sender sends always comes to the same
    /// one. Fewer where the machine has no such thing.
    fn bind_group(&self, v6: bool, port: u16, count: usize) -> io::Result<Vec<Arc<dyn UdpSocket>>> {
        let _ = count;
        Ok(vec![self.bind(v6, port)?])
    }
    /// The longest packet that the way to `to` carries, its headers included, as far as the machine has heard; `None` where it does not tell.
    fn path_mtu(&self, to: SocketAddr) -> Option<usize> {
        let _ = to;
        None
    }
}

/// One UDP socket.
pub trait UdpSocket: Send + Sync {
    /// Which socket this is.
    fn id(&self) -> SocketId;
    /// The bound address.
    fn local_addr(&self) -> io::Result<SocketAddr>;
    /// Fills `buf` and `out` with what has arrived.
    fn recv(&self, buf: &mut [u8], out: &mut Batch<UdpRx>, until: Until) -> io::Result<()>;
    /// Sends datagrams; one entry is one train.
    fn send(&self, batch: &[UdpTx<'_>]) -> Sent;
    /// Says what not to use from now on.
    fn avoid(&self, avoid: Avoid) {
        let _ = avoid;
    }
    /// Lets routers on the way cut datagrams that are too long for them, as far as the machine can ask for that.
    fn allow_fragments(&self) {}
    /// Wakes a blocked `recv`.
    fn waker(&self) -> Waker;
}
