//! UDP with the kernel's segmentation: one call sends or receives a train of datagrams (`linux/udp.h`, `UDP_SEGMENT`,
//! `UDP_GRO`), with the ECN field of the packets around them.

use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// What one receive gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes in the buffer.
    pub len: usize,
    /// The sender.
    pub from: SocketAddr,
    /// Bytes of each datagram but the last; 0 if it is only one.
    pub stride: u16,
    /// The ECN field, 0 where the kernel does not tell.
    pub ecn: u8,
    /// The buffer was too short for all of it.
    pub is_cut: bool,
}

const ECN_MASK: u8 = 3;

/// Room for control messages: what is asked for takes less than half of it.
#[repr(C, align(8))]
struct Control([u8; 128]);

#[repr(C)]
union Name {
    storage: libc::sockaddr_storage,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

fn set(socket: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed; the value is read during the call, and its true length is given.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    check(outcome as isize).map(drop)
}

fn check(outcome: isize) -> io::Result<usize> {
    usize::try_from(outcome).map_err(|_| io::Error::last_os_error())
}

/// Has the kernel put datagrams of one sender together.
pub fn set_gro(socket: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_GRO, i32::from(on))
}

/// Has the kernel tell the ECN field of what it receives.
pub fn tell_ecn(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    match v6 {
        true => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1),
        false => set(socket, libc::IPPROTO_IP, libc::IP_RECVTOS, 1),
    }
}

/// Whether the kernel can segment what is sent.
pub fn has_gso(socket: BorrowedFd<'_>) -> bool {
    // A size of zero means none, as before.
    set(socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok()
}

/// Sends a train of datagrams of `stride` bytes each, which lie in `data` one behind the other, the last of which may be shorter; a `stride` of 0 sends one datagram.
/// Does not block.
pub fn send(
    socket: BorrowedFd<'_>,
    to: SocketAddr,
    data: [&[u8]; 2],
    stride: u16,
    ecn: u8,
) -> io::Result<()> {
    let (mut name, name_len) = name_of(to);
    let mut control = Control([0; 128]);
    let mut control_len = 0;
    if stride != 0 {
        let stride = stride.to_ne_bytes();
        control_len += put(&mut control, 0, (libc::SOL_UDP, libc::UDP_SEGMENT), &stride);
    }
    if ecn & ECN_MASK != 0 {
        let kind = match to.is_ipv6() {
            true => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
            false => (libc::IPPROTO_IP, libc::IP_TOS),
        };
        let class = i32::from(ecn & ECN_MASK).to_ne_bytes();
        control_len += put(&mut control, control_len, kind, &class);
    }
    let mut parts = data.map(|part| libc::iovec {
        // The kernel only reads from it.
        iov_base: part.as_ptr().cast_mut().cast(),
        iov_len: part.len(),
    });
    // SAFETY: a header of zeroes is a valid one: no name, no parts, no control messages.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = name_len;
    header.msg_iov = parts.as_mut_ptr();
    header.msg_iovlen = if data[1].is_empty() { 1 } else { 2 };
    if control_len > 0 {
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control_len as _;
    }
    // SAFETY: everything that the header points to outlives the call, and the lengths are theirs.
    let outcome = unsafe { libc::sendmsg(socket.as_raw_fd(), &header, libc::MSG_DONTWAIT) };
    check(outcome).map(drop)
}

/// Receives one datagram, or a train if [`set_gro`] has asked for them. Does not block.
pub fn receive(socket: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Received> {
    // SAFETY: addresses are plain numbers, for which zeroes are valid.
    let mut name: Name = unsafe { std::mem::zeroed() };
    let mut control = Control([0; 128]);
    let mut part = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: as for sending.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = size_of::<Name>() as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len() as _;
    // SAFETY: everything that the header points to outlives the call and is ours to be written to, and the lengths are theirs.
    let outcome = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, libc::MSG_DONTWAIT) };
    let len = check(outcome)?;
    let mut received = Received {
        len,
        from: address_in(&name).ok_or(io::ErrorKind::InvalidData)?,
        stride: 0,
        ecn: 0,
        is_cut: header.msg_flags & libc::MSG_TRUNC != 0,
    };
    read_control(filled(&header, &control), &mut received);
    Ok(received)
}

