//! What becomes of datagrams once it is known whose they are: they are opened, and then delivered in their order.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use filter::Verdict;
use host::{Ecn, Instant, TunQueue, TunTx};
use metrics::{DropReason, UserMetrics};
use packet::icmp::Echo;
use packet::offload::{self, Coalescer, Limits, MAX_SEGMENTS};
use packet::{IpView, Proto, TcpFlags, disco, ecn, mss, tsmp};
use tickets::{Tickets, Work};
use wireguard::{Opening, Session};

use super::crew::{Row, Spare};
use super::note_received;
use crate::core::{Guard, label, may_send_from};
use crate::mailbox::{Accepted, Decrypted, Mailbox};
use crate::shared::{PeerCell, Shared, Slot};

/// Congestion was met on the way (RFC 3168).
const CONGESTED: u8 = 3;

/// What the engine's stack takes as one.
const STACK_TAKES: Limits = Limits {
    tcp: true,
    udp: false,
};

/// Datagrams of one session, one behind the other.
#[derive(Default)]
struct Run {
    of: Option<(Arc<Slot>, Arc<Session>)>,
    /// Where each lies, and how the network has marked it.
    datagrams: Vec<Range<usize>>,
    ecn: Vec<Ecn>,
    /// Those that are good.
    opened: Vec<Opening>,
}

/// The data that one read brought. Its memory is kept from one time to the next.
pub(crate) struct Batch {
    runs: Vec<Run>,
    used: usize,
    datagrams: usize,
    now: Instant,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            runs: Vec::new(),
            used: 0,
            datagrams: 0,
            now: Instant::ZERO,
        }
    }
}

impl Batch {
    /// Forgets all.
    pub(crate) fn clear(&mut self, now: Instant) {
        for run in self.runs.iter_mut().take(self.used) {
            run.of = None;
            run.datagrams.clear();
            run.ecn.clear();
            run.opened.clear();
        }
        self.used = 0;
        self.datagrams = 0;
        self.now = now;
    }

    /// What comes next is of this session.
    pub(crate) fn begin(&mut self, slot: Arc<Slot>, session: Arc<Session>) {
        if self.used == self.runs.len() {
            self.runs.push(Run::default());
        }
        if let Some(run) = self.runs.get_mut(self.used) {
            run.of = Some((slot, session));
        }
        self.used += 1;
    }

    /// A datagram of the session that was named last.
    pub(crate) fn push(&mut self, datagram: Range<usize>, ecn: Ecn) {
        if let Some(run) = self
            .used
            .checked_sub(1)
            .and_then(|at| self.runs.get_mut(at))
        {
            run.datagrams.push(datagram);
            run.ecn.push(ecn);
            self.datagrams += 1;
        }
    }

    /// How many there are.
    pub(crate) fn datagrams(&self) -> usize {
        self.datagrams
    }

    /// Authenticates and decrypts, where they lie. Nothing is known yet of counters that were seen before.
    pub(crate) fn open(&mut self, buffer: &mut [u8]) {
        for run in self.runs.iter_mut().take(self.used) {
            let Some((slot, session)) = &run.of else {
                continue;
            };
            let opened = session.open_batch(self.now, buffer, &run.datagrams, &mut run.opened);
            if let Err(error) = opened {
                tracing::trace!("data from peer {}: {error}", slot.cell.id.0);
            }
        }
    }
}

/// What is needed to bring opened packets to their end, in the order in which they came.
pub(crate) struct Deliverer {
    shared: Arc<Shared>,
    /// Where packets for the host go; without one, they go to the engine's own stack.
    tun: Option<Arc<dyn TunQueue>>,
    mailbox: Arc<Mailbox>,
    metrics: Arc<UserMetrics>,
    coalescer: Coalescer,
    /// For the engine, from the peer of the run.
    slow: Decrypted,
}

