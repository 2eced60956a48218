//! From peers to the host: a UDP socket's worker.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use filter::Verdict;
use host::{Batch, Ecn, Instant, TunQueue, TunTx, UdpRx, UdpSocket, UdpTx, Until};
use metrics::{DropReason, Path, UserMetrics};
use packet::icmp::Echo;
use packet::offload::{self, Coalescer, Limits, MAX_SEGMENTS};
use packet::{IpView, Proto, TcpFlags, disco, ecn, tsmp};
use rt::OsRng;
use wireguard::{Admit, Gate, Message, Opening, Session, Source, classify};

use super::note_received;
use crate::core::{Guard, label, may_send_from};
use crate::mailbox::{Accepted, Decrypted, Mailbox};
use crate::shared::{PeerCell, Shared, Slot};
use crate::sockets::Datagrams;

/// Bytes of the buffer: room for a train behind a good number of usual datagrams.
const BUFFER_LEN: usize = 128 << 10;
/// A socket that fails is not read again at once.
const AFTER_ERROR: Duration = Duration::from_millis(100);
/// Sessions that a worker remembers.
const SLOTS: usize = 16;
/// Congestion was met on the way (RFC 3168).
const CONGESTED: u8 = 3;

/// What the engine's stack takes as one.
const STACK_TAKES: Limits = Limits {
    tcp: true,
    udp: false,
};

/// See the module.
pub(crate) struct Receiver {
    shared: Arc<Shared>,
    udp: Arc<dyn UdpSocket>,
    /// Where packets for the host go; without one, they go to the engine's own stack.
    tun: Option<Arc<dyn TunQueue>>,
    mailbox: Arc<Mailbox>,
    metrics: Arc<UserMetrics>,
    stop: Arc<AtomicBool>,
    gate: Gate,
    slots: Vec<(u32, Arc<Slot>)>,
    run: Run,
    coalescer: Coalescer,
    /// For the engine, from the peer of the run.
    slow: Decrypted,
}

