//! The UDP sockets: one per address family, for STUN, disco and WireGuard alike, since a NAT treats each socket apart.
//!
//! Each has a worker thread ([`Receiver`]), which sleeps in the socket until something comes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use host::{Avoid, Ecn, Sent, UdpBinder, UdpRx, UdpSocket, UdpTx};
use magicsock::BoundPorts;
use wireguard::{Counter, SealError, Session, Unsealed, sealed_len};

use crate::workers::Receiver;

/// The most datagrams of one train: what kernels segment at once.
const TRAIN_MAX: usize = 64;
/// The most bytes of one train.
const TRAIN_LEN: usize = 65_000;

/// Datagrams that are for the engine itself: STUN, disco and handshakes.
#[derive(Debug)]
pub(crate) struct Datagrams {
    pub(crate) bytes: Vec<u8>,
    pub(crate) trains: Vec<UdpRx>,
    /// Whether their handshakes have been through a gate.
    pub(crate) admitted: bool,
}

impl Datagrams {
    /// One datagram.
    pub(crate) fn of(from: SocketAddr, bytes: Vec<u8>) -> Self {
        let train = UdpRx {
            off: 0,
            len: bytes.len() as u32,
            stride: u16::try_from(bytes.len()).unwrap_or(u16::MAX),
            from,
            to: None,
            ecn: Ecn::default(),
        };
        Self {
            bytes,
            trains: vec![train],
            admitted: false,
        }
    }
}

/// A bound socket and its worker. Dropping it closes the socket before it returns, so that its port is free.
struct Bound {
    udp: Arc<dyn UdpSocket>,
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
}

impl Bound {
    fn start(number: usize, udp: Arc<dyn UdpSocket>, make: &MakeReceiver) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut receiver = make(number, udp.clone(), stop.clone());
        let worker = std::thread::Builder::new()
            .name("udp worker".to_owned())
            .spawn(move || receiver.run())?;
        Ok(Self {
            udp,
            stop,
            worker: Some(worker),
        })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.udp.waker().wake();
        if let Some(worker) = self.worker.take() {
            // A worker that panicked has ended too.
            let _ = worker.join();
        }
        // Somebody may be sending by it at this moment.
        for _ in 0..MAX_LOOKS {
            if Arc::strong_count(&self.udp) == 1 {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// How often, and how many times, a socket is looked at that is about to be closed.
const LOOK_EVERY: Duration = Duration::from_millis(1);
const MAX_LOOKS: usize = 100;

/// Makes the worker of a socket; the number says which of its family's.
pub(crate) type MakeReceiver =
    dyn Fn(usize, Arc<dyn UdpSocket>, Arc<AtomicBool>) -> Receiver + Send + Sync;

/// Datagrams to be sent, one behind the other. Its memory is kept from one time to the next.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    buffer: Vec<u8>,
    len: usize,
    trains: Vec<Train>,
    /// Those that are still to be sealed; sending does it.
    unsealed: Unsealed,
}

/// Datagrams of one length to one address, the last of which may be shorter.
#[derive(Debug, Clone, Copy)]
struct Train {
    to: SocketAddr,
    ecn: Ecn,
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
        self.len >= TRAIN_LEN
    }

    pub(crate) fn clear(&mut self) {
        self.seal();
        self.len = 0;
        self.trains.clear();
    }

    /// Whether it is so much that others can help.
    pub(crate) fn is_large(&self) -> bool {
        self.len >= TRAIN_LEN / 2
    }

    /// Seals what is not sealed yet.
    pub(crate) fn seal(&mut self) {
        self.unsealed.finish(&mut self.buffer);
    }

    /// Adds a packet that is sealed together with others, at the latest when it is sent.
    pub(crate) fn push_unsealed(
        &mut self,
        (to, ecn): (SocketAddr, Ecn),
        session: &Arc<Session>,
        counter: Counter,
        packet: &[u8],
        padded: usize,
    ) -> Result<(), SealError> {
        let (start, len) = (self.len, sealed_len(padded));
        self.room(len);
        self.unsealed
            .push(session, counter, packet, padded, &mut self.buffer, start)?;
        self.finish(to, ecn, len);
        Ok(())
    }

    /// The place of the next datagram, of this length. What it holds is what the caller writes there; then comes
    /// [`finish`](Self::finish), or nothing, which leaves the place free.
    pub(crate) fn room(&mut self, len: usize) -> &mut [u8] {
        let end = self.len + len;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        self.buffer.get_mut(self.len..end).unwrap_or_default()
    }

    pub(crate) fn push(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.room(datagram.len()).copy_from_slice(datagram);
        self.finish(to, Ecn::default(), datagram.len());
    }

    /// What was written into the last [`room`](Self::room) is a datagram to `to`.
    pub(crate) fn finish(&mut self, to: SocketAddr, ecn: Ecn, len: usize) {
        let start = self.len;
        self.len += len;
        let fits = |train: &&mut Train| {
            let whole = train.len.is_multiple_of(train.stride);
            (train.to, train.ecn) == (to, ecn)
                && whole
                && len <= train.stride
                && train.len / train.stride < TRAIN_MAX
                && train.len + len <= TRAIN_LEN
        };
        match self.trains.last_mut().filter(fits) {
            Some(train) => train.len += len,
            None if len > 0 => self.trains.push(Train {
                to,
                ecn,
                start,
                len,
                stride: len,
            }),
            None => {}
        }
    }

    #[cfg(test)]
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.trains.iter().flat_map(|train| {
            let all = &self.buffer[train.start..train.start + train.len];
            all.chunks(train.stride)
                .map(|datagram| (train.to, datagram))
        })
    }
}

