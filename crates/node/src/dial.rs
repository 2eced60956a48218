//! Opening connections as a user of this node would: names by the tailnet first, then by the system; tailnet addresses
//! through the tunnel, all others through the machine.

use std::io;
use std::net::SocketAddr;

use host::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Our end, where it has an address.
    fn local_addr(&self) -> Option<SocketAddr>;
}

impl Stream for tokio::net::TcpStream {
    fn local_addr(&self) -> Option<SocketAddr> {
        Self::local_addr(self).ok()
    }
}

impl Stream for dataplane::TcpStream {
    fn local_addr(&self) -> Option<SocketAddr> {
        Some(Self::local_addr(self))
    }
}

impl Stream for transport::Stream {
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }
}

/// A connection within the daemon.
impl Stream for tokio::io::DuplexStream {
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }
}

/// A datagram flow to one remote address.
pub trait DatagramFlow: Send + Sync {
    /// Sends one datagram.
    fn send<'a>(&'a self, datagram: &'a [u8]) -> BoxFuture<'a, io::Result<()>>;
    /// Waits for one datagram; what does not fit into `buf` is cut off.
    fn recv<'a>(&'a self, buf: &'a mut [u8]) -> BoxFuture<'a, io::Result<usize>>;
    /// Our address.
    fn local_addr(&self) -> SocketAddr;
}

/// Opens connections as a user of this node would.
pub trait Dial: Send + Sync {
    /// Opens a TCP connection to a name or address.
    fn tcp<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;

    /// Opens a UDP flow to a name or address.
    fn udp<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Box<dyn DatagramFlow>>>;
}
