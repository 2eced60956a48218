//! From the host to peers: the TUN device's worker, and the plain part of what the engine's own stack sends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::Guard as Loaded;
use filter::Verdict;
use host::{Batch as Received, Ecn, GsoKind, Instant, TunQueue, TunRx, Until};
use magicsock::LinkId;
use metrics::{DropReason, Path, UserMetrics};
use packet::addr::is_service_ip;
use packet::offload::{Csum, Splitter, complete};
use packet::{IpView, Proto, disco, ecn, mss, tsmp};
use tickets::{Tickets, Work};
use wireguard::{Reserved, SealError, Session, Unsealed, padded_len, sealed_len};

use super::crew::{Crew, Hands, Row, Spare};
use super::flows::{FlowKey, FlowTable};
use super::note_sent;
use crate::core::{Guard, label};
use crate::link::Batch;
use crate::mailbox::{Mailbox, Poke};
use crate::shared::{Lent, PeerCell, Shared, Way};
use crate::sockets::Outgoing;
use crate::tun::FromHost;

/// Bytes of the buffer: room for a super-packet behind a good number of usual packets.
const BUFFER_LEN: usize = 128 << 10;
/// A flow in use is brought to the filter's mind this often, so that it does not forget it for newer ones.
const REMIND_EVERY: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Transmitter {
    sender: Sender,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    metrics: Arc<UserMetrics>,
    flows: FlowTable<Known>,
    outgoing: Outgoing,
    /// Frames for one relay.
    relayed: Option<Relayed>,
    /// For the engine.
    slow: FromHost,
    last_batch_len: usize,
    hands: Option<Hands<SealRow>>,
}

/// What is needed to send.
#[derive(Clone)]
struct Sender {
    /// Which of the sockets it sends by.
    number: usize,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    metrics: Arc<UserMetrics>,
}

impl Sender {
    fn send(&self, outgoing: &mut Outgoing) {
        let flushed = self.shared.sockets.load().send(self.number, outgoing);
        outgoing.clear();
        if flushed.lost > 0 {
            let outbound = &self.metrics.outbound;
            outbound.count_dropped(DropReason::Error, flushed.lost);
        }
        if let Some(addr) = flushed.unreachable {
            self.mailbox.poke(Poke::Unreachable(addr));
        }
    }
}

/// The row of a transmitter: any thread seals, one at a time sends.
struct SealRow {
    tickets: Tickets<Outgoing>,
    spare: Spare<Outgoing>,
    sender: Sender,
}

impl Row for SealRow {
    fn help(&self) {
        self.tickets.help(self);
    }
}

impl Work<Outgoing> for SealRow {
    fn work(&self, outgoing: &mut Outgoing) {
        outgoing.seal();
    }

    fn retire(&self, mut outgoing: Outgoing) {
        self.sender.send(&mut outgoing);
        self.spare.give(outgoing);
    }
}

/// Frames on their way to a relay's link.
struct Relayed {
    link: LinkId,
    batch: Batch,
    unsealed: Unsealed,
}

/// A flow that was looked up and may pass.
struct Known {
    cell: Arc<PeerCell>,
    /// When the filter was last reminded of it; `None` if it keeps no such flows in mind.
    reminded: Option<Instant>,
}

impl Transmitter {
    pub(crate) fn new(
        number: usize,
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        metrics: Arc<UserMetrics>,
    ) -> Self {
        let sender = Sender {
            number,
            shared: shared.clone(),
            mailbox: mailbox.clone(),
            metrics: metrics.clone(),
        };
        Self {
            sender,
            shared,
            mailbox,
            metrics,
            flows: FlowTable::new(),
            outgoing: Outgoing::default(),
            relayed: None,
            slow: FromHost::default(),
            last_batch_len: 0,
            hands: None,
        }
    }

    /// Has others help with what is much.
    pub(crate) fn with_crew(mut self, crew: Option<&Arc<Crew>>) -> Self {
        let hands = |crew: &Arc<Crew>| {
            let row = SealRow {
                tickets: Tickets::new(crew.row_len()),
                spare: Spare::default(),
                sender: self.sender.clone(),
            };
            Hands::new(crew, row)
        };
        self.hands = crew.map(hands);
        self
    }

