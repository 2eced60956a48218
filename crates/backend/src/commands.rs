//! What local clients want.

use std::sync::Arc;

use ipn::{MaskedPrefs, Notify, Options, Prefs, State};
use tailcfg::cap;
use tailcfg::go::{GoTime, OptAddr};

use crate::backend::Moment;
use crate::control::resolve_exit_node;
use crate::session::Session;
use crate::suggest::{NoHome, Suggestion, suggest};
use crate::{
    Answer, Backend, ClientId, Command, CommandError, CommandId, ControlEffect, Effect, Recipient,
};

pub(crate) type Outcome = Result<Answer, CommandError>;

impl Backend {
    pub(crate) fn boot(&mut self, at: &mut Moment<'_>) {
        if let Some(trouble) = &self.health.facts.store_trouble {
            let line = format!("the state store cannot be trusted: {trouble}");
            self.log(line);
        }
        self.profiles.import_legacy(at.wall, at.rng);
        self.start(Options::default(), at);
    }

    pub(crate) fn handle_command(&mut self, id: CommandId, command: Command, at: &mut Moment<'_>) {
        let outcome = match command {
            Command::EditPrefs(edit) => {
                let outcome = self.edit_prefs(*edit, at);
                // Whoever goes on changing things is not cut off.
                if outcome.is_ok() {
                    self.keep_trial();
                }
                outcome
            }
            Command::CheckPrefs(prefs) => self.check_prefs(&prefs).map(|()| Answer::Done),
            Command::Start(options) => self.try_start(*options, at),
            Command::LoginInteractive(who) => self.login_interactive(who, at),
            Command::Logout => match self.logout(id, at) {
                Some(outcome) => outcome,
                None => return,
            },
            Command::ResetAuth => {
                self.profiles.reset();
                self.start_over(at);
                Ok(Answer::Done)
            }
            Command::NewProfile => self.new_profile(at),
            Command::SwitchProfile(profile) => self.switch_profile(&profile, at),
            Command::DeleteProfile(profile) => {
                if self.profiles.delete(&profile) == Some(true) {
                    self.start_over(at);
                }
                Ok(Answer::Done)
            }
            Command::RefreshNetMap => self.refresh_netmap(),
            Command::SetExpirySooner(expiry) => match self.set_expiry_sooner(id, expiry) {
                Ok(()) => return,
                Err(error) => Err(error),
            },
            Command::UseExitNode(wanted) => self.use_exit_node(wanted, at),
            Command::TryPrefs { edit, within } => self.try_prefs(*edit, within, at),
            Command::ConfirmPrefs => self.confirm_prefs(),
            Command::Preview(edit) => self.preview(*edit),
            Command::SuggestExitNode => match self.suggest_exit_node(at) {
                Ok(found) => Ok(Answer::Suggestion(found)),
                Err(NoHome) => Err(CommandError::Unavailable(
                    "no preferred DERP, try again later".to_owned(),
                )),
            },
        };
        self.reply(id, outcome);
    }

    pub(crate) fn reply(&mut self, id: CommandId, result: Outcome) {
        self.effect(Effect::Reply { id, result });
    }

    // --- Starting.

    fn try_start(&mut self, options: Options, at: &mut Moment<'_>) -> Outcome {
        if self.health.facts.store_trouble.is_some() {
            return Err(CommandError::Unavailable(
                "cannot start backend when state store is unhealthy".to_owned(),
            ));
        }
        if let Some(prefs) = &options.update_prefs {
            self.check_prefs(prefs)?;
        }
        if options.update_prefs.is_some() {
            self.keep_trial();
        }
        self.start(options, at);
        Ok(Answer::Done)
    }

    /// Starts the current login anew.
    fn start(&mut self, options: Options, at: &mut Moment<'_>) {
        // A dying client's last update must not reach the server after the new client's first request.
        self.end_session();
        self.state = State::NoState;
        if let Some(update) = options.update_prefs {
            let old = Arc::clone(self.profiles.prefs());
            let mut prefs = Prefs {
                persist: old.persist.clone(),
                unknown: old.unknown.clone(),
                ..*update
            };
            resolve_exit_node(&mut prefs, self.netmap.as_deref());
            let network = self.profiles.current().network_profile.clone();
            self.profiles.set_prefs(prefs, network, at.wall, at.rng);
        }
        self.next_client += 1;
        let prefs = Arc::clone(self.profiles.prefs());
        let auth_key = Some(options.auth_key).filter(|key| !key.expose().is_empty());
        self.session = Some(Session {
            client: ClientId(self.next_client),
            server_url: prefs.control_url_or_default().to_owned(),
            auth_key,
            ..Session::default()
        });
        self.mark_stale();
        self.refresh_hostinfo();
        self.tell_prefs();
        if !prefs.logged_out && self.node_key().is_some() {
            self.login(false, at);
        }
        self.evaluate(at);
    }

