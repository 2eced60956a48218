//! The machine: configuration, relay links, routes, time.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use derp::DerpMap;
use host::{Instant, LinkState, PeerConfig};
use keys::{DiscoPrivate, DiscoPublic, NodePublic};
use netcheck::{Action, Interfaces, Report};
use packet::PeerId;
use rand_core::CryptoRng;

use crate::LinkId;
use crate::disco::Boxes;
use crate::endpoints::{BoundPorts, Endpoint, Endpoints};
use crate::home::Home;
use crate::links::Links;
use crate::peers::{Change, PeerView, Peers};
use crate::pings::{PingFailure, PingId, Pings, PongReceived, Via};

/// Something that must happen in the world.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Connect to a region and stay connected, with a back-off between attempts, until told to close.
    OpenLink {
        /// The link's name from here on.
        link: LinkId,
        /// Where to.
        region: u16,
        /// Whether the region is our home, which its server must be told after each connection.
        home: bool,
    },
    /// Close a link for good. What it still brings is ignored.
    CloseLink {
        /// Which one.
        link: LinkId,
        /// Why, for the log.
        why: &'static str,
    },
    /// Tell a link's server whether it is our home, also after each later connection.
    NotePreferred {
        /// Which link.
        link: LinkId,
        /// Whether it leads home.
        home: bool,
    },
    /// Send a disco message.
    SendDerp {
        /// By which link.
        link: LinkId,
        /// To whom.
        to: NodePublic,
        /// The datagram.
        packet: Vec<u8>,
    },
    /// Send a disco message straight to an address.
    SendUdp {
        /// Where to.
        to: SocketAddr,
        /// The datagram.
        packet: Vec<u8>,
    },
    /// Another direct path to a peer is in use from here on, or none is.
    PathChanged {
        /// Which peer.
        key: NodePublic,
        /// Its disco key.
        disco: DiscoPublic,
        /// The path.
        direct: Option<SocketAddr>,
    },
    /// We may be reached at these addresses, and no others. Control must be told.
    EndpointsChanged(Vec<Endpoint>),
    /// Our home is this region; 0 for none.
    HomeChanged(u16),
    /// Do something for the measurement of our network.
    Probe(Action),
    /// What a measurement found; its preferred region is our home.
    Report(Box<Report>),
    /// A peer restarted and has forgotten its sessions: ours with it are worthless.
    PeerRestarted(PeerId),
    /// A ping has its answer, or will have none.
    PingDone {
        /// Which one.
        id: PingId,
        /// The answer.
        result: Result<PongReceived, PingFailure>,
    },
}

/// How to reach a peer at this moment, in at least one way. If there are two, send by both: neither is known to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The address to send to.
    pub direct: Option<SocketAddr>,
    /// The relay to send by.
    pub relay: Option<RelayRoute>,
}

/// How to reach a peer by a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayRoute {
    /// The link to send by.
    pub link: LinkId,
    /// The peer's name there.
    pub to: NodePublic,
}

/// The path machine. See the crate's documentation.
#[derive(Debug)]
pub struct Magicsock {
    pub(crate) boxes: Boxes,
    pub(crate) node_key: Option<NodePublic>,
    running: bool,
    pub(crate) derp_map: Option<Arc<DerpMap>>,
    pub(crate) home: Home,
    pub(crate) peers: Peers,
    pub(crate) links: Links,
    pub(crate) pings: Pings,
    pub(crate) endpoints: Endpoints,
    pub(crate) outputs: VecDeque<Output>,
}

