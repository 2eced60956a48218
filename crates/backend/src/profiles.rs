//! Logins and their prefs, and when they are written to the store (`ipn/ipnlocal/profiles.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use host::{Instant, Wall};
use ipn::{
    DEFAULT_CONTROL_URL, LoginProfile, MaskedPrefs, NetworkProfile, Persist, Prefs,
    is_login_server_synonym,
};
use keys::MachinePrivate;
use rand_core::CryptoRng;
use tailcfg::go::{self, GoTime};
use zeroize::Zeroizing;

use crate::Effect;

const MACHINE_KEY: &str = "_machinekey";
const PROFILES: &str = "_profiles";
const CURRENT: &str = "_current-profile";
const LEGACY_PREFS: &str = "_daemon";

/// All logins. One is current; it may be new, and then it lives in memory until it is known who it is.
pub(crate) struct Profiles {
    store: BTreeMap<String, Zeroizing<Vec<u8>>>,
    known: BTreeMap<String, LoginProfile>,
    current: LoginProfile,
    prefs: Arc<Prefs>,
    machine_key: Option<MachinePrivate>,
    /// While the store cannot be trusted nothing is written to it.
    frozen: bool,
    writes: Vec<Effect>,
    unsaved: Unsaved,
    /// Takes back what is not to be written yet.
    on_trial: Option<MaskedPrefs>,
}

/// Keys whose last write failed: they are written again, with growing waits, until the store takes them.
#[derive(Default)]
struct Unsaved {
    keys: BTreeSet<String>,
    failures: u32,
    retry_at: Option<Instant>,
}

/// The longest wait before the store is tried again.
const RETRY_CAP: Duration = Duration::from_secs(60);

/// What a fresh login starts from: the user has not said that they want to be on.
fn fresh_prefs() -> Prefs {
    Prefs {
        logged_out: true,
        ..Prefs::new()
    }
}

/// Whether it is known who this is, so that the login is worth keeping.
fn is_known(persist: Option<&Persist>) -> Option<&Persist> {
    persist.filter(|persist| {
        !persist.node_id.is_empty() && !persist.user_profile.login_name.is_empty()
    })
}

impl Profiles {
    /// Reads the store. If something in it cannot be read, the text says what, and nothing will be written.
    pub(crate) fn load(
        store: BTreeMap<String, Zeroizing<Vec<u8>>>,
        frozen: bool,
    ) -> (Self, Option<String>) {
        let mut profiles = Self {
            store,
            known: BTreeMap::new(),
            current: LoginProfile::default(),
            prefs: Arc::new(fresh_prefs()),
            machine_key: None,
            frozen,
            writes: Vec::new(),
            unsaved: Unsaved::default(),
            on_trial: None,
        };
        let trouble = profiles.read().err();
        profiles.frozen |= trouble.is_some();
        (profiles, trouble)
    }

    fn read(&mut self) -> Result<(), String> {
        if let Some(text) = self.store.get(MACHINE_KEY) {
            self.machine_key = Some(parse_machine_key(text)?);
        }
        if let Some(json) = self.store.get(PROFILES) {
            self.known = serde_json::from_slice(json)
                .map_err(|error| format!("decode `{PROFILES}`: {error}"))?;
        }
        let current = self
            .store
            .get(CURRENT)
            .map(|key| String::from_utf8_lossy(key));
        if let Some(key) = current {
            let named = self.known.values().find(|profile| *profile.key == *key);
            if let Some(profile) = named.cloned() {
                self.prefs = Arc::new(self.load_prefs(&profile.key)?);
                self.current = profile;
            }
        }
        Ok(())
    }

    /// Takes over the prefs of a daemon from before there were several logins. They stay where they are.
    pub(crate) fn import_legacy(&mut self, wall: Wall, rng: &mut dyn CryptoRng) {
        let is_fresh = self.known.is_empty() && !self.store.contains_key(CURRENT);
        if !is_fresh || !self.store.contains_key(LEGACY_PREFS) {
            return;
        }
        if let Ok(prefs) = self.load_prefs(LEGACY_PREFS) {
            self.set_prefs(prefs, NetworkProfile::default(), wall, rng);
        }
    }

    fn load_prefs(&self, key: &str) -> Result<Prefs, String> {
        let Some(bytes) = self.store.get(key).filter(|bytes| !bytes.is_empty()) else {
            return Ok(fresh_prefs());
        };
        let mut prefs = Prefs::from_stored(bytes).map_err(|error| format!("`{key}`: {error}"))?;
        let url = &prefs.control_url;
        if is_login_server_synonym(url) && url != DEFAULT_CONTROL_URL {
            // Compat: a former default must not outlive the present one.
            prefs.control_url.clear();
        }
        Ok(prefs)
    }

    pub(crate) fn prefs(&self) -> &Arc<Prefs> {
        &self.prefs
    }

