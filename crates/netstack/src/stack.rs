//! The set of flows and what routes packets to them.

mod output;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use host::Instant;
use packet::icmp::Echo;
use packet::{Fragment, IpView, Proto};
use rand_core::CryptoRng;

use crate::flows::{Body, Flow, Flows, Key};
use crate::fragments::{self, Fragments};
use crate::tcp::segment::{ACK, HEADER, RST, SYN, Segment};
use crate::tcp::{Conn, RecvHalf, Settings, Signals};
use crate::timewait::{TimeWait, Verdict};
use crate::udp::UdpFlow;
use crate::wire;
use crate::{Closed, Config, Error, Event, FlowId, Recv, Stats, Transport};

/// Replies and datagrams that wait to be sent; TCP data waits in its connection instead.
const MAX_OUTBOX: usize = 512;
/// Local ports of outgoing flows.
const PORTS: std::ops::Range<u16> = 32768..60999;
const MAX_UDP_FLOWS: usize = 16384;

/// The stack. See the crate's documentation.
///
/// After any call that takes `now`, drain [`poll_transmit`](Self::poll_transmit) and [`poll_event`](Self::poll_event),
/// then ask [`next_timeout`](Self::next_timeout).
#[derive(Debug)]
pub struct Netstack {
    config: Config,
    flows: Flows,
    time_wait: TimeWait,
    fragments: Fragments,
    /// Of the next datagram that has to be cut.
    fragment_id: u32,
    pending: usize,
    pending_by_source: HashMap<IpAddr, usize>,
    /// Flows that may have something to send, in turn.
    ready: VecDeque<FlowId>,
    burst: u32,
    outbox: VecDeque<(IpAddr, Vec<u8>)>,
    events: VecDeque<Event>,
    stats: Stats,
}

impl Netstack {
    /// An empty stack.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            flows: Flows::default(),
            time_wait: TimeWait::default(),
            fragments: Fragments::default(),
            fragment_id: 1,
            pending: 0,
            pending_by_source: HashMap::new(),
            ready: VecDeque::new(),
            burst: 0,
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Our own addresses are these from here on. Flows of ours that use another local address end at once and without a
    /// word, because nobody would route their packets.
    pub fn set_addresses(&mut self, addresses: &[IpAddr]) {
        self.config.addresses = addresses.to_vec();
        let lost: Vec<FlowId> = self
            .flows
            .ids()
            .filter(|id| {
                self.flows
                    .get(*id)
                    .is_some_and(|flow| flow.outgoing && !addresses.contains(&flow.key.local.ip()))
            })
            .collect();
        for id in lost {
            self.end(id, Closed::Aborted);
        }
    }

