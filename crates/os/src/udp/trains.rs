//! Linux: a train of datagrams in one call, both ways, where the kernel can; one by one where it cannot.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};

use host::{Avoid, Batch, Ecn, Offload, Sent, UdpRx, UdpTx};
use rustix::io::Errno;

use super::count_loss;

/// The most datagrams of one train (`UDP_MAX_SEGMENTS` of older kernels).
const MAX_SEGMENTS: usize = 64;
/// The most bytes of one train: what fits a UDP datagram over IPv4, for that is how it goes down the kernel.
const MAX_TRAIN: usize = 65_507;

/// What is known of one socket.
#[derive(Debug)]
pub(super) struct Trains {
    /// Whether the kernel can segment, as far as is known.
    gso: AtomicBool,
    gso_avoided: AtomicBool,
    /// Whether the last datagram of a train must be shorter than the others.
    short_tail: AtomicBool,
    /// Whether this kernel needs that, whoever asks for it.
    needs_short_tail: bool,
    can_gro: bool,
    /// Whether datagrams come one by one, so that many are asked for at once.
    singly: AtomicBool,
}

/// Room for each of many datagrams: more than what goes through usual networks.
const PART_LEN: usize = 2048;
/// Of all.
pub(super) const PARTS_LEN: usize = PART_LEN * sys::udp::MANY;

/// A tail that nobody takes for anything: too short for any message.
const SHORT_TAIL: [u8; 1] = [7];

/// `TS_DEBUG_DISABLE_UDP_GSO` and `TS_DEBUG_DISABLE_UDP_GRO`, as the originals have them.
fn is_disabled(name: &str) -> bool {
    let value = std::env::var(name).unwrap_or_default();
    matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True")
}

/// Kernels that damage trains whose last datagram is as long as the others (tailscale/tailscale#19777).
fn damages_trains(release: &str) -> bool {
    let mut numbers = release
        .split(['.', '-', '+'])
        .map(|part| part.parse::<u32>());
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    let version = (next(), next(), next());
    ((7, 0, 0)..=(7, 1, 4)).contains(&version)
}

impl Trains {
    /// Finds out what the kernel can do with this socket, and asks it to.
    pub(super) fn probe(socket: &socket2::Socket, v6: bool) -> Self {
        let fd = socket.as_fd();
        let release = rustix::system::uname();
        let needs_short_tail = damages_trains(&release.release().to_string_lossy());
        let gso = !is_disabled("TS_DEBUG_DISABLE_UDP_GSO") && sys::udp::has_gso(fd);
        let can_gro = !is_disabled("TS_DEBUG_DISABLE_UDP_GRO")
            && match sys::udp::set_gro(fd, true) {
                Ok(()) => true,
                Err(error) => {
                    tracing::debug!("magicsock: no trains of datagrams are received: {error}");
                    false
                }
            };
        // Without it, congestion on the way is noticed by losses only.
        let _ = sys::udp::tell_ecn(fd, v6);
        Self {
            gso: AtomicBool::new(gso),
            gso_avoided: AtomicBool::new(false),
            short_tail: AtomicBool::new(needs_short_tail),
            needs_short_tail,
            can_gro,
            singly: AtomicBool::new(!can_gro),
        }
    }

    /// Whether [`receive_many`](Self::receive_many) is the way.
    pub(super) fn comes_singly(&self) -> bool {
        self.singly.load(Ordering::Relaxed)
    }

    /// Takes many datagrams at once into `room`, which is [`PARTS_LEN`] long; says how much of it is taken.
    pub(super) fn receive_many(
        &self,
        socket: &std::net::UdpSocket,
        room: &mut [u8],
        off: usize,
        out: &mut Batch<UdpRx>,
    ) -> io::Result<usize> {
        let mut received = [None; sys::udp::MANY];
        let count = sys::udp::receive_many(socket.as_fd(), room, PART_LEN, &mut received)?;
        for (at, received) in received.iter().take(count).enumerate() {
            let Some(received) = received else { continue };
            if received.is_cut {
                // There are longer ones here: from now on each gets all the room, and what was lost is sent again.
                tracing::debug!("magicsock: a datagram is longer than {PART_LEN} bytes");
                self.singly.store(false, Ordering::Relaxed);
                continue;
            }
            out.push(UdpRx {
                off: (off + at * PART_LEN) as u32,
                len: received.len as u32,
                stride: received.len as u16,
                from: received.from,
                to: None,
                ecn: Ecn(received.ecn),
            });
        }
        Ok(count * PART_LEN)
    }