    pub(crate) fn current(&self) -> &LoginProfile {
        &self.current
    }

    /// All saved logins: those without a date first, then the oldest.
    pub(crate) fn list(&self) -> Vec<LoginProfile> {
        let mut list: Vec<_> = self.known.values().cloned().collect();
        list.sort_by(|a, b| {
            let key = |p: &LoginProfile| (p.created, p.name.clone());
            let domain = |p: &LoginProfile| p.network_profile.domain_name.clone();
            key(a).cmp(&key(b)).then_with(|| domain(a).cmp(&domain(b)))
        });
        list
    }

    /// The saved login with this name, if any other than the current one has it.
    pub(crate) fn is_name_taken(&self, name: &str) -> bool {
        !name.is_empty()
            && self
                .known
                .values()
                .any(|profile| profile.name == name && profile.id != self.current.id)
    }

    /// Whether the tailnet's names are missing, which older daemons did not keep.
    pub(crate) fn lacks_network(&self) -> bool {
        self.current.network_profile == NetworkProfile::default()
    }

    /// Replaces the current login's prefs, and writes them once it is known who this is.
    pub(crate) fn set_prefs(
        &mut self,
        prefs: Prefs,
        network: NetworkProfile,
        wall: Wall,
        rng: &mut dyn CryptoRng,
    ) {
        if is_known(prefs.persist.as_deref()).is_none() {
            self.prefs = Arc::new(prefs);
            let key = self.current.key.clone();
            self.write_prefs(&key);
            return;
        }
        self.land_in_existing(&prefs);
        if self.current.id.is_empty() {
            let id = self.unused_id(rng);
            self.current.key = format!("profile-{id}");
            self.current.id = id;
            self.current.created = GoTime::from_unix_nanos(wall.as_unix_nanos());
        }
        self.describe(&prefs, network);
        self.known
            .insert(self.current.id.clone(), self.current.clone());
        self.write_known();
        self.prefs = Arc::new(prefs);
        let key = self.current.key.clone();
        self.write_prefs(&key);
        self.write(CURRENT, key.into_bytes());
    }

    /// A login as somebody who is known already takes that login's place; further ones of the same are forgotten.
    fn land_in_existing(&mut self, prefs: &Prefs) {
        let Some(persist) = &prefs.persist else {
            return;
        };
        let mut same = self.list().into_iter().filter(|profile| {
            profile.control_url == prefs.control_url
                && (profile.user_profile.id == persist.user_profile.id
                    || profile.node_id == persist.node_id)
        });
        let Some(first) = same.next() else {
            return;
        };
        for duplicate in same {
            self.remove(&duplicate.key);
            self.known.remove(&duplicate.id);
        }
        self.current = first;
    }

    fn describe(&mut self, prefs: &Prefs, network: NetworkProfile) {
        let persist = prefs.persist.as_deref();
        let mut user = persist
            .map(|persist| persist.user_profile.clone())
            .unwrap_or_default();
        if user.display_name.is_empty() {
            user.display_name.clone_from(&user.login_name);
        }
        self.current.node_id = persist
            .map(|persist| persist.node_id.clone())
            .unwrap_or_default();
        self.current.name = if prefs.profile_name.is_empty() {
            user.login_name.clone()
        } else {
            prefs.profile_name.clone()
        };
        self.current.control_url.clone_from(&prefs.control_url);
        self.current.user_profile = user;
        self.current.network_profile = network;
    }

    fn unused_id(&self, rng: &mut dyn CryptoRng) -> String {
        loop {
            let id = format!("{:04x}", rng.next_u32() & 0xffff);
            if !self.known.contains_key(&id) {
                return id;
            }
        }
    }

    /// Turns to a new, empty login.
    pub(crate) fn switch_to_new(&mut self) {
        self.on_trial = None;
        self.current = LoginProfile::default();
        self.prefs = Arc::new(fresh_prefs());
    }

    /// Turns to a saved login; whether that is another than before.
    pub(crate) fn switch_to(&mut self, id: &str) -> Result<bool, String> {
        if id == self.current.id {
            return Ok(false);
        }
        let profile = self.known.get(id).cloned().ok_or("profile not found")?;
        let prefs = self.load_prefs(&profile.key)?;
        self.on_trial = None;
        self.prefs = Arc::new(prefs);
        self.write(CURRENT, profile.key.clone().into_bytes());
        self.current = profile;
        Ok(true)
    }

    /// Forgets a login; whether it was the current one, which a new one replaces then.
    pub(crate) fn delete(&mut self, id: &str) -> Option<bool> {
        let is_current = id == self.current.id;
        let key = match self.known.get(id) {
            Some(profile) => profile.key.clone(),
            None if is_current => String::new(),
            None => return None,
        };
        if is_current {
            self.switch_to_new();
        }
        if !key.is_empty() {
            self.remove(&key);
            self.known.remove(id);
            self.write_known();
        }
        Some(is_current)
    }

