//! Logging in, and what the control server says.

use std::sync::Arc;

use ipn::{DEFAULT_CONTROL_URL, Empty, NetworkProfile, Notify, Persist, Prefs, State};
use keys::{LockPrivate, NodePrivate};
use netmap::{NetMap, NetMapChange, Peer};
use tailcfg::cap;

use crate::backend::Moment;
use crate::session::{AuthUrl, Phase, Trying};
use crate::{
    Backend, CommandError, ControlEffect, ControlEvent, Effect, Login, Recipient, Registered,
};

impl Backend {
    /// Makes the client if there is none, and the machine's key with it.
    pub(crate) fn start_client(&mut self, at: &mut Moment<'_>) {
        if self.session.as_ref().is_none_or(|session| session.started) {
            return;
        }
        let machine_key = self.profiles.machine_key(at.rng);
        let writes = self.profiles.take_writes();
        writes.into_iter().for_each(|write| self.effect(write));
        let paused = self.should_pause();
        let Some(session) = &mut self.session else {
            return;
        };
        session.started = true;
        session.paused = paused;
        let start = ControlEffect::Start {
            client: session.client,
            server_url: session.server_url.clone(),
            machine_key,
            paused,
        };
        self.effect(Effect::Control(start));
    }

    /// Has the present key registered, or a new one if there is none, it has run out, or the user asks for it.
    pub(crate) fn login(&mut self, new_key: bool, at: &mut Moment<'_>) {
        self.start_client(at);
        let persist = self.profiles.prefs().persist.clone().unwrap_or_default();
        let trying = self.choose_key(&persist, new_key, at);
        let hostinfo = Arc::clone(self.hostinfo());
        let Some(session) = &mut self.session else {
            return;
        };
        let before = match trying.is_new {
            true => &persist.private_node_key,
            false => &persist.old_private_node_key,
        };
        let login = Login {
            node_key: trying.key.clone(),
            old_node_key: before.public(),
            lock_key: trying.lock_key.public(),
            auth_key: session.auth_key.clone(),
            hostinfo,
            ephemeral: self.ephemeral,
        };
        session.phase = Phase::Trying;
        session.trying = Some(trying);
        session.refusal = None;
        session.told = Some(Arc::clone(&login.hostinfo));
        self.effect(Effect::Control(ControlEffect::Login(login)));
    }

    fn choose_key(&self, persist: &Persist, new_key: bool, at: &mut Moment<'_>) -> Trying {
        let old = &persist.private_node_key;
        // A key that was registered since is not the one that has run out. And a new client asks first: the server may have
        // changed its mind, or take an auth key for it.
        let is_known = self.session.as_ref().is_some_and(|session| session.has_map);
        let is_expired = self.key_expired
            && is_known
            && self
                .netmap
                .as_ref()
                .is_none_or(|map| map.node_key() == old.public());
        let is_new = new_key || is_expired || old.is_zero();
        let lock_key = match persist.network_lock_key.is_zero() {
            true => LockPrivate::generate(at.rng),
            false => persist.network_lock_key.clone(),
        };
        let key = if is_new {
            NodePrivate::generate(at.rng)
        } else {
            old.clone()
        };
        Trying {
            key,
            lock_key,
            is_new,
        }
    }

    pub(crate) fn handle_control(&mut self, event: ControlEvent, at: &mut Moment<'_>) {
        match event {
            ControlEvent::AuthUrl(url) => self.take_auth_url(url, at),
            ControlEvent::Registered(registered) => self.take_registered(registered, at),
            ControlEvent::RegisterFailed { error, for_user } => self.login_failed(error, for_user),
            ControlEvent::KeyExpired => self.replace_key(at),
            ControlEvent::NotRegistered => self.login(false, at),
            ControlEvent::NetMap(change) => {
                self.health.map_heard(at.now);
                if let Some(session) = &mut self.session {
                    session.has_map = true;
                }
                self.take_netmap(change, at);
            }
            ControlEvent::MapHeard => self.health.map_heard(at.now),
            ControlEvent::MapDown { .. } => self.health.map_ended(at.now),
            ControlEvent::LoggedOut(result) => self.take_logged_out(result, at),
            ControlEvent::ExpirySet(result) => self.take_expiry_set(result),
            ControlEvent::BrowseTo(url) => {
                if self.is_page_allowed(&url) {
                    self.browse_to(url, Recipient::Everybody);
                }
            }
            ControlEvent::ClientVersion(version) => {
                if self.profiles.prefs().auto_update.check {
                    self.notify(Notify {
                        client_version: Some(version.clone()),
                        ..Notify::default()
                    });
                }
                self.client_version = Some(version);
            }
        }
    }

