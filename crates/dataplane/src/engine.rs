//! The handle to the engine, and the thread behind it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use host::{LinkState, PeerConfig, Tun, UdpBinder, Waker};
use keys::{DiscoPublic, NodePrivate};
use magicsock::{BoundPorts, LinkId};
use metrics::{DropReason, UserMetrics};
use packet::PeerId;
use rt::OsRng;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::core::{Clocks, Command, Core, Effect};
use crate::link::{Link, LinkConfig, SendQueue};
use crate::mailbox::{Inbox, Mailbox};
use crate::probe::Prober;
use crate::relays::Relays;
use crate::sockets::Sockets;
use crate::streams::{Dialer, FlowHub, IncomingFlows};
use crate::tun::Device;
use crate::workers::{Crew, Receiver, Transmitter};
use crate::{EngineEvent, EngineStatus, Firewall, Network, PingError, PingRequest, Pong};

/// Events that wait for a slow listener.
const EVENTS: usize = 256;
/// A link whose queue has not moved for this long is stuck.
const STALL: Duration = Duration::from_millis(500);
/// When a slow listener is tried again.
const EVENT_RETRY: Duration = Duration::from_secs(1);

/// What the engine needs of the world.
pub struct EngineConfig {
    /// The device through which the host sends and receives; without one, packets for us end in a stack of our own.
    pub tun: Option<Box<dyn Tun>>,
    /// Makes the UDP sockets.
    pub udp: Arc<dyn UdpBinder>,
    /// Which UDP port is preferred; 0 for any.
    pub port: u16,
    /// How many threads take datagrams of each address family; the device has as many queues.
    pub workers: usize,
    /// Whether everything must go by relays (`TS_DEBUG_ALWAYS_USE_DERP`): then there are no UDP sockets.
    pub relay_only: bool,
    /// Whether packets are not fitted to what the way to a peer carries (`TS_PATH_MTU=off`).
    pub ignore_path_mtu: bool,
    /// Reaches the relays.
    pub relays: Arc<dyn Relays>,
    /// What it counts.
    pub metrics: Arc<UserMetrics>,
}

/// The running engine. Clones are handles to the same one; it stops when the last is dropped.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    mailbox: Arc<Mailbox>,
    disco: DiscoPublic,
    dialer: Dialer,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.mailbox.post(|inbox| inbox.closed = true);
    }
}

/// What the engine reports, in order.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<EngineEvent>);

impl Events {
    /// The next event; `None` once the engine has stopped.
    pub async fn recv(&mut self) -> Option<EngineEvent> {
        self.0.recv().await
    }
}