    /// Says what not to use from now on.
    pub(super) fn avoid(&self, socket: &std::net::UdpSocket, avoid: Avoid) {
        self.gso_avoided.store(avoid.udp_gso, Ordering::Relaxed);
        let short_tail = avoid.equal_tail || self.needs_short_tail;
        self.short_tail.store(short_tail, Ordering::Relaxed);
        if self.can_gro
            && let Err(error) = sys::udp::set_gro(socket.as_fd(), !avoid.udp_gro)
        {
            tracing::info!("magicsock: the kernel does not change how it receives: {error}");
        }
        self.singly
            .store(!self.can_gro || avoid.udp_gro, Ordering::Relaxed);
    }

    /// One datagram or one train.
    pub(super) fn receive(
        &self,
        socket: &std::net::UdpSocket,
        room: &mut [u8],
        off: usize,
    ) -> io::Result<UdpRx> {
        let received = sys::udp::receive(socket.as_fd(), room)?;
        let len = received.len as u32;
        Ok(UdpRx {
            off: off as u32,
            len,
            stride: match received.stride {
                0 => u16::try_from(len).unwrap_or(u16::MAX),
                stride => stride,
            },
            from: received.from,
            to: None,
            ecn: Ecn(received.ecn),
        })
    }

    /// Sends a train.
    pub(super) fn send(&self, socket: &std::net::UdpSocket, train: &UdpTx<'_>, sent: &mut Sent) {
        let stride = usize::from(train.stride).max(1);
        if train.data.len() <= stride {
            return one_by_one(socket, train, train.data, sent);
        }
        // Room for a tail.
        let most = ((MAX_TRAIN - 1) / stride).clamp(1, MAX_SEGMENTS - 1) * stride;
        for part in train.data.chunks(most) {
            self.send_part(socket, train, part, sent);
        }
    }

    fn send_part(
        &self,
        socket: &std::net::UdpSocket,
        train: &UdpTx<'_>,
        part: &[u8],
        sent: &mut Sent,
    ) {
        let stride = usize::from(train.stride).max(1);
        let gso = self.gso.load(Ordering::Relaxed) && !self.gso_avoided.load(Ordering::Relaxed);
        if !gso || part.len() <= stride {
            return one_by_one(socket, train, part, sent);
        }
        let is_equal = part.len().is_multiple_of(stride) && stride > SHORT_TAIL.len();
        let tail: &[u8] = match is_equal && self.short_tail.load(Ordering::Relaxed) {
            true => &SHORT_TAIL,
            false => &[],
        };
        let outcome = send(socket, train, part, tail, train.stride);
        match outcome {
            Ok(()) => {}
            // EIO: the device does not sum; EINVAL: the kernel will not segment this.
            Err(error) if is_one_of(&error, &[Errno::IO, Errno::INVAL, Errno::OPNOTSUPP]) => {
                if self.gso.swap(false, Ordering::Relaxed) {
                    sent.downgraded = Some(Offload::UdpGso);
                    tracing::info!("magicsock: datagrams are sent one by one from now on: {error}");
                }
                one_by_one(socket, train, part, sent);
            }
            // The way carries less than one of them: alone, the kernel cuts each into fragments.
            Err(error) if is_one_of(&error, &[Errno::MSGSIZE]) => {
                one_by_one(socket, train, part, sent);
            }
            Err(error) => {
                let datagrams = part.len().div_ceil(usize::from(train.stride).max(1));
                count_loss(sent, &error, datagrams as u32);
            }
        }
    }
}

fn one_by_one(socket: &std::net::UdpSocket, train: &UdpTx<'_>, part: &[u8], sent: &mut Sent) {
    for datagram in part.chunks(usize::from(train.stride).max(1)) {
        if let Err(error) = send(socket, train, datagram, &[], 0) {
            count_loss(sent, &error, 1);
        }
    }
}

/// An interrupted send is tried again; an ICMP error of an earlier one is reported here, and is not this one's.
fn send(
    socket: &std::net::UdpSocket,
    train: &UdpTx<'_>,
    data: &[u8],
    tail: &[u8],
    stride: u16,
) -> io::Result<()> {
    let once = || sys::udp::send(socket.as_fd(), train.to, [data, tail], stride, train.ecn.0);
    match once() {
        Err(error) if is_one_of(&error, &[Errno::INTR, Errno::CONNREFUSED]) => once(),
        outcome => outcome,
    }
}

fn is_one_of(error: &io::Error, wanted: &[Errno]) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| wanted.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_damage_trains_are_known() {
        for release in ["7.0.0", "7.0.3-arch1-1", "7.1.4", "7.1-rc2"] {
            assert!(damages_trains(release), "{release}");
        }
        for release in [
            "6.18.44",
            "7.1.5",
            "7.2.0-generic",
            "5.15.0-101-generic",
            "nonsense",
        ] {
            assert!(!damages_trains(release), "{release}");
        }
    }
}
