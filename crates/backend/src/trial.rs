//! Changes that are undone unless whoever made them can still say that they are to stay, and a look at what a change would do.

use std::sync::Arc;
use std::time::Duration;

use host::Instant;
use ipn::{MaskedPrefs, Prefs};

use crate::backend::{Moment, is_on};
use crate::commands::{Outcome, adjust_edit};
use crate::control::resolve_exit_node;
use crate::derive;
use crate::derive::peers::PeerConfigs;
use crate::event::Preview;
use crate::{Answer, Backend, CommandError};

/// A change that waits for its confirmation. What brings back what was before is with the profiles, which do not write such a change.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) until: Instant,
}

/// The longest trial: a machine must not be left half changed.
const LONGEST: Duration = Duration::from_secs(600);

impl Backend {
    pub(crate) fn try_prefs(
        &mut self,
        edit: MaskedPrefs,
        within: Duration,
        at: &mut Moment<'_>,
    ) -> Outcome {
        let old = Arc::clone(self.profiles.prefs());
        let mut undo = edit.clone();
        adjust_edit(&old, &mut undo);
        // What is chosen when the names are known is undone with them.
        if undo.exit_node_id_set || undo.exit_node_ip_set || undo.auto_exit_node_set {
            undo.exit_node_id_set = true;
            undo.exit_node_ip_set = true;
            undo.auto_exit_node_set = true;
        }
        undo.prefs = Prefs::clone(&old);
        self.keep_trial();
        self.profiles.hold_back(undo);
        let outcome = self.edit_prefs(edit, at);
        match outcome.is_ok() && *old != **self.profiles.prefs() {
            true => {
                self.trial = Some(Trial {
                    until: at.now + within.min(LONGEST),
                });
            }
            false => drop(self.profiles.release()),
        }
        outcome
    }

    /// What is on trial stays.
    pub(crate) fn keep_trial(&mut self) {
        if self.trial.take().is_some() {
            self.profiles.keep();
        }
    }

    pub(crate) fn confirm_prefs(&mut self) -> Outcome {
        if self.trial.is_none() {
            return Err(CommandError::NotFound(
                "nothing waits for a confirmation: it was undone, or confirmed before".to_owned(),
            ));
        }
        self.keep_trial();
        Ok(Answer::Done)
    }

    /// Undoes what was not confirmed in time.
    pub(crate) fn end_trial(&mut self, at: &mut Moment<'_>) {
        let ended = self.trial.take_if(|trial| trial.until <= at.now);
        let Some(undo) = ended.and_then(|_| self.profiles.release()) else {
            return;
        };
        self.log("settings that nobody has confirmed are undone".to_owned());
        if let Err(error) = self.change_prefs(undo, at) {
            self.log(format!("settings could not be undone: {error}"));
        }
    }

    /// What the machine should be like with prefs changed like this.
    pub(crate) fn preview(&self, mut edit: MaskedPrefs) -> Outcome {
        let old = self.profiles.prefs();
        adjust_edit(old, &mut edit);
        let mut prefs = Prefs::clone(old);
        prefs.apply(&edit);
        self.check_prefs(&prefs)?;
        resolve_exit_node(&mut prefs, self.netmap.as_deref());
        let will_run = prefs.want_running && (is_on(self.state) || !old.want_running);
        let Some(map) = self.netmap.as_deref().filter(|_| will_run) else {
            return Ok(Answer::Preview(Box::default()));
        };
        let mut peers = PeerConfigs::default();
        peers.rebuild(Some(map), &prefs);
        let system = self.system_dns();
        Ok(Answer::Preview(Box::new(Preview {
            router: derive::router::router(map, &prefs, peers.routes(), self.udp_ports()),
            dns: system
                .map(|system| derive::dns::dns(map, &prefs, system))
                .unwrap_or_default(),
            routes: Arc::clone(peers.routes()),
        })))
    }
}