impl Engine {
    /// Starts the engine's thread. Must be called inside the async runtime, which carries the relay links.
    pub fn start(mut config: EngineConfig) -> io::Result<(Self, Events, IncomingFlows)> {
        let mailbox = Arc::new(Mailbox::default());
        let (hub, dialer, incoming) = FlowHub::new(waker(&mailbox));
        let mut core = Core::new(config.metrics.clone(), hub, Box::new(OsRng), clocks());
        core.fits_packets = !config.ignore_path_mtu;
        let tun = config.tun.take();
        if let Some(tun) = &tun {
            core.use_tun(tun.mtu());
        }
        let disco = core.disco_key();
        let (events, receiver) = mpsc::channel(EVENTS);
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let shared = core.shared().clone();
        let metrics = config.metrics.clone();
        let count = config.workers.max(1);
        let crew = Crew::start(if count > 1 { count } else { 0 })?;
        let make_transmitter = |number| {
            let (shared, mailbox) = (shared.clone(), mailbox.clone());
            Transmitter::new(number, shared, mailbox, metrics.clone()).with_crew(crew.as_ref())
        };
        let device = match tun {
            Some(tun) => Some(Device::start(tun, &make_transmitter)?),
            None => None,
        };
        core.use_sender(make_transmitter(0));
        let make_receiver = {
            let (shared, mailbox, metrics) = (shared.clone(), mailbox.clone(), metrics.clone());
            let queues: Vec<_> = device.as_ref().map_or_else(Vec::new, Device::queues);
            move |number: usize, udp, stop| {
                let (shared, mailbox) = (shared.clone(), mailbox.clone());
                let queue = queues.get(number % queues.len().max(1)).cloned();
                Receiver::new(shared, udp, queue, mailbox, metrics.clone(), stop)
                    .with_crew(crew.as_ref())
            }
        };
        let receivers = Box::new(make_receiver);
        let sockets = Sockets::new(config.udp.clone(), config.port, count, receivers);
        let shell = Shell {
            core,
            shared,
            config,
            device,
            sockets,
            mailbox: mailbox.clone(),
            links: BTreeMap::new(),
            events,
            waiting: Vec::new(),
        };
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || {
                let _inside = runtime.enter();
                shell.run();
            })?;
        let shared = Arc::new(Shared {
            mailbox,
            disco,
            dialer,
        });
        Ok((Self { shared }, Events(receiver), incoming))
    }

    /// Our disco key, fresh at every start. Control must be told.
    pub fn disco_key(&self) -> DiscoPublic {
        self.shared.disco
    }

    /// Opens flows through the tunnel.
    pub fn dialer(&self) -> &Dialer {
        &self.shared.dialer
    }

    /// Sets our WireGuard key; `None` closes all links and sessions.
    pub fn set_keys(&self, key: Option<NodePrivate>) {
        self.command(Command::SetKeys(key));
    }

    /// Replaces all that is known of the tailnet. What did not change keeps its sessions; `None` drops every packet.
    pub fn set_network(&self, network: Option<Arc<Network>>) {
        self.command(Command::SetNetwork(network));
    }

    /// Replaces all peers of the network, and nothing else of it.
    pub fn set_peers(&self, peers: Vec<Arc<PeerConfig>>) {
        self.command(Command::SetPeers(peers));
    }

    /// Adds or replaces one peer of the network.
    pub fn upsert_peer(&self, peer: Arc<PeerConfig>) {
        self.command(Command::UpsertPeer(peer));
    }

    /// Removes one peer of the network.
    pub fn remove_peer(&self, peer: PeerId) {
        self.command(Command::RemovePeer(peer));
    }

    /// Replaces what may come in, and nothing else of the network.
    pub fn set_firewall(&self, firewall: Firewall) {
        self.command(Command::SetFirewall(firewall));
    }

    /// Whether relay links may be open: off while the user wants to be down or the network is.
    pub fn set_derp_running(&self, running: bool) {
        self.command(Command::SetDerpRunning(running));
    }

    /// Whether a map is being streamed from control: only then may the home relay move, as only then peers would learn it.
    pub fn set_map_streaming(&self, streaming: bool) {
        self.command(Command::SetMapStreaming(streaming));
    }

    /// Tells what the machine's links are now. If they changed, [`link_changed`](Self::link_changed) follows.
    pub fn set_links(&self, links: Arc<LinkState>) {
        self.command(Command::SetLinks(links));
    }

    /// Our links changed: measures the relays anew. After a `major` change all of them, and each relay link must show within
    /// 3 s that it is still alive, or is made anew.
    pub fn link_changed(&self, major: bool) {
        self.command(Command::LinkChanged { major });
    }

    /// Pings a peer.
    pub async fn ping(&self, request: PingRequest) -> Result<Pong, PingError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Ping(request, reply));
        answer.await.unwrap_or(Err(PingError::Stopped))
    }

    /// The engine at this moment; empty once it has stopped.
    pub async fn status(&self) -> EngineStatus {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Status(reply));
        answer.await.unwrap_or_default()
    }

    fn command(&self, command: Command) {
        self.shared
            .mailbox
            .post(|inbox| inbox.commands.push_back(command));
    }
}

/// Lets the streams wake the thread.
fn waker(mailbox: &Arc<Mailbox>) -> Waker {
    let mailbox = mailbox.clone();
    Waker::new(move || mailbox.post(|inbox| inbox.woken = true))
}

fn clocks() -> Clocks {
    Clocks {
        now: rt::now(),
        wall: rt::wall(),
    }
}

/// The thread: everything that the core must not touch.
struct Shell {
    core: Core,
    shared: Arc<crate::shared::Shared>,
    config: EngineConfig,
    device: Option<Device>,
    sockets: Sockets,
    mailbox: Arc<Mailbox>,
    links: BTreeMap<LinkId, Link>,
    events: mpsc::Sender<EngineEvent>,
    /// Events not yet handed over.
    waiting: Vec<EngineEvent>,
}

impl Shell {
    /// Sleeps until something arrives or is due, handles all of it, and so on until the last handle is gone.
    fn run(mut self) {
        let mut inbox = Inbox::default();
        let mut prober = Prober::new(self.config.relays.clone(), self.mailbox.clone());
        self.bind();
        loop {
            let congested = self.is_congested();
            self.mailbox.take(&mut inbox, self.sleep_for(congested));
            if inbox.closed {
                return;
            }
            inbox.woken = false;
            self.core.set_clocks(clocks());
            for answer in inbox.probes.drain(..) {
                self.core.handle_probe(answer);
            }
            for command in inbox.commands.drain(..) {
                self.core.handle_command(command);
            }
            for (link, event) in inbox.links.drain(..) {
                self.core.handle_link(link, event);
            }
            for datagrams in inbox.datagrams.drain(..) {
                self.core.handle_datagrams(datagrams);
            }
            for poke in inbox.pokes.drain(..) {
                self.core.handle_poke(poke);
            }
            for accepted in inbox.accepted.drain(..) {
                self.core.handle_accepted(&accepted);
            }
            for decrypted in inbox.decrypted.drain(..) {
                self.core.handle_decrypted(decrypted);
            }
            for packets in inbox.from_host.drain(..) {
                self.core.handle_from_host(&packets);
            }
            if let Some(error) = inbox.tun_lost.take() {
                self.tell(EngineEvent::TunLost(error));
            }
            for effect in self.core.run(self.is_congested()) {
                match effect {
                    Effect::Probe(action) => {
                        prober.act(action, self.core.derp_map(), &self.sockets);
                    }
                    other => self.perform(other),
                }
            }
            self.flush_events();
        }
    }

