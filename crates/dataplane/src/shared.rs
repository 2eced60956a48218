//! What the engine's thread shows to the threads that move packets.
//!
//! The engine decides and writes; workers read. Per packet they touch nothing but their own cache: a flow that was looked up
//! stays valid until [`generation`](Shared::generation) moves on. The locks here are taken when a flow or a session is new
//! to a worker, never per packet.
//!
//! A [`Way`] to a peer is lent, not given: it runs out by itself, so that the path machine hears of traffic at least that
//! often, and it is taken back at once when the path machine thinks otherwise.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use host::{Instant, Masquerade, PeerConfig};
use keys::{DiscoPublic, NodePublic};
use magicsock::LinkId;
use packet::PeerId;
use wireguard::{Identity, Session};

use crate::core::{Guard, PeerTable};
use crate::link::SendQueue;
use crate::sockets::SocketPair;

/// After this a worker asks for the way anew, while it goes on using it.
const RENEW_AFTER: Duration = Duration::from_millis(500);
/// After this it uses the way no more.
const LENT_FOR: Duration = Duration::from_millis(2500);
/// A peer is mentioned to the engine at most this often for one reason.
const POKE_GAP: Duration = Duration::from_millis(100);

/// How a peer's datagrams go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Direct(SocketAddr),
    Relay { link: LinkId, to: NodePublic },
}

/// A way, and until when it may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lent {
    pub(crate) way: Way,
    pub(crate) renew_at: Instant,
    pub(crate) until: Instant,
}

impl Lent {
    pub(crate) fn new(way: Way, now: Instant) -> Self {
        Self {
            way,
            renew_at: now + RENEW_AFTER,
            until: now + LENT_FOR,
        }
    }
}

/// A peer with a tunnel, as workers see it.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct PeerCell {
    pub(crate) id: PeerId,
    /// What to seal with.
    pub(crate) session: ArcSwapOption<Session>,
    pub(crate) lent: ArcSwapOption<Lent>,
    pub(crate) rx_bytes: AtomicU64,
    pub(crate) tx_bytes: AtomicU64,
    /// The longest packet that goes to it in one piece, where that is less than the device's; else 0.
    pub(crate) inner_mtu: AtomicUsize,
    /// When data last came straight from it, in nanoseconds.
    pub(crate) direct_data: AtomicU64,
    /// When the engine looks at its timers by itself, in nanoseconds.
    pub(crate) timer: AtomicU64,
    poked: AtomicU64,
}

impl PeerCell {
    pub(crate) fn new(id: PeerId) -> Arc<Self> {
        Arc::new(Self {
            id,
            session: ArcSwapOption::empty(),
            lent: ArcSwapOption::empty(),
            rx_bytes: AtomicU64::new(0),
            tx_bytes: AtomicU64::new(0),
            inner_mtu: AtomicUsize::new(0),
            direct_data: AtomicU64::new(0),
            timer: AtomicU64::new(u64::MAX),
            poked: AtomicU64::new(0),
        })
    }

    /// Whether the engine should be told something about this peer now: it was not told a moment ago.
    pub(crate) fn may_poke(&self, now: Instant) -> bool {
        let last = Instant::from_nanos(self.poked.load(Ordering::Relaxed));
        let may = now.since(last) >= POKE_GAP || now < last;
        if may {
            self.poked.store(now.as_nanos(), Ordering::Relaxed);
        }
        may
    }

    /// Whether the engine looks at the peer's timers before `at` by itself.
    pub(crate) fn is_timed_before(&self, at: Instant) -> bool {
        self.timer.load(Ordering::Relaxed) <= at.as_nanos()
    }
}

/// A session that datagrams may belong to.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Gone once the session may not be used.
    pub(crate) session: ArcSwapOption<Session>,
    pub(crate) cell: Arc<PeerCell>,
}

/// See the module.
pub(crate) struct Shared {
    table: RwLock<PeerTable>,
    cells: RwLock<BTreeMap<PeerId, Arc<PeerCell>>>,
    slots: RwLock<HashMap<u32, Arc<Slot>>>,
    generation: AtomicU64,
    pub(crate) guard: ArcSwap<Guard>,
    pub(crate) links: ArcSwap<BTreeMap<LinkId, Arc<SendQueue>>>,
    pub(crate) sockets: ArcSwap<SocketPair>,
    pub(crate) identity: ArcSwapOption<Identity>,
    /// Whether an echo reply may be for the engine.
    pub(crate) awaits_echo: AtomicBool,
    pub(crate) mtu: AtomicUsize,
    pub(crate) disco: DiscoPublic,
}

impl Shared {
    pub(crate) fn new(disco: DiscoPublic, mtu: usize) -> Arc<Self> {
        Arc::new(Self {
            table: RwLock::default(),
            cells: RwLock::default(),
            slots: RwLock::default(),
            generation: AtomicU64::new(1),
            guard: ArcSwap::from_pointee(Guard::default()),
            links: ArcSwap::from_pointee(BTreeMap::new()),
            sockets: ArcSwap::from_pointee(SocketPair::default()),
            identity: ArcSwapOption::empty(),
            awaits_echo: AtomicBool::new(false),
            mtu: AtomicUsize::new(mtu),
            disco,
        })
    }

    /// What was looked up under an older number may be different now.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Everything that workers have looked up is to be looked up again.
    pub(crate) fn outdate(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn config(&self, id: PeerId) -> Option<Arc<PeerConfig>> {
        read(&self.table).get(id).cloned()
    }

    pub(crate) fn peer_ids(&self) -> Vec<PeerId> {
        read(&self.table).ids().collect()
    }

    /// Who gets packets for `ip`.
    pub(crate) fn route(&self, ip: IpAddr) -> Option<PeerId> {
        read(&self.table).route(ip)
    }

    /// By which addresses a peer knows us, if not by our own.
    pub(crate) fn masquerade(&self, id: PeerId) -> Option<Masquerade> {
        read(&self.table).masquerade(id)
    }

    /// Changes the peers.
    pub(crate) fn change_table<R>(&self, change: impl FnOnce(&mut PeerTable) -> R) -> R {
        let changed = change(&mut write(&self.table));
        self.outdate();
        changed
    }

    pub(crate) fn cell(&self, id: PeerId) -> Option<Arc<PeerCell>> {
        read(&self.cells).get(&id).cloned()
    }

    pub(crate) fn add_cell(&self, cell: &Arc<PeerCell>) {
        write(&self.cells).insert(cell.id, Arc::clone(cell));
        self.outdate();
    }

    pub(crate) fn remove_cell(&self, id: PeerId) {
        if let Some(cell) = write(&self.cells).remove(&id) {
            cell.session.store(None);
            cell.lent.store(None);
        }
        self.outdate();
    }

    pub(crate) fn slot(&self, index: u32) -> Option<Arc<Slot>> {
        read(&self.slots).get(&index).cloned()
    }

    pub(crate) fn bind(&self, session: &Arc<Session>, cell: &Arc<PeerCell>) {
        let slot = Slot {
            session: ArcSwapOption::new(Some(Arc::clone(session))),
            cell: Arc::clone(cell),
        };
        write(&self.slots).insert(session.local_index(), Arc::new(slot));
    }

    pub(crate) fn release(&self, index: u32) {
        if let Some(slot) = write(&self.slots).remove(&index) {
            slot.session.store(None);
        }
    }

    pub(crate) fn release_all(&self) {
        for (_, slot) in write(&self.slots).drain() {
            slot.session.store(None);
        }
    }
}

// Nothing panics while one of these is held; were it otherwise, what they guard is still whole.

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
