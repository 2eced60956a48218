//! The UDP sockets: one per address family, for STUN, disco and WireGuard alike, since a NAT treats each socket apart.
//!
//! Each has a reader thread, which sleeps in the socket until something comes. It fills one buffer after the other from a
//! small pool and hands them to the engine; while the engine has all of them, nothing is read and the kernel drops.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use host::{Batch, Ecn, UdpBinder, UdpRx, UdpSocket, UdpTx, Until};
use magicsock::BoundPorts;

use crate::mailbox::Mailbox;
use crate::pool::Pool;

/// Bytes of one buffer: room for a datagram of any size behind a good number of usual ones.
const BUFFER_LEN: usize = 192 << 10;
/// Buffers of one socket.
const BUFFERS: usize = 4;
/// A socket that fails is not read again at once.
const AFTER_ERROR: Duration = Duration::from_millis(100);
/// The most datagrams of one train: what kernels segment at once.
const TRAIN_MAX: usize = 64;
/// The most bytes of one train.
const TRAIN_LEN: usize = 65_000;

/// Datagrams of one read. Their buffer goes back to the socket when this is dropped.
#[derive(Debug)]
pub(crate) struct Datagrams {
    pub(crate) bytes: Vec<u8>,
    pub(crate) trains: Batch<UdpRx>,
    pool: Option<Arc<Pool<UdpRx>>>,
}

impl Datagrams {
    #[cfg(test)]
    pub(crate) fn of(from: SocketAddr, bytes: Vec<u8>) -> Self {
        let train = UdpRx {
            off: 0,
            len: bytes.len() as u32,
            stride: bytes.len() as u16,
            from,
            to: None,
            ecn: Ecn::default(),
        };
        Self {
            bytes,
            trains: vec![train],
            pool: None,
        }
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            let bytes = std::mem::take(&mut self.bytes);
            pool.give((bytes, std::mem::take(&mut self.trains)));
        }
    }
}

/// A bound socket and its reader. Dropping it closes the socket before it returns, so that its port is free.
struct Bound {
    udp: Arc<dyn UdpSocket>,
    pool: Arc<Pool<UdpRx>>,
    reader: Option<JoinHandle<()>>,
}

impl Bound {
    fn start(udp: Arc<dyn UdpSocket>, mailbox: Arc<Mailbox>) -> io::Result<Self> {
        let pool = Pool::new(BUFFERS, BUFFER_LEN);
        let (reading, buffers) = (udp.clone(), pool.clone());
        let reader = std::thread::Builder::new()
            .name("udp reader".to_owned())
            .spawn(move || read(&*reading, &buffers, &mailbox))?;
        Ok(Self {
            udp,
            pool,
            reader: Some(reader),
        })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.pool.close();
        self.udp.waker().wake();
        if let Some(reader) = self.reader.take() {
            // A reader that panicked has ended too.
            let _ = reader.join();
        }
    }
}

fn read(udp: &dyn UdpSocket, pool: &Arc<Pool<UdpRx>>, mailbox: &Mailbox) {
    while let Some((bytes, trains)) = pool.take() {
        let mut datagrams = Datagrams {
            bytes,
            trains,
            pool: Some(pool.clone()),
        };
        let Datagrams { bytes, trains, .. } = &mut datagrams;
        match udp.recv(bytes, trains, Until::Woken) {
            Ok(()) if datagrams.trains.is_empty() => {}
            Ok(()) => mailbox.post(|inbox| inbox.datagrams.push_back(datagrams)),
            Err(error) => {
                tracing::debug!("magicsock: receive: {error}");
                std::thread::sleep(AFTER_ERROR);
            }
        }
    }
}

/// Datagrams to be sent, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) bytes: Vec<u8>,
    trains: Vec<Train>,
}

/// Datagrams of one length to one address, the last of which may be shorter.
#[derive(Debug, Clone, Copy)]
struct Train {
    to: SocketAddr,
    start: usize,
    len: usize,
    stride: usize,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.trains.is_empty()
    }

    /// Whether it is time to send.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= TRAIN_LEN
    }

    pub(crate) fn push(&mut self, to: SocketAddr, datagram: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(datagram);
        self.finish(to, start);
    }

    /// What was appended to `bytes` from `start` on is a datagram to `to`. Says how long it is.
    pub(crate) fn finish(&mut self, to: SocketAddr, start: usize) -> usize {
        let len = self.bytes.len() - start;
        let fits = |train: &&mut Train| {
            let whole = train.len.is_multiple_of(train.stride);
            let adjoins = train.to == to && train.start + train.len == start;
            adjoins
                && whole
                && len <= train.stride
                && train.len / train.stride < TRAIN_MAX
                && train.len + len <= TRAIN_LEN
        };
        match self.trains.last_mut().filter(fits) {
            Some(train) => train.len += len,
            None if len > 0 => self.trains.push(Train {
                to,
                start,
                len,
                stride: len,
            }),
            None => {}
        }
        len
    }

    #[cfg(test)]
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.trains.iter().flat_map(|train| {
            let all = &self.bytes[train.start..train.start + train.len];
            all.chunks(train.stride)
                .map(|datagram| (train.to, datagram))
        })
    }
}

