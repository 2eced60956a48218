//! The engine without its surroundings: one thread's state, told what happens and when, and asked what to do.
//!
//! It makes no calls into the world but answering whoever waits for a ping or a status. Time and randomness are handed in,
//! so that two of them can be run against each other under virtual time.

mod command;
mod direct;
mod fit;
mod guard;
mod hostside;
mod inbound;
mod knock;
mod lending;
mod outbound;
mod pings;
mod relays;
mod stack;
mod table;
mod tunnel;

pub(crate) use command::Command;
pub(crate) use guard::{Guard, label};
pub(crate) use table::{PeerTable, may_send_from};

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use derp::Region;
use host::{Avoid, Instant, Wall};
use keys::{DiscoPrivate, DiscoPublic, NodePrivate, NodePublic};
use magicsock::{LinkId, Magicsock, Output, PingId, PongReceived, Via};
use metrics::UserMetrics;
use packet::PeerId;
use rand_core::CryptoRng;
use wireguard::{Context, Gate, Identity, IndexTable};

use crate::EngineEvent;
use crate::core::hostside::HostSide;
use crate::core::pings::Pings;
use crate::core::relays::RelayStates;
use crate::core::stack::Stack;
use crate::core::tunnel::Tunnel;
use crate::link::Batch;
use crate::shared::Shared;
use crate::sockets::Outgoing;
use crate::streams::FlowHub;
use crate::tun::ToHost;
use crate::workers::Transmitter;

/// The tunnel's MTU without a device that says otherwise.
const DEFAULT_MTU: usize = 1280;

/// Something that the engine's surroundings must do.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Start a link.
    OpenLink {
        link: LinkId,
        region: Region,
        home: bool,
        key: NodePrivate,
    },
    /// Stop a link.
    CloseLink { link: LinkId },
    /// Tell a link whether it leads home.
    NotePreferred { link: LinkId, home: bool },
    /// Have all links ask for a sign of life, and connect anew if none comes.
    CheckLinks { addresses: Vec<IpAddr> },
    /// Hand frames to a link.
    Push { link: LinkId, batch: Batch },
    /// Send datagrams.
    Send(Outgoing),
    /// Give packets to the host.
    ToHost(ToHost),
    /// Do without some offloads from now on.
    Avoid(Avoid),
    /// Bind new sockets.
    Rebind,
    /// Let routers cut datagrams that are too long for them.
    AllowFragments,
    /// Find out what the way to a peer's address carries.
    AskMtu { peer: PeerId, to: SocketAddr },
    /// Tell the brain.
    Event(EngineEvent),
    /// Do something to measure our network.
    Probe(netcheck::Action),
}

/// When it is, and what it is on the wall.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clocks {
    pub(crate) now: Instant,
    pub(crate) wall: Wall,
}

pub(crate) struct Core {
    clocks: Clocks,
    rng: Box<dyn CryptoRng + Send>,
    metrics: Arc<UserMetrics>,
    magic: Magicsock,
    key: Option<NodePrivate>,
    identity: Option<Arc<Identity>>,
    gate: Gate,
    indices: IndexTable,
    /// What the workers see; the peers are there only.
    shared: Arc<Shared>,
    self_addresses: Vec<IpAddr>,
    /// Whether packets are fitted to what the ways to peers carry.
    pub(crate) fits_packets: bool,
    guard: Guard,
    tunnels: BTreeMap<PeerId, Tunnel>,
    timers: BTreeSet<(Instant, PeerId)>,
    /// Peers to whom a way was lent that has not run out.
    borrowers: BTreeSet<PeerId>,
    stack: Stack,
    /// Sends the plain case of what the stack makes; without one, all goes the long way.
    sender: Option<Transmitter>,
    /// The way to the host, if there is one.
    host: Option<HostSide>,
    /// The longest packet inside the tunnel: padding must not make one longer.
    mtu: usize,
    /// Whether what the workers see of the guard is out of date.
    is_guard_stale: bool,
    pings: Pings,
    next_ping: u64,
    /// Pings of our own, to peers that do not answer a handshake.
    probes: BTreeMap<PingId, PeerId>,
    relays: RelayStates,
    /// Frames of this round, not yet handed to their links.
    sends: BTreeMap<LinkId, Batch>,
    /// Datagrams of this round, not yet sent.
    outgoing: Outgoing,
    last_batch_len: usize,
    effects: Vec<Effect>,
}