    fn login_failed(&mut self, error: String, for_user: bool) {
        self.log(format!("Received error: {error}"));
        if for_user && self.is_new_refusal(&error) {
            self.notify(Notify {
                err_message: Some(error.clone()),
                ..Notify::default()
            });
        }
        self.health.facts.login_error = Some(error);
    }

    /// The client repeats a refused login by itself. The same refusal again would end an `up` that has just begun to
    /// listen and is about to bring a better key.
    fn is_new_refusal(&mut self, error: &str) -> bool {
        let Some(session) = &mut self.session else {
            return true;
        };
        let is_new = session.refusal.as_deref() != Some(error);
        session.refusal = Some(error.to_owned());
        is_new
    }

    /// The server refuses a key because it has run out: another one must be registered. A fresh one cannot have.
    fn replace_key(&mut self, at: &mut Moment<'_>) {
        let trying = self
            .session
            .as_ref()
            .and_then(|session| session.trying.as_ref());
        if trying.is_some_and(|trying| trying.is_new) {
            self.login_failed(
                "control refuses a fresh node key as expired".to_owned(),
                true,
            );
        } else {
            self.login(true, at);
        }
    }

    /// A server could make the user's browser open anything; so pages must be the web's, and not less safe than the way
    /// to the server itself.
    fn is_page_allowed(&self, url: &str) -> bool {
        let Some((scheme, rest)) = url.split_once("://") else {
            return false;
        };
        let host = rest.split(['/', '?', '#', ':']).next().unwrap_or_default();
        let server = self
            .session
            .as_ref()
            .map_or("", |session| session.server_url.as_str());
        match scheme {
            _ if host.is_empty() => false,
            "https" if server == DEFAULT_CONTROL_URL => {
                host == "tailscale.com" || host.ends_with(".tailscale.com")
            }
            "https" => true,
            "http" => server.starts_with("http://"),
            _ => false,
        }
    }

    fn browse_to(&mut self, url: String, recipient: Recipient) {
        let message = Notify {
            browse_to_url: Some(url),
            ..Notify::default()
        };
        match recipient {
            Recipient::Everybody => self.notify(message),
            Recipient::Process(pid) => self.effect(Effect::NotifyProcess {
                pid,
                message: Box::new(message),
            }),
        }
    }

    fn take_auth_url(&mut self, url: String, at: &mut Moment<'_>) {
        if !self.is_page_allowed(&url) {
            self.log(
                "ignoring a login page that the control server must not send us to".to_owned(),
            );
            return;
        }
        let mut prefs = Prefs::clone(self.profiles.prefs());
        if self.name_control_url(&mut prefs) {
            self.save_prefs(prefs, at);
        }
        let Some(session) = &mut self.session else {
            return;
        };
        session.phase = Phase::WaitingForUser;
        let is_news = session.auth_url.as_ref().is_none_or(|page| page.url != url);
        if is_news {
            session.auth_url = Some(AuthUrl::new(url.clone(), at.now));
        }
        // Compat: who asked for a page is the only one to get it; a page that nobody asked for is for everybody.
        let wanted = session.page_wanted.take();
        if wanted.is_some() || is_news {
            self.show_page(url, wanted.unwrap_or_default(), at);
        }
        self.evaluate(at);
    }

    /// Shows the login page. With an expired key nothing works any more, so nothing stays configured.
    pub(crate) fn show_page(&mut self, url: String, recipient: Recipient, at: &Moment<'_>) {
        if self.key_expired {
            self.blocked = true;
            if self.state == State::Running {
                self.enter(State::Starting, at);
            }
        }
        self.browse_to(url, recipient);
    }

