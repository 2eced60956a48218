//! `/dev/net/tun`, one packet per system call.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use host::{Batch, Csum, Gso, Sent, Tun, TunQueue, TunRx, TunTx, Until, Waker};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::netlink::route::set_link_mtu;
use crate::netlink::{Netlink, Protocol};

/// The longest packet of any device: a shorter buffer would cut it.
const PACKET_LEN: usize = 65_536;
/// One receive takes at most this many packets, so that the first need not wait long.
const BATCH: usize = 128;
/// A device that is down refuses to be read; that may change.
const DOWN_RETRY: Duration = Duration::from_millis(250);

/// A TUN device; it goes when all of its queues have.
#[derive(Debug)]
pub struct Device {
    name: String,
    mtu: u32,
    queue: Arc<Queue>,
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
    let failed = |step| {
        move |error| Error {
            name: name.to_owned(),
            step,
            error,
        }
    };
    let (device, name) = sys::tun::open_tun(name).map_err(failed(""))?;
    set_mtu(&name, mtu).map_err(failed("set the MTU: "))?;
    let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
        .map_err(|error| failed("make a waker: ")(error.into()))?;
    Ok(Device {
        name,
        mtu,
        queue: Arc::new(Queue {
            device,
            wake: Arc::new(wake),
        }),
    })
}

fn set_mtu(name: &str, mtu: u32) -> io::Result<()> {
    let mut netlink = Netlink::open(Protocol::Route)?;
    let link = netlink.link_named(name)?;
    let link = link.ok_or_else(|| io::Error::other("the device vanished"))?;
    // The device takes 65,535 at most.
    netlink.request(set_link_mtu(link.index, mtu.min(65_535)))
}

impl Tun for Device {
    fn name(&self) -> &str {
        &self.name
    }

    fn mtu(&self) -> usize {
        self.mtu as usize
    }

    fn queues(&mut self) -> Vec<Arc<dyn TunQueue>> {
        vec![self.queue.clone()]
    }
}

#[derive(Debug)]
struct Queue {
    device: OwnedFd,
    wake: Arc<OwnedFd>,
}

impl Queue {
    /// Takes packets until there are no more, or `buf` could not hold another of any length.
    fn drain(&self, buf: &mut [u8], out: &mut Batch<TunRx>) -> io::Result<Drained> {
        let mut off = 0;
        for _ in 0..BATCH {
            let Some(room) = buf
                .get_mut(off..)
                .filter(|room| room.len() >= PACKET_LEN || off == 0)
            else {
                break;
            };
            match rustix::io::read(&self.device, room) {
                // Not a packet, but what a device that is being torn down gives.
                Ok(0) => return Ok(Drained::Empty),
                Ok(len) => {
                    out.push(TunRx {
                        off: off as u32,
                        len: len as u32,
                        gso: Gso::default(),
                        csum: Csum::Full,
                    });
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
        let mut count = [0; 8];
        // Nothing to read means that nobody woke us.
        let _ = rustix::io::read(self.wake.as_ref(), &mut count);
        Ok(())
    }

    fn write(&self, iov: &[IoSlice<'_>]) -> Result<(), Errno> {
        loop {
            match rustix::io::writev(&self.device, iov) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok(()),
            }
        }
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
        let drained = self.drain(buf, out)?;
        if out.len() > before {
            return Ok(());
        }
        match until {
            Until::Now => return Ok(()),
            Until::At(deadline) => self.wait(Some(rt::now().until(deadline)), drained)?,
            Until::Woken => self.wait(None, drained)?,
        }
        self.drain(buf, out).map(drop)
    }

    fn send(&self, packets: &[TunTx<'_>]) -> Sent {
        let mut sent = Sent::default();
        for packet in packets {
            match self.write(packet.iov) {
                Ok(()) => {}
                Err(Errno::IO | Errno::NETDOWN) => sent.lost.unreachable += 1,
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => sent.lost.no_buffer += 1,
                Err(Errno::MSGSIZE) => sent.lost.too_big += 1,
                Err(_) => sent.lost.other += 1,
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