impl Core {
    pub(crate) fn new(
        metrics: Arc<UserMetrics>,
        hub: FlowHub,
        mut rng: Box<dyn CryptoRng + Send>,
        clocks: Clocks,
    ) -> Self {
        let disco = DiscoPrivate::generate(&mut *rng);
        let magic = Magicsock::new(disco, &mut *rng);
        let shared = Shared::new(magic.disco_key(), DEFAULT_MTU);
        Self {
            magic,
            clocks,
            rng,
            metrics,
            key: None,
            identity: None,
            gate: Gate::new(),
            indices: IndexTable::new(),
            shared,
            self_addresses: Vec::new(),
            fits_packets: true,
            guard: Guard::default(),
            tunnels: BTreeMap::new(),
            timers: BTreeSet::new(),
            borrowers: BTreeSet::new(),
            stack: Stack::new(hub),
            sender: None,
            host: None,
            mtu: DEFAULT_MTU,
            is_guard_stale: true,
            pings: Pings::default(),
            next_ping: 0,
            probes: BTreeMap::new(),
            relays: RelayStates::default(),
            sends: BTreeMap::new(),
            outgoing: Outgoing::default(),
            last_batch_len: 0,
            effects: Vec::new(),
        }
    }

    pub(crate) fn disco_key(&self) -> DiscoPublic {
        self.magic.disco_key()
    }

    /// Lets what the stack makes go the workers' way.
    pub(crate) fn use_sender(&mut self, sender: Transmitter) {
        self.sender = Some(sender);
    }

    /// What the workers see.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The relays.
    pub(crate) fn derp_map(&self) -> Option<&derp::DerpMap> {
        self.magic.derp_map()
    }

    /// Says what time it is; everything until the next call happens then.
    pub(crate) fn set_clocks(&mut self, clocks: Clocks) {
        self.clocks = clocks;
    }

    /// When [`run`](Self::run) is wanted at the latest. While the way out is congested, the stack can wait.
    pub(crate) fn next_timeout(&self, congested: bool) -> Option<Instant> {
        let stack = match self.stack.more {
            true => Some(self.clocks.now),
            false => self.stack.next_timeout(),
        };
        [
            stack.filter(|_| !congested),
            self.magic.next_timeout(),
            self.timers.first().map(|(at, _)| *at),
            self.pings.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due and what follows from all that was handled, then gives what the world must do.
    pub(crate) fn run(&mut self, congested: bool) -> Vec<Effect> {
        let now = self.clocks.now;
        self.pings.handle_timeout(now);
        // Each tunnel once: one whose timer stays due must not keep the others from their turn.
        let due: Vec<PeerId> = self
            .timers
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, id)| *id)
            .collect();
        for id in due {
            self.with_tunnel(id, |tunnel, ctx| tunnel.peer.handle_timeout(ctx));
            self.after(id);
        }
        if self.magic.next_timeout().is_some_and(|at| at <= now) {
            self.note_data_seen();
            self.magic.handle_timeout(now, &mut *self.rng);
        }
        self.turn_stack(congested);
        self.drain_magic();
        for (link, batch) in std::mem::take(&mut self.sends) {
            self.push(link, batch);
        }
        self.flush_direct();
        self.flush_to_host();
        self.review_lent();
        self.publish_guard();
        std::mem::take(&mut self.effects)
    }

    fn event(&mut self, event: EngineEvent) {
        self.effects.push(Effect::Event(event));
    }

