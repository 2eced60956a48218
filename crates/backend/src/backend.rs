//! The brain itself: which event goes where, the state machine, and the comparison of what is wanted with what is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use host::{Applied, DnsConfig, Instant, RouterConfig, SystemDns, Wall};
use ipn::health::HealthState;
use ipn::{Notify, State};
use ipnet::IpNet;
use keys::{DiscoPublic, NodePrivate, NodePublic};
use netmap::{NetMap, NetMapChange, Patch};
use packet::PeerId;
use rand_core::CryptoRng;
use tailcfg::go::GoTime;
use tailcfg::{ClientVersion, Hostinfo, NetInfo, PeerChange};
use zeroize::Zeroizing;

use crate::derive::peers::PeerConfigs;
use crate::health::Health;
use crate::profiles::Profiles;
use crate::session::Session;
use crate::trial::Trial;
use crate::{ControlEffect, Effect, EngineEvent, Event, Network, Snapshot, Target, derive};

/// What the state store holds.
#[derive(Default)]
pub struct Stored {
    /// Every key's value.
    pub values: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// Whether what is written there is lost at exit: the server should then forget the node once it is gone.
    pub ephemeral: bool,
    /// Why the store cannot be trusted, if it cannot.
    pub trouble: Option<String>,
}

/// The brain. See the crate's documentation for how to drive it.
pub struct Backend {
    pub(crate) profiles: Profiles,
    pub(crate) session: Option<Session>,
    pub(crate) next_client: u64,
    pub(crate) ephemeral: bool,
    pub(crate) state: State,
    pub(crate) netmap: Option<Arc<NetMap>>,
    /// While a login is due, what is configured stays as it is.
    pub(crate) blocked: bool,
    pub(crate) key_expired: bool,
    pub(crate) health: Health,
    pub(crate) client_version: Option<ClientVersion>,
    pub(crate) wants_peers: bool,
    base_hostinfo: Arc<Hostinfo>,
    hostinfo: Arc<Hostinfo>,
    net_info: Option<Box<NetInfo>>,
    peerapi_ports: (u16, u16),
    /// The exit node that was suggested last.
    pub(crate) suggested: String,
    /// Another exit node may be the best one now.
    pub(crate) may_move_exit: bool,
    /// A change that waits for its confirmation.
    pub(crate) trial: Option<Trial>,
    /// Of the engine's UDP sockets, for IPv4 and IPv6.
    udp_ports: [u16; 2],
    live: Live,
    link_up: bool,
    asked: Asked,
    peer_configs: PeerConfigs,
    /// All that is configured must be derived anew.
    is_stale: bool,
    /// The networks that the machine is on.
    networks: Vec<IpNet>,
    /// What the machine's resolver is without us, once that is known.
    system_dns: Option<Arc<SystemDns>>,
    /// What a change of the tailnet touches, and no more, must be derived anew.
    patch: Option<Patch>,
    shown_health: Arc<HealthState>,
    snapshot: Arc<Snapshot>,
    wake_at: Option<Instant>,
    effects: VecDeque<Effect>,
}

/// What of the engine is alive.
#[derive(Debug, Clone, Copy, Default)]
struct Live {
    derps: usize,
    peers: usize,
}

/// What was last asked for; `None` is unknown, and then it is asked for again.
#[derive(Default)]
struct Asked {
    key: Option<Option<NodePublic>>,
    network: Option<Arc<Network>>,
    derp: Option<bool>,
    router: Once<RouterConfig>,
    dns: Once<DnsConfig>,
}

/// A target that may fail, and is then asked for again after a while.
#[derive(Default)]
struct Once<T> {
    want: T,
    asked: Option<T>,
    failures: u32,
    retry_at: Option<Instant>,
}

/// The moment, and randomness: what every event comes with.
pub(crate) struct Moment<'a> {
    pub(crate) now: Instant,
    pub(crate) wall: Wall,
    pub(crate) rng: &'a mut dyn CryptoRng,
}