/// The sockets.
pub(crate) struct Sockets {
    binder: Arc<dyn UdpBinder>,
    wanted: u16,
    /// Sockets of each family: as many as there are threads for them.
    count: usize,
    receiver: Box<MakeReceiver>,
    avoid: Avoid,
    fragments: bool,
    v4: Vec<Bound>,
    v6: Vec<Bound>,
}

impl Sockets {
    /// Without sockets. `wanted` is the preferred port; 0 for any.
    pub(crate) fn new(
        binder: Arc<dyn UdpBinder>,
        wanted: u16,
        count: usize,
        receiver: Box<MakeReceiver>,
    ) -> Self {
        Self {
            binder,
            wanted,
            count,
            receiver,
            avoid: Avoid::default(),
            fragments: false,
            v4: Vec::new(),
            v6: Vec::new(),
        }
    }

    /// Binds new sockets instead of those there are, if possible to the same ports. A family that the machine lacks goes
    /// without.
    pub(crate) fn bind(&mut self) -> BoundPorts {
        let before = self.ports();
        self.v4.clear();
        self.v6.clear();
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
        let port = |group: &[Bound]| {
            let addr = group.first()?.udp.local_addr();
            addr.ok().map(|addr| addr.port())
        };
        BoundPorts {
            v4: port(&self.v4),
            v6: port(&self.v6),
            wanted: self.wanted,
        }
    }

    fn open(&self, v6: bool, ports: [Option<u16>; 2]) -> Vec<Bound> {
        let mut last = None;
        let wanted = ports.into_iter().flatten().filter(|port| *port != 0);
        for port in wanted.chain([0]) {
            let group = self.binder.bind_group(v6, port, self.count);
            match group.and_then(|group| self.start(group)) {
                Ok(group) => return group,
                Err(error) => last = Some((port, error)),
            }
        }
        if let Some((port, error)) = last {
            let family = if v6 { "IPv6" } else { "IPv4" };
            tracing::info!("magicsock: no {family} UDP socket on port {port}: {error}");
        }
        Vec::new()
    }

    fn start(&self, group: Vec<Arc<dyn UdpSocket>>) -> io::Result<Vec<Bound>> {
        let start = |(number, udp): (usize, Arc<dyn UdpSocket>)| {
            udp.avoid(self.avoid);
            if self.fragments {
                udp.allow_fragments();
            }
            Bound::start(number, udp, &*self.receiver)
        };
        group.into_iter().enumerate().map(start).collect()
    }