    /// Works until it is told to stop, or the device is gone.
    pub(crate) fn run(&mut self, queue: &dyn TunQueue, stop: &AtomicBool) {
        let mut buffer = vec![0; BUFFER_LEN];
        let mut packets = Received::new();
        while !stop.load(Ordering::Acquire) {
            packets.clear();
            if let Err(error) = queue.recv(&mut buffer, &mut packets, Until::Woken) {
                let error = error.to_string();
                self.drain();
                return self.mailbox.post(|inbox| inbox.tun_lost = Some(error));
            }
            self.batch(&mut buffer, &packets, rt::now());
        }
        self.drain();
    }

    /// Waits for those who help.
    pub(super) fn drain(&self) {
        if let Some(hands) = &self.hands {
            hands.row().tickets.drain(hands.row());
        }
    }

    /// Takes what one read gave.
    pub(super) fn batch(&mut self, buffer: &mut [u8], packets: &[TunRx], now: Instant) {
        self.flows.set_generation(self.shared.generation());
        let guard = self.shared.guard.load();
        for packet in packets {
            let range = packet.off as usize..packet.off as usize + packet.len as usize;
            if let Some(bytes) = buffer.get_mut(range) {
                self.packet(bytes, packet, &guard, now);
            }
        }
        self.flush_all();
        self.flush_slow();
    }

    /// Sends what was sealed.
    pub(crate) fn flush_all(&mut self) {
        self.flush();
        self.flush_relayed();
    }

    /// Seals a packet of the engine's own stack, if it is a plain case; [`flush_all`](Self::flush_all) sends it.
    pub(crate) fn try_send(&mut self, bytes: &mut [u8], rx: &TunRx, now: Instant) -> bool {
        self.flows.set_generation(self.shared.generation());
        let guard = self.shared.guard.load();
        let Ok(view) = IpView::parse(bytes) else {
            return false;
        };
        match self.find(&view, &guard, now) {
            Looked::Known(cell) => {
                let limit = cell.inner_mtu.load(Ordering::Relaxed);
                if limit != 0 {
                    mss::clamp(bytes, limit, !matches!(rx.csum, Csum::Partial { .. }));
                }
                self.send(&cell, bytes, rx, now)
            }
            Looked::Engine => false,
            Looked::Dropped(reason) => {
                self.metrics.outbound.count_dropped(reason, 1);
                true
            }
        }
    }

    fn packet(&mut self, bytes: &mut [u8], rx: &TunRx, guard: &Guard, now: Instant) {
        let view = match IpView::parse(bytes) {
            Ok(view) => view,
            Err(unparsed) => {
                if let Verdict::Drop(reason) = Verdict::from(unparsed) {
                    self.metrics.outbound.count_dropped(label(reason), 1);
                }
                return;
            }
        };
        match self.find(&view, guard, now) {
            Looked::Known(cell) => {
                let limit = cell.inner_mtu.load(Ordering::Relaxed);
                if limit != 0 && !self.fits(bytes, rx, limit) {
                    return;
                }
                if !self.send(&cell, bytes, rx, now) {
                    self.leave_to_engine(bytes, rx);
                }
            }
            Looked::Engine => self.leave_to_engine(bytes, rx),
            Looked::Dropped(reason) => self.metrics.outbound.count_dropped(reason, 1),
        }
    }

    /// Where a packet goes, as far as a worker can tell.
    fn find(&mut self, view: &IpView<'_>, guard: &Guard, now: Instant) -> Looked {
        let key = FlowKey::of(view);
        let Some(known) = self.flows.get_mut(&key) else {
            let looked = self.look_up(view, guard);
            if let Looked::Known(cell) = &looked {
                let known = Known {
                    cell: Arc::clone(cell),
                    reminded: filter::Flow::of(view).map(|_| now),
                };
                self.flows.insert(key, known);
            }
            return looked;
        };
        if let Some(reminded) = &mut known.reminded
            && now.since(*reminded) > REMIND_EVERY
        {
            *reminded = now;
            let jailed = self
                .shared
                .config(known.cell.id)
                .is_some_and(|peer| peer.jailed);
            guard.note_out(view, jailed);
        }
        Looked::Known(Arc::clone(&known.cell))
    }