impl Backend {
    /// A brain that has been told nothing but what is stored and what machine this is. [`Event::Boot`] starts it.
    pub fn new(stored: Stored, hostinfo: impl Into<Arc<Hostinfo>>) -> Self {
        let hostinfo = hostinfo.into();
        let frozen = stored.trouble.is_some();
        let (profiles, unreadable) = Profiles::load(stored.values, frozen);
        let mut health = Health::default();
        health.facts.store_trouble = stored.trouble.or(unreadable);
        let snapshot = Snapshot {
            state: State::NoState,
            prefs: Arc::new(profiles.prefs().without_secrets()),
            node_key: None,
            profile: Arc::new(profiles.current().clone()),
            profiles: Arc::new(profiles.list()),
            netmap: None,
            routes: Arc::default(),
            auth_url: String::new(),
            health: Arc::default(),
            health_texts: Arc::default(),
            hostinfo: Arc::clone(&hostinfo),
            client_version: None,
            in_map_poll: false,
            peerapi_ports: (0, 0),
            system_dns: Arc::default(),
        };
        Self {
            profiles,
            session: None,
            next_client: 0,
            ephemeral: stored.ephemeral,
            state: State::NoState,
            netmap: None,
            blocked: false,
            key_expired: false,
            health,
            client_version: None,
            wants_peers: false,
            base_hostinfo: Arc::clone(&hostinfo),
            hostinfo,
            net_info: None,
            peerapi_ports: (0, 0),
            suggested: String::new(),
            trial: None,
            may_move_exit: false,
            udp_ports: [0; 2],
            live: Live::default(),
            link_up: true,
            asked: Asked::default(),
            peer_configs: PeerConfigs::default(),
            is_stale: true,
            networks: Vec::new(),
            system_dns: None,
            patch: None,
            shown_health: Arc::default(),
            snapshot: Arc::new(snapshot),
            wake_at: None,
            effects: VecDeque::new(),
        }
    }

    /// Takes one event. Then call [`Self::poll_effect`] until it has no more.
    pub fn handle(&mut self, event: Event, now: Instant, wall: Wall, rng: &mut dyn CryptoRng) {
        let mut at = Moment { now, wall, rng };
        match event {
            Event::Boot => self.boot(&mut at),
            Event::Command { id, command } => self.handle_command(id, command, &mut at),
            Event::Control { client, event } => {
                if self
                    .session
                    .as_ref()
                    .is_some_and(|session| session.client == client)
                {
                    self.handle_control(event, &mut at);
                }
            }
            Event::Engine(event) => self.handle_engine(event, &at),
            Event::Stored { key, failure } => self.handle_stored(key, failure, &at),
            Event::Applied { target, applied } => self.handle_applied(target, &applied, &at),
            Event::Drifted(Target::Router) => self.asked.router.asked = None,
            Event::Drifted(Target::Dns) => self.asked.dns.asked = None,
            Event::SystemDns(system) => self.learn_system_dns(system),
            Event::Link(links) => {
                self.link_up = links.up;
                // What is around us is none of the Internet that we let others out to.
                self.is_stale |= self.networks != links.networks;
                self.networks.clone_from(&links.networks);
            }
            Event::Store(trouble) => self.health.facts.store_trouble = trouble,
            Event::PeerApi { port_v4, port_v6 } => {
                self.peerapi_ports = (port_v4, port_v6);
                self.is_stale = true;
            }
            Event::PeerWatchers(any) => self.wants_peers = any,
            Event::Hostinfo(facts) => self.base_hostinfo = facts,
            Event::Timer => self.expire(&mut at),
        }
        self.settle(&mut at);
    }

