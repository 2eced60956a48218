//! `/dev/net/tun`, one packet or super-packet per system call.
//!
//! The device is told that we split super-packets and sum ourselves, so the kernel hands over up to 64 KB of one flow at once;
//! and it takes as much. A kernel that refuses what it said it could is believed in its refusal: what it did not take is split
//! here, and no more is offered.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use host::{
    Avoid, Batch, Csum, Gso, GsoKind, Limits, Offload, Sent, Tun, TunQueue, TunRx, TunTx, Until,
    Waker,
};
use packet::offload::Splitter;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use super::vnet;
use crate::netlink::route::{set_link_gso, set_link_mtu};
use crate::netlink::{Netlink, Protocol};

/// The longest packet of any device, with the header before it: a shorter buffer would cut it.
const PACKET_LEN: usize = 65_536 + vnet::LEN;
/// One receive takes at most this many packets, so that the first need not wait long.
const BATCH: usize = 128;
/// Nor does it take more behind so many bytes.
const DRAIN_LEN: usize = 60_000;
/// The most pieces of one super-packet, with the header before it.
const PIECES: usize = 2 + packet::offload::MAX_SEGMENTS;

// `TUN_F_*` of `linux/if_tun.h`: what we do ourselves.
const OFFLOAD_CSUM: u32 = 0x01;
const OFFLOAD_TSO: u32 = 0x02 | 0x04;
const OFFLOAD_USO: u32 = 0x20 | 0x40;
/// A device that is down refuses to be read; that may change.
const DOWN_RETRY: Duration = Duration::from_millis(250);

/// A TUN device; it goes when all of its queues have.
#[derive(Debug)]
pub struct Device {
    name: String,
    mtu: u32,
    queues: Vec<Arc<Queue>>,
}

/// Why there is no device.
#[derive(Debug)]
pub struct Error {
    name: String,
    /// What was tried; empty for the opening itself.
    step: &'static str,
    error: io::Error,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, step, error } = self;
        // Compat: people search for the originals' words, which have errors in lower case and without numbers.
        let text = error.to_string().to_lowercase();
        let text = text.split(" (os error").next().unwrap_or_default();
        write!(f, "tstun.New({name:?}): {step}{text}")?;
        match hint(error) {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Whether the machine has no devices to give, or none to us, whatever their name.
    #[must_use]
    pub fn is_of_the_machine(&self) -> bool {
        let none = [
            Errno::PERM,
            Errno::ACCESS,
            Errno::NOENT,
            Errno::NODEV,
            Errno::NXIO,
        ];
        Errno::from_io_error(&self.error).is_some_and(|errno| none.contains(&errno))
    }
}

/// What might help.
fn hint(error: &io::Error) -> Option<&'static str> {
    const USERSPACE: &str =
        "run as root, or with CAP_NET_ADMIN, or without a device: --tun=userspace-networking";
    match Errno::from_io_error(error)? {
        Errno::PERM | Errno::ACCESS => Some(USERSPACE),
        Errno::NOENT | Errno::NODEV | Errno::NXIO => Some(
            "the kernel offers no TUN devices here: try `modprobe tun`, give the container /dev/net/tun, or use \
             --tun=userspace-networking",
        ),
        Errno::INVAL => Some("there is an interface of this name that is no TUN device"),
        Errno::BUSY => Some("another process holds it: find it with `lsof -n /dev/net/tun`"),
        _ => None,
    }
}

/// Lines for the log on why a device could not be opened.
pub fn diagnose(error: &Error) -> Vec<String> {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut lines = vec![format!("Linux kernel version: {release}")];
    if Errno::from_io_error(&error.error) == Some(Errno::BUSY) {
        lines.push(format!(
            "TUN device {} is busy: another process has it open; find it with `lsof -n /dev/net/tun` and end it",
            error.name
        ));
    } else if !Path::new("/dev/net/tun").exists() {
        lines.push("/dev/net/tun does not exist".to_owned());
    }
    lines
}