    /// What no socket is to use from now on.
    pub(crate) fn avoid(&mut self, avoid: Avoid) {
        self.avoid = avoid;
        for bound in self.v4.iter().chain(&self.v6) {
            bound.udp.avoid(avoid);
        }
    }

    /// From now on routers may cut what is too long for them.
    pub(crate) fn allow_fragments(&mut self) {
        self.fragments = true;
        for bound in self.v4.iter().chain(&self.v6) {
            bound.udp.allow_fragments();
        }
    }

    /// The sockets, for those that only send.
    pub(crate) fn pair(&self) -> SocketPair {
        let udp = |group: &[Bound]| group.iter().map(|bound| bound.udp.clone()).collect();
        SocketPair {
            v4: udp(&self.v4),
            v6: udp(&self.v6),
        }
    }

    /// Sends one datagram; says whether the system took it.
    pub(crate) fn send_one(&self, to: SocketAddr, datagram: &[u8]) -> bool {
        let mut outgoing = Outgoing::default();
        outgoing.push(to, datagram);
        let group = if to.is_ipv6() { &self.v6 } else { &self.v4 };
        !group.is_empty() && self.pair().send(0, &mut outgoing).unreachable.is_none()
    }
}

/// The sockets, as those see them that only send.
#[derive(Clone, Default)]
pub(crate) struct SocketPair {
    v4: Vec<Arc<dyn UdpSocket>>,
    v6: Vec<Arc<dyn UdpSocket>>,
}

/// Trains that are handed to a socket at once.
const AT_ONCE: usize = 16;

impl SocketPair {
    /// One socket for IPv4.
    #[cfg(test)]
    pub(crate) fn of(v4: Arc<dyn UdpSocket>) -> Self {
        Self {
            v4: vec![v4],
            v6: Vec::new(),
        }
    }

    /// Sends all, by the sockets of this number. Gives an address to which there is no way, if there was one.
    pub(crate) fn send(&self, number: usize, outgoing: &mut Outgoing) -> Flushed {
        outgoing.seal();
        let outgoing = &*outgoing;
        let mut flushed = Flushed::default();
        for trains in outgoing
            .trains
            .chunk_by(|a, b| a.to.is_ipv6() == b.to.is_ipv6())
        {
            let is_v6 = trains.first().is_some_and(|train| train.to.is_ipv6());
            let group = if is_v6 { &self.v6 } else { &self.v4 };
            let Some(socket) = group.iter().cycle().nth(number % group.len().max(1)) else {
                flushed.lost += trains.iter().map(Train::datagrams).sum::<u64>();
                continue;
            };
            for trains in trains.chunks(AT_ONCE) {
                flushed.take(trains, |batch| socket.send(batch), outgoing);
            }
        }
        flushed
    }
}

impl Train {
    fn datagrams(&self) -> u64 {
        self.len.div_ceil(self.stride.max(1)) as u64
    }
}

impl Flushed {
    fn take(
        &mut self,
        trains: &[Train],
        send: impl FnOnce(&[UdpTx<'_>]) -> Sent,
        outgoing: &Outgoing,
    ) {
        let Some(first) = trains.first() else { return };
        let mut batch = [entry(outgoing, first); AT_ONCE];
        for (place, train) in batch.iter_mut().zip(trains) {
            *place = entry(outgoing, train);
        }
        let sent = send(batch.get(..trains.len()).unwrap_or_default());
        let lost = sent.lost;
        self.lost += u64::from(lost.too_big + lost.no_buffer + lost.unreachable + lost.other);
        if lost.unreachable > 0 && trains.iter().all(|train| train.to == first.to) {
            self.unreachable = Some(first.to);
        }
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
        ecn: train.ecn,
        data: outgoing.buffer.get(range).unwrap_or_default(),
    }
}