    /// Drops all that belongs to the login that was, and starts the current one.
    pub(crate) fn start_over(&mut self, at: &mut Moment<'_>) {
        self.netmap = None;
        self.suggested.clear();
        // It was about another login's settings.
        self.trial = None;
        self.key_expired = false;
        self.health.facts.login_error = None;
        self.health.facts.control_messages = Arc::default();
        self.health.facts.derp_map = None;
        self.end_session();
        self.enter(State::NoState, at);
        self.start(Options::default(), at);
    }

    fn end_session(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        if session.started {
            self.effect(Effect::Control(ControlEffect::Shutdown));
        }
        for id in [session.logout, session.expiry].into_iter().flatten() {
            let text = "the login was started anew meanwhile".to_owned();
            self.reply(id, Err(CommandError::Unavailable(text)));
        }
        self.health.facts.in_map_poll = false;
        self.health.facts.map_poll_ended = None;
    }

    // --- Logging in and out.

    fn check_store(&self) -> Result<(), CommandError> {
        match self.health.facts.store_trouble {
            Some(_) => Err(CommandError::Unavailable(
                "cannot log in when state store is unhealthy".to_owned(),
            )),
            None => Ok(()),
        }
    }

    fn login_interactive(&mut self, who: Recipient, at: &mut Moment<'_>) -> Outcome {
        self.check_store()?;
        let Some(session) = &mut self.session else {
            return Err(CommandError::Unavailable("not started".to_owned()));
        };
        let page = session
            .auth_url
            .as_ref()
            .filter(|page| page.is_good(at.now));
        match page.map(|page| page.url.clone()) {
            Some(url) => {
                session.page_wanted = None;
                self.show_page(url, who, at);
            }
            None => {
                session.page_wanted = Some(who);
                self.login(true, at);
            }
        }
        self.evaluate(at);
        Ok(Answer::Done)
    }

    /// `None`: the answer comes with the server's.
    fn logout(&mut self, id: CommandId, at: &mut Moment<'_>) -> Option<Outcome> {
        let Some(node_key) = self.node_key() else {
            return Some(Ok(Answer::Done));
        };
        let edit = MaskedPrefs {
            prefs: Prefs {
                logged_out: true,
                ..Prefs::default()
            },
            want_running_set: true,
            logged_out_set: true,
            ..MaskedPrefs::default()
        };
        if let Err(error) = self.edit_prefs(edit, at) {
            return Some(Err(error));
        }
        self.start_client(at);
        let Some(session) = &mut self.session else {
            return Some(Err(CommandError::Unavailable(
                "no controlclient".to_owned(),
            )));
        };
        let earlier = session.logout.replace(id);
        self.effect(Effect::Control(ControlEffect::Logout { node_key }));
        if let Some(earlier) = earlier {
            let text = "another logout was asked for meanwhile".to_owned();
            self.reply(earlier, Err(CommandError::Unavailable(text)));
        }
        None
    }

    fn new_profile(&mut self, at: &mut Moment<'_>) -> Outcome {
        self.check_store()?;
        self.profiles.switch_to_new();
        self.start_over(at);
        Ok(Answer::Done)
    }

    fn switch_profile(&mut self, profile: &str, at: &mut Moment<'_>) -> Outcome {
        match self.profiles.switch_to(profile) {
            Ok(true) => self.start_over(at),
            Ok(false) => {}
            Err(error) => return Err(CommandError::NotFound(error)),
        }
        Ok(Answer::Done)
    }

    fn refresh_netmap(&mut self) -> Outcome {
        let is_polling = self
            .session
            .as_ref()
            .is_some_and(|session| session.map_key.is_some());
        let Some(key) = self.node_key().filter(|_| is_polling) else {
            return Err(CommandError::Unavailable("no map poll is open".to_owned()));
        };
        self.effect(Effect::Control(ControlEffect::StopMap));
        self.start_map(key);
        Ok(Answer::Done)
    }