/// Opens the device `name`, or makes it.
pub fn open(name: &str, mtu: u32) -> Result<Device, Error> {
    open_with_queues(name, mtu, 1)
}

/// The same with this many queues: the kernel gives all packets of a flow to one of them.
pub fn open_with_queues(name: &str, mtu: u32, queues: usize) -> Result<Device, Error> {
    let failed = |step| {
        move |error| Error {
            name: name.to_owned(),
            step,
            error,
        }
    };
    let many = queues > 1;
    let (device, name) = sys::tun::open_tun(name, true, many).map_err(failed(""))?;
    let mut devices = vec![device];
    for _ in 1..queues {
        match sys::tun::open_tun(&name, true, many) {
            Ok((device, _)) => devices.push(device),
            // What there is works.
            Err(error) => tracing::info!("tun: no more than {} queues: {error}", devices.len()),
        }
    }
    let opened: io::Result<Vec<_>> = devices.into_iter().map(Queue::new).collect();
    let queues = opened.map_err(failed("make a waker: "))?;
    shape(&name, mtu).map_err(failed("set the MTU: "))?;
    Ok(Device { name, mtu, queues })
}

fn shape(name: &str, mtu: u32) -> io::Result<()> {
    let mut netlink = Netlink::open(Protocol::Route)?;
    let link = netlink.link_named(name)?;
    let link = link.ok_or_else(|| io::Error::other("the device vanished"))?;
    // The device takes 65,535 at most.
    netlink.request(set_link_mtu(link.index, mtu.min(65_535)))?;
    // A kernel that does not know this makes longer super-packets, each of which is then two trains.
    if let Err(error) = netlink.request(set_link_gso(link.index, longest_super_packet(mtu))) {
        tracing::debug!("tun: set the length of super-packets: {error}");
    }
    Ok(())
}

/// How long super-packets are best: as long as what fits one train once it is sealed.
fn longest_super_packet(mtu: u32) -> u32 {
    /// Of a train of datagrams, and what each has beyond its packet.
    const TRAIN: u32 = 65_000;
    const OVERHEAD: u32 = 32;
    /// IPv4 and TCP with time stamps.
    const HEADERS: u32 = 52;
    let datagram = mtu.next_multiple_of(16) + OVERHEAD;
    let segments = (TRAIN / datagram).clamp(1, packet::offload::MAX_SEGMENTS as u32);
    (segments * mtu.saturating_sub(HEADERS) + HEADERS).min(65_535)
}

impl Tun for Device {
    fn name(&self) -> &str {
        &self.name
    }

    fn mtu(&self) -> usize {
        self.mtu as usize
    }

    fn queues(&mut self) -> Vec<Arc<dyn TunQueue>> {
        self.queues.iter().map(|queue| queue.clone() as _).collect()
    }
}

/// Which super-packets the kernel takes.
#[derive(Debug)]
struct Takes {
    tcp: AtomicBool,
    udp: AtomicBool,
    tcp_avoided: AtomicBool,
    udp_avoided: AtomicBool,
}

impl Takes {
    /// Agrees with the device on super-packets, as far as the kernel can: those of UDP came with Linux 6.2.
    ///
    /// `TS_TUN_DISABLE_TCP_GRO` and `TS_TUN_DISABLE_UDP_GRO` are the originals', for kernels that take them and damage them.
    fn negotiate(device: &OwnedFd) -> Self {
        let offer = |offloads| sys::tun::set_offloads(device.as_fd(), offloads).is_ok();
        let udp = offer(OFFLOAD_CSUM | OFFLOAD_TSO | OFFLOAD_USO);
        let tcp = udp || offer(OFFLOAD_CSUM | OFFLOAD_TSO);
        let is_disabled = |name: &str| {
            let value = std::env::var(name).unwrap_or_default();
            matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True")
        };
        Self {
            tcp: AtomicBool::new(tcp && !is_disabled("TS_TUN_DISABLE_TCP_GRO")),
            udp: AtomicBool::new(udp && !is_disabled("TS_TUN_DISABLE_UDP_GRO")),
            tcp_avoided: AtomicBool::new(false),
            udp_avoided: AtomicBool::new(false),
        }
    }