    fn bind(&mut self) {
        // A socket that somebody else still holds keeps its port.
        self.shared.sockets.store(Arc::default());
        let ports = match self.config.relay_only {
            true => BoundPorts::default(),
            false => self.sockets.bind(),
        };
        self.shared.sockets.store(Arc::new(self.sockets.pair()));
        let unbound = ports.v4.is_none() && !self.config.relay_only;
        self.tell(EngineEvent::Udp4Unbound(unbound));
        self.tell(EngineEvent::Ports([
            ports.v4.unwrap_or(0),
            ports.v6.unwrap_or(0),
        ]));
        self.core.set_clocks(clocks());
        self.core.handle_bound(ports);
    }

    /// Shows the workers where relayed frames wait.
    fn show_links(&self) {
        let links = self.links.iter();
        let queues = links.map(|(id, link)| (*id, link.queue.clone()));
        self.shared.links.store(Arc::new(queues.collect()));
    }

    /// How long nothing is due; `None` means until something arrives.
    fn sleep_for(&self, congested: bool) -> Option<Duration> {
        let core = self.core.next_timeout(congested);
        let core = core.map(|at| rt::now().until(at));
        let events = (!self.waiting.is_empty()).then_some(EVENT_RETRY);
        let stalled = congested.then_some(STALL);
        [core, events, stalled].into_iter().flatten().min()
    }

    /// Whether some link has more than enough to send. One that makes no progress holds nobody back: what it has too much
    /// of is dropped.
    fn is_congested(&self) -> bool {
        let now = rt::now();
        self.links
            .values()
            .any(|link| link.queue.is_congested(now, STALL))
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::OpenLink {
                link,
                region,
                home,
                key,
            } => {
                let config = LinkConfig {
                    link,
                    region,
                    key,
                    relays: self.config.relays.clone(),
                    mailbox: self.mailbox.clone(),
                    metrics: self.config.metrics.clone(),
                    queue: Arc::new(SendQueue::new(home)),
                };
                self.links.insert(link, Link::start(config));
                self.show_links();
            }
            Effect::CloseLink { link } => {
                drop(self.links.remove(&link));
                self.show_links();
            }
            Effect::NotePreferred { link, home } => {
                if let Some(link) = self.links.get(&link) {
                    link.queue.set_home(home);
                }
            }
            Effect::CheckLinks { addresses } => {
                for link in self.links.values() {
                    link.queue.check(&addresses);
                }
            }
            Effect::Push { link, batch } => {
                let dropped = match self.links.get(&link) {
                    Some(link) => link.queue.push(batch, rt::now()),
                    None => batch.packets,
                };
                let outbound = &self.config.metrics.outbound;
                outbound.count_dropped(DropReason::Error, u64::from(dropped));
            }
            Effect::Send(mut outgoing) => {
                let flushed = self.shared.sockets.load().send(0, &mut outgoing);
                let outbound = &self.config.metrics.outbound;
                outbound.count_dropped(DropReason::Error, flushed.lost);
                if let Some(addr) = flushed.unreachable {
                    self.core.handle_unreachable(addr);
                }
            }
            Effect::ToHost(packets) => {
                let lost = match &self.device {
                    Some(device) => device.write(&packets),
                    None => packets.packets().count() as u64,
                };
                let inbound = &self.config.metrics.inbound;
                inbound.count_dropped(DropReason::Error, lost);
            }
            Effect::Avoid(avoid) => {
                self.sockets.avoid(avoid);
                if let Some(device) = &self.device {
                    device.avoid(avoid);
                }
            }
            Effect::Rebind => self.bind(),
            Effect::AllowFragments => self.sockets.allow_fragments(),
            Effect::AskMtu { peer, to } => {
                if !self.config.ignore_path_mtu
                    && let Some(mtu) = self.config.udp.path_mtu(to)
                {
                    self.core.handle_path_mtu(peer, to, mtu);
                }
            }
            Effect::Event(event) => self.tell(event),
            Effect::Probe(_) => {}
        }
    }

    /// An event waits at most once: a newer one about the same thing replaces it.
    fn tell(&mut self, event: EngineEvent) {
        match self.waiting.iter_mut().find(|old| old.same_subject(&event)) {
            Some(old) => *old = event,
            None => self.waiting.push(event),
        }
    }

    fn flush_events(&mut self) {
        while let Some(next) = self.waiting.first() {
            match self.events.try_send(next.clone()) {
                Ok(()) => drop(self.waiting.remove(0)),
                Err(TrySendError::Full(_)) => return,
                // Nobody listens any more.
                Err(TrySendError::Closed(_)) => self.waiting.clear(),
            }
        }
    }
}
