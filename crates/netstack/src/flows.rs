//! Where flows are kept and found: a slab with generations, the map from addresses, and the timers.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use host::Instant;

use crate::tcp::Conn;
use crate::udp::UdpFlow;
use crate::{Closed, FlowId, Transport};

/// What a packet says about where it belongs, as seen from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) transport: Transport,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) key: Key,
    pub(crate) body: Body,
    /// In the list of those that may have something to send.
    pub(crate) queued: bool,
    /// An [`crate::Event::Progress`] is queued.
    pub(crate) progress: bool,
    /// The application has let go: it wants no events.
    pub(crate) released: bool,
    /// Opened by us.
    pub(crate) outgoing: bool,
    armed: Option<Instant>,
}

#[derive(Debug)]
pub(crate) enum Body {
    /// A SYN, as it came, that waits for an answer of the application.
    PendingTcp(Box<[u8]>),
    /// Datagrams that wait for an answer of the application.
    PendingUdp(UdpFlow),
    Tcp(Box<Conn>),
    /// A connection that is over, but not yet read to its end.
    Ended {
        conn: Box<Conn>,
        reason: Closed,
    },
    Udp(UdpFlow),
}

impl Flow {
    pub(crate) fn new(key: Key, body: Body, outgoing: bool) -> Self {
        Self {
            key,
            body,
            queued: false,
            progress: false,
            released: false,
            outgoing,
            armed: None,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.body {
            Body::PendingTcp(_) | Body::Ended { .. } => None,
            Body::Tcp(conn) => conn.deadline(),
            Body::PendingUdp(flow) | Body::Udp(flow) => flow.deadline(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Flows {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_key: HashMap<Key, FlowId>,
    timers: BTreeSet<(Instant, FlowId)>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    flow: Option<Box<Flow>>,
}

impl FlowId {
    fn new(index: u32, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(index))
    }

    fn index(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl Flows {
    pub(crate) fn insert(&mut self, flow: Flow) -> FlowId {
        let key = flow.key;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                flow: None,
            });
            (self.slots.len() - 1) as u32
        });
        let mut id = FlowId::new(index, 0);
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.generation = slot.generation.wrapping_add(1);
            slot.flow = Some(Box::new(flow));
            id = FlowId::new(index, slot.generation);
        }
        self.by_key.insert(key, id);
        id
    }

    pub(crate) fn remove(&mut self, id: FlowId) -> Option<Box<Flow>> {
        let slot = self.slots.get_mut(id.index())?;
        if slot.generation != id.generation() {
            return None;
        }
        let flow = slot.flow.take()?;
        self.free.push(id.index() as u32);
        // A retired flow's addresses may be another's by now.
        if self.find(&flow.key) == Some(id) {
            self.by_key.remove(&flow.key);
        }
        if let Some(at) = flow.armed {
            self.timers.remove(&(at, id));
        }
        Some(flow)
    }

    /// Replaces the body of a flow to which packets do not belong any more.
    pub(crate) fn retire(&mut self, id: FlowId, body: Body) {
        if let Some(flow) = self.get_mut(id) {
            flow.body = body;
            let key = flow.key;
            if self.find(&key) == Some(id) {
                self.by_key.remove(&key);
            }
        }
    }

    pub(crate) fn find(&self, key: &Key) -> Option<FlowId> {
        self.by_key.get(key).copied()
    }

    pub(crate) fn get(&self, id: FlowId) -> Option<&Flow> {
        let slot = self.slots.get(id.index())?;
        match slot.generation == id.generation() {
            true => slot.flow.as_deref(),
            false => None,
        }
    }

    pub(crate) fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        let slot = self.slots.get_mut(id.index())?;
        match slot.generation == id.generation() {
            true => slot.flow.as_deref_mut(),
            false => None,
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = FlowId> + '_ {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.flow.is_some())
            .map(|(index, slot)| FlowId::new(index as u32, slot.generation))
    }

    /// Makes sure that the flow is looked at by its deadline. It may be looked at earlier: a timer that is put off with
    /// every packet is not moved each time.
    pub(crate) fn arm(&mut self, id: FlowId) {
        let Some(flow) = self.get_mut(id) else { return };
        let Some(deadline) = flow.deadline() else {
            return;
        };
        let old = flow.armed;
        if old.is_some_and(|armed| armed <= deadline) {
            return;
        }
        flow.armed = Some(deadline);
        if let Some(old) = old {
            self.timers.remove(&(old, id));
        }
        self.timers.insert((deadline, id));
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next flow whose timer has fired; [`arm`](Self::arm) it again.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<FlowId> {
        let (at, id) = *self.timers.first()?;
        if at > now {
            return None;
        }
        self.timers.pop_first();
        if let Some(flow) = self.get_mut(id) {
            flow.armed = None;
        }
        Some(id)
    }
}