    /// Does what the path machine asks for.
    fn drain_magic(&mut self) {
        while let Some(output) = self.magic.poll_output() {
            match output {
                Output::OpenLink { link, region, home } => self.open_link(link, region, home),
                Output::CloseLink { link, why } => self.close_link(link, why),
                Output::NotePreferred { link, home } => {
                    self.effects.push(Effect::NotePreferred { link, home });
                }
                Output::SendDerp { link, to, packet } => self.send_frame(link, &to, &packet),
                Output::SendUdp { to, packet } => self.send_direct(to, &packet),
                Output::PathChanged { key, disco, direct } => log_path(&key, &disco, direct),
                Output::EndpointsChanged(endpoints) => {
                    self.event(EngineEvent::Endpoints(endpoints));
                }
                Output::HomeChanged(region) => {
                    self.metrics.home_derp_region_id.set(i64::from(region));
                    if let Some(home) = self.magic.region(region) {
                        tracing::info!("home is now derp-{region} ({})", home.code);
                    }
                    self.event(EngineEvent::HomeDerp(region));
                }
                Output::Probe(action) => self.effects.push(Effect::Probe(action)),
                Output::Report(report) => self.take_report(*report),
                Output::PeerRestarted(id) => self.reset_tunnel(id),
                Output::PingDone { id, result } => {
                    let by = match &result {
                        Ok(PongReceived {
                            via: Via::Direct(by),
                            ..
                        }) => Some(*by),
                        _ => None,
                    };
                    let is_measured = by.is_some_and(|by| self.note_measured(id, by));
                    if !is_measured && !self.probe_done(id, result.is_ok()) {
                        self.pings.disco_done(id, result);
                    }
                }
            }
        }
    }

    /// Runs `f` on a tunnel with all that WireGuard needs.
    fn with_tunnel<R>(
        &mut self,
        id: PeerId,
        f: impl FnOnce(&mut Tunnel, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let tunnel = self.tunnels.get_mut(&id)?;
        let mut ctx = Context {
            now: self.clocks.now,
            wall: self.clocks.wall,
            rng: &mut *self.rng,
            indices: &mut self.indices,
        };
        Some(f(tunnel, &mut ctx))
    }

    /// The tunnel of a configured peer, made if there is none.
    fn ensure_tunnel(&mut self, id: PeerId) -> Option<&mut Tunnel> {
        if !self.tunnels.contains_key(&id) {
            let identity = self.identity.clone()?;
            let tunnel = Tunnel::new(identity, id, self.shared.config(id)?.key)?;
            self.shared.add_cell(&tunnel.cell);
            self.tunnels.insert(id, tunnel);
        }
        self.tunnels.get_mut(&id)
    }

    /// Forgets a peer's sessions. What comes or goes next starts afresh.
    fn reset_tunnel(&mut self, id: PeerId) {
        if let Some(mut tunnel) = self.tunnels.remove(&id) {
            tunnel.peer.close(&mut self.indices);
            self.shared.remove_cell(id);
            self.borrowers.remove(&id);
            self.show_sessions();
            if let Some(at) = tunnel.timer {
                self.timers.remove(&(at, id));
            }
        }
    }

    fn next_ping_id(&mut self) -> PingId {
        self.next_ping += 1;
        PingId(self.next_ping)
    }

    /// Our address of the family of `other`.
    fn self_address_like(&self, other: IpAddr) -> Option<IpAddr> {
        let same = |own: &&IpAddr| own.is_ipv4() == other.is_ipv4();
        self.self_addresses.iter().find(same).copied()
    }
}

fn log_path(key: &NodePublic, disco: &DiscoPublic, direct: Option<SocketAddr>) {
    let (node, disco) = (key.short(), disco.short());
    match direct {
        Some(addr) => tracing::info!("magicsock: disco: node {node} {disco} now using {addr}"),
        None => tracing::info!("magicsock: disco: node {node} {disco} lost its direct path"),
    }
}

#[cfg(test)]
mod tests;
