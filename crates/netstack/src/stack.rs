//! The set of flows and what routes packets to them.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use host::Instant;
use rand_core::CryptoRng;

use crate::{Config, Error, Event, FlowId, Recv, Stats};

/// The stack. See the crate's documentation.
///
/// After any call that takes `now`, drain [`poll_transmit`](Self::poll_transmit) and [`poll_event`](Self::poll_event),
/// then ask [`next_timeout`](Self::next_timeout).
#[derive(Debug)]
pub struct Netstack {
    config: Config,
    events: VecDeque<Event>,
    stats: Stats,
}

impl Netstack {
    /// An empty stack.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            events: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Our own addresses are these from here on. TCP flows that use another local address for an outgoing connection are
    /// aborted without a word, because nobody would route their packets.
    pub fn set_addresses(&mut self, addresses: &[IpAddr]) {
        self.config.addresses = addresses.to_vec();
    }

    /// Takes one IP packet. Bytes that are no such thing are counted and dropped.
    pub fn handle_packet(&mut self, packet: &[u8], now: Instant) {
        let _ = (packet, now);
        self.stats.malformed += 1;
    }

    /// Does what is due. To be called when [`next_timeout`](Self::next_timeout) has passed; harmless at any time.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted next.
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// Replaces the content of `packet` by the next IP packet to send, and tells its destination. TCP segments are made
    /// here, so not calling this is back-pressure.
    pub fn poll_transmit(&mut self, packet: &mut Vec<u8>, now: Instant) -> Option<IpAddr> {
        let _ = (packet, now);
        None
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Starts a TCP connection from `local` to `remote`. [`Event::Connected`] or [`Event::Closed`] follows.
    pub fn connect(
        &mut self,
        local: IpAddr,
        remote: SocketAddr,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) -> Result<FlowId, Error> {
        let _ = (local, remote, now, rng);
        Err(Error::BadAddress)
    }

    /// Opens a UDP flow from `local`, with a random port, to `remote`. It lives until [`close`](Self::close).
    pub fn udp_connect(
        &mut self,
        local: IpAddr,
        remote: SocketAddr,
        rng: &mut dyn CryptoRng,
    ) -> Result<FlowId, Error> {
        let _ = (local, remote, rng);
        Err(Error::BadAddress)
    }

    /// Takes an incoming flow: TCP's handshake goes on ([`Event::Connected`] follows), a UDP flow gives its first datagram.
    /// False if there is no such flow any more.
    pub fn accept(&mut self, id: FlowId, now: Instant, rng: &mut dyn CryptoRng) -> bool {
        let _ = (id, now, rng);
        false
    }

    /// Turns an incoming flow away: a TCP caller is told so by a reset, a UDP caller hears nothing.
    pub fn refuse(&mut self, id: FlowId) {
        let _ = id;
    }

    /// Both ends of a flow: ours and theirs.
    pub fn endpoints(&self, id: FlowId) -> Option<(SocketAddr, SocketAddr)> {
        let _ = id;
        None
    }

    /// Queues bytes on a TCP flow, as many as there is room for. Zero means: wait for [`Event::Progress`].
    pub fn send(&mut self, id: FlowId, data: &[u8]) -> usize {
        let _ = (id, data);
        0
    }

    /// How many bytes [`send`](Self::send) would take.
    pub fn send_room(&self, id: FlowId) -> usize {
        let _ = id;
        0
    }

    /// Reads from a TCP flow.
    pub fn recv(&mut self, id: FlowId, into: &mut [u8], now: Instant) -> Recv {
        let _ = (id, into, now);
        Recv::Gone
    }

    /// Ends our direction of a TCP flow once everything queued is sent; the other direction goes on.
    pub fn shutdown(&mut self, id: FlowId) {
        let _ = id;
    }

    /// Lets go of a flow: TCP still delivers what was queued and ends in order, but what the other side sends from here on
    /// is answered by a reset; a UDP flow is gone. No event follows.
    pub fn close(&mut self, id: FlowId, now: Instant) {
        let _ = (id, now);
    }

    /// Ends a flow at once; a TCP peer is told so by a reset. No event follows.
    pub fn abort(&mut self, id: FlowId) {
        let _ = id;
    }

    /// Sends one datagram on a UDP flow.
    pub fn udp_send(&mut self, id: FlowId, data: &[u8], now: Instant) -> Result<(), Error> {
        let _ = (id, data, now);
        Err(Error::Gone)
    }

    /// Replaces the content of `data` by the next datagram of a UDP flow. [`Recv::Data`] tells its length, which may be
    /// zero here.
    pub fn udp_recv(&mut self, id: FlowId, data: &mut Vec<u8>) -> Recv {
        let _ = (id, data);
        Recv::Gone
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
        let _ = (local, remote, ident, seq, payload);
        Err(Error::BadAddress)
    }

    /// What the stack has seen.
    pub fn stats(&self) -> Stats {
        self.stats
    }
}