    fn of(&self, kind: GsoKind) -> (&AtomicBool, Offload) {
        match kind {
            GsoKind::Udp => (&self.udp, Offload::TunUso),
            GsoKind::None | GsoKind::Tcp4 | GsoKind::Tcp6 => (&self.tcp, Offload::TunTso),
        }
    }
}

#[derive(Debug)]
struct Queue {
    device: OwnedFd,
    takes: Takes,
    /// Whether the last look found nothing more: the next one may wait at once.
    is_empty: AtomicBool,
    wake: Arc<OwnedFd>,
}

impl Queue {
    fn new(device: OwnedFd) -> io::Result<Arc<Self>> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Arc::new(Self {
            takes: Takes::negotiate(&device),
            device,
            is_empty: AtomicBool::new(false),
            wake: Arc::new(wake),
        }))
    }

    /// Takes packets until there are no more, or `buf` could not hold another of any length.
    fn drain(&self, buf: &mut [u8], out: &mut Batch<TunRx>) -> io::Result<Drained> {
        let mut off = 0;
        for _ in 0..BATCH {
            let Some(room) = buf
                .get_mut(off..)
                .filter(|room| off == 0 || (room.len() >= PACKET_LEN && off < DRAIN_LEN))
            else {
                break;
            };
            match rustix::io::read(&self.device, &mut *room) {
                // Not a packet, but what a device that is being torn down gives.
                Ok(0) => return Ok(Drained::Empty),
                Ok(len) => {
                    if let Some(packet) = read_header(room.get(..len).unwrap_or_default(), off) {
                        out.push(packet);
                    }
                    off += len;
                }
                Err(Errno::AGAIN) => return Ok(Drained::Empty),
                Err(Errno::INTR) => {}
                // Down; it may be up again.
                Err(Errno::IO) => return Ok(Drained::Down),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Drained::Full)
    }

    fn wait(&self, limit: Option<Duration>, drained: Drained) -> io::Result<()> {
        let mut fds = [
            PollFd::new(self.wake.as_ref(), PollFlags::IN),
            PollFd::new(&self.device, PollFlags::IN),
        ];
        // A device that is down or gone is always ready, with an error.
        let (fds, limit) = match drained {
            Drained::Down => (
                &mut fds[..1],
                Some(limit.map_or(DOWN_RETRY, |limit| limit.min(DOWN_RETRY))),
            ),
            Drained::Empty | Drained::Full => (&mut fds[..], limit),
        };
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        match poll(fds, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !fds.first().is_none_or(|wake| wake.revents().is_empty()) {
            let mut count = [0; 8];
            // Nothing to read means that somebody else was quicker.
            let _ = rustix::io::read(self.wake.as_ref(), &mut count);
        }
        Ok(())
    }

    fn write(&self, gso: Gso, csum: Csum, packet: &[IoSlice<'_>]) -> Result<(), Errno> {
        let header = vnet::write(gso, csum);
        let mut pieces = [IoSlice::new(&[]); PIECES];
        pieces[0] = IoSlice::new(&header);
        let place = pieces.get_mut(1..=packet.len()).ok_or(Errno::MSGSIZE)?;
        place.copy_from_slice(packet);
        let pieces = pieces.get(..=packet.len()).ok_or(Errno::MSGSIZE)?;
        loop {
            match rustix::io::writev(&self.device, pieces) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Sends a super-packet that the kernel refuses as the packets that it is made of.
    fn write_apart(&self, packet: &TunTx<'_>, sent: &mut Sent) {
        let mut bytes: Vec<u8> = Vec::new();
        packet
            .iov
            .iter()
            .for_each(|piece| bytes.extend_from_slice(piece));
        let Ok(mut splitter) = Splitter::new(&mut bytes, packet.gso, packet.csum) else {
            sent.lost.other += 1;
            return;
        };
        while let Some(single) = splitter.next() {
            let outcome = self.write(Gso::default(), Csum::Full, &[IoSlice::new(single)]);
            if let Err(error) = outcome {
                count_loss(sent, error, 1);
            }
        }
    }
}

/// What one read gave; `None` for what the kernel should not have given.
fn read_header(read: &[u8], off: usize) -> Option<TunRx> {
    let (header, packet) = read.split_first_chunk()?;
    let (gso, csum) = vnet::read(header)?;
    (!packet.is_empty()).then_some(TunRx {
        off: (off + vnet::LEN) as u32,
        len: packet.len() as u32,
        gso,
        csum,
    })
}

fn count_loss(sent: &mut Sent, error: Errno, packets: u32) {
    let lost = &mut sent.lost;
    let count = match error {
        Errno::IO | Errno::NETDOWN => &mut lost.unreachable,
        Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM => &mut lost.no_buffer,
        Errno::MSGSIZE => &mut lost.too_big,
        _ => &mut lost.other,
    };
    *count += packets;
}

/// How many packets a super-packet is.
fn packets_in(packet: &TunTx<'_>) -> u32 {
    let len: usize = packet.iov.iter().map(|piece| piece.len()).sum();
    let payload = len.saturating_sub(usize::from(packet.gso.hdr_len));
    match packet.gso.kind {
        GsoKind::None => 1,
        _ => payload.div_ceil(usize::from(packet.gso.size).max(1)) as u32,
    }
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drained {
    Empty,
    Full,
    Down,
}

impl TunQueue for Queue {
    fn recv(&self, buf: &mut [u8], out: &mut Batch<TunRx>, until: Until) -> io::Result<()> {
        let before = out.len();
        let mut drained = Drained::Empty;
        if until == Until::Now || !self.is_empty.load(Ordering::Relaxed) {
            drained = self.drain(buf, out)?;
        }
        if out.len() == before {
            match until {
                Until::Now => return Ok(()),
                Until::At(deadline) => self.wait(Some(rt::now().until(deadline)), drained)?,
                Until::Woken => self.wait(None, drained)?,
            }
            drained = self.drain(buf, out)?;
        }
        let is_empty = drained == Drained::Empty;
        self.is_empty.store(is_empty, Ordering::Relaxed);
        Ok(())
    }

    fn send(&self, packets: &[TunTx<'_>]) -> Sent {
        let mut sent = Sent::default();
        for packet in packets {
            match self.write(packet.gso, packet.csum, packet.iov) {
                Ok(()) => {}
                Err(Errno::INVAL) if packet.gso.kind != GsoKind::None => {
                    let (takes, offload) = self.takes.of(packet.gso.kind);
                    if takes.swap(false, Ordering::Relaxed) {
                        sent.downgraded = Some(offload);
                        tracing::info!(
                            "tun: the kernel takes no such super-packets after all: {offload:?}"
                        );
                    }
                    self.write_apart(packet, &mut sent);
                }
                Err(error) => count_loss(&mut sent, error, packets_in(packet)),
            }
            sent.done += 1;
        }
        sent
    }

    fn takes(&self) -> Limits {
        Limits {
            tcp: self.takes.tcp.load(Ordering::Relaxed)
                && !self.takes.tcp_avoided.load(Ordering::Relaxed),
            udp: self.takes.udp.load(Ordering::Relaxed)
                && !self.takes.udp_avoided.load(Ordering::Relaxed),
        }
    }

    fn avoid(&self, avoid: Avoid) {
        let Takes {
            tcp_avoided,
            udp_avoided,
            ..
        } = &self.takes;
        tcp_avoided.store(avoid.tun_tcp, Ordering::Relaxed);
        udp_avoided.store(avoid.tun_udp, Ordering::Relaxed);
    }

    fn waker(&self) -> Waker {
        let wake = Arc::clone(&self.wake);
        Waker::new(move || {
            // A full counter means that it is awake already.
            let _ = rustix::io::write(&*wake, &1u64.to_ne_bytes());
        })
    }
}