/// Datagrams of one session.
#[derive(Default)]
struct Run {
    slot: Option<(u32, Arc<Slot>, Arc<Session>)>,
    /// Where each lies, and how the network has marked it.
    datagrams: Vec<Range<usize>>,
    ecn: Vec<Ecn>,
    /// Those that are good.
    opened: Vec<Opening>,
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
        Self {
            shared,
            udp,
            tun,
            mailbox,
            metrics,
            stop,
            gate: Gate::new(),
            slots: Vec::with_capacity(SLOTS),
            run: Run::default(),
            coalescer: Coalescer::default(),
            slow: Decrypted::default(),
        }
    }

    /// Works until it is told to stop.
    pub(crate) fn run(&mut self) {
        let udp = Arc::clone(&self.udp);
        let mut buffer = vec![0; BUFFER_LEN];
        let mut trains = Batch::new();
        while !self.stop.load(Ordering::Acquire) {
            trains.clear();
            match udp.recv(&mut buffer, &mut trains, Until::Woken) {
                Ok(()) => self.batch(&mut buffer, &trains, rt::now()),
                Err(error) => {
                    tracing::debug!("magicsock: receive: {error}");
                    std::thread::sleep(AFTER_ERROR);
                }
            }
        }
    }

    /// Takes what one read gave.
    pub(super) fn batch(&mut self, buffer: &mut [u8], trains: &[UdpRx], now: Instant) {
        let shared = Arc::clone(&self.shared);
        let guard = shared.guard.load();
        self.coalescer.clear();
        self.coalescer.set_limits(match &self.tun {
            Some(tun) => tun.takes(),
            None => STACK_TAKES,
        });
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
                if self.datagram(buffer, train, range, &guard, now) {
                    packets += 1;
                    bytes += len;
                }
            }
            self.metrics.inbound.count(path, packets, bytes);
        }
        self.end_run(buffer, &guard, now);
        self.give_host(buffer);
    }

    /// Takes one datagram; says whether it was WireGuard's.
    fn datagram(
        &mut self,
        buffer: &mut [u8],
        train: &UdpRx,
        range: Range<usize>,
        guard: &Guard,
        now: Instant,
    ) -> bool {
        let Some(datagram) = buffer.get_mut(range.clone()) else {
            return false;
        };
        match classify(datagram) {
            Ok(Message::Data { receiver, .. }) => {
                if self
                    .run
                    .slot
                    .as_ref()
                    .is_none_or(|(index, ..)| *index != receiver)
                {
                    self.end_run(buffer, guard, now);
                    self.run.slot = self.find(receiver);
                }
                if self.run.slot.is_some() {
                    self.run.datagrams.push(range);
                    self.run.ecn.push(train.ecn);
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

    fn find(&mut self, index: u32) -> Option<(u32, Arc<Slot>, Arc<Session>)> {
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
        Some((index, slot, session?))
    }

    /// The datagrams of one session are opened, each counter counts once, and then they go to the host.
    fn end_run(&mut self, buffer: &mut [u8], guard: &Guard, now: Instant) {
        let Some((_, slot, session)) = self.run.slot.take() else {
            return;
        };
        let mut run = std::mem::take(&mut self.run);
        let opened = session.open_batch(now, buffer, &run.datagrams, &mut run.opened);
        if let Err(error) = opened {
            tracing::trace!("data from peer {}: {error}", slot.cell.id.0);
        }
        let datagram = |opening: &Opening| run.datagrams.get(opening.index);
        let lens = run.opened.iter().filter_map(datagram).map(Range::len);
        let bytes = lens.sum::<usize>() as u64;
        session.accept_batch(&mut run.opened);
        let cell = &slot.cell;
        cell.rx_bytes.fetch_add(bytes, Ordering::Relaxed);
        if !run.opened.is_empty() {
            cell.direct_data.store(now.as_nanos(), Ordering::Relaxed);
            let is_data = |opening: &Opening| !opening.plaintext.is_empty();
            let any_data = run.opened.iter().any(is_data);
            note_received(&self.mailbox, cell, &session, any_data, now);
            // What one peer sends never continues what another has sent.
            self.coalescer.close();
            self.deliver(cell, &run, buffer, guard);
        }
        run.datagrams.clear();
        run.ecn.clear();
        run.opened.clear();
        self.run = run;
    }

    fn deliver(&mut self, cell: &PeerCell, run: &Run, buffer: &mut [u8], guard: &Guard) {
        let config = self.shared.config(cell.id);
        let is_masked = self.shared.masquerade(cell.id).is_some();
        let Some(config) = config else { return };
        for opening in &run.opened {
            let outer = run.ecn.get(opening.index).copied().unwrap_or_default();
            let range = opening.plaintext.clone();
            let Some(packet) = buffer.get_mut(range.clone()) else {
                continue;
            };
            if packet.is_empty() {
                continue;
            }
            if outer.0 == CONGESTED && !ecn::mark_congested(packet) {
                self.metrics.inbound.count_dropped(DropReason::Error, 1);
                continue;
            }
            if is_masked {
                self.slow.push(cell.id, packet);
                continue;
            }
            if self.coalescer.extend(buffer, range.clone()) {
                continue;
            }
            let packet = buffer.get(range.clone()).unwrap_or_default();
            match self.judge(packet, &config, guard) {
                Judged::Accept => self.coalescer.start(buffer, range),
                Judged::Engine => self.slow.push(cell.id, packet),
                Judged::Drop(reason) => {
                    if let Some(reason) = reason {
                        self.metrics.inbound.count_dropped(reason, 1);
                    }
                }
            }
        }
        let lost = self.mailbox.post_decrypted(&mut self.slow);
        if lost > 0 {
            self.metrics.inbound.count_dropped(DropReason::Error, lost);
        }
    }

    /// What becomes of a packet that begins a run.
    fn judge(&self, packet: &[u8], config: &host::PeerConfig, guard: &Guard) -> Judged {
        let view = match IpView::parse(packet) {
            Ok(view) => view,
            Err(unparsed) => {
                return match Verdict::from(unparsed) {
                    Verdict::Drop(reason) => Judged::Drop(Some(label(reason))),
                    Verdict::Accept => Judged::Drop(None),
                };
            }
        };
        if !may_send_from(config, view.src()) {
            tracing::trace!("peer {} may not send from {}", config.id.0, view.src());
            return Judged::Drop(None);
        }
        let is_own_disco = || {
            view.is(Proto::UDP)
                && disco::Envelope::parse(view.payload())
                    .is_some_and(|envelope| envelope.sender == self.shared.disco)
        };
        let is_awaited_echo = || {
            self.shared.awaits_echo.load(Ordering::Relaxed)
                && Echo::parse(&view).is_some_and(|echo| echo.reply)
        };
        if view.is(Proto::TSMP) && tsmp::Message::parse(&view).is_some()
            || is_awaited_echo()
            || is_own_disco()
        {
            return Judged::Engine;
        }
        match guard.judge_in(&view, config.jailed) {
            Verdict::Accept => Judged::Accept,
            // It tells the opener of a refused connection.
            Verdict::Drop(_) if view.tcp_flags().has(TcpFlags::SYN) => Judged::Engine,
            Verdict::Drop(reason) => Judged::Drop(Some(label(reason))),
        }
    }

    /// Gives the host what has been collected.
    fn give_host(&mut self, buffer: &mut [u8]) {
        if self.coalescer.is_empty() {
            return;
        }
        self.coalescer.finish(buffer);
        let Some(tun) = &self.tun else {
            return self.give_stack(buffer);
        };
        let mut lost = 0;
        let mut pieces = [IoSlice::new(&[]); MAX_SEGMENTS];
        for run in self.coalescer.runs() {
            let mut count = 0;
            for (place, range) in pieces.iter_mut().zip(self.coalescer.pieces(run)) {
                *place = IoSlice::new(buffer.get(range).unwrap_or_default());
                count += 1;
            }
            let packet = TunTx {
                gso: run.gso,
                csum: run.csum,
                iov: pieces.get(..count).unwrap_or_default(),
            };
            let sent = tun.send(&[packet]).lost;
            lost += sent.too_big + sent.no_buffer + sent.unreachable + sent.other;
        }
        if lost > 0 {
            self.metrics
                .inbound
                .count_dropped(DropReason::Error, lost.into());
        }
    }
}

impl Receiver {
    /// Gives the engine's stack what has been collected.
    fn give_stack(&mut self, buffer: &[u8]) {
        let mut accepted = Accepted::default();
        for run in self.coalescer.runs() {
            let start = accepted.bytes.len();
            for piece in self.coalescer.pieces(run) {
                let bytes = buffer.get(piece).unwrap_or_default();
                accepted.bytes.extend_from_slice(bytes);
            }
            // Only what was put together has been checked.
            let is_verified = run.packets() > 1;
            let range = start..accepted.bytes.len();
            accepted.runs.push((range, is_verified));
        }
        let packets = self
            .coalescer
            .runs()
            .iter()
            .map(offload::Run::packets)
            .sum::<usize>();
        let lost = self.mailbox.post_accepted(accepted, packets as u64);
        if lost > 0 {
            let inbound = &self.metrics.inbound;
            inbound.count_dropped(DropReason::Error, lost);
        }
    }
}

enum Judged {
    Accept,
    /// It knows what to do.
    Engine,
    Drop(Option<DropReason>),
}