/// The most datagrams of one [`receive_many`].
pub const MANY: usize = 32;

/// Receives up to [`MANY`] datagrams at once, each into a part of `buf` of `part_len` bytes; says how many. Does not block.
pub fn receive_many(
    socket: BorrowedFd<'_>,
    buf: &mut [u8],
    part_len: usize,
    out: &mut [Option<Received>; MANY],
) -> io::Result<usize> {
    // SAFETY: addresses, headers and parts of zeroes are valid ones.
    let (mut names, mut headers, mut parts): (
        [Name; MANY],
        [libc::mmsghdr; MANY],
        [libc::iovec; MANY],
    ) = unsafe { std::mem::zeroed() };
    let mut controls = [const { Control([0; 128]) }; MANY];
    let mut count = 0;
    for (at, place) in buf.chunks_exact_mut(part_len.max(1)).take(MANY).enumerate() {
        parts[at] = libc::iovec {
            iov_base: place.as_mut_ptr().cast(),
            iov_len: place.len(),
        };
        let header = &mut headers[at].msg_hdr;
        header.msg_name = (&raw mut names[at]).cast();
        header.msg_namelen = size_of::<Name>() as libc::socklen_t;
        header.msg_iov = &raw mut parts[at];
        header.msg_iovlen = 1;
        header.msg_control = controls[at].0.as_mut_ptr().cast();
        header.msg_controllen = controls[at].0.len() as _;
        count += 1;
    }
    // SAFETY: the first `count` headers point to what outlives the call and is ours to be written to, each to its own, and the
    // lengths are theirs.
    let outcome = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count as _,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    let count = check(outcome as isize)?;
    for (at, place) in out.iter_mut().enumerate() {
        *place = (at < count).then_some(&headers[at]).and_then(|header| {
            let mut received = Received {
                len: header.msg_len as usize,
                from: address_in(&names[at])?,
                stride: 0,
                ecn: 0,
                is_cut: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            };
            read_control(filled(&header.msg_hdr, &controls[at]), &mut received);
            Some(received)
        });
    }
    Ok(count)
}

/// Where the data of a control message starts, from its own start (`CMSG_LEN(0)`).
const CONTROL_HEADER: usize = size_of::<libc::cmsghdr>().next_multiple_of(size_of::<usize>());

/// Writes a control message; says how much room it takes.
fn put(control: &mut Control, at: usize, (level, kind): (i32, i32), data: &[u8]) -> usize {
    let len = CONTROL_HEADER + data.len();
    let place = &mut control.0[at..at + len];
    // The length has the size that the kernel gives it, whatever the C library calls it.
    place[..size_of::<usize>()].copy_from_slice(&len.to_ne_bytes());
    place[size_of::<usize>()..][..4].copy_from_slice(&level.to_ne_bytes());
    place[size_of::<usize>() + 4..][..4].copy_from_slice(&kind.to_ne_bytes());
    place[CONTROL_HEADER..].copy_from_slice(data);
    len.next_multiple_of(size_of::<usize>())
}

/// What the kernel has written of control messages.
fn filled<'a>(header: &libc::msghdr, control: &'a Control) -> &'a [u8] {
    #[allow(
        clippy::unnecessary_cast,
        reason = "the length has another type with another C library"
    )]
    let len = header.msg_controllen as usize;
    control.0.get(..len).unwrap_or(&control.0)
}

/// Reads the control messages that we ask for.
fn read_control(mut rest: &[u8], received: &mut Received) {
    while let (Some(len), Some(level), Some(kind)) = (
        rest.first_chunk().map(|bytes| usize::from_ne_bytes(*bytes)),
        number(rest, size_of::<usize>()),
        number(rest, size_of::<usize>() + 4),
    ) {
        let Some(data) = rest.get(CONTROL_HEADER..len) else {
            return;
        };
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => {
                // An int, of which the kernel's size has 16 bits.
                let size = number(data, 0).unwrap_or(0);
                received.stride = u16::try_from(size).unwrap_or(0);
            }
            (libc::IPPROTO_IP, libc::IP_TOS) => {
                received.ecn = data.first().map_or(0, |tos| tos & ECN_MASK);
            }
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                received.ecn = number(data, 0).map_or(0, |class| class as u8 & ECN_MASK);
            }
            _ => {}
        }
        rest = rest
            .get(len.next_multiple_of(size_of::<usize>())..)
            .unwrap_or_default();
    }
}

