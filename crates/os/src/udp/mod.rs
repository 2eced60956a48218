//! UDP sockets. Where the kernel can, a train of datagrams goes in one system call.

#[cfg(not(target_os = "linux"))]
mod plain;
#[cfg(target_os = "linux")]
mod trains;

#[cfg(not(target_os = "linux"))]
use plain::Trains;
#[cfg(target_os = "linux")]
use trains::Trains;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use host::{Avoid, Batch, Sent, SocketId, UdpBinder, UdpRx, UdpSocket, UdpTx, Until, Waker};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};

/// The largest datagram, or train.
const DATAGRAM_LEN: usize = 65_535;
/// One receive takes no more than this behind the last datagram, so that the first need not wait long.
const DRAIN_LEN: usize = 60_000;
/// Of the kernel's buffers for a socket, as the originals ask for.
const BUFFER_LEN: usize = 7 << 20;

/// Binds plain sockets.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainBinder;

impl UdpBinder for PlainBinder {
    fn bind(&self, v6: bool, port: u16) -> io::Result<Arc<dyn UdpSocket>> {
        bind(v6, port, |_| Ok(()))
    }

    fn bind_group(&self, v6: bool, port: u16, count: usize) -> io::Result<Group> {
        bind_group(v6, port, count, |_| Ok(()))
    }

    fn path_mtu(&self, to: SocketAddr) -> Option<usize> {
        path_mtu(to, |_| Ok(()))
    }
}

/// What the kernel knows of the way to an address: the link's, or what a router on the way has complained about.
#[cfg(target_os = "linux")]
fn path_mtu(
    to: SocketAddr,
    prepare: impl FnOnce(&socket2::Socket) -> io::Result<()>,
) -> Option<usize> {
    let kind = socket2::Type::DGRAM.cloexec();
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), kind, None).ok()?;
    prepare(&socket).ok()?;
    // Nothing is sent by it.
    socket.connect(&to.into()).ok()?;
    let mtu = match to {
        SocketAddr::V4(_) => rustix::net::sockopt::ip_mtu(&socket),
        SocketAddr::V6(_) => rustix::net::sockopt::ipv6_mtu(&socket),
    };
    mtu.ok().and_then(|mtu| usize::try_from(mtu).ok())
}

#[cfg(not(target_os = "linux"))]
fn path_mtu(_: SocketAddr, _: impl FnOnce(&socket2::Socket) -> io::Result<()>) -> Option<usize> {
    None
}

/// Sockets on one port.
type Group = Vec<Arc<dyn UdpSocket>>;

/// The kernel gives each sender's datagrams to one of the sockets (`SO_REUSEPORT`), by its address and port.
#[cfg(target_os = "linux")]
fn bind_group(
    v6: bool,
    port: u16,
    count: usize,
    prepare: impl Fn(&socket2::Socket) -> io::Result<()>,
) -> io::Result<Group> {
    // Alone at first: another process's port must not be shared with it.
    let first = bind(v6, port, &prepare)?;
    if count <= 1 {
        return Ok(vec![first]);
    }
    let port = first.local_addr()?.port();
    drop(first);
    let share = |socket: &socket2::Socket| {
        socket.set_reuse_port(true)?;
        prepare(socket)
    };
    (0..count).map(|_| bind(v6, port, share)).collect()
}