    /// The next thing to be done.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Event::Timer`] is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.wake_at
    }

    /// What readers see after the last event.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    /// The node's key, for the logout of an ephemeral node that goes away.
    pub fn node_key(&self) -> Option<NodePrivate> {
        let persist = self.profiles.prefs().persist.as_ref()?;
        (!persist.private_node_key.is_zero()).then(|| persist.private_node_key.clone())
    }

    /// The key with which this tailnet knows us. After a re-authentication that is the old one until the server has sent
    /// the tailnet anew: the data path goes on with it, and changes over once.
    fn key_of(&self, map: &NetMap) -> Option<NodePrivate> {
        let persist = self.profiles.prefs().persist.as_ref()?;
        let keys = [&persist.private_node_key, &persist.old_private_node_key];
        let mut known = keys.into_iter().filter(|key| !key.is_zero());
        known.find(|key| key.public() == map.node_key()).cloned()
    }

    /// What could not be written to the store so far, for a last try before the end.
    pub fn unsaved_writes(&self) -> Vec<Effect> {
        self.profiles.unsaved_writes()
    }

    fn handle_engine(&mut self, event: EngineEvent, at: &Moment<'_>) {
        let facts = &mut self.health.facts;
        match event {
            EngineEvent::HomeDerp(region) => {
                facts.home_derp = region;
                self.net_info.get_or_insert_default().preferred_derp = region.into();
            }
            EngineEvent::Live { derps, peers } => {
                self.live = Live { derps, peers };
                if self.session.is_some() {
                    self.evaluate(at);
                }
            }
            EngineEvent::DerpConnected { region, connected } => {
                facts.derp_connected.insert(region, connected);
                facts.derp_heard.insert(region, at.now);
            }
            EngineEvent::DerpHeard { region } => drop(facts.derp_heard.insert(region, at.now)),
            EngineEvent::DerpTrouble { region, text } if text.is_empty() => {
                facts.derp_trouble.remove(&region);
            }
            EngineEvent::DerpTrouble { region, text } => {
                facts.derp_trouble.insert(region, text);
            }
            EngineEvent::NetInfo(info) => {
                self.net_info = Some(info);
                self.may_move_exit = true;
            }
            EngineEvent::Ports(ports) => {
                self.is_stale |= self.udp_ports != ports;
                self.udp_ports = ports;
            }
            EngineEvent::Udp4Unbound(unbound) => facts.udp4_unbound = unbound,
            EngineEvent::DiscoAdvertised { peer, key } => self.learn_disco(peer, key, at),
        }
    }

    /// Whether a disco key that a peer told us is newer than the server's is for the merge to say.
    fn learn_disco(&mut self, peer: PeerId, key: DiscoPublic, at: &Moment<'_>) {
        let map = self.netmap.as_ref();
        let Some(known) = map.and_then(|map| map.peers.get(peer)) else {
            return;
        };
        let is_polling = self
            .session
            .as_ref()
            .is_some_and(|session| session.map_key.is_some());
        if key.is_zero() || known.expired || !is_polling {
            return;
        }
        let change = PeerChange {
            node_id: peer.0,
            key: Some(known.key),
            disco_key: Some(key),
            last_seen: Some(GoTime::from_unix_nanos(at.wall.as_unix_nanos())),
            // Compat: the originals' clients take such a peer for offline until the server says otherwise.
            online: Some(false),
            ..PeerChange::default()
        };
        self.effect(Effect::Control(ControlEffect::Learned(Box::new(change))));
    }

    fn handle_applied(&mut self, target: Target, applied: &Applied, at: &Moment<'_>) {
        let joined = |texts: &[String]| (!texts.is_empty()).then(|| texts.join("; "));
        let failure = joined(&applied.failures);
        match target {
            Target::Router => {
                self.asked.router.done(failure.is_some(), at.now);
                self.health.facts.router_failure = failure;
                self.health.facts.router_note = joined(&applied.notes);
                self.health.facts.forwarding_off = applied.forwarding_off;
            }
            Target::Dns => {
                self.asked.dns.done(failure.is_some(), at.now);
                self.health.facts.dns_failure = failure;
                self.health.facts.dns_note = joined(&applied.notes);
            }
        }
    }

    /// What cannot be read now is taken for what it was.
    fn learn_system_dns(&mut self, system: Result<Arc<SystemDns>, String>) {
        let facts = &mut self.health.facts;
        facts.dns_unread = system.as_ref().err().cloned();
        if let Ok(system) = system {
            facts.dns_trouble.clone_from(&system.trouble);
            self.system_dns = Some(system);
            self.is_stale = true;
        }
    }

    fn handle_stored(&mut self, key: String, failure: Option<String>, at: &Moment<'_>) {
        let all_saved = self.profiles.stored(key, failure.is_some(), at.now);
        if let Some(failure) = failure {
            if self.health.facts.unsaved.as_ref() != Some(&failure) {
                self.log(format!("write the state: {failure}"));
            }
            self.health.facts.unsaved = Some(failure);
        } else if all_saved && self.health.facts.unsaved.take().is_some() {
            self.log("write the state: all is written now".to_owned());
        }
    }

    /// Peers whose keys run out are taken out when it happens, not when the server next says something.
    fn expire(&mut self, at: &mut Moment<'_>) {
        let Some(map) = &self.netmap else {
            return;
        };
        if let Some(patch) = map.expire(at.wall) {
            self.take_netmap(NetMapChange::Patch(patch), at);
        } else if map.self_expired(at.wall) != self.key_expired {
            self.key_expired = !self.key_expired;
            self.evaluate(at);
        }
    }

    // --- The state machine.

    /// Moves to the state that follows from what is known.
    pub(crate) fn evaluate(&mut self, at: &Moment<'_>) {
        self.enter(self.next_state(), at);
        if self.state == State::Starting {
            // The engine tells only what changes: what lives already lets us go on at once.
            self.enter(self.next_state(), at);
        }
    }

    /// First match wins, as in the originals' `nextState`.
    fn next_state(&self) -> State {
        if self.health.facts.store_trouble.is_some() {
            return State::NoState;
        }
        let prefs = self.profiles.prefs();
        let has_key = self.node_key().is_some();
        if !prefs.want_running && !prefs.logged_out && !self.blocked && has_key {
            return State::Stopped;
        }
        let Some(map) = &self.netmap else {
            let is_stuck = self.session.as_ref().is_some_and(Session::is_stuck);
            return match self.state {
                _ if is_stuck || prefs.logged_out => State::NeedsLogin,
                State::Stopped => State::Starting,
                state => state,
            };
        };
        let is_live = self.live.derps > 0 || self.live.peers > 0;
        match self.state {
            _ if !prefs.want_running => State::Stopped,
            _ if self.key_expired => State::NeedsLogin,
            _ if !map.self_node.machine_authorized => State::NeedsMachineAuth,
            State::Starting if is_live => State::Running,
            State::Running => State::Running,
            _ => State::Starting,
        }
    }

    pub(crate) fn enter(&mut self, new: State, at: &Moment<'_>) {
        let old = std::mem::replace(&mut self.state, new);
        if new == State::Running
            && old != State::Running
            && let Some(session) = &mut self.session
        {
            session.reset_auth_url();
        }
        self.pause_or_resume();
        let want_running = self.profiles.prefs().want_running;
        self.health.set_state(new, want_running, at.now);
        if old == new {
            return;
        }
        self.is_stale = true;
        let has_map = self.netmap.is_some();
        self.log(format!(
            "Switching ipn state {old} -> {new} (WantRunning={want_running}, nm={has_map})"
        ));
        self.notify(Notify {
            state: Some(new),
            ..Notify::default()
        });
        if new == State::NeedsLogin {
            // What is configured must not change under a user who is about to log in with another key.
            self.blocked = true;
        }
        if !is_on(new) {
            self.live = Live::default();
        }
    }

    // --- What is wanted, compared with what was asked for.

    pub(crate) fn should_pause(&self) -> bool {
        let is_stopped = self.state == State::Stopped && self.netmap.is_some();
        self.profiles.prefs().sync == Some(false) || is_stopped || self.is_cut_off()
    }

    /// Whether control cannot be reached for want of a link. One on this machine always can, as in a lab without network.
    fn is_cut_off(&self) -> bool {
        !self.link_up && !is_loopback_url(self.profiles.prefs().control_url_or_default())
    }

    fn pause_or_resume(&mut self) {
        let pause = self.should_pause();
        if let Some(session) = &mut self.session
            && session.paused != pause
        {
            session.paused = pause;
            if session.started {
                self.effects
                    .push_back(Effect::Control(ControlEffect::Pause(pause)));
            }
        }
    }

    /// Brings the world to what is wanted: after every event, whatever it was.
    fn settle(&mut self, at: &mut Moment<'_>) {
        self.end_trial(at);
        if std::mem::take(&mut self.may_move_exit) {
            self.choose_exit_node_again(at);
        }
        self.profiles.retry(at.now);
        self.effects.extend(self.profiles.take_writes());
        self.health.facts.link_down = self.is_cut_off();
        self.health.facts.sync_disabled = self.profiles.prefs().sync == Some(false);
        if self.health.facts.store_trouble.is_some() && self.state != State::NoState {
            self.evaluate(at);
        }
        self.pause_or_resume();
        self.refresh_hostinfo();
        self.reconcile(at.now);
        self.health.check(at.now, at.wall);
        let health = self.health.state(at.now);
        if health != *self.shown_health {
            self.shown_health = Arc::new(health);
            let health = Some(Arc::clone(&self.shown_health));
            self.notify(Notify {
                health,
                ..Notify::default()
            });
        }
        self.publish(at);
    }

    /// What we say of ourselves, as it is now.
    pub(crate) fn refresh_hostinfo(&mut self) {
        let hostinfo = derive::hostinfo::hostinfo(
            &self.base_hostinfo,
            self.profiles.prefs(),
            self.net_info.as_deref(),
            self.peerapi_ports,
        );
        if hostinfo != *self.hostinfo {
            self.hostinfo = Arc::new(hostinfo);
        }
        let Some(session) = &mut self.session else {
            return;
        };
        if session
            .told
            .as_ref()
            .is_some_and(|told| *told != self.hostinfo)
        {
            session.told = Some(Arc::clone(&self.hostinfo));
            let hostinfo = Arc::clone(&self.hostinfo);
            self.effects
                .push_back(Effect::Control(ControlEffect::Update { hostinfo }));
        }
    }

    pub(crate) fn system_dns(&self) -> Option<&SystemDns> {
        self.system_dns.as_deref()
    }

    pub(crate) fn udp_ports(&self) -> [u16; 2] {
        self.udp_ports
    }

    pub(crate) fn net_info(&self) -> Option<&NetInfo> {
        self.net_info.as_deref()
    }

    pub(crate) fn hostinfo(&self) -> &Arc<Hostinfo> {
        &self.hostinfo
    }

    /// The one place that configures anything. Only differences go out.
    fn reconcile(&mut self, now: Instant) {
        let on = is_on(self.state);
        if on && self.blocked {
            return;
        }
        let map = self.netmap.clone().filter(|_| on);
        let key = map.as_ref().and_then(|map| self.key_of(map));
        let public = key.as_ref().map(NodePrivate::public);
        if self.asked.key != Some(public) {
            self.asked.key = Some(public);
            self.effects.push_back(Effect::EngineKeys(key));
        }
        let patch = self.patch.take();
        if std::mem::take(&mut self.is_stale) || self.asked.network.is_none() {
            self.derive_all(map.as_deref());
        } else if let (Some(map), Some(patch)) = (&map, patch) {
            self.derive_patch(map, &patch);
        }
        if self.asked.derp != Some(on) {
            self.asked.derp = Some(on);
            self.effects.push_back(Effect::EngineDerp(on));
        }
        if let Some(want) = self.asked.router.due(now) {
            self.effects.push_back(Effect::ApplyRouter(want));
        }
        // Before it is known what the resolver is without us, nothing is known that would suit it.
        if self.system_dns.is_some()
            && let Some(want) = self.asked.dns.due(now)
        {
            self.effects.push_back(Effect::ApplyDns(want));
        }
    }

    /// What the engine, the router and the resolver should have.
    fn derive_all(&mut self, map: Option<&NetMap>) {
        let update = self.peer_configs.rebuild(map, self.profiles.prefs());
        self.derive_settings(map);
        self.derive_router(map);
        self.effects.extend(update.map(Effect::EnginePeers));
    }

    /// The same for a change of some parts: costs what it touches, but for the OS's routes, which are a list.
    fn derive_patch(&mut self, map: &NetMap, patch: &Patch) {
        let routes = Arc::clone(self.peer_configs.routes());
        let had_unsigned = self.peer_configs.has_unsigned();
        let prefs = self.profiles.prefs();
        let update = self
            .peer_configs
            .patch(&patch.changed, &patch.removed, prefs);
        let parts = patch.parts;
        let is_guarded = had_unsigned || self.peer_configs.has_unsigned();
        // An exit node may be the one who is asked for names.
        let id = &*self.profiles.prefs().exit_node_id;
        let changes_exit_node = !id.is_empty()
            && (!patch.removed.is_empty()
                || patch.changed.iter().any(|peer| *peer.stable_id == *id));
        let is_set = parts.self_node || parts.filter || parts.dns || parts.derp_map;
        if is_set || is_guarded || changes_exit_node {
            self.derive_settings(Some(map));
        }
        if parts.self_node || !Arc::ptr_eq(&routes, self.peer_configs.routes()) {
            self.derive_router(Some(map));
        }
        self.effects.extend(update.map(Effect::EnginePeers));
    }

    /// All but what grows with the number of peers.
    fn derive_settings(&mut self, map: Option<&NetMap>) {
        let prefs = self.profiles.prefs();
        let is_refused = map.is_some_and(|map| {
            derive::filter::admits_unsigned(map, self.peer_configs.unsigned(&map.peers))
        });
        let network = map.map(|map| Network {
            self_addresses: derive::peers::addresses(&map.self_node),
            filter: derive::filter::filter(map, prefs, &self.networks, is_refused),
            derp_map: Some(Arc::clone(&map.derp_map)),
            peerapi_port_v4: self.peerapi_ports.0,
            peerapi_port_v6: self.peerapi_ports.1,
            avoid: derive::peers::avoid(&map.self_node),
        });
        let network = network.unwrap_or_default();
        self.health.facts.filter_refused = is_refused;
        let system = self.system_dns.as_deref();
        let dns = map
            .zip(system)
            .map(|(map, system)| derive::dns::dns(map, prefs, system));
        self.asked.dns.want = dns.unwrap_or_default();
        if self.asked.network.as_deref() != Some(&network) {
            let network = Arc::new(network);
            self.asked.network = Some(Arc::clone(&network));
            self.effects.push_back(Effect::EngineNetwork(network));
        }
    }

    fn derive_router(&mut self, map: Option<&NetMap>) {
        let prefs = self.profiles.prefs();
        let router = map.map(|map| {
            derive::router::router(map, prefs, self.peer_configs.routes(), self.udp_ports)
        });
        self.asked.router.want = router.unwrap_or_default();
    }

    /// What is configured follows from what changed: it must be derived anew.
    pub(crate) fn mark_stale(&mut self) {
        self.is_stale = true;
    }

    /// The same for a change of the tailnet. One that comes before the last was derived makes everything stale.
    pub(crate) fn mark_changed(&mut self, change: NetMapChange) {
        match change {
            NetMapChange::Patch(patch) if self.patch.is_none() => self.patch = Some(patch),
            _ => self.is_stale = true,
        }
    }

    fn publish(&mut self, at: &Moment<'_>) {
        let map_expiry = self
            .netmap
            .as_ref()
            .and_then(|map| map.next_expiry(at.wall));
        let expiry = map_expiry.map(|wall| {
            let nanos = wall.as_unix_nanos() - at.wall.as_unix_nanos();
            let wait = u64::try_from(nanos.max(0)).unwrap_or(u64::MAX);
            // Keys do not run out to the second everywhere at once.
            at.now + Duration::from_nanos(wait) + EXPIRY_SLACK
        });
        let retries = [
            self.asked.router.retry_at,
            self.asked.dns.retry_at,
            self.profiles.retry_at(),
        ];
        self.wake_at = retries
            .into_iter()
            .flatten()
            .chain(expiry)
            .chain(self.health.next_timeout(at.now))
            .chain(self.trial.as_ref().map(|trial| trial.until))
            .min()
            // What is due and cannot be done yet must not keep the machine awake.
            .map(|wake| wake.max(at.now + MIN_WAIT));
        let old = &self.snapshot;
        let prefs = self.profiles.prefs().without_secrets();
        let session = self.session.as_ref();
        let auth_url = session.and_then(|session| session.auth_url.as_ref());
        self.snapshot = Arc::new(Snapshot {
            state: self.state,
            prefs: reuse(&old.prefs, prefs),
            node_key: self.node_key().map(|key| key.public()),
            profile: reuse(&old.profile, self.profiles.current().clone()),
            profiles: reuse(&old.profiles, self.profiles.list()),
            netmap: self.netmap.clone(),
            routes: Arc::clone(self.peer_configs.routes()),
            auth_url: auth_url.map(|page| page.url.clone()).unwrap_or_default(),
            health: Arc::clone(&self.shown_health),
            health_texts: reuse(&old.health_texts, self.health.texts(at.now)),
            hostinfo: Arc::clone(&self.hostinfo),
            client_version: self.client_version.clone(),
            in_map_poll: self.health.facts.in_map_poll,
            peerapi_ports: self.peerapi_ports,
            system_dns: self.system_dns.clone().unwrap_or_default(),
        });
    }

    // --- Small change.

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    pub(crate) fn notify(&mut self, message: Notify) {
        self.effects.push_back(Effect::Notify(Box::new(message)));
    }

    pub(crate) fn log(&mut self, line: String) {
        self.effects.push_back(Effect::Log(line));
    }
}

