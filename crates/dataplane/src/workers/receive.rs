//! From peers to the host: a UDP socket's worker.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host::{Ecn, Instant, TunQueue, UdpRx, UdpSocket, UdpTx, Until};
use metrics::{Path, UserMetrics};
use rt::OsRng;
use wireguard::{Admit, Gate, Message, Session, Source, classify};

use super::crew::{Crew, Hands};
use super::deliver::{Batch, Deliverer, OpenRow, Parcel};
use crate::mailbox::Mailbox;
use crate::shared::{Shared, Slot};
use crate::sockets::Datagrams;

/// Bytes of the buffer: room for a train behind a good number of usual datagrams.
const BUFFER_LEN: usize = 128 << 10;
/// A socket that fails is not read again at once.
const AFTER_ERROR: Duration = Duration::from_millis(100);
/// Sessions that a worker remembers.
const SLOTS: usize = 16;
/// With so many datagrams at once, others can help.
const LARGE: usize = 24;

/// See the module.
pub(crate) struct Receiver {
    shared: Arc<Shared>,
    udp: Arc<dyn UdpSocket>,
    mailbox: Arc<Mailbox>,
    metrics: Arc<UserMetrics>,
    stop: Arc<AtomicBool>,
    gate: Gate,
    slots: Vec<(u32, Arc<Slot>)>,
    deliverer: Arc<Mutex<Deliverer>>,
    hands: Option<Hands<OpenRow>>,
}