#[cfg(not(target_os = "linux"))]
fn bind_group(
    v6: bool,
    port: u16,
    _count: usize,
    prepare: impl Fn(&socket2::Socket) -> io::Result<()>,
) -> io::Result<Group> {
    Ok(vec![bind(v6, port, prepare)?])
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

    fn bind_group(&self, v6: bool, port: u16, count: usize) -> io::Result<Group> {
        bind_group(v6, port, count, |socket| self.0.mark_all(socket))
    }

    fn path_mtu(&self, to: SocketAddr) -> Option<usize> {
        path_mtu(to, |socket| self.0.mark_all(socket))
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
        is_empty: AtomicBool::new(false),
        trains: Trains::probe(&socket, v6),
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
    /// Whether the last look found nothing more: the next one may wait at once.
    is_empty: AtomicBool,
    trains: Trains,
    socket: std::net::UdpSocket,
    wake: Arc<OwnedFd>,
}

impl PlainSocket {
    /// Takes datagrams until the socket is empty, or there are many, or `buf` cannot hold another of any size.
    fn drain(&self, buf: &mut [u8], out: &mut Batch<UdpRx>) -> io::Result<()> {
        let mut off = 0;
        while let Some(room) = buf
            .get_mut(off..)
            .filter(|room| off == 0 || (room.len() >= DATAGRAM_LEN && off < DRAIN_LEN))
        {
            match self.take(room, off, out) {
                Ok(taken) => off += taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_empty.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // An ICMP error of an earlier send is reported here; it is not this receive's.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
        self.is_empty.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// One datagram or train, or many datagrams; says how much of `room` they have taken.
    fn take(&self, room: &mut [u8], off: usize, out: &mut Batch<UdpRx>) -> io::Result<usize> {
        #[cfg(target_os = "linux")]
        if self.trains.comes_singly()
            && let Some(parts) = room.get_mut(..trains::PARTS_LEN)
        {
            return self.trains.receive_many(&self.socket, parts, off, out);
        }
        let train = self.trains.receive(&self.socket, room, off)?;
        out.push(train);
        Ok(train.len as usize)
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
        if !fds[1].revents().is_empty() {
            let mut count = [0; 8];
            // Nothing to read means that somebody else was quicker.
            let _ = rustix::io::read(self.wake.as_ref(), &mut count);
        }
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
        if until == Until::Now || !self.is_empty.load(Ordering::Relaxed) {
            self.drain(buf, out)?;
        }
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
            self.trains.send(&self.socket, train, &mut sent);
            sent.done += 1;
        }
        sent
    }

    fn avoid(&self, avoid: Avoid) {
        self.trains.avoid(&self.socket, avoid);
    }

    #[cfg(target_os = "linux")]
    fn allow_fragments(&self) {
        use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
        // An IPv6 socket has no such thing: only senders cut.
        let _ = set_ip_mtu_discover(&self.socket, Ipv4PathMtuDiscovery::DONT);
    }

    fn waker(&self) -> Waker {
        let wake = Arc::clone(&self.wake);
        Waker::new(move || {
            // A full counter means that it is awake already.
            let _ = rustix::io::write(&*wake, &1u64.to_ne_bytes());
        })
    }
}

fn count_loss(sent: &mut Sent, error: &io::Error, datagrams: u32) {
    let lost = &mut sent.lost;
    let count = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => &mut lost.no_buffer,
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkDown => &mut lost.unreachable,
        _ => match rustix::io::Errno::from_io_error(error) {
            Some(rustix::io::Errno::MSGSIZE) => &mut lost.too_big,
            Some(rustix::io::Errno::NOBUFS) => &mut lost.no_buffer,
            _ => &mut lost.other,
        },
    };
    *count += datagrams;
}

#[cfg(test)]
mod tests {
    use host::Ecn;

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
            for rx in &batch {
                let train = &buf[rx.off as usize..][..rx.len as usize];
                out.extend(train.chunks(rx.stride.into()).map(<[u8]>::to_vec));
            }
        }
        assert_eq!(out, [&b"abc"[..], b"def", b"g"]);
    }

    /// What arrives of one train of three datagrams of three bytes.
    #[cfg(target_os = "linux")]
    fn arrives(avoid: Avoid) -> Vec<Vec<u8>> {
        let [a, b] = [0, 0].map(|port| PlainBinder.bind(false, port).unwrap());
        a.avoid(avoid);
        b.avoid(avoid);
        let to: SocketAddr = (Ipv4Addr::LOCALHOST, b.local_addr().unwrap().port()).into();
        let (src, ecn) = (None, Ecn::default());
        for data in [&b"abcdefghi"[..], b"end"] {
            let stride = 3;
            let train = UdpTx {
                to,
                src,
                stride,
                ecn,
                data,
            };
            assert_eq!(a.send(&[train]).lost, Default::default());
        }
        let mut buf = vec![0; 3 * DATAGRAM_LEN];
        let mut datagrams: Vec<Vec<u8>> = Vec::new();
        while datagrams.last().is_none_or(|last| last != b"end") {
            let mut batch = Vec::new();
            b.recv(&mut buf, &mut batch, Until::Woken).unwrap();
            assert!(!avoid.udp_gro || batch.iter().all(|rx| rx.len <= 3));
            for rx in &batch {
                let train = &buf[rx.off as usize..][..rx.len as usize];
                datagrams.extend(train.chunks(rx.stride.into()).map(<[u8]>::to_vec));
            }
        }
        datagrams
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_to_be_avoided_is_avoided() {
        let plain = [&b"abc"[..], b"def", b"ghi", b"end"];
        let none = Avoid::default();
        let gso = Avoid {
            udp_gso: true,
            ..none
        };
        let gro = Avoid {
            udp_gro: true,
            ..none
        };
        for avoid in [none, gso, gro] {
            assert_eq!(arrives(avoid), plain, "{avoid:?}");
        }
        let equal_tail = Avoid {
            equal_tail: true,
            ..none
        };
        let with_tail = [&b"abc"[..], b"def", b"ghi", &[7], b"end"];
        assert_eq!(arrives(equal_tail), with_tail);
        let without_trains = Avoid {
            equal_tail: true,
            udp_gso: true,
            ..none
        };
        assert_eq!(arrives(without_trains), plain);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn many_datagrams_are_taken_at_once_until_one_is_too_long() {
        let [a, b] = [0, 0].map(|port| PlainBinder.bind(false, port).unwrap());
        b.avoid(Avoid {
            udp_gro: true,
            ..Avoid::default()
        });
        let to: SocketAddr = (Ipv4Addr::LOCALHOST, b.local_addr().unwrap().port()).into();
        let send = |len: usize, fill: u8| {
            let (src, ecn, data) = (None, Ecn(2), &vec![fill; len][..]);
            let train = UdpTx {
                to,
                src,
                stride: len as u16,
                ecn,
                data,
            };
            assert_eq!(a.send(&[train]).lost, Default::default());
        };
        let mut buf = vec![0; 2 * DATAGRAM_LEN];
        let mut take = || {
            let mut batch = Vec::new();
            b.recv(&mut buf, &mut batch, Until::Woken).unwrap();
            let all = batch.iter().map(|rx| {
                assert_eq!(
                    (rx.ecn, rx.from.port()),
                    (Ecn(2), a.local_addr().unwrap().port())
                );
                buf[rx.off as usize..(rx.off + rx.len) as usize].to_vec()
            });
            all.collect::<Vec<_>>()
        };
        for number in 0..50u8 {
            send(100 + usize::from(number), number);
        }
        let mut all = take();
        assert!(all.len() >= 30, "{}", all.len());
        while all.len() < 50 {
            all.extend(take());
        }
        for (number, datagram) in all.iter().enumerate() {
            assert_eq!(*datagram, vec![number as u8; 100 + number]);
        }
        // The first long one is lost, the next are not.
        for _ in 0..2 {
            send(5000, 7);
            send(10, 8);
        }
        let mut all = Vec::new();
        while all
            .iter()
            .filter(|datagram: &&Vec<u8>| datagram.len() == 10)
            .count()
            < 2
        {
            all.extend(take());
        }
        send(6000, 9);
        assert_eq!(take().pop().map(|last| last.len()), Some(6000));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_group_shares_a_port_and_keeps_senders_apart() {
        let group = PlainBinder.bind_group(false, 0, 4).unwrap();
        let port = group[0].local_addr().unwrap().port();
        assert_eq!(group.len(), 4);
        assert!(
            group
                .iter()
                .all(|socket| socket.local_addr().unwrap().port() == port)
        );
        // Another program's port is not shared, nor is ours.
        assert!(PlainBinder.bind_group(false, port, 4).is_err());
        assert!(PlainBinder.bind(false, port).is_err());
        let to: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
        let senders: Vec<_> = (0..64)
            .map(|_| PlainBinder.bind(false, 0).unwrap())
            .collect();
        let mut came = vec![std::collections::BTreeMap::<SocketAddr, Vec<u8>>::new(); group.len()];
        for number in 0..5u8 {
            for sender in &senders {
                let (src, ecn, data) = (None, Ecn::default(), &[number][..]);
                let train = UdpTx {
                    to,
                    src,
                    stride: 1,
                    ecn,
                    data,
                };
                assert_eq!(sender.send(&[train]).lost, Default::default());
            }
            for (socket, came) in group.iter().zip(&mut came) {
                let (mut buf, mut batch) = (vec![0; 2 * DATAGRAM_LEN], Vec::new());
                socket.recv(&mut buf, &mut batch, Until::Now).unwrap();
                for rx in &batch {
                    let bytes = &buf[rx.off as usize..(rx.off + rx.len) as usize];
                    came.entry(rx.from).or_default().extend_from_slice(bytes);
                }
            }
        }
        let all: Vec<_> = came.iter().flatten().collect();
        assert_eq!(all.len(), senders.len(), "each sender at one socket");
        assert!(
            all.iter().all(|(_, numbers)| **numbers == [0, 1, 2, 3, 4]),
            "in order"
        );
        assert!(
            came.iter().filter(|came| !came.is_empty()).count() > 1,
            "not all at one"
        );
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
