//! A UDP flow: one pair of addresses and a bounded queue of datagrams.

use std::collections::VecDeque;
use std::time::Duration;

use host::Instant;

/// The reference's limits for flows that nobody closes.
const IDLE: Duration = Duration::from_secs(120);
const IDLE_DNS: Duration = Duration::from_secs(30);
const MAX_BYTES: usize = 256 << 10;
const MAX_DATAGRAMS: usize = 512;

#[derive(Debug)]
pub(crate) struct UdpFlow {
    queue: VecDeque<Vec<u8>>,
    bytes: usize,
    /// `None`: lives until it is closed.
    idle: Option<Duration>,
    last_used: Instant,
}

impl UdpFlow {
    /// A flow of ours.
    pub(crate) fn outgoing() -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            idle: None,
            last_used: Instant::ZERO,
        }
    }

    /// A flow that a datagram to `port` opens.
    pub(crate) fn incoming(port: u16, now: Instant) -> Self {
        let idle = if port == 53 { IDLE_DNS } else { IDLE };
        Self {
            idle: Some(idle),
            last_used: now,
            ..Self::outgoing()
        }
    }

    /// False if there is no room.
    pub(crate) fn push(&mut self, datagram: &[u8], now: Instant) -> bool {
        self.last_used = now;
        if self.queue.len() >= MAX_DATAGRAMS || self.bytes + datagram.len() > MAX_BYTES {
            return false;
        }
        self.bytes += datagram.len();
        self.queue.push_back(datagram.to_vec());
        true
    }

    pub(crate) fn pop(&mut self) -> Option<Vec<u8>> {
        let datagram = self.queue.pop_front()?;
        self.bytes -= datagram.len();
        Some(datagram)
    }

    pub(crate) fn used(&mut self, now: Instant) {
        self.last_used = now;
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.idle.map(|idle| self.last_used + idle)
    }
}