    /// Our own addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.config.addresses
    }

    // In: packets.

    /// Takes one IP packet. Bytes that are no such thing are counted and dropped.
    pub fn handle_packet(&mut self, packet: &[u8], now: Instant) {
        self.take_packet(packet, true, now);
    }

    /// Takes several packets of one flow as one, whose checksums have been checked: a super-packet of TCP.
    pub fn handle_verified(&mut self, packet: &[u8], now: Instant) {
        self.take_packet(packet, false, now);
    }

    fn take_packet(&mut self, packet: &[u8], is_unchecked: bool, now: Instant) {
        let Ok(view) = IpView::parse(packet) else {
            self.stats.malformed += 1;
            return;
        };
        if !is_host(view.src()) || !is_host(view.dst()) {
            self.stats.ignored += 1;
            return;
        }
        if view.fragment() != Fragment::Whole {
            return self.handle_fragment(&view, now);
        }
        let transport = match view.proto() {
            Proto::UDP => udp_bytes(view.transport()),
            Proto::TCP | Proto::ICMP4 | Proto::ICMP6 => view.transport(),
            _ => {
                self.stats.ignored += 1;
                return;
            }
        };
        let holds = |transport| !is_unchecked || wire::checksum_holds(&view, transport);
        if !wire::header_holds(&view) || !holds(transport) {
            self.stats.malformed += 1;
            return;
        }
        match view.proto() {
            Proto::TCP => self.handle_tcp(&view, now),
            Proto::UDP => self.handle_udp(&view, transport, now),
            _ => self.handle_icmp(&view),
        }
    }

    fn handle_fragment(&mut self, view: &IpView<'_>, now: Instant) {
        if !wire::header_holds(view) {
            self.stats.malformed += 1;
            return;
        }
        if let Some(whole) = self.fragments.handle(view, now) {
            self.handle_packet(&whole, now);
        }
    }

    fn handle_tcp(&mut self, view: &IpView<'_>, now: Instant) {
        let Some(segment) = Segment::parse(view.transport()) else {
            self.stats.malformed += 1;
            return;
        };
        let key = Key {
            transport: Transport::Tcp,
            local: view.dst_addr(),
            remote: view.src_addr(),
        };
        let Some(id) = self.flows.find(&key) else {
            return self.handle_stray(key, &segment, view);
        };
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        match &mut flow.body {
            Body::Tcp(conn) => {
                let signals = conn.handle_segment(&segment, now);
                self.after(id, signals, now);
            }
            Body::PendingTcp(_) => self.handle_pending(id, &segment, view),
            Body::PendingUdp(_) | Body::Udp(_) | Body::Ended { .. } => {}
        }
    }

    /// A segment for which there is no connection.
    fn handle_stray(&mut self, key: Key, segment: &Segment<'_>, view: &IpView<'_>) {
        match self.time_wait.handle(&key, segment) {
            Verdict::Unknown => {}
            Verdict::Answer(answer) => return self.reply(key, &answer),
            Verdict::Ignore => return,
        }
        let opens = segment.has(SYN) && !segment.has(ACK) && !segment.has(RST);
        if !opens || key.local.port() == 0 || key.remote.port() == 0 {
            self.stats.ignored += 1;
            return self.reset(key, segment);
        }
        if !self.admit(key.remote.ip()) {
            return self.reset(key, segment);
        }
        let syn = view.transport().into();
        self.announce(Flow::new(key, Body::PendingTcp(syn), false));
    }

    fn handle_pending(&mut self, id: FlowId, segment: &Segment<'_>, view: &IpView<'_>) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let Body::PendingTcp(syn) = &mut flow.body else {
            return;
        };
        let Some(first) = Segment::parse(syn) else {
            return;
        };
        if segment.has(RST) {
            let ours = segment.seq.wrapping_sub(first.seq);
            if ours <= 1 {
                self.end(id, Closed::Reset);
            }
        } else if segment.has(SYN) && !segment.has(ACK) {
            // The same caller again, or a new life of it.
            *syn = view.transport().into();
        }
    }

    /// Whether one more attempt from `source` may wait.
    fn admit(&mut self, source: IpAddr) -> bool {
        if self.pending >= self.config.max_pending {
            self.stats.dropped_attempts += 1;
            return false;
        }
        let from_here = self.pending_by_source.entry(source).or_insert(0);
        if *from_here >= self.config.max_pending_per_source {
            self.stats.dropped_attempts_per_source += 1;
            return false;
        }
        *from_here += 1;
        self.pending += 1;
        true
    }

    fn no_longer_pending(&mut self, source: IpAddr) {
        self.pending = self.pending.saturating_sub(1);
        if let Some(count) = self.pending_by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.pending_by_source.remove(&source);
            }
        }
    }

    fn announce(&mut self, flow: Flow) {
        let key = flow.key;
        let id = self.insert(flow);
        self.events.push_back(Event::Incoming {
            id,
            transport: key.transport,
            local: key.local,
            remote: key.remote,
        });
    }

    fn handle_udp(&mut self, view: &IpView<'_>, datagram: &[u8], now: Instant) {
        let key = Key {
            transport: Transport::Udp,
            local: view.dst_addr(),
            remote: view.src_addr(),
        };
        let payload = datagram.get(wire::UDP_HEADER..).unwrap_or_default();
        let Some(id) = self.flows.find(&key) else {
            return self.handle_new_udp(key, payload, now);
        };
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let (Body::Udp(udp) | Body::PendingUdp(udp)) = &mut flow.body else {
            return;
        };
        if udp.push(payload, now) {
            if matches!(flow.body, Body::Udp(_)) {
                self.progress(id);
            }
        } else {
            self.stats.queue_full += 1;
        }
    }

    fn handle_new_udp(&mut self, key: Key, payload: &[u8], now: Instant) {
        if key.local.port() == 0 || self.stats.udp_flows >= MAX_UDP_FLOWS {
            self.stats.ignored += 1;
            return;
        }
        if !self.admit(key.remote.ip()) {
            return;
        }
        let mut udp = UdpFlow::incoming(key.local.port(), now);
        udp.push(payload, now);
        self.announce(Flow::new(key, Body::PendingUdp(udp), false));
    }

    fn handle_icmp(&mut self, view: &IpView<'_>) {
        let Some(echo) = Echo::parse(view) else {
            self.stats.ignored += 1;
            return;
        };
        let (local, remote) = (view.dst(), view.src());
        if !self.config.addresses.contains(&local) {
            self.stats.ignored += 1;
        } else if echo.reply {
            self.events.push_back(Event::EchoReply {
                local,
                remote,
                ident: echo.id,
                seq: echo.seq,
            });
        } else if let Some(answer) = (Echo {
            reply: true,
            ..echo
        })
        .packet(local, remote)
        {
            self.send_cut(remote, answer);
        }
    }

    // In: time.

    /// Does what is due. To be called when [`next_timeout`](Self::next_timeout) has passed; harmless at any time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.time_wait.expire(now);
        self.fragments.expire(now);
        while let Some(id) = self.flows.pop_due(now) {
            let Some(flow) = self.flows.get_mut(id) else {
                continue;
            };
            match &mut flow.body {
                Body::Tcp(conn) => {
                    let signals = conn.handle_timeout(now);
                    self.after(id, signals, now);
                }
                Body::PendingUdp(udp) | Body::Udp(udp) => {
                    if udp.deadline().is_some_and(|at| at <= now) {
                        self.end(id, Closed::Idle);
                    } else {
                        self.flows.arm(id);
                    }
                }
                Body::PendingTcp(_) | Body::Ended { .. } => {}
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted next.
    pub fn next_timeout(&self) -> Option<Instant> {
        [
            self.flows.next_timeout(),
            self.time_wait.next_timeout(),
            self.fragments.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let Event::Progress { id } = event
            && let Some(flow) = self.flows.get_mut(id)
        {
            flow.progress = false;
        }
        Some(event)
    }

    // The application: opening.

    /// Starts a TCP connection from `local` to `remote`. [`Event::Connected`] or [`Event::Closed`] follows.
    pub fn connect(
        &mut self,
        local: IpAddr,
        remote: SocketAddr,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) -> Result<FlowId, Error> {
        let key = self.new_key(Transport::Tcp, local, remote, rng)?;
        let conn = Conn::connect(self.settings(local), rng.next_u32(), now);
        let id = self.insert(Flow::new(key, Body::Tcp(Box::new(conn)), true));
        self.wake(id);
        Ok(id)
    }

    /// Opens a UDP flow from `local`, with a random port, to `remote`. It lives until [`close`](Self::close).
    pub fn udp_connect(
        &mut self,
        local: IpAddr,
        remote: SocketAddr,
        rng: &mut dyn CryptoRng,
    ) -> Result<FlowId, Error> {
        let key = self.new_key(Transport::Udp, local, remote, rng)?;
        Ok(self.insert(Flow::new(key, Body::Udp(UdpFlow::outgoing()), true)))
    }

    fn new_key(
        &self,
        transport: Transport,
        local: IpAddr,
        remote: SocketAddr,
        rng: &mut dyn CryptoRng,
    ) -> Result<Key, Error> {
        let fits = local.is_ipv4() == remote.is_ipv4() && is_host(local) && is_host(remote.ip());
        if !fits || remote.port() == 0 {
            return Err(Error::BadAddress);
        }
        let count = PORTS.end - PORTS.start;
        let first = (rng.next_u32() % u32::from(count)) as u16;
        (0..count)
            .map(|n| PORTS.start + ((u32::from(first) + u32::from(n)) % u32::from(count)) as u16)
            .map(|port| Key {
                transport,
                local: SocketAddr::new(local, port),
                remote,
            })
            .find(|key| {
                key.local != remote && self.flows.find(key).is_none() && !self.time_wait.holds(key)
            })
            .ok_or(Error::NoPorts)
    }

    fn settings(&self, local: IpAddr) -> Settings {
        let headers = wire::ip_header_len(local) + HEADER;
        Settings {
            mss: self.config.mtu.saturating_sub(headers).max(1),
            keep_alive_idle: self.config.keep_alive_idle,
            keep_alive_interval: self.config.keep_alive_interval,
            max_receive_buffer: self.config.max_receive_buffer,
            max_send_buffer: self.config.max_send_buffer,
        }
    }

    /// Takes an incoming flow: TCP's handshake goes on ([`Event::Connected`] follows), a UDP flow gives its datagrams.
    /// False if there is no such flow any more.
    pub fn accept(&mut self, id: FlowId, now: Instant, rng: &mut dyn CryptoRng) -> bool {
        let Some(key) = self.flows.get(id).map(|flow| flow.key) else {
            return false;
        };
        let settings = self.settings(key.local.ip());
        let Some(flow) = self.flows.get_mut(id) else {
            return false;
        };
        match &mut flow.body {
            Body::PendingTcp(syn) => {
                let Some(syn) = Segment::parse(syn) else {
                    return false;
                };
                flow.body = Body::Tcp(Box::new(Conn::accept(settings, &syn, rng.next_u32(), now)));
                self.stats.tcp_flows += 1;
                self.wake(id);
            }
            Body::PendingUdp(udp) => {
                let udp = std::mem::replace(udp, UdpFlow::outgoing());
                flow.body = Body::Udp(udp);
                self.stats.udp_flows += 1;
                self.flows.arm(id);
                self.progress(id);
            }
            Body::Tcp(_) | Body::Udp(_) | Body::Ended { .. } => return true,
        }
        self.no_longer_pending(key.remote.ip());
        true
    }

    /// Turns an incoming flow away: a TCP caller is told so by a reset, a UDP caller hears nothing.
    pub fn refuse(&mut self, id: FlowId) {
        let Some(flow) = self.remove(id) else { return };
        if let Body::PendingTcp(syn) = &flow.body
            && let Some(syn) = Segment::parse(syn)
        {
            self.reset(flow.key, &syn);
        }
    }

    // The application: using.

    /// Both ends of a flow: ours and theirs.
    pub fn endpoints(&self, id: FlowId) -> Option<(SocketAddr, SocketAddr)> {
        self.flows
            .get(id)
            .map(|flow| (flow.key.local, flow.key.remote))
    }

    /// Queues bytes on a TCP flow, as many as there is room for. Fewer than given means: [`Event::Progress`] follows when
    /// there is room again.
    pub fn send(&mut self, id: FlowId, data: &[u8]) -> usize {
        let Some(conn) = self.conn(id) else { return 0 };
        let taken = conn.push(data);
        if taken > 0 {
            self.wake(id);
        }
        taken
    }

    /// How many bytes [`send`](Self::send) would take.
    pub fn send_room(&self, id: FlowId) -> usize {
        match self.flows.get(id).map(|flow| &flow.body) {
            Some(Body::Tcp(conn)) => conn.room(),
            _ => 0,
        }
    }

    /// Reads from a TCP flow.
    pub fn recv(&mut self, id: FlowId, into: &mut [u8]) -> Recv {
        self.recv_with(id, |recv| recv.read(into))
    }

    /// Reads from a TCP flow until `into` holds `limit` bytes. If it is empty, this copies nothing.
    pub fn recv_into(&mut self, id: FlowId, into: &mut VecDeque<u8>, limit: usize) -> Recv {
        self.recv_with(id, |recv| recv.read_into(into, limit))
    }

    fn recv_with(&mut self, id: FlowId, take: impl FnOnce(&mut RecvHalf) -> usize) -> Recv {
        let Some(flow) = self.flows.get_mut(id) else {
            return Recv::Gone;
        };
        let (read, news, over) = match &mut flow.body {
            Body::Tcp(conn) => (conn.read(take), conn.has_news(), None),
            Body::Ended { conn, reason } => {
                let read = conn.read(take);
                (read, false, (conn.readable() == 0).then_some(*reason))
            }
            Body::PendingTcp(_) | Body::PendingUdp(_) | Body::Udp(_) => return Recv::Gone,
        };
        if news {
            self.wake(id);
        }
        if let Some(reason) = over {
            self.end(id, reason);
        }
        match read {
            None => Recv::Eof,
            Some(0) => Recv::Empty,
            Some(n) => Recv::Data(n),
        }
    }

    /// Ends our direction of a TCP flow once everything queued is sent; the other direction goes on.
    pub fn shutdown(&mut self, id: FlowId) {
        if let Some(conn) = self.conn(id) {
            conn.finish();
            self.wake(id);
        }
    }

    /// Lets go of a flow: TCP still delivers what was queued and ends in order, but what the other side sends from here on
    /// is answered by a reset, and so is what it had sent and nobody read; a UDP flow is gone. No event follows.
    pub fn close(&mut self, id: FlowId, now: Instant) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        flow.released = true;
        match &mut flow.body {
            Body::Tcp(conn) if conn.is_open() => {
                if conn.release(now) {
                    self.wake(id);
                    self.flows.arm(id);
                } else {
                    self.abort(id);
                }
            }
            Body::Tcp(_) => self.abort(id),
            Body::PendingTcp(_) | Body::PendingUdp(_) => self.refuse(id),
            Body::Udp(_) | Body::Ended { .. } => {
                self.remove(id);
            }
        }
    }

    /// Ends a flow at once; a TCP peer is told so by a reset. No event follows.
    pub fn abort(&mut self, id: FlowId) {
        if let Some(Flow {
            body: Body::PendingTcp(_),
            ..
        }) = self.flows.get(id)
        {
            return self.refuse(id);
        }
        let Some(flow) = self.remove(id) else { return };
        if let Body::Tcp(conn) = &flow.body {
            self.reply(flow.key, &conn.reset());
        }
    }

    /// Sends one datagram on a UDP flow.
    pub fn udp_send(&mut self, id: FlowId, data: &[u8], now: Instant) -> Result<(), Error> {
        if self.outbox.len() >= MAX_OUTBOX {
            return Err(Error::Full);
        }
        let Some(flow) = self.flows.get_mut(id) else {
            return Err(Error::Gone);
        };
        let Body::Udp(udp) = &mut flow.body else {
            return Err(Error::Gone);
        };
        let key = flow.key;
        if data.len() > max_datagram(key.local.ip()) {
            return Err(Error::TooLarge);
        }
        udp.used(now);
        let mut packet =
            Vec::with_capacity(wire::ip_header_len(key.local.ip()) + wire::UDP_HEADER + data.len());
        wire::udp(key.local, key.remote, data, &mut packet);
        self.send_cut(key.remote.ip(), packet);
        Ok(())
    }

    /// The largest datagram that [`udp_send`](Self::udp_send) takes from `local`.
    pub fn max_datagram(&self, local: IpAddr) -> usize {
        max_datagram(local)
    }

    /// The next datagram of a UDP flow.
    pub fn udp_recv(&mut self, id: FlowId) -> Option<Vec<u8>> {
        match &mut self.flows.get_mut(id)?.body {
            Body::Udp(udp) => udp.pop(),
            _ => None,
        }
    }

    /// Sends an echo request. [`Event::EchoReply`] follows if it is answered.
    pub fn send_echo(
        &mut self,
        local: IpAddr,
        remote: IpAddr,
        ident: u16,
        seq: u16,
        payload: &[u8],
    ) -> Result<(), Error> {
        let echo = Echo {
            reply: false,
            id: ident,
            seq,
            data: payload,
        };
        let packet = echo.packet(local, remote).ok_or(Error::BadAddress)?;
        if self.outbox.len() >= MAX_OUTBOX {
            return Err(Error::Full);
        }
        self.send_cut(remote, packet);
        Ok(())
    }

    /// What the stack has seen.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    // Inside.

    fn conn(&mut self, id: FlowId) -> Option<&mut Conn> {
        match &mut self.flows.get_mut(id)?.body {
            Body::Tcp(conn) => Some(conn),
            _ => None,
        }
    }

    /// Does what a call of a connection asked for.
    fn after(&mut self, id: FlowId, signals: Signals, now: Instant) {
        let Some(flow) = self.flows.get(id) else {
            return;
        };
        let (key, released) = (flow.key, flow.released);
        if let Some(reply) = &signals.reply {
            self.reply(key, reply);
        }
        if signals.connected && !released {
            self.events.push_back(Event::Connected { id });
        }
        match signals.closed {
            Some(reason) => self.conclude(id, reason, now),
            None => {
                if signals.progress {
                    self.progress(id);
                }
                self.wake(id);
            }
        }
    }

    /// A connection has come to its end.
    fn conclude(&mut self, id: FlowId, reason: Closed, now: Instant) {
        let Some(flow) = self.flows.get(id) else {
            return;
        };
        if let Body::Tcp(conn) = &flow.body
            && reason == Closed::Finished
            && let Some(remains) = conn.remains()
        {
            self.time_wait.insert(flow.key, remains, now);
        }
        self.end(id, reason);
    }

    /// Ends a flow, at once or when the application has read what is left of it.
    fn end(&mut self, id: FlowId, reason: Closed) {
        if let Some(rest) = self.unread(id) {
            self.flows.retire(id, Body::Ended { conn: rest, reason });
            self.progress(id);
            return;
        }
        if let Some(flow) = self.remove(id)
            && !flow.released
        {
            self.events.push_back(Event::Closed { id, reason });
        }
    }

    /// Takes a connection out of its flow if the application still has to read from it.
    fn unread(&mut self, id: FlowId) -> Option<Box<Conn>> {
        let flow = self.flows.get_mut(id)?;
        match &mut flow.body {
            Body::Tcp(conn) if !flow.released && conn.readable() > 0 => {
                let body = std::mem::replace(&mut flow.body, Body::Udp(UdpFlow::outgoing()));
                match body {
                    Body::Tcp(conn) => Some(conn),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn insert(&mut self, flow: Flow) -> FlowId {
        match &flow.body {
            Body::Tcp(_) | Body::Ended { .. } => self.stats.tcp_flows += 1,
            Body::Udp(_) => self.stats.udp_flows += 1,
            Body::PendingTcp(_) | Body::PendingUdp(_) => {}
        }
        let id = self.flows.insert(flow);
        self.flows.arm(id);
        id
    }

    fn remove(&mut self, id: FlowId) -> Option<Box<Flow>> {
        let flow = self.flows.remove(id)?;
        match &flow.body {
            Body::Tcp(_) | Body::Ended { .. } => self.stats.tcp_flows -= 1,
            Body::Udp(_) => self.stats.udp_flows -= 1,
            Body::PendingTcp(_) | Body::PendingUdp(_) => {
                self.no_longer_pending(flow.key.remote.ip())
            }
        }
        Some(flow)
    }

    /// The flow may have something to send.
    fn wake(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(id)
            && !flow.queued
        {
            flow.queued = true;
            self.ready.push_back(id);
        }
    }

    fn progress(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(id)
            && !flow.progress
            && !flow.released
        {
            flow.progress = true;
            self.events.push_back(Event::Progress { id });
        }
    }

    fn reset(&mut self, key: Key, segment: &Segment<'_>) {
        if let Some(reset) = segment.reset_for() {
            self.reply(key, &reset);
        }
    }

    /// Sends a segment that belongs to no connection.
    fn reply(&mut self, key: Key, segment: &Segment<'_>) {
        let mut packet = Vec::with_capacity(60);
        wire::tcp(key.local, key.remote, segment, |_| {}, &mut packet);
        self.send_later(key.remote.ip(), packet);
    }

    /// Sends a packet, in fragments if it is too long.
    fn send_cut(&mut self, to: IpAddr, packet: Vec<u8>) {
        if packet.len() <= self.config.mtu {
            return self.send_later(to, packet);
        }
        let id = self.fragment_id;
        self.fragment_id = id.wrapping_add(1);
        for fragment in fragments::cut(&packet, self.config.mtu, id) {
            self.send_later(to, fragment);
        }
    }

    fn send_later(&mut self, to: IpAddr, packet: Vec<u8>) {
        if self.outbox.len() < MAX_OUTBOX {
            self.outbox.push_back((to, packet));
        } else {
            self.stats.queue_full += 1;
        }
    }
}

/// What the length fields can say.
fn max_datagram(local: IpAddr) -> usize {
    let header = match local {
        IpAddr::V4(_) => wire::ip_header_len(local),
        IpAddr::V6(_) => 0,
    };
    usize::from(u16::MAX) - header - wire::UDP_HEADER
}

/// Whether this is the address of one host.
fn is_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
    }
}

/// A UDP datagram without what may follow it in the packet.
fn udp_bytes(transport: &[u8]) -> &[u8] {
    let length = match transport {
        [_, _, _, _, a, b, ..] => usize::from(u16::from_be_bytes([*a, *b])),
        _ => 0,
    };
    match length >= wire::UDP_HEADER {
        true => transport.get(..length).unwrap_or_default(),
        false => &[],
    }
}