    fn take_registered(&mut self, registered: Registered, at: &mut Moment<'_>) {
        let mut prefs = Prefs::clone(self.profiles.prefs());
        let Some(session) = &mut self.session else {
            return;
        };
        let Some(trying) = session.trying.take() else {
            return;
        };
        let was_waiting = session.auth_url.is_some();
        session.auth_key = None;
        session.logged_in = true;
        session.phase = Phase::Idle;
        session.reset_auth_url();
        self.health.facts.login_error = None;
        self.finish_login(was_waiting);

        let mut persist = prefs.persist.as_deref().cloned().unwrap_or_default();
        if trying.is_new {
            persist.old_private_node_key = persist.private_node_key.clone();
        }
        persist.private_node_key = trying.key.clone();
        persist.network_lock_key = trying.lock_key;
        if !registered.user.login_name.is_empty() {
            persist.user_profile = registered.user;
        }
        prefs.persist = Some(Arc::new(persist));
        prefs.logged_out = false;
        prefs.want_running |= was_waiting;
        self.name_control_url(&mut prefs);
        self.save_prefs(prefs, at);
        self.evaluate(at);
        self.start_map(trying.key);
    }

    /// The user learns of a login unless it went on behind their back, as after a restart.
    fn finish_login(&mut self, was_waiting: bool) {
        if std::mem::take(&mut self.blocked) || was_waiting {
            self.mark_stale();
            self.notify(Notify {
                login_finished: Some(Empty {}),
                ..Notify::default()
            });
        }
    }

    pub(crate) fn start_map(&mut self, node_key: NodePrivate) {
        self.refresh_hostinfo();
        let hostinfo = Arc::clone(self.hostinfo());
        if let Some(session) = &mut self.session {
            session.map_key = Some(node_key.public());
            session.told = Some(Arc::clone(&hostinfo));
            self.effect(Effect::Control(ControlEffect::StartMap {
                node_key,
                hostinfo,
            }));
        }
    }

    /// After the first contact the server is named, which makes `up` look for settings that would be lost.
    fn name_control_url(&self, prefs: &mut Prefs) -> bool {
        let is_unnamed = prefs.control_url.is_empty();
        if is_unnamed {
            prefs.control_url = DEFAULT_CONTROL_URL.to_owned();
        }
        is_unnamed
    }

    /// Saves prefs if they differ, and tells.
    fn save_prefs(&mut self, prefs: Prefs, at: &mut Moment<'_>) {
        let network = match &self.netmap {
            Some(map) => network_profile(map),
            None => self.profiles.current().network_profile.clone(),
        };
        let is_same = prefs == **self.profiles.prefs();
        if is_same && network == self.profiles.current().network_profile {
            return;
        }
        self.profiles.set_prefs(prefs, network, at.wall, at.rng);
        self.mark_stale();
        self.tell_prefs();
    }

    pub(crate) fn tell_prefs(&mut self) {
        let prefs = Some(Arc::new(self.profiles.prefs().without_secrets()));
        self.notify(Notify {
            prefs,
            ..Notify::default()
        });
    }

    pub(crate) fn take_netmap(&mut self, change: NetMapChange, at: &mut Moment<'_>) {
        let map = Arc::clone(change.map());
        let was_expired = self.key_expired;
        self.key_expired = map.self_expired(at.wall);
        let is_settled = self
            .session
            .as_ref()
            .is_some_and(|session| session.is_settled());
        if was_expired && !self.key_expired {
            self.blocked = false;
            self.mark_stale();
        } else if is_settled && self.blocked && !self.key_expired {
            self.finish_login(false);
        }
        let old = self.netmap.replace(Arc::clone(&map));
        let change = since_ours(change, old.as_deref());
        self.learn_identity(&map, at);

        self.health.facts.control_messages = self.allowed_messages(&map);
        self.health.facts.derp_map = Some(Arc::clone(&map.derp_map));
        self.tell_netmap(&change, old.as_deref());
        self.mark_changed(change);
        self.may_move_exit = true;
        self.evaluate(at);
    }

    /// Messages of the server, without links that it must not send the user to.
    fn allowed_messages(
        &self,
        map: &NetMap,
    ) -> Arc<std::collections::BTreeMap<String, tailcfg::DisplayMessage>> {
        let action = |message: &tailcfg::DisplayMessage| {
            message
                .primary_action
                .as_ref()
                .is_some_and(|action| !self.is_page_allowed(&action.url))
        };
        if !map.messages.values().any(action) {
            return Arc::clone(&map.messages);
        }
        let mut messages = (*map.messages).clone();
        for message in messages.values_mut().filter(|message| action(message)) {
            message.primary_action = None;
        }
        Arc::new(messages)
    }

