//! The inbound worker alone, for those who throw anything at it: a session with one peer, an open filter, a device that keeps what
//! it is given.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use filter::{Filter, Flows, LocalSet, Rules};
use host::{
    Batch, Csum, Gso, Instant, Limits, PeerConfig, Sent, SocketId, TunQueue, TunRx, TunTx, UdpRx,
    UdpSocket, UdpTx, Until, Waker, Wall,
};
use ipnet::IpNet;
use keys::{DiscoPublic, NodePrivate};
use metrics::UserMetrics;
use packet::PeerId;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tailcfg::FilterRule;
use wireguard::{Context, Identity, IndexTable, Message, Output, Peer, Session};

use crate::core::Guard;
use crate::mailbox::{Inbox, Mailbox};
use crate::shared::{PeerCell, Shared};
use crate::workers::Receiver;

const MTU: usize = 1280;

/// When all of it happens.
pub(crate) fn start() -> Instant {
    Instant::ZERO + Duration::from_secs(5000)
}

/// The two ends of a session; the first has asked for it.
///
/// # Panics
/// If the two do not come to a session.
#[expect(
    clippy::expect_used,
    reason = "a trial that cannot begin shows nothing"
)]
pub(crate) fn sessions() -> ([Arc<Session>; 2], [NodePrivate; 2]) {
    let mut rng = StdRng::seed_from_u64(9);
    let keys = [0, 1].map(|_| NodePrivate::generate(&mut rng));
    let identities = keys.clone().map(Identity::new);
    let others = [keys[1].public(), keys[0].public()];
    let mut peers =
        [0, 1].map(|at: usize| Peer::new(identities[at].clone(), others[at]).expect("a good key"));
    let mut indices = [IndexTable::new(), IndexTable::new()];
    let now = start();
    let wall = Wall::from_unix_nanos(1_800_000_000_000_000_000);
    let mut with = |side: usize, step: &mut dyn FnMut(&mut Peer, &mut Context<'_>)| {
        let indices = &mut indices[side];
        let mut context = Context {
            now,
            wall,
            rng: &mut rng,
            indices,
        };
        step(&mut peers[side], &mut context);
        match peers[side].poll_output(now) {
            Some(Output::Handshake(message)) => message,
            _ => Vec::new(),
        }
    };
    let initiation = with(0, &mut |peer, ctx| peer.want_session(ctx));
    let Ok(Message::Initiation(initiation)) = wireguard::classify(&initiation) else {
        panic!("no initiation");
    };
    let response = with(1, &mut |peer, ctx| {
        let opened = identities[1].open_initiation(&initiation).expect("for us");
        peer.handle_initiation(opened, ctx).expect("taken");
    });
    let Ok(Message::Response(response)) = wireguard::classify(&response) else {
        panic!("no response");
    };
    with(0, &mut |peer, ctx| {
        peer.handle_response(&response, ctx).expect("taken")
    });
    // The responder may send once it has heard something.
    let first = peers[0].session(now).expect("a session").clone();
    let second = indices[1]
        .session(first.remote_index())
        .expect("a session")
        .clone();
    ([first, second], keys)
}

/// What the host was given: how to take it apart, and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// How many packets it is, and of what kind.
    pub gso: Gso,
    /// What is left to do about its checksum.
    pub csum: Csum,
    /// All of it.
    pub bytes: Vec<u8>,
}

#[derive(Default)]
struct Kept(Mutex<Vec<Given>>);

impl TunQueue for Kept {
    fn recv(&self, _: &mut [u8], _: &mut Batch<TunRx>, _: Until) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn send(&self, packets: &[TunTx<'_>]) -> Sent {
        let given = |packet: &TunTx<'_>| Given {
            gso: packet.gso,
            csum: packet.csum,
            bytes: packet.iov.iter().flat_map(|piece| piece.to_vec()).collect(),
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(packets.iter().map(given));
        Sent {
            done: packets.len(),
            ..Sent::default()
        }
    }
    fn takes(&self) -> Limits {
        Limits {
            tcp: true,
            udp: true,
        }
    }
    fn waker(&self) -> Waker {
        Waker::new(|| {})
    }
}

/// Nothing answers to what comes out of it.
struct Nowhere;

impl UdpSocket for Nowhere {
    fn id(&self) -> SocketId {
        SocketId(1)
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn recv(&self, _: &mut [u8], _: &mut Batch<UdpRx>, _: Until) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn send(&self, batch: &[UdpTx<'_>]) -> Sent {
        Sent {
            done: batch.len(),
            ..Sent::default()
        }
    }
    fn waker(&self) -> Waker {
        Waker::new(|| {})
    }
}

/// See the module.
pub struct Inbound {
    receiver: Receiver,
    mailbox: Arc<Mailbox>,
    device: Arc<Kept>,
    peer: Arc<Session>,
}

impl std::fmt::Debug for Inbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbound").finish_non_exhaustive()
    }
}

impl Inbound {
    /// The peer's address, and the node's.
    pub const ADDRESSES: [[u8; 4]; 2] = [[100, 64, 0, 1], [100, 64, 0, 2]];

    /// A node that has a session with a peer.
    #[expect(clippy::new_without_default, reason = "it is not cheap")]
    #[must_use]
    pub fn new() -> Self {
        let ([peer, session], keys) = sessions();
        let [from, own] = Self::ADDRESSES.map(IpAddr::from);
        let shared = Shared::new(DiscoPublic::default(), MTU);
        let config = PeerConfig {
            id: PeerId(1),
            key: keys[0].public(),
            disco: DiscoPublic::default(),
            home_derp: 1,
            endpoints: Vec::new(),
            addresses: vec![from],
            sources: vec![IpNet::from(from)],
            routes: vec![IpNet::from(from)],
            jailed: false,
            masquerade: host::Masquerade::default(),
        };
        shared.change_table(|table| table.upsert(Arc::new(config)));
        let cell = PeerCell::new(PeerId(1));
        cell.session.store(Some(Arc::clone(&session)));
        shared.add_cell(&cell);
        shared.bind(&session, &cell);
        shared.identity.store(Some(Identity::new(keys[1].clone())));
        let (rules, _) = Rules::parse(&[FilterRule::allow_all()]);
        let (local, flows) = (LocalSet::new([IpNet::from(own)]), Arc::new(Flows::new()));
        shared.guard.store(Arc::new(Guard {
            filter: Some(Arc::new(Filter::new(rules, local, flows))),
            ..Guard::default()
        }));
        let (mailbox, device) = (Arc::new(Mailbox::default()), Arc::new(Kept::default()));
        let receiver = Receiver::new(
            shared,
            Arc::new(Nowhere),
            Some(device.clone()),
            mailbox.clone(),
            Arc::new(UserMetrics::default()),
            Arc::new(AtomicBool::new(false)),
        );
        Self {
            receiver,
            mailbox,
            device,
            peer,
        }
    }

    /// What the peer would send for a packet; `None` if it is too long.
    pub fn seal(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut datagram = Vec::new();
        let sealed = self.peer.seal(start(), packet, MTU, &mut datagram);
        sealed.is_ok().then_some(datagram)
    }

    /// Has the worker take what one read gave; what the host gets of it.
    pub fn receive(&mut self, buffer: &mut [u8], trains: &[UdpRx]) -> Vec<Given> {
        self.receiver.batch(buffer, trains, start());
        // The engine would take it.
        let mut inbox = Inbox::default();
        self.mailbox.take(&mut inbox, Some(Duration::ZERO));
        let mut kept = self.device.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut kept)
    }
}
