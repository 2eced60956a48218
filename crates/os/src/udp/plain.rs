//! Where the kernel takes one datagram at a time.

use std::io;
use std::net::SocketAddr;

use host::{Avoid, Ecn, Sent, UdpRx, UdpTx};
use rustix::net::{RecvFlags, SendFlags};

use super::count_loss;

#[derive(Debug)]
pub(super) struct Trains;

impl Trains {
    pub(super) fn probe(_socket: &socket2::Socket, _v6: bool) -> Self {
        Self
    }

    /// Nothing is used here.
    pub(super) fn avoid(&self, _socket: &std::net::UdpSocket, _avoid: Avoid) {}

    pub(super) fn receive(
        &self,
        socket: &std::net::UdpSocket,
        room: &mut [u8],
        off: usize,
    ) -> io::Result<UdpRx> {
        let (len, _, from) = rustix::net::recvfrom(socket, room, RecvFlags::DONTWAIT)?;
        let from = from.and_then(|from| SocketAddr::try_from(from).ok());
        Ok(UdpRx {
            off: off as u32,
            len: len as u32,
            stride: len as u16,
            from: from.ok_or(io::ErrorKind::InvalidData)?,
            to: None,
            ecn: Ecn::default(),
        })
    }

    pub(super) fn send(&self, socket: &std::net::UdpSocket, train: &UdpTx<'_>, sent: &mut Sent) {
        for datagram in train.data.chunks(usize::from(train.stride).max(1)) {
            if let Err(error) =
                rustix::net::sendto(socket, datagram, SendFlags::DONTWAIT, &train.to)
            {
                count_loss(sent, &error.into(), 1);
            }
        }
    }
}