    /// Where a packet of a new flow goes.
    fn look_up(&self, view: &IpView<'_>, guard: &Guard) -> Looked {
        let is_own_disco = view.is(Proto::UDP)
            && disco::Envelope::parse(view.payload())
                .is_some_and(|envelope| envelope.sender == self.shared.disco);
        if is_service_ip(view.dst()) || tsmp::Message::parse(view).is_some() || is_own_disco {
            return Looked::Engine;
        }
        let Some(peer) = self.shared.route(view.dst()) else {
            tracing::trace!("no peer has {}", view.dst());
            return Looked::Dropped(DropReason::Error);
        };
        let Some(cell) = self.shared.cell(peer) else {
            return Looked::Engine;
        };
        if self.shared.masquerade(peer).is_some() {
            return Looked::Engine;
        }
        let jailed = self.shared.config(peer).is_some_and(|peer| peer.jailed);
        match guard.judge_out(view, jailed) {
            Verdict::Accept => Looked::Known(cell),
            Verdict::Drop(reason) => Looked::Dropped(label(reason)),
        }
    }

    /// Seals a packet or super-packet into what goes out next. `false` means that only the engine can.
    fn send(&mut self, cell: &PeerCell, bytes: &mut [u8], rx: &TunRx, now: Instant) -> bool {
        let (session, lent) = (cell.session.load(), cell.lent.load());
        let (Some(session), Some(lent)) = (&*session, usable(&lent, now)) else {
            return false;
        };
        if now > lent.renew_at && cell.may_poke(now) {
            self.mailbox.poke(Poke::Renew(cell.id));
        }
        let ecn = Ecn(ecn::of(bytes));
        let mut sealed = Sealed::default();
        if rx.gso.kind == GsoKind::None {
            let Ok(mut counters) = session.reserve(now, 1) else {
                return false;
            };
            if !complete(bytes, rx.csum) {
                return self.lost(1);
            }
            self.seal(session, &mut counters, lent.way, ecn, bytes, &mut sealed);
        } else {
            // Whoever lied about it has made it: our own kernel.
            let Ok(mut splitter) = Splitter::new(bytes, rx.gso, rx.csum) else {
                return self.lost(1);
            };
            let count = splitter.count() as u32;
            let Ok(mut counters) = session.reserve(now, count) else {
                return false;
            };
            while let Some(packet) = splitter.next() {
                self.seal(session, &mut counters, lent.way, ecn, packet, &mut sealed);
            }
        }
        note_sent(&self.mailbox, cell, session, now);
        cell.tx_bytes.fetch_add(sealed.bytes, Ordering::Relaxed);
        let path = match lent.way {
            Way::Direct(SocketAddr::V4(_)) => Path::DirectIpv4,
            Way::Direct(SocketAddr::V6(_)) => Path::DirectIpv6,
            Way::Relay { .. } => Path::Derp,
        };
        let outbound = &self.metrics.outbound;
        outbound.count(path, sealed.packets, sealed.bytes);
        match sealed.failed {
            0 => true,
            failed => self.lost(failed),
        }
    }

    /// Whether a packet is not too long for its way, or may be cut. What is and may not is the engine's to answer. Openings of connections
    /// are told what fits.
    fn fits(&mut self, bytes: &mut [u8], rx: &TunRx, limit: usize) -> bool {
        let is_complete = !matches!(rx.csum, Csum::Partial { .. });
        if rx.gso.kind == GsoKind::None {
            mss::clamp(bytes, limit, is_complete);
        }
        let len = match rx.gso.kind {
            GsoKind::None => bytes.len(),
            _ => usize::from(rx.gso.hdr_len) + usize::from(rx.gso.size),
        };
        let is_v4 = bytes.first().is_some_and(|first| first >> 4 == 4);
        if len <= limit || !is_v4 || !mss::is_whole(bytes) {
            return true;
        }
        // One answer is enough for a train.
        match rx.gso.kind {
            GsoKind::None if complete(bytes, rx.csum) => self.slow.push(bytes),
            GsoKind::None => {}
            _ => {
                let mut split = Splitter::new(bytes, rx.gso, rx.csum);
                if let Some(first) = split.as_mut().ok().and_then(Splitter::next) {
                    self.slow.push(first);
                }
            }
        }
        false
    }

    /// Nobody else can do better with these.
    fn lost(&self, packets: u64) -> bool {
        let outbound = &self.metrics.outbound;
        outbound.count_dropped(DropReason::Error, packets);
        true
    }

