//! UDP sockets without offloads: one datagram per system call.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use host::{Batch, Ecn, Sent, SocketId, UdpBinder, UdpRx, UdpSocket, UdpTx, Until, Waker};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};
use rustix::net::{RecvFlags, SendFlags};

/// The largest datagram.
const DATAGRAM_LEN: usize = 65_535;
/// Of the kernel's buffers for a socket, as the originals ask for.
const BUFFER_LEN: usize = 7 << 20;

/// Binds plain sockets.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainBinder;

impl UdpBinder for PlainBinder {
    fn bind(&self, v6: bool, port: u16) -> io::Result<Arc<dyn UdpSocket>> {
        bind(v6, port, |_| Ok(()))
    }
}

/// Binds sockets that stay out of our own tunnel.
#[cfg(target_os = "linux")]
#[derive(Debug, Clone, Copy)]
pub struct MarkedBinder(pub crate::router::Marked);

#[cfg(target_os = "linux")]
impl UdpBinder for MarkedBinder {
    fn bind(&self, v6: bool, port: u16) -> io::Result<Arc<dyn UdpSocket>> {
        bind(v6, port, |socket| self.0.mark_all(socket))
    }
}

fn bind(
    v6: bool,
    port: u16,
    prepare: impl FnOnce(&socket2::Socket) -> io::Result<()>,
) -> io::Result<Arc<dyn UdpSocket>> {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    let (domain, any): (_, SocketAddr) = if v6 {
        (socket2::Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into())
    } else {
        (socket2::Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into())
    };
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM.nonblocking().cloexec(), None)?;
    if v6 {
        socket.set_only_v6(true)?;
    }
    grow_buffers(&socket);
    prepare(&socket)?;
    socket.bind(&any.into())?;
    Ok(Arc::new(PlainSocket {
        id: SocketId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
        socket: socket.into(),
        wake: Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?),
    }))
}

/// What arrives while the engine is busy waits in the kernel. Without the right to more, the machine's limit has to do.
fn grow_buffers(socket: &socket2::Socket) {
    if set_socket_recv_buffer_size_force(socket, BUFFER_LEN).is_err() {
        // A small buffer loses more, and works.
        let _ = socket.set_recv_buffer_size(BUFFER_LEN);
    }
    if set_socket_send_buffer_size_force(socket, BUFFER_LEN).is_err() {
        let _ = socket.set_send_buffer_size(BUFFER_LEN);
    }
}

struct PlainSocket {
    id: SocketId,
    socket: std::net::UdpSocket,
    wake: Arc<OwnedFd>,
}

impl PlainSocket {
    /// One datagram.
    fn receive(&self, room: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (len, _, from) = rustix::net::recvfrom(&self.socket, room, RecvFlags::DONTWAIT)?;
        let from = from.and_then(|from| SocketAddr::try_from(from).ok());
        Ok((len, from.ok_or(io::ErrorKind::InvalidData)?))
    }

    /// Takes datagrams until the socket is empty or `buf` cannot hold another of any size.
    fn drain(&self, buf: &mut [u8], out: &mut Batch<UdpRx>) -> io::Result<()> {
        let mut off = 0;
        while let Some(room) = buf
            .get_mut(off..)
            .filter(|room| room.len() >= DATAGRAM_LEN || off == 0)
        {
            match self.receive(room) {
                Ok((len, from)) => {
                    out.push(UdpRx {
                        off: off as u32,
                        len: len as u32,
                        stride: len as u16,
                        from,
                        to: None,
                        ecn: Ecn::default(),
                    });
                    off += len;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // An ICMP error of an earlier send is reported here; it is not this receive's.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait(&self, limit: Option<Duration>) -> io::Result<()> {
        let mut fds = [
            PollFd::new(&self.socket, PollFlags::IN),
            PollFd::new(self.wake.as_ref(), PollFlags::IN),
        ];
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        poll(&mut fds, limit.as_ref())?;
        let mut count = [0; 8];
        // Nothing to read means that nobody woke us.
        let _ = rustix::io::read(self.wake.as_ref(), &mut count);
        Ok(())
    }
}

impl UdpSocket for PlainSocket {
    fn id(&self) -> SocketId {
        self.id
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn recv(&self, buf: &mut [u8], out: &mut Batch<UdpRx>, until: Until) -> io::Result<()> {
        let before = out.len();
        self.drain(buf, out)?;
        if out.len() > before {
            return Ok(());
        }
        match until {
            Until::Now => return Ok(()),
            Until::At(deadline) => self.wait(Some(rt::now().until(deadline)))?,
            Until::Woken => self.wait(None)?,
        }
        self.drain(buf, out)
    }

    fn send(&self, batch: &[UdpTx<'_>]) -> Sent {
        let mut sent = Sent::default();
        for train in batch {
            let stride = usize::from(train.stride).max(1);
            for datagram in train.data.chunks(stride) {
                if let Err(error) =
                    rustix::net::sendto(&self.socket, datagram, SendFlags::DONTWAIT, &train.to)
                {
                    count_loss(&mut sent, &error.into());
                }
            }
            sent.done += 1;
        }
        sent
    }

    fn waker(&self) -> Waker {
        let wake = Arc::clone(&self.wake);
        Waker::new(move || {
            // A full counter means that it is awake already.
            let _ = rustix::io::write(&*wake, &1u64.to_ne_bytes());
        })
    }
}

fn count_loss(sent: &mut Sent, error: &io::Error) {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => sent.lost.no_buffer += 1,
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkDown => {
            sent.lost.unreachable += 1;
        }
        _ if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => {
            sent.lost.too_big += 1
        }
        _ => sent.lost.other += 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_arrive_whole_and_apart() {
        let (a, b) = (
            PlainBinder.bind(false, 0).unwrap(),
            PlainBinder.bind(false, 0).unwrap(),
        );
        let to: SocketAddr = (Ipv4Addr::LOCALHOST, b.local_addr().unwrap().port()).into();
        let sent = a.send(&[UdpTx {
            to,
            src: None,
            stride: 3,
            ecn: Ecn::default(),
            data: b"abcdefg",
        }]);
        assert_eq!((sent.done, sent.lost), (1, Default::default()));
        let mut buf = vec![0; 3 * DATAGRAM_LEN];
        let mut out = Vec::new();
        while out.len() < 3 {
            let mut batch = Vec::new();
            b.recv(&mut buf, &mut batch, Until::Woken).unwrap();
            out.extend(
                batch
                    .iter()
                    .map(|rx| buf[rx.off as usize..][..rx.len as usize].to_vec()),
            );
        }
        assert_eq!(out, [&b"abc"[..], b"def", b"g"]);
    }

    #[test]
    fn a_waker_ends_a_blocked_receive() {
        let socket = PlainBinder.bind(false, 0).unwrap();
        let waker = socket.waker();
        let blocked = std::thread::spawn(move || {
            let mut out = Vec::new();
            socket.recv(&mut [0; 100], &mut out, Until::Woken).unwrap();
            out.len()
        });
        waker.wake();
        assert_eq!(blocked.join().unwrap(), 0);
    }
}