fn number(bytes: &[u8], at: usize) -> Option<i32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(i32::from_ne_bytes(*bytes))
}

fn name_of(to: SocketAddr) -> (Name, libc::socklen_t) {
    // SAFETY: addresses are plain numbers, for which zeroes are valid.
    let mut name: Name = unsafe { std::mem::zeroed() };
    match to {
        SocketAddr::V4(to) => {
            name.v4 = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: to.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(to.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            (name, size_of::<libc::sockaddr_in>() as libc::socklen_t)
        }
        SocketAddr::V6(to) => {
            name.v6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: to.port().to_be(),
                sin6_flowinfo: to.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: to.ip().octets(),
                },
                sin6_scope_id: to.scope_id(),
            };
            (name, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
        }
    }
}

fn address_in(name: &Name) -> Option<SocketAddr> {
    // SAFETY: all members start with the family, and are plain numbers that were zeroes at first.
    let family = i32::from(unsafe { name.storage.ss_family });
    match family {
        libc::AF_INET => {
            // SAFETY: the family says that it is this member; any bytes are valid in it.
            let v4 = unsafe { name.v4 };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that it is this member; any bytes are valid in it.
            let v6 = unsafe { name.v6 };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd as _;

    use super::*;

    fn pair(v6: bool) -> (UdpSocket, UdpSocket) {
        let any = if v6 { "[::1]:0" } else { "127.0.0.1:0" };
        let bind = || UdpSocket::bind(any).unwrap();
        (bind(), bind())
    }

    #[test]
    fn trains_arrive_as_trains_with_their_ecn() {
        for v6 in [false, true] {
            let (a, b) = pair(v6);
            set_gro(b.as_fd(), true).unwrap();
            tell_ecn(b.as_fd(), v6).unwrap();
            assert!(has_gso(a.as_fd()));
            let to = b.local_addr().unwrap();
            let data: Vec<u8> = (0..=254).cycle().take(2500).collect();
            send(a.as_fd(), to, [&data, &[]], 1000, 1).unwrap();
            send(a.as_fd(), to, [b"single", &[]], 0, 0).unwrap();
            let mut buf = vec![0; 70_000];
            let mut seen = Vec::new();
            while seen.len() < 2500 {
                let received = receive(b.as_fd(), &mut buf).unwrap();
                assert_eq!(received.from, a.local_addr().unwrap());
                assert_eq!((received.ecn, received.is_cut), (1, false));
                assert!(
                    received.stride == 1000 || received.len <= 1000,
                    "{received:?}"
                );
                seen.extend_from_slice(&buf[..received.len]);
            }
            assert_eq!(seen, data);
            let received = receive(b.as_fd(), &mut buf).unwrap();
            assert_eq!((&buf[..received.len], received.ecn), (&b"single"[..], 0));
            let nothing = receive(b.as_fd(), &mut buf).unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn what_does_not_fit_is_said_to_be_cut() {
        let (a, b) = pair(false);
        send(a.as_fd(), b.local_addr().unwrap(), [b"too long", &[]], 0, 0).unwrap();
        let received = receive(b.as_fd(), &mut [0; 3]).unwrap();
        assert_eq!((received.len, received.is_cut), (3, true));
    }

    #[test]
    fn damaged_control_messages_are_no_trouble() {
        let mut received = Received {
            len: 0,
            from: ([0, 0, 0, 0], 0).into(),
            stride: 0,
            ecn: 0,
            is_cut: false,
        };
        for len in 0..64 {
            for byte in [0, 1, 17, 255] {
                read_control(&vec![byte; len], &mut received);
            }
        }
    }
}