    /// The answer comes with the server's.
    fn set_expiry_sooner(&mut self, id: CommandId, expiry: GoTime) -> Result<(), CommandError> {
        let prefs = self.profiles.prefs();
        let persist = prefs.persist.clone().unwrap_or_default();
        let session = self.session.as_mut().filter(|session| session.started);
        let Some(session) = session.filter(|_| !persist.private_node_key.is_zero()) else {
            return Err(CommandError::Unavailable("not running".to_owned()));
        };
        let earlier = session.expiry.replace(id);
        self.effect(Effect::Control(ControlEffect::SetExpiry {
            node_key: persist.private_node_key.clone(),
            old_node_key: persist.old_private_node_key.public(),
            lock_key: persist.network_lock_key.public(),
            expiry,
        }));
        if let Some(earlier) = earlier {
            let text = "another expiry was asked for meanwhile".to_owned();
            self.reply(earlier, Err(CommandError::Unavailable(text)));
        }
        Ok(())
    }

    // --- Prefs.

    pub(crate) fn edit_prefs(&mut self, edit: MaskedPrefs, at: &mut Moment<'_>) -> Outcome {
        if edit.sets_internal() {
            return Err(CommandError::Invalid(
                "can't set Internal fields".to_owned(),
            ));
        }
        self.change_prefs(edit, at)
    }

    /// What was used last is kept in a field that clients cannot set.
    fn use_exit_node(&mut self, wanted: bool, at: &mut Moment<'_>) -> Outcome {
        let old = Arc::clone(self.profiles.prefs());
        let is_used = !old.exit_node_id.is_empty();
        if wanted == is_used {
            return Ok(Answer::Prefs(Arc::new(old.without_secrets())));
        }
        let prior = old.internal_exit_node_prior.as_str();
        if wanted && prior.is_empty() {
            let text = match old.exit_node_ip.0 {
                None => {
                    "no exit node IP to enable & prior exit node IP was never resolved an a node"
                }
                Some(_) => "no prior exit node to enable",
            };
            return Err(CommandError::Unavailable(text.to_owned()));
        }
        let mut edit = MaskedPrefs {
            exit_node_id_set: true,
            auto_exit_node_set: true,
            ..MaskedPrefs::default()
        };
        if let Some(rule) = prior.strip_prefix(AUTO_PREFIX).filter(|_| wanted) {
            edit.prefs.auto_exit_node = rule.into();
            edit.prefs.exit_node_id = UNRESOLVED_EXIT_NODE.into();
        } else if wanted {
            edit.prefs.exit_node_id = prior.into();
        } else {
            edit.internal_exit_node_prior_set = true;
            edit.prefs.internal_exit_node_prior = match old.auto_exit_node.as_str() {
                "" => old.exit_node_id.clone(),
                rule => format!("{AUTO_PREFIX}{rule}"),
            };
        }
        self.change_prefs(edit, at)
    }

    /// The best exit node; whoever listens is told when it is another one than before.
    fn suggest_exit_node(&mut self, at: &mut Moment<'_>) -> Result<Option<Suggestion>, NoHome> {
        let Some(map) = self.netmap.clone() else {
            return Err(NoHome);
        };
        let found = suggest(&map, self.net_info(), &self.suggested, at.rng)?;
        let id = found
            .as_ref()
            .map(|found| found.id.clone())
            .unwrap_or_default();
        if id != self.suggested {
            self.log(format!("suggested exit node: {id}"));
            self.suggested.clone_from(&id);
            self.notify(Notify {
                suggested_exit_node: Some(id),
                ..Notify::default()
            });
        }
        Ok(found)
    }

    /// Where the exit node is to be chosen, chooses it. Until there is one, nothing stands for it, so that nothing leaves past it.
    fn choose_exit_node(&mut self, prefs: &mut Prefs, at: &mut Moment<'_>) {
        if prefs.auto_exit_node.is_empty() {
            return;
        }
        // What cannot be judged yet stays as it is.
        let _ = self.suggest_exit_node(at);
        if !self.suggested.is_empty() {
            prefs.exit_node_id.clone_from(&self.suggested);
        } else if prefs.exit_node_id.is_empty() {
            prefs.exit_node_id = UNRESOLVED_EXIT_NODE.to_owned();
        }
        prefs.exit_node_ip = OptAddr(None);
    }

    /// Chooses the exit node anew, after the network or the tailnet has changed.
    pub(crate) fn choose_exit_node_again(&mut self, at: &mut Moment<'_>) {
        let old = Arc::clone(self.profiles.prefs());
        let mut prefs = Prefs::clone(&old);
        self.choose_exit_node(&mut prefs, at);
        if prefs != *old {
            self.set_prefs(prefs, &old, at);
        }
    }