    fn seal(
        &mut self,
        session: &Arc<Session>,
        counters: &mut Reserved,
        way: Way,
        ecn: Ecn,
        packet: &[u8],
        sealed: &mut Sealed,
    ) {
        let padded = padded_len(packet.len(), self.shared.mtu.load(Ordering::Relaxed));
        let outcome = match (counters.next(), way) {
            (None, _) => Err(SealError::CountersUsedUp),
            (Some(counter), Way::Direct(to)) => {
                let way = (to, ecn);
                self.outgoing
                    .push_unsealed(way, session, counter, packet, padded)
            }
            (Some(counter), Way::Relay { link, to }) => {
                let Relayed {
                    batch, unsealed, ..
                } = self.relayed_for(link);
                let frame = batch.begin(&to);
                let start = batch.frames.len();
                batch.frames.resize(start + sealed_len(padded), 0);
                let frames = &mut batch.frames;
                let outcome = unsealed.push(session, counter, packet, padded, frames, start);
                match outcome {
                    Ok(()) => drop(batch.finish(frame)),
                    Err(_) => batch.abandon(frame),
                }
                outcome
            }
        };
        match outcome {
            Ok(()) => {
                sealed.packets += 1;
                sealed.bytes += sealed_len(padded) as u64;
            }
            Err(error) => {
                tracing::trace!("seal: {error}");
                sealed.failed += 1;
            }
        }
        self.flush_if_full();
    }

    fn flush_if_full(&mut self) {
        if self.outgoing.is_full() {
            self.flush();
        }
        let relayed = self.relayed.as_ref();
        if relayed.is_some_and(|relayed| relayed.batch.is_full()) {
            self.flush_relayed();
        }
    }

    fn relayed_for(&mut self, link: LinkId) -> &mut Relayed {
        let relayed = self.relayed.as_ref();
        if relayed.is_some_and(|relayed| relayed.link != link) {
            self.flush_relayed();
        }
        let like = self.last_batch_len;
        self.relayed.get_or_insert_with(|| Relayed {
            link,
            batch: Batch::like(like),
            unsealed: Unsealed::default(),
        })
    }

    fn flush(&mut self) {
        if self.outgoing.is_empty() {
            return;
        }
        let is_large = self.outgoing.is_large();
        let wants = |hands: &&Hands<SealRow>| hands.wants(is_large, |row| &row.tickets);
        match self.hands.as_ref().filter(wants) {
            Some(hands) => {
                let next = hands.row().spare.take().unwrap_or_default();
                let full = std::mem::replace(&mut self.outgoing, next);
                hands.push(full, |row| &row.tickets);
            }
            None => self.sender.send(&mut self.outgoing),
        }
    }

    fn flush_relayed(&mut self) {
        let Some(Relayed {
            link,
            mut batch,
            mut unsealed,
        }) = self.relayed.take()
        else {
            return;
        };
        unsealed.finish(&mut batch.frames);
        self.last_batch_len = batch.frames.len();
        let packets = batch.packets;
        let dropped = match self.shared.links.load().get(&link) {
            Some(queue) => queue.push(batch, rt::now()),
            None => packets,
        };
        if dropped > 0 {
            self.metrics
                .outbound
                .count_dropped(DropReason::Error, dropped.into());
        }
    }

    /// Gives the engine the packets of a super-packet.
    fn leave_to_engine(&mut self, bytes: &mut [u8], rx: &TunRx) {
        if rx.gso.kind == GsoKind::None {
            if complete(bytes, rx.csum) {
                self.slow.push(bytes);
            }
            return;
        }
        let Ok(mut splitter) = Splitter::new(bytes, rx.gso, rx.csum) else {
            return self.metrics.outbound.count_dropped(DropReason::Error, 1);
        };
        while let Some(packet) = splitter.next() {
            self.slow.push(packet);
        }
    }

    fn flush_slow(&mut self) {
        if self.slow.is_empty() {
            return;
        }
        let lost = self.mailbox.post_from_host(std::mem::take(&mut self.slow));
        if lost > 0 {
            self.metrics.outbound.count_dropped(DropReason::Error, lost);
        }
    }
}

enum Looked {
    Known(Arc<PeerCell>),
    /// It knows what to do.
    Engine,
    Dropped(DropReason),
}

/// What became of a super-packet.
#[derive(Debug, Default)]
struct Sealed {
    packets: u64,
    bytes: u64,
    failed: u64,
}

fn usable(lent: &Loaded<Option<Arc<Lent>>>, now: Instant) -> Option<Lent> {
    lent.as_ref()
        .map(|lent| **lent)
        .filter(|lent| now < lent.until)
}