impl Receiver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        udp: Arc<dyn UdpSocket>,
        tun: Option<Arc<dyn TunQueue>>,
        mailbox: Arc<Mailbox>,
        metrics: Arc<UserMetrics>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let (for_host, told, counted) = (shared.clone(), mailbox.clone(), metrics.clone());
        let deliverer = Deliverer::new(for_host, tun, told, counted);
        Self {
            shared,
            udp,
            mailbox,
            metrics,
            stop,
            gate: Gate::new(),
            slots: Vec::with_capacity(SLOTS),
            deliverer: Arc::new(Mutex::new(deliverer)),
            hands: None,
        }
    }

    /// Has others help with what is much.
    pub(crate) fn with_crew(mut self, crew: Option<&Arc<Crew>>) -> Self {
        let hands = |crew: &Arc<Crew>| {
            let row = OpenRow::new(crew.row_len(), self.deliverer.clone());
            Hands::new(crew, row)
        };
        self.hands = crew.map(hands);
        self
    }

    /// Works until it is told to stop.
    pub(crate) fn run(&mut self) {
        let udp = Arc::clone(&self.udp);
        let mut parcel = new_parcel();
        let mut trains = host::Batch::new();
        while !self.stop.load(Ordering::Acquire) {
            trains.clear();
            match udp.recv(&mut parcel.buffer, &mut trains, Until::Woken) {
                Ok(()) => {
                    let Parcel { buffer, batch } = &mut parcel;
                    self.collect(buffer, batch, &trains, rt::now());
                    parcel = self.pass_on(parcel);
                }
                Err(error) => {
                    tracing::debug!("magicsock: receive: {error}");
                    std::thread::sleep(AFTER_ERROR);
                }
            }
        }
        self.drain();
    }

    /// Gives a parcel to those who help, or does all of it. Gives one for the next read.
    fn pass_on(&mut self, mut parcel: Parcel) -> Parcel {
        let is_large = parcel.batch.datagrams() >= LARGE;
        let wants = |hands: &&Hands<OpenRow>| hands.wants(is_large, |row| &row.tickets);
        let Some(hands) = self.hands.as_ref().filter(wants) else {
            let Parcel { buffer, batch } = &mut parcel;
            self.finish(buffer, batch);
            return parcel;
        };
        hands.push(parcel, |row| &row.tickets);
        hands.row().spare.take().unwrap_or_else(new_parcel)
    }

    fn finish(&self, buffer: &mut [u8], batch: &mut Batch) {
        batch.open(buffer);
        let deliverer = self.deliverer.lock();
        deliverer
            .unwrap_or_else(PoisonError::into_inner)
            .batch(buffer, batch);
    }

    /// Takes what one read gave.
    #[cfg(any(test, feature = "trial"))]
    pub(crate) fn batch(&mut self, buffer: &mut [u8], trains: &[UdpRx], now: Instant) {
        let mut batch = Batch::default();
        self.collect(buffer, &mut batch, trains, now);
        self.finish(buffer, &mut batch);
    }

    /// Takes what one read gave, as [`run`](Self::run) does it, with others' help.
    #[cfg(test)]
    pub(super) fn parcel(&mut self, buffer: Vec<u8>, trains: &[UdpRx], now: Instant) {
        let mut batch = Batch::default();
        self.collect(&buffer, &mut batch, trains, now);
        self.pass_on(Parcel { buffer, batch });
    }

    /// Waits for those who help.
    pub(super) fn drain(&self) {
        if let Some(hands) = &self.hands {
            hands.row().tickets.drain(hands.row());
        }
    }

    /// Looks at what one read gave: data is collected by session, the rest goes its way at once.
    fn collect(&mut self, buffer: &[u8], batch: &mut Batch, trains: &[UdpRx], now: Instant) {
        batch.clear(now);
        let mut current = None;
        for train in trains {
            let (start, len) = (train.off as usize, train.len as usize);
            let stride = usize::from(train.stride).max(1);
            let path = match train.from {
                SocketAddr::V4(_) => Path::DirectIpv4,
                SocketAddr::V6(_) => Path::DirectIpv6,
            };
            let (mut packets, mut bytes) = (0, 0);
            for at in (start..start + len).step_by(stride) {
                let range = at..(at + stride).min(start + len);
                let len = range.len() as u64;
                if self.datagram(buffer, batch, &mut current, train, range, now) {
                    packets += 1;
                    bytes += len;
                }
            }
            self.metrics.inbound.count(path, packets, bytes);
        }
    }

    /// Takes one datagram; says whether it was WireGuard's. `current` is the session that data came for last, and whether it is one.
    fn datagram(
        &mut self,
        buffer: &[u8],
        batch: &mut Batch,
        current: &mut Option<(u32, bool)>,
        train: &UdpRx,
        range: Range<usize>,
        now: Instant,
    ) -> bool {
        let Some(datagram) = buffer.get(range.clone()) else {
            return false;
        };
        match classify(datagram) {
            Ok(Message::Data { receiver, .. }) => {
                let is_known = match *current {
                    Some((index, is_known)) if index == receiver => is_known,
                    _ => {
                        let found = self.find(receiver);
                        let is_known = found.is_some();
                        if let Some((slot, session)) = found {
                            batch.begin(slot, session);
                        }
                        *current = Some((receiver, is_known));
                        is_known
                    }
                };
                if is_known {
                    batch.push(range, train.ecn);
                }
                true
            }
            Ok(message) => {
                self.handshake(&message, datagram, train.from, now);
                true
            }
            // STUN, disco, or nonsense: the engine can tell.
            Err(_) => {
                let datagrams = Datagrams::of(train.from, datagram.to_vec());
                self.mailbox.post_datagrams(datagrams);
                false
            }
        }
    }

    /// Only what deserves work comes to the engine, and no more of it than it can do.
    fn handshake(
        &mut self,
        message: &Message<'_>,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
    ) {
        let identity = self.shared.identity.load();
        let Some(identity) = &*identity else { return };
        let source = Source::Udp(from);
        match self.gate.admit(identity, message, source, now, &mut OsRng) {
            Admit::Drop => {}
            Admit::Challenge(reply) => {
                let answer = UdpTx {
                    to: from,
                    src: None,
                    stride: u16::try_from(reply.len()).unwrap_or(u16::MAX),
                    ecn: Ecn::default(),
                    data: &reply,
                };
                // Whoever hears nothing asks again.
                let _ = self.udp.send(&[answer]);
            }
            Admit::Proceed => {
                let datagrams = Datagrams {
                    admitted: true,
                    ..Datagrams::of(from, datagram.to_vec())
                };
                self.mailbox.post_handshake(datagrams);
            }
        }
    }

    fn find(&mut self, index: u32) -> Option<(Arc<Slot>, Arc<Session>)> {
        let known = self.slots.iter().position(|(known, _)| *known == index);
        let slot = match known.and_then(|at| self.slots.get(at)) {
            Some((_, slot)) => Arc::clone(slot),
            None => {
                let slot = self.shared.slot(index)?;
                if self.slots.len() >= SLOTS {
                    self.slots.remove(0);
                }
                self.slots.push((index, Arc::clone(&slot)));
                slot
            }
        };
        let session = slot.session.load_full();
        if session.is_none() {
            // It may not be used any more, and need not be remembered.
            self.slots.retain(|(known, _)| *known != index);
        }
        Some((slot, session?))
    }
}

fn new_parcel() -> Parcel {
    Parcel {
        buffer: vec![0; BUFFER_LEN],
        batch: Batch::default(),
    }
}