/// The sockets.
pub(crate) struct Sockets {
    binder: Arc<dyn UdpBinder>,
    wanted: u16,
    mailbox: Arc<Mailbox>,
    v4: Option<Bound>,
    v6: Option<Bound>,
}

impl Sockets {
    /// Without sockets. `wanted` is the preferred port; 0 for any.
    pub(crate) fn new(binder: Arc<dyn UdpBinder>, wanted: u16, mailbox: Arc<Mailbox>) -> Self {
        Self {
            binder,
            wanted,
            mailbox,
            v4: None,
            v6: None,
        }
    }

    /// Binds new sockets instead of those there are, if possible to the same ports. A family that the machine lacks goes
    /// without.
    pub(crate) fn bind(&mut self) -> BoundPorts {
        let before = self.ports();
        self.v4 = None;
        self.v6 = None;
        self.v4 = self.open(false, [Some(self.wanted), before.v4]);
        // Both families on one port, as peers guess the one from the other.
        let v4_port = self.ports().v4;
        self.v6 = self.open(
            true,
            [Some(self.wanted).filter(|p| *p != 0), v4_port.or(before.v6)],
        );
        self.ports()
    }

    pub(crate) fn ports(&self) -> BoundPorts {
        let port = |bound: &Option<Bound>| {
            let addr = bound.as_ref()?.udp.local_addr();
            addr.ok().map(|addr| addr.port())
        };
        BoundPorts {
            v4: port(&self.v4),
            v6: port(&self.v6),
            wanted: self.wanted,
        }
    }

    fn open(&self, v6: bool, ports: [Option<u16>; 2]) -> Option<Bound> {
        let mut last = None;
        let wanted = ports.into_iter().flatten().filter(|port| *port != 0);
        for port in wanted.chain([0]) {
            let bound = self.binder.bind(v6, port);
            match bound.and_then(|udp| Bound::start(udp, self.mailbox.clone())) {
                Ok(bound) => return Some(bound),
                Err(error) => last = Some((port, error)),
            }
        }
        if let Some((port, error)) = last {
            let family = if v6 { "IPv6" } else { "IPv4" };
            tracing::info!("magicsock: no {family} UDP socket on port {port}: {error}");
        }
        None
    }

    /// Sends all. Gives an address to which there is no way, if there was one.
    pub(crate) fn send(&self, outgoing: &Outgoing) -> Flushed {
        let mut flushed = Flushed::default();
        for (socket, v6) in [(&self.v4, false), (&self.v6, true)] {
            let trains = outgoing.trains.iter().filter(|t| t.to.is_ipv6() == v6);
            let batch: Vec<UdpTx<'_>> = trains.map(|train| entry(outgoing, train)).collect();
            if batch.is_empty() {
                continue;
            }
            let Some(socket) = socket else {
                flushed.lost += batch.len() as u64;
                continue;
            };
            let sent = socket.udp.send(&batch);
            let lost = sent.lost;
            flushed.lost +=
                u64::from(lost.too_big + lost.no_buffer + lost.unreachable + lost.other);
            let first = batch.first().map(|entry| entry.to);
            if lost.unreachable > 0 && batch.iter().all(|entry| Some(entry.to) == first) {
                flushed.unreachable = first;
            }
        }
        flushed
    }

    /// Sends one datagram; says whether the system took it.
    pub(crate) fn send_one(&self, to: SocketAddr, datagram: &[u8]) -> bool {
        let mut outgoing = Outgoing::default();
        outgoing.push(to, datagram);
        let socket = if to.is_ipv6() { &self.v6 } else { &self.v4 };
        socket.is_some() && self.send(&outgoing).unreachable.is_none()
    }
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(crate) struct Flushed {
    pub(crate) lost: u64,
    pub(crate) unreachable: Option<SocketAddr>,
}

fn entry<'a>(outgoing: &'a Outgoing, train: &Train) -> UdpTx<'a> {
    let range = train.start..train.start + train.len;
    UdpTx {
        to: train.to,
        src: None,
        stride: u16::try_from(train.stride).unwrap_or(u16::MAX),
        ecn: Ecn::default(),
        data: outgoing.bytes.get(range).unwrap_or_default(),
    }
}