impl Magicsock {
    /// A machine without network: no key, no relays, no peers. `disco` should be fresh: peers take a new one as the sign
    /// that we restarted.
    pub fn new(disco: DiscoPrivate, rng: &mut dyn CryptoRng) -> Self {
        Self {
            boxes: Boxes::new(disco),
            node_key: None,
            running: false,
            derp_map: None,
            home: Home::new(rng.next_u64()),
            peers: Peers::default(),
            links: Links::default(),
            pings: Pings::default(),
            endpoints: Endpoints::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Our disco key.
    pub fn disco_key(&self) -> DiscoPublic {
        self.boxes.public()
    }

    /// Our home region; 0 for none.
    pub fn home(&self) -> u16 {
        self.home.region
    }

    /// The open links, by region.
    pub fn links(&self) -> impl Iterator<Item = (u16, LinkId)> + '_ {
        self.links.iter()
    }

    /// The peer with this key.
    pub fn peer_id(&self, key: &NodePublic) -> Option<PeerId> {
        self.peers.by_key(key)
    }

    /// Where we may be reached, as far as we know.
    pub fn endpoints(&self) -> &[Endpoint] {
        self.endpoints.current()
    }

    /// Tells which sockets there are. Without any, everything goes by relays. Others than before: nothing is known of what
    /// they can reach, nor who can reach them.
    pub fn set_ports(&mut self, ports: BoundPorts, now: Instant) {
        self.home.interfaces = Interfaces {
            v4: ports.v4.is_some(),
            v6: ports.v6.is_some(),
        };
        self.endpoints.ports = ports;
        self.endpoints.forget();
        self.peers.reset_paths();
        self.home.want(now);
    }

    /// Tells what the machine's links are. Goes before [`handle_link_change`](Self::handle_link_change) if that is called at
    /// all.
    pub fn set_links(&mut self, links: &LinkState) {
        self.endpoints.local.clone_from(&links.addresses);
        self.home.have_v6 = links.have_v6;
    }

    /// Addresses of the machine, as far as they are known.
    pub fn local_addresses(&self) -> &[IpAddr] {
        &self.endpoints.local
    }

    /// Data of a peer came straight, and was authentic. Calling this once per batch is enough.
    pub fn note_direct_data(&mut self, id: PeerId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.paths.data_at = Some(now);
        }
    }

    /// The system refused to send to `addr`: there is no way to it.
    pub fn handle_unreachable(&mut self, addr: SocketAddr) {
        for (key, disco) in self.peers.lose_path(addr) {
            self.outputs.push_back(Output::PathChanged {
                key,
                disco,
                direct: None,
            });
        }
    }

    pub(crate) fn has_sockets(&self) -> bool {
        let ports = &self.endpoints.ports;
        self.running && (ports.v4.is_some() || ports.v6.is_some())
    }

    /// How a peer is doing.
    pub fn peer_view(&self, id: PeerId, now: Instant) -> Option<PeerView> {
        self.peers.get(id).map(|peer| peer.view(now))
    }

    /// Sets our node key. A relay knows us by it, so links of another key are closed; `None` leaves none open.
    pub fn set_node_key(&mut self, key: Option<NodePublic>, now: Instant) {
        if self.node_key == key {
            return;
        }
        self.node_key = key;
        self.close_all("key-change");
        self.peers.reset_paths();
        self.open_home(now);
        self.home.want(now);
    }

    /// Whether links may be open at all.
    pub fn set_running(&mut self, running: bool, now: Instant) {
        if self.running == running {
            return;
        }
        self.running = running;
        if !running {
            self.close_all("down");
            self.peers.reset_paths();
            self.home.forget();
            return;
        }
        self.open_home(now);
        self.home.want(now);
    }

    /// Sets the relays. Links to regions that changed are closed; a home that changed must be chosen anew.
    pub fn set_derp_map(&mut self, map: Option<Arc<DerpMap>>, now: Instant) {
        if self.derp_map == map {
            return;
        }
        let old = std::mem::replace(&mut self.derp_map, map);
        if self.derp_map.is_none() {
            self.close_all("derp-disabled");
            self.home.forget();
            self.set_home(0, now);
            return;
        }
        for (region, was) in old.iter().flat_map(|old| old.regions.iter()) {
            if self.region(*region) == Some(was) {
                continue;
            }
            if self.home.region == *region {
                self.home.region = 0;
            }
            self.close(*region, "derp-region-redefined");
        }
        self.home.forget();
        self.home.want(now);
    }