    /// The tailnet says who we are: this is what makes a login worth keeping.
    fn learn_identity(&mut self, map: &NetMap, at: &mut Moment<'_>) {
        let mut prefs = Prefs::clone(self.profiles.prefs());
        let mut persist = prefs.persist.as_deref().cloned().unwrap_or_default();
        persist.node_id = map.self_node.stable_id.to_string();
        if let Some(user) = map.users.get(&map.self_node.user) {
            persist.user_profile = tailcfg::UserProfile::clone(user);
        }
        prefs.persist = Some(Arc::new(persist));
        self.name_control_url(&mut prefs);
        resolve_exit_node(&mut prefs, Some(map));
        if prefs != **self.profiles.prefs() || self.profiles.lacks_network() {
            self.save_prefs(prefs, at);
        }
    }

    fn tell_netmap(&mut self, change: &NetMapChange, old: Option<&NetMap>) {
        let map = change.map();
        let suffix = map.suffix();
        let mut message = Notify::default();
        let is_same_self = old.is_some_and(|old| old.self_node == map.self_node);
        if matches!(change, NetMapChange::Full(_)) || !is_same_self {
            message.self_change = Some(Arc::new(map.self_node.to_wire(suffix)));
        }
        if self.wants_peers {
            let whole: Vec<&Arc<Peer>> = match change {
                NetMapChange::Full(_) => map.peers.iter().collect(),
                NetMapChange::Patch(patch) => patch.changed.iter().collect(),
            };
            if let NetMapChange::Patch(patch) = change {
                message.peers_removed = patch.removed.iter().map(|id| id.0).collect();
            }
            let owners = whole.iter().filter_map(|peer| map.users.get(&peer.user));
            message.user_profiles = owners
                .map(|user| (user.id, tailcfg::UserProfile::clone(user)))
                .collect();
            let wire = whole.iter().map(|peer| Arc::new(peer.to_wire(suffix)));
            message.peers_changed = wire.collect();
        }
        if message != Notify::default() {
            self.notify(message);
        }
    }

    fn take_expiry_set(&mut self, result: Result<(), String>) {
        let session = self.session.as_mut();
        if let Some(id) = session.and_then(|session| session.expiry.take()) {
            let outcome = result.map(|()| crate::Answer::Done);
            self.reply(id, outcome.map_err(CommandError::Failed));
        }
    }

    fn take_logged_out(&mut self, result: Result<(), String>, at: &mut Moment<'_>) {
        let id = self
            .session
            .as_mut()
            .and_then(|session| session.logout.take());
        if let Err(error) = result {
            // Compat: the login is kept if the server could not be told, and the user may try again.
            if let Some(id) = id {
                self.reply(id, Err(CommandError::Failed(error)));
            }
            return;
        }
        let current = self.profiles.current().id.clone();
        self.profiles.delete(&current);
        self.start_over(at);
        if let Some(id) = id {
            self.reply(id, Ok(crate::Answer::Done));
        }
    }
}

/// A change as it is from our last map on. A stream knows its own maps only, and not that keys ran out here meanwhile, or
/// that its first map never came to be used.
fn since_ours(change: NetMapChange, ours: Option<&NetMap>) -> NetMapChange {
    match (change, ours) {
        (NetMapChange::Patch(mut patch), Some(ours)) => {
            (patch.changed, patch.removed) = patch.map.peers.since(&ours.peers);
            NetMapChange::Patch(patch)
        }
        (NetMapChange::Patch(patch), None) => NetMapChange::Full(patch.map),
        (full, _) => full,
    }
}

/// What is kept of the tailnet of a login.
fn network_profile(map: &NetMap) -> NetworkProfile {
    let named = map.self_node.cap_map.get(cap::TAILNET_DISPLAY_NAME);
    let named = named.and_then(|values| values.as_ref()?.first()?.parse::<String>().ok());
    NetworkProfile {
        magic_dns_name: map.suffix().to_owned(),
        domain_name: map.domain.to_string(),
        display_name: named.unwrap_or_else(|| map.domain.to_string()),
    }
}

/// An exit node that was named by address is kept by its id once it is known.
pub(crate) fn resolve_exit_node(prefs: &mut Prefs, map: Option<&NetMap>) {
    let found = prefs.exit_node_ip.0.and_then(|ip| map?.peers.by_ip(ip));
    if let Some(peer) = found {
        prefs.exit_node_id = peer.stable_id.to_string();
        prefs.exit_node_ip = tailcfg::go::OptAddr(None);
    }
}
