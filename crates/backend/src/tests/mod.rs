//! The brain, driven event by event, with its effects written down in a few words each.

mod derived;
mod health;
mod logins;
mod profiles;
mod states;
mod tailnet;
mod trial;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use host::{Instant, LinkState, Wall};
use ipn::{MaskedPrefs, Notify, Prefs, State};
use keys::{NodePrivate, NodePublic};
use netmap::{NetMap, NetMapChange, Peer};
use packet::PeerId;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tailcfg::go::{GoTime, Secret};
use tailcfg::{Hostinfo, Node, UserProfile};
use zeroize::Zeroizing;

use crate::*;

/// A brain, its store, and the time.
pub(super) struct World {
    pub(super) brain: Backend,
    pub(super) store: BTreeMap<String, Zeroizing<Vec<u8>>>,
    pub(super) rng: StdRng,
    pub(super) now: Instant,
    pub(super) wall: Wall,
    pub(super) client: ClientId,
    pub(super) login: Option<Login>,
    pub(super) network: Option<Arc<Network>>,
    pub(super) peers: BTreeMap<PeerId, Arc<host::PeerConfig>>,
    /// What the engine was told of peers, oldest first.
    pub(super) updates: Vec<PeersUpdate>,
    pub(super) router: Option<host::RouterConfig>,
    pub(super) dns: Option<host::DnsConfig>,
    pub(super) key: Option<NodePublic>,
    pub(super) is_disk_full: bool,
    commands: u64,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_store(BTreeMap::new())
    }

    pub(super) fn with_store(store: BTreeMap<String, Zeroizing<Vec<u8>>>) -> Self {
        let stored = Stored {
            values: store.clone(),
            ..Stored::default()
        };
        Self {
            brain: Backend::new(stored, hostinfo()),
            store,
            rng: StdRng::seed_from_u64(1),
            now: Instant::from_nanos(1_000_000_000_000),
            wall: Wall::from_unix_secs(1_800_000_000),
            client: ClientId(0),
            login: None,
            network: None,
            peers: BTreeMap::new(),
            updates: Vec::new(),
            router: None,
            dns: None,
            key: None,
            is_disk_full: false,
            commands: 0,
        }
    }

    /// The same machine after a restart of the daemon.
    pub(super) fn restarted(&self) -> Self {
        Self::with_store(self.store.clone())
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        let nanos = i128::try_from(time.as_nanos()).unwrap();
        self.wall = Wall::from_unix_nanos(self.wall.as_unix_nanos() + nanos);
    }

    /// What one event brings about, in words.
    pub(super) fn send(&mut self, event: Event) -> Vec<String> {
        self.brain.handle(event, self.now, self.wall, &mut self.rng);
        let mut trace = Vec::new();
        while let Some(effect) = self.brain.poll_effect() {
            trace.extend(self.carry_out(effect));
        }
        trace
    }

    pub(super) fn command(&mut self, command: Command) -> Vec<String> {
        self.commands += 1;
        let id = CommandId(self.commands);
        self.send(Event::Command { id, command })
    }

    pub(super) fn control(&mut self, event: ControlEvent) -> Vec<String> {
        self.send(Event::Control {
            client: self.client,
            event,
        })
    }

    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut MaskedPrefs)) -> Vec<String> {
        let mut masked = MaskedPrefs::default();
        edit(&mut masked);
        self.command(Command::EditPrefs(Box::new(masked)))
    }

    pub(super) fn want_running(&mut self, want: bool) -> Vec<String> {
        self.edit(|edit| {
            edit.want_running_set = true;
            edit.prefs.want_running = want;
        })
    }

    pub(super) fn registered(&mut self, user: i64, name: &str) -> Vec<String> {
        self.control(ControlEvent::Registered(Registered {
            user: UserProfile {
                id: user,
                login_name: name.into(),
                ..UserProfile::default()
            },
        }))
    }

    /// A tailnet in which we are this node of this user.
    pub(super) fn map(
        &self,
        node: &str,
        user: i64,
        change: impl FnOnce(&mut Node, &mut NetMap),
    ) -> NetMapChange {
        let mut own = Node {
            id: 1,
            stable_id: node.into(),
            name: "me.tail.example.".into(),
            user,
            key: self
                .brain
                .node_key()
                .map(|key| key.public())
                .unwrap_or_default(),
            addresses: vec!["100.64.0.1/32".parse().unwrap()],
            machine_authorized: true,
            ..Node::default()
        };
        let mut map = NetMap::new(Arc::new(Peer::from_wire(own.clone())));
        map.domain = "tail.example".into();
        let profile = UserProfile {
            id: user,
            login_name: format!("user{user}"),
            ..UserProfile::default()
        };
        map.users.insert(user, Arc::new(profile));
        change(&mut own, &mut map);
        map.self_node = Arc::new(Peer::from_wire(own));
        NetMapChange::Full(Arc::new(map))
    }

    pub(super) fn netmap(&mut self, node: &str, user: i64) -> Vec<String> {
        let change = self.map(node, user, |_, _| {});
        self.control(ControlEvent::NetMap(change))
    }

    pub(super) fn live(&mut self, derps: usize) -> Vec<String> {
        self.send(Event::Engine(EngineEvent::Live { derps, peers: 0 }))
    }

    /// From nothing to Running with an auth key.
    pub(super) fn bring_up(&mut self, node: &str, user: i64) {
        self.send(Event::Boot);
        self.up();
        self.registered(user, &format!("user{user}"));
        self.netmap(node, user);
        self.live(1);
        assert_eq!(self.brain.snapshot().state, State::Running);
    }

    /// What `up --auth-key` asks for.
    pub(super) fn up(&mut self) -> Vec<String> {
        let options = ipn::Options {
            update_prefs: Some(Box::new(Prefs {
                want_running: true,
                control_url: "http://control.example".into(),
                ..Prefs::new()
            })),
            auth_key: Secret::new("tskey-secret".into()),
            ..ipn::Options::default()
        };
        let mut trace = self.command(Command::Start(Box::new(options)));
        trace.extend(self.command(Command::LoginInteractive(Recipient::Everybody)));
        trace
    }

    fn carry_out(&mut self, effect: Effect) -> Option<String> {
        assert!(
            !format!("{effect:?}").contains("tskey"),
            "a secret is shown"
        );
        Some(match effect {
            Effect::Control(effect) => self.carry_out_control(effect),
            Effect::Notify(message) => return words(&message),
            Effect::NotifyProcess { pid, message } => format!("{} to {pid}", words(&message)?),
            Effect::Reply { result, .. } => match result {
                Ok(_) => return None,
                Err(error) => format!("refused: {error}"),
            },
            Effect::SaveState { key, value } => {
                self.stored(key.clone(), |store| drop(store.insert(key, value)));
                return None;
            }
            Effect::RemoveState { key } => {
                self.stored(key.clone(), |store| drop(store.remove(&key)));
                return None;
            }
            Effect::EngineKeys(key) => {
                self.key = key.as_ref().map(NodePrivate::public);
                return None;
            }
            Effect::EngineNetwork(network) => {
                self.network = Some(network);
                return None;
            }
            Effect::EnginePeers(update) => {
                self.updates.push(update.clone());
                let (changed, removed) = match update {
                    PeersUpdate::All(all) => {
                        self.peers.clear();
                        (all, Vec::new())
                    }
                    PeersUpdate::Patch { changed, removed } => (changed, removed),
                };
                self.peers.retain(|id, _| !removed.contains(id));
                self.peers
                    .extend(changed.into_iter().map(|peer| (peer.id, peer)));
                return None;
            }
            Effect::ApplyRouter(config) => {
                self.router = Some(config);
                return None;
            }
            Effect::ApplyDns(want) => {
                self.dns = Some(want);
                return None;
            }
            Effect::EngineDerp(_) | Effect::Log(_) => return None,
        })
    }

    fn stored(
        &mut self,
        key: String,
        write: impl FnOnce(&mut BTreeMap<String, Zeroizing<Vec<u8>>>),
    ) {
        let failure = self.is_disk_full.then(|| "no space left".to_owned());
        if failure.is_none() {
            write(&mut self.store);
        }
        let event = Event::Stored { key, failure };
        self.brain.handle(event, self.now, self.wall, &mut self.rng);
    }

    fn carry_out_control(&mut self, effect: ControlEffect) -> String {
        match effect {
            ControlEffect::Start { client, .. } => {
                self.client = client;
                "New"
            }
            ControlEffect::Shutdown => "Shutdown",
            ControlEffect::Login(login) => {
                self.login = Some(login);
                "Login"
            }
            ControlEffect::Logout { .. } => "Logout",
            ControlEffect::SetExpiry { .. } => "SetExpiry",
            ControlEffect::Pause(true) => "pause",
            ControlEffect::Pause(false) => "unpause",
            ControlEffect::StartMap { .. } => "StartMap",
            ControlEffect::StopMap => "StopMap",
            ControlEffect::Update { .. } => "Update",
            ControlEffect::Learned(_) => "Learned",
        }
        .to_owned()
    }
}

/// Of a message what the originals' test looks at.
fn words(message: &Notify) -> Option<String> {
    if let Some(state) = message.state {
        return Some(format!("State {state}"));
    }
    if let Some(prefs) = &message.prefs {
        let out = if prefs.logged_out { " out" } else { "" };
        let on = if prefs.want_running { " on" } else { "" };
        return Some(format!("Prefs{on}{out}"));
    }
    if let Some(url) = &message.browse_to_url {
        return Some(format!("Browse {url}"));
    }
    if let Some(text) = &message.err_message {
        return Some(format!("Error {text}"));
    }
    message.login_finished.map(|_| "LoginFinished".to_owned())
}

/// The machine's links, up or not.
fn link(up: bool) -> Event {
    Event::Link(Arc::new(LinkState {
        up,
        ..LinkState::default()
    }))
}

fn hostinfo() -> Arc<Hostinfo> {
    Arc::new(Hostinfo {
        os: "linux".into(),
        hostname: "vm".into(),
        backend_log_id: "0123".into(),
        ..Hostinfo::default()
    })
}

pub(super) fn at(wall: Wall, secs: i64) -> GoTime {
    GoTime::from_unix_secs(wall.as_unix_secs() + secs)
}
