//! The flows that we have opened, whose replies may come in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use packet::{IpView, Proto};

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// UDP or SCTP.
    pub proto: Proto,
    /// Who sends.
    pub src: SocketAddr,
    /// Who receives.
    pub dst: SocketAddr,
}

impl Flow {
    /// The flow of a packet, where we keep track of its protocol.
    pub fn of(view: &IpView<'_>) -> Option<Self> {
        let tracked = view.is(Proto::UDP) || view.is(Proto::SCTP);
        tracked.then(|| Self {
            proto: view.proto(),
            src: view.src_addr(),
            dst: view.dst_addr(),
        })
    }

    /// The flow of the replies.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            proto: self.proto,
            src: self.dst,
            dst: self.src,
        }
    }
}

/// The most recently used flows, without time limit. Shared by a filter and its successors.
#[derive(Debug, Default)]
pub struct Flows(Mutex<Lru>);

#[derive(Debug, Default)]
struct Lru {
    /// When each was last used, in uses.
    used: BTreeMap<Flow, u64>,
    by_use: BTreeMap<u64, Flow>,
    clock: u64,
}

impl Flows {
    /// How many flows are remembered, as by the originals.
    pub const MAX: usize = 512;

    /// No flows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets this flow in from now on.
    pub fn allow(&self, flow: Flow) {
        let mut lru = self.lru();
        lru.touch(flow);
        if lru.used.len() > Self::MAX
            && let Some((_, oldest)) = lru.by_use.pop_first()
        {
            lru.used.remove(&oldest);
        }
    }

    /// Whether this flow may come in. Being asked for counts as use.
    pub fn allows(&self, flow: &Flow) -> bool {
        let mut lru = self.lru();
        let known = lru.used.contains_key(flow);
        if known {
            lru.touch(*flow);
        }
        known
    }

    fn lru(&self) -> MutexGuard<'_, Lru> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lru {
    fn touch(&mut self, flow: Flow) {
        self.clock += 1;
        if let Some(before) = self.used.insert(flow, self.clock) {
            self.by_use.remove(&before);
        }
        self.by_use.insert(self.clock, flow);
    }
}