    pub(crate) fn change_prefs(&mut self, mut edit: MaskedPrefs, at: &mut Moment<'_>) -> Outcome {
        let old = Arc::clone(self.profiles.prefs());
        adjust_edit(&old, &mut edit);
        let mut new = Prefs::clone(&old);
        new.apply(&edit);
        self.check_prefs(&new)?;
        if new == *old {
            return Ok(Answer::Prefs(Arc::new(old.without_secrets())));
        }
        self.log(format!("EditPrefs: {}", edit.names().join(" ")));
        self.set_prefs(new, &old, at);
        Ok(Answer::Prefs(Arc::new(
            self.profiles.prefs().without_secrets(),
        )))
    }

    fn set_prefs(&mut self, mut new: Prefs, old: &Prefs, at: &mut Moment<'_>) {
        resolve_exit_node(&mut new, self.netmap.as_deref());
        self.choose_exit_node(&mut new, at);
        let turned_on = new.want_running && !old.want_running;
        let network = self.profiles.current().network_profile.clone();
        self.profiles.set_prefs(new, network, at.wall, at.rng);
        self.mark_stale();
        self.refresh_hostinfo();
        if turned_on && self.session.is_some() {
            self.login(false, at);
        }
        self.evaluate(at);
        self.tell_prefs();
    }

    pub(crate) fn check_prefs(&self, prefs: &Prefs) -> Result<(), CommandError> {
        let mut problems = Vec::new();
        if prefs.hostname == "badhostname.tailscale." {
            // Compat: a name that tests of the originals' clients use.
            problems.push("bad hostname [test]".to_owned());
        }
        if self.profiles.is_name_taken(&prefs.profile_name) {
            problems.push(format!(
                "profile name {:?} already in use",
                prefs.profile_name
            ));
        }
        if prefs.run_ssh {
            problems.push(self.no_ssh_reason().to_owned());
        }
        let wants_exit_node = prefs.exit_node_ip.0.is_some() || !prefs.exit_node_id.is_empty();
        if wants_exit_node && prefs.advertises_exit_node() {
            problems.push(
                "Cannot advertise an exit node and use an exit node at the same time.".to_owned(),
            );
        }
        if prefs.auto_update.apply == Some(true) {
            problems.push("Auto-updates are not supported on this platform.".to_owned());
        }
        let crooked = prefs
            .advertise_routes
            .iter()
            .filter(|net| net.trunc() != **net);
        problems.extend(crooked.map(|net| {
            format!(
                "route {net} has non-address bits set; expected {}",
                net.trunc()
            )
        }));
        if problems.is_empty() {
            return Ok(());
        }
        Err(CommandError::Invalid(problems.join("\n")))
    }

    fn no_ssh_reason(&self) -> &'static str {
        match &self.netmap {
            Some(map) if !map.self_node.has_cap(cap::SSH) => {
                "Unable to enable local Tailscale SSH server; not enabled on Tailnet."
            }
            _ => "The Tailscale SSH server is not included in this build.",
        }
    }
}

/// Fields that exclude each other.
pub(crate) fn adjust_edit(old: &Prefs, edit: &mut MaskedPrefs) {
    let turns_off = edit.exit_node_id_set && edit.prefs.exit_node_id.is_empty();
    if turns_off && !edit.internal_exit_node_prior_set {
        edit.prefs.internal_exit_node_prior.clear();
        edit.internal_exit_node_prior_set = true;
    }
    if edit.auto_exit_node_set
        && edit.prefs.auto_exit_node.is_empty()
        && old.exit_node_id == UNRESOLVED_EXIT_NODE
    {
        edit.exit_node_id_set = true;
        edit.prefs.exit_node_id.clear();
    }
    if (edit.exit_node_id_set || edit.exit_node_ip_set) && !edit.auto_exit_node_set {
        edit.auto_exit_node_set = true;
        edit.prefs.auto_exit_node.clear();
    }
    if edit.exit_node_id_set && !edit.prefs.exit_node_id.is_empty() && !edit.exit_node_ip_set {
        edit.exit_node_ip_set = true;
        edit.prefs.exit_node_ip = OptAddr(None);
    }
}

/// What stands for an exit node that is to be chosen and is not yet (`unresolvedExitNodeID`).
const UNRESOLVED_EXIT_NODE: &str = "auto:any";

/// What stands before the rule of an exit node that is to be chosen.
const AUTO_PREFIX: &str = "auto:";