impl Deliverer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        tun: Option<Arc<dyn TunQueue>>,
        mailbox: Arc<Mailbox>,
        metrics: Arc<UserMetrics>,
    ) -> Self {
        Self {
            shared,
            tun,
            mailbox,
            metrics,
            coalescer: Coalescer::default(),
            slow: Decrypted::default(),
        }
    }

    /// Each counter counts once; what is left goes to the host.
    pub(crate) fn batch(&mut self, buffer: &mut [u8], batch: &mut Batch) {
        let shared = Arc::clone(&self.shared);
        let guard = shared.guard.load();
        self.coalescer.clear();
        self.coalescer.set_limits(match &self.tun {
            Some(tun) => tun.takes(),
            None => STACK_TAKES,
        });
        let now = batch.now;
        for run in batch.runs.iter_mut().take(batch.used) {
            self.run(run, buffer, &guard, now);
        }
        self.give_host(buffer);
    }

    fn run(&mut self, run: &mut Run, buffer: &mut [u8], guard: &Guard, now: Instant) {
        let Some((slot, session)) = run.of.take() else {
            return;
        };
        let datagram = |opening: &Opening| run.datagrams.get(opening.index);
        let lens = run.opened.iter().filter_map(datagram).map(Range::len);
        let bytes = lens.sum::<usize>() as u64;
        session.accept_batch(&mut run.opened);
        let cell = &slot.cell;
        cell.rx_bytes.fetch_add(bytes, Ordering::Relaxed);
        if run.opened.is_empty() {
            return;
        }
        cell.direct_data.store(now.as_nanos(), Ordering::Relaxed);
        let is_data = |opening: &Opening| !opening.plaintext.is_empty();
        let any_data = run.opened.iter().any(is_data);
        note_received(&self.mailbox, cell, &session, any_data, now);
        // What one peer sends never continues what another has sent.
        self.coalescer.close();
        self.deliver(cell, run, buffer, guard);
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
            let limit = cell.inner_mtu.load(Ordering::Relaxed);
            if limit != 0 {
                mss::clamp(packet, limit, true);
            }
            if self.coalescer.extend(buffer, range.clone()) {
                continue;
            }
            let packet = buffer.get(range.clone()).unwrap_or_default();
            match self.judge(packet, &config, guard) {
                Judged::Accept { len } => {
                    let whole = range.start..range.start + len;
                    self.coalescer.start(buffer, whole);
                }
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
            // Also where the host's firewall would not let it in, or something else of the host has the port.
            Verdict::Accept if self.tun.is_some() && guard.is_peerapi(&view) => Judged::Engine,
            Verdict::Accept => Judged::Accept {
                len: view.bytes().len(),
            },
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
    /// So much of it is the packet; what follows is the tunnel's padding.
    Accept {
        len: usize,
    },
    /// It knows what to do.
    Engine,
    Drop(Option<DropReason>),
}

/// What a read brought, with its buffer.
pub(crate) struct Parcel {
    pub(crate) buffer: Vec<u8>,
    pub(crate) batch: Batch,
}

/// The row of a receiver: any thread opens, one at a time delivers.
pub(crate) struct OpenRow {
    pub(crate) tickets: Tickets<Parcel>,
    pub(crate) spare: Spare<Parcel>,
    deliverer: Arc<Mutex<Deliverer>>,
}

impl OpenRow {
    pub(crate) fn new(len: usize, deliverer: Arc<Mutex<Deliverer>>) -> Self {
        Self {
            tickets: Tickets::new(len),
            spare: Spare::default(),
            deliverer,
        }
    }
}

impl Row for OpenRow {
    fn help(&self) {
        self.tickets.help(self);
    }
}

impl Work<Parcel> for OpenRow {
    fn work(&self, parcel: &mut Parcel) {
        parcel.batch.open(&mut parcel.buffer);
    }

    fn retire(&self, mut parcel: Parcel) {
        let mut deliverer = self
            .deliverer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        deliverer.batch(&mut parcel.buffer, &mut parcel.batch);
        drop(deliverer);
        self.spare.give(parcel);
    }
}