    /// Forgets all logins and the machine's key.
    pub(crate) fn reset(&mut self) {
        let keys: Vec<String> = self
            .known
            .values()
            .map(|profile| profile.key.clone())
            .collect();
        for key in keys {
            self.remove(&key);
        }
        self.known.clear();
        self.switch_to_new();
        self.write_known();
        self.remove(MACHINE_KEY);
        self.machine_key = None;
    }

    /// The machine's key, made when it is first needed.
    pub(crate) fn machine_key(&mut self, rng: &mut dyn CryptoRng) -> MachinePrivate {
        if let Some(key) = &self.machine_key {
            return key.clone();
        }
        let key = MachinePrivate::generate(rng);
        self.write(MACHINE_KEY, key.expose_text().as_bytes().to_vec());
        self.machine_key = Some(key.clone());
        key
    }

    fn write_known(&mut self) {
        if let Ok(json) = go::to_vec(&self.known) {
            self.write(PROFILES, json);
        }
    }

    /// From now on what `undo` takes back is not written: whatever ends the daemon, its next start knows nothing of it.
    pub(crate) fn hold_back(&mut self, undo: MaskedPrefs) {
        self.on_trial = Some(undo);
    }

    /// What was held back is to stay.
    pub(crate) fn keep(&mut self) {
        if self.on_trial.take().is_some() {
            let key = self.current.key.clone();
            self.write_prefs(&key);
        }
    }

    /// What takes back that which was held back; nothing is held back any more.
    pub(crate) fn release(&mut self) -> Option<MaskedPrefs> {
        self.on_trial.take()
    }

    fn write_prefs(&mut self, key: &str) {
        if key.is_empty() {
            return;
        }
        let value = match &self.on_trial {
            None => self.prefs.to_stored(),
            Some(undo) => {
                let mut prefs = Prefs::clone(&self.prefs);
                prefs.apply(undo);
                prefs.to_stored()
            }
        };
        self.write_secret(key, value);
    }

    fn write(&mut self, key: &str, value: Vec<u8>) {
        self.write_secret(key, Zeroizing::new(value));
    }

    fn write_secret(&mut self, key: &str, value: Zeroizing<Vec<u8>>) {
        if self.frozen || self.store.get(key) == Some(&value) {
            return;
        }
        self.store.insert(key.to_owned(), value.clone());
        self.writes.push(Effect::SaveState {
            key: key.to_owned(),
            value,
        });
    }

    fn remove(&mut self, key: &str) {
        if !self.frozen && self.store.remove(key).is_some() {
            self.writes.push(Effect::RemoveState {
                key: key.to_owned(),
            });
        }
    }

    /// What became of a write; whether all that was to be written is.
    pub(crate) fn stored(&mut self, key: String, failed: bool, now: Instant) -> bool {
        let unsaved = &mut self.unsaved;
        if failed {
            // One round of writes counts as one failure.
            if unsaved.retry_at.is_none() {
                let wait = Duration::from_secs(1) * 2_u32.saturating_pow(unsaved.failures.min(10));
                unsaved.failures = unsaved.failures.saturating_add(1);
                unsaved.retry_at = Some(now + wait.min(RETRY_CAP));
            }
            unsaved.keys.insert(key);
        } else {
            unsaved.keys.remove(&key);
        }
        if unsaved.keys.is_empty() {
            *unsaved = Unsaved::default();
        }
        self.unsaved.keys.is_empty()
    }

    /// When what could not be written is tried again.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.unsaved.retry_at
    }

    /// Writes again what could not be written, if it is time. A login comes before what names it.
    pub(crate) fn retry(&mut self, now: Instant) {
        if self.unsaved.retry_at.is_none_or(|at| now < at) {
            return;
        }
        self.unsaved.retry_at = None;
        let writes = self.unsaved_writes();
        self.writes.extend(writes);
    }

    /// Everything that could not be written.
    pub(crate) fn unsaved_writes(&self) -> Vec<Effect> {
        let keys = self.unsaved.keys.iter().rev().cloned();
        keys.map(|key| match self.store.get(&key) {
            Some(value) => Effect::SaveState {
                key,
                value: value.clone(),
            },
            None => Effect::RemoveState { key },
        })
        .collect()
    }

    /// What must be written, in order.
    pub(crate) fn take_writes(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.writes)
    }
}

fn parse_machine_key(text: &[u8]) -> Result<MachinePrivate, String> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    let key: MachinePrivate = text
        .parse()
        .map_err(|error| format!("invalid key in `{MACHINE_KEY}`: {error}"))?;
    if key.is_zero() {
        return Err(format!("invalid zero key in `{MACHINE_KEY}`"));
    }
    Ok(key)
}