    /// Adds or replaces a peer.
    pub fn upsert_peer(&mut self, config: &PeerConfig) {
        let before = self.peers.get(config.id).map(|peer| peer.disco);
        let change = self.peers.upsert(config);
        self.forget_box(before);
        if change == Change::Restarted {
            self.outputs.push_back(Output::PeerRestarted(config.id));
        }
    }

    /// Removes a peer. Pings to it have no answer.
    pub fn remove_peer(&mut self, id: PeerId) {
        let before = self.peers.get(id).map(|peer| peer.disco);
        self.peers.remove(id);
        self.forget_box(before);
        while let Some((_, asker)) = self.pings.remove_of(id) {
            if let Some(asker) = asker {
                self.ping_done(asker, Err(PingFailure::NoSuchPeer));
            }
        }
    }

    /// The key shared with a disco key that nobody has any more is of no use.
    fn forget_box(&mut self, disco: Option<DiscoPublic>) {
        if let Some(disco) = disco.filter(|disco| !self.peers.knows_disco(disco)) {
            self.boxes.forget(&disco);
        }
    }

    /// A peer told us its disco key inside the tunnel, so it is reached by disco even while control is not. The session by
    /// which it came is as new as the key: when the same key comes by configuration, it is no sign of a restart.
    pub fn handle_advertised(&mut self, id: PeerId, disco: DiscoPublic) {
        let before = self.peers.get(id).map(|peer| peer.disco);
        self.peers.set_disco(id, disco);
        self.forget_box(before);
    }

    /// A link's connection broke, or could not be made; it tries again by itself. The relay may have restarted, so who was
    /// behind it is unknown.
    pub fn handle_link_down(&mut self, link: LinkId, now: Instant) {
        if self.links.region_of(link).is_some() {
            self.peers.forget_link(link);
            self.measure_after_failure(now);
        }
    }

    /// A relay says that it cannot reach a peer.
    pub fn handle_peer_gone(&mut self, link: LinkId, key: &NodePublic) {
        if let Some(peer) = self.peers.by_key(key).and_then(|id| self.peers.get_mut(id))
            && peer.heard_on == Some(link)
        {
            peer.heard_on = None;
        }
    }

    /// A packet of `key` arrived by `link`: gives the peer, which can be reached there from here on. `None` means that the
    /// packet must be dropped: nobody that we know, or a link that is closed.
    pub fn heard(&mut self, link: LinkId, key: &NodePublic) -> Option<PeerId> {
        self.node_key?;
        self.links.region_of(link)?;
        let id = self.peers.by_key(key)?;
        self.peers.get_mut(id)?.heard_on = Some(link);
        Some(id)
    }

    /// Where to send a peer's datagrams now. Opens a link if need be, and keeps it open; has better ways looked for. `None`
    /// means that they must be dropped.
    pub fn route(&mut self, id: PeerId, now: Instant) -> Option<Route> {
        let peer = self.peers.get_mut(id)?;
        peer.last_send = Some(now);
        let (home, to, heard_on) = (peer.home, peer.key, peer.heard_on);
        let choice = peer.paths.choose(now);
        self.note_traffic(id, choice.trusted, now);
        let relay = match choice.trusted {
            true => None,
            false => self.link_for(home, heard_on, now),
        };
        let route = Route {
            direct: choice.direct,
            relay: relay.map(|link| RelayRoute { link, to }),
        };
        if route.direct.is_none() && route.relay.is_none() {
            return None;
        }
        self.measure_if_stale(now);
        Some(route)
    }

