//! What the stack sends.

use std::net::IpAddr;

use host::Instant;
use packet::offload::{Csum, Gso};

use super::Netstack;
use crate::flows::Body;
use crate::{FlowId, Transmit, wire};

/// Segments that one flow may send before it is another's turn. Neighbours in the output share lookups further down.
const BURST: u32 = 32;
impl Transmit {
    fn single(to: IpAddr) -> Self {
        Self {
            to,
            gso: Gso::default(),
            csum: Csum::Full,
        }
    }
}

impl Netstack {
    /// Replaces the content of `packet` by the next IP packet to send, and tells its destination. TCP segments are made
    /// here, so not calling this is back-pressure.
    pub fn poll_transmit(&mut self, packet: &mut Vec<u8>, now: Instant) -> Option<IpAddr> {
        self.poll_transmit_many(packet, 1, now).map(|sent| sent.to)
    }

    /// The same, but where a connection may send several whole segments of new data, up to `most` of them come as one
    /// super-packet.
    pub fn poll_transmit_many(
        &mut self,
        packet: &mut Vec<u8>,
        most: usize,
        now: Instant,
    ) -> Option<Transmit> {
        loop {
            let sent = match self.outbox.pop_front() {
                Some((to, queued)) => {
                    *packet = queued;
                    Transmit::single(to)
                }
                None => self.poll_flows(packet, most, now)?,
            };
            if !self.config.addresses.contains(&sent.to) {
                return Some(sent);
            }
            let own = std::mem::take(packet);
            self.take_packet(&own, sent.csum == Csum::Full, now);
            *packet = own;
        }
    }

    fn poll_flows(&mut self, packet: &mut Vec<u8>, most: usize, now: Instant) -> Option<Transmit> {
        while let Some(&id) = self.ready.front() {
            if let Some(sent) = self.poll_flow(id, packet, most, now) {
                self.burst += packet.len().div_ceil(self.config.mtu.max(1)) as u32;
                if self.burst >= BURST {
                    self.burst = 0;
                    self.ready.rotate_left(1);
                }
                return Some(sent);
            }
            self.burst = 0;
            self.ready.pop_front();
            if let Some(flow) = self.flows.get_mut(id) {
                flow.queued = false;
                self.flows.arm(id);
            }
        }
        None
    }

    fn poll_flow(
        &mut self,
        id: FlowId,
        packet: &mut Vec<u8>,
        most: usize,
        now: Instant,
    ) -> Option<Transmit> {
        let flow = self.flows.get_mut(id)?;
        let Body::Tcp(conn) = &mut flow.body else {
            return None;
        };
        let before = conn.retransmits();
        let (segment, chunk) = conn.poll_transmit(most, now)?;
        self.stats.retransmits += conn.retransmits() - before;
        let append = |out: &mut Vec<u8>| {
            if let Some(chunk) = chunk {
                conn.copy(chunk, out);
            }
        };
        let (local, remote) = (flow.key.local, flow.key.remote);
        let size = conn.mss();
        let mut sent = Transmit::single(remote.ip());
        if chunk.is_some_and(|chunk| chunk.len > size) {
            (sent.gso, sent.csum) = wire::tcp_super(local, remote, &segment, size, append, packet);
        } else {
            wire::tcp(local, remote, &segment, append, packet);
        }
        Some(sent)
    }
}