/// Whether the engine is configured in this state.
pub(crate) fn is_on(state: State) -> bool {
    matches!(
        state,
        State::Starting | State::NeedsMachineAuth | State::Running
    )
}

/// Whether a URL's host can only be this machine.
fn is_loopback_url(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// The old value if nothing changed, so that readers who compare by pointer see that.
fn reuse<T: PartialEq>(old: &Arc<T>, new: T) -> Arc<T> {
    if **old == new {
        Arc::clone(old)
    } else {
        Arc::new(new)
    }
}

/// The shortest sleep.
const MIN_WAIT: Duration = Duration::from_millis(100);

/// So long after a key ran out it is looked at.
const EXPIRY_SLACK: Duration = Duration::from_secs(10);

/// The longest wait before a target that failed is tried again.
const RETRY_CAP: Duration = Duration::from_secs(60);

impl<T: PartialEq + Clone> Once<T> {
    /// What must be asked for: another value than last time, or the same after a failure and a while.
    fn due(&mut self, now: Instant) -> Option<T> {
        let is_retry = self.retry_at.is_some_and(|at| at <= now);
        if self.asked.as_ref() == Some(&self.want) && !is_retry {
            return None;
        }
        self.retry_at = None;
        self.asked = Some(self.want.clone());
        self.asked.clone()
    }

    fn done(&mut self, failed: bool, now: Instant) {
        if !failed {
            self.failures = 0;
            self.retry_at = None;
            return;
        }
        let wait = Duration::from_secs(1) * 2_u32.saturating_pow(self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + wait.min(RETRY_CAP));
    }
}