    /// Where [`route`](Self::route) would send now, without sending: nothing is opened, looked for or kept open for it.
    pub fn peek_route(&self, id: PeerId, now: Instant) -> Option<Route> {
        let peer = self.peers.get(id)?;
        let choice = peer.paths.choose(now);
        let relay = match choice.trusted {
            true => None,
            false => {
                let region = self.region_for(peer.home, peer.heard_on);
                region.and_then(|region| self.links.get(region))
            }
        };
        Some(Route {
            direct: choice.direct,
            relay: relay.map(|link| RelayRoute { link, to: peer.key }),
        })
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted next.
    pub fn next_timeout(&self) -> Option<Instant> {
        let timers = [
            self.links.next_timeout(),
            self.pings.next_timeout(),
            self.peers.next_turn(),
            self.home.next_timeout().filter(|_| self.may_have_links()),
        ];
        timers.into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, rng: &mut dyn CryptoRng) {
        for region in self.links.sweep(self.home.region, now) {
            self.close(region, "idle");
        }
        while let Some((ping, asker)) = self.pings.expired(now) {
            if let Some(asker) = asker {
                self.ping_done(asker, Err(PingFailure::TimedOut));
            }
            self.note_unanswered(ping.peer, ping.via, now);
        }
        self.take_turns(now, rng);
        self.drive_check(now, rng);
        // One that was wanted while another ran.
        self.measure(now, rng);
        self.drive_check(now, rng);
    }

    fn note_unanswered(&mut self, id: PeerId, via: Via, now: Instant) {
        let Via::Direct(to) = via else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(id)
            && peer.paths.unanswered(to, now)
        {
            let (key, disco) = (peer.key, peer.disco);
            self.outputs.push_back(Output::PathChanged {
                key,
                disco,
                direct: None,
            });
        }
    }

    /// The next thing that must happen in the world.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The link for a peer with this home: the home's own, else the one where the peer was heard, else a new one to the
    /// home.
    pub(crate) fn link_for(
        &mut self,
        home: u16,
        heard_on: Option<LinkId>,
        now: Instant,
    ) -> Option<LinkId> {
        let region = self.region_for(home, heard_on)?;
        let link = match self.links.get(region) {
            Some(link) => link,
            None => self.open(region, now),
        };
        self.links.note_write(region, now);
        Some(link)
    }

    fn region_for(&self, home: u16, heard_on: Option<LinkId>) -> Option<u16> {
        if !self.may_have_links() {
            return None;
        }
        let heard_region = heard_on.and_then(|link| self.links.region_of(link));
        if home == 0 {
            return heard_region;
        }
        self.region(home)?;
        match self.links.get(home) {
            Some(_) => Some(home),
            None => Some(heard_region.unwrap_or(home)),
        }
    }

    /// The relay map.
    pub fn derp_map(&self) -> Option<&DerpMap> {
        self.derp_map.as_deref()
    }

    /// A region of the relay map.
    pub fn region(&self, id: u16) -> Option<&derp::Region> {
        self.derp_map.as_ref()?.region(id)
    }

    pub(crate) fn ping_done(&mut self, id: PingId, result: Result<PongReceived, PingFailure>) {
        self.outputs.push_back(Output::PingDone { id, result });
    }

    /// Moves home: every open link's server is told, and the new home's link is opened.
    pub(crate) fn set_home(&mut self, region: u16, now: Instant) {
        if self.home.region == region {
            return;
        }
        self.home.region = region;
        self.outputs.push_back(Output::HomeChanged(region));
        for (other, link) in self.links.iter() {
            let home = other == region;
            self.outputs.push_back(Output::NotePreferred { link, home });
        }
        self.open_home(now);
    }

    pub(crate) fn may_have_links(&self) -> bool {
        self.running && self.node_key.is_some() && self.derp_map.is_some()
    }

    fn open_home(&mut self, now: Instant) {
        let home = self.home.region;
        if self.may_have_links() && self.region(home).is_some() && self.links.get(home).is_none() {
            self.open(home, now);
        }
    }

    fn open(&mut self, region: u16, now: Instant) -> LinkId {
        let link = self.links.open(region, now);
        let home = region == self.home.region;
        self.outputs
            .push_back(Output::OpenLink { link, region, home });
        link
    }

    fn close(&mut self, region: u16, why: &'static str) {
        if let Some(link) = self.links.close(region) {
            self.peers.forget_link(link);
            self.outputs.push_back(Output::CloseLink { link, why });
        }
    }

    fn close_all(&mut self, why: &'static str) {
        let regions: Vec<u16> = self.links.iter().map(|(region, _)| region).collect();
        for region in regions {
            self.close(region, why);
        }
    }
}
