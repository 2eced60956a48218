//! One link to one relay region: a task that connects, stays connected, and moves frames.
//!
//! The link knows frames, not peers. What it receives goes to the engine in batches, and it stops reading while the engine
//! has too much of it; what is sent waits in a queue that is bounded in bytes and kept short ([`codel`]).

mod codel;
mod queue;
mod run;

pub(crate) use queue::{Batch, SendQueue};
pub(crate) use run::{LinkConfig, run};

use std::ops::Range;
use std::sync::Arc;

use keys::NodePublic;
use rt::Task;

/// What a link tells the engine.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// The relay accepted us.
    Connected,
    /// The connection ended, or could not be made. The link tries again by itself.
    Down(String),
    /// Packets, in order.
    Packets(Packets),
    /// The relay cannot reach this peer.
    PeerGone(NodePublic, Credit),
    /// The relay's problem in its own words; empty when it is over.
    Health(String, Credit),
    /// A frame without meaning: the relay lives.
    Alive(Credit),
}

/// What a relay may still have waiting at the engine; it comes back when this is dropped.
pub(crate) type Credit = Option<tokio::sync::OwnedSemaphorePermit>;

/// What anything costs besides its bytes.
const COST: usize = 64;

/// Packets of one read, in one buffer.
#[derive(Debug, Default)]
pub(crate) struct Packets {
    pub(crate) bytes: Vec<u8>,
    pub(crate) packets: Vec<(NodePublic, Range<usize>)>,
    pub(crate) credit: Credit,
}

impl Packets {
    pub(crate) fn push(&mut self, src: NodePublic, packet: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(packet);
        self.packets.push((src, start..self.bytes.len()));
    }

    /// Of credit: an empty packet is not free.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.len() + self.packets.len() * COST
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

/// A running link. Dropping it closes the connection at once.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) queue: Arc<SendQueue>,
    _task: Task,
}

impl Link {
    pub(crate) fn start(config: LinkConfig) -> Self {
        let queue = config.queue.clone();
        let task = Task::spawn("derp link", run(config));
        Self { queue, _task: task }
    }
}

#[cfg(test)]
mod tests;
