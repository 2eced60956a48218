//! Which warnings are raised, and since when (`health/health.go`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use derp::DerpMap;
use host::{Instant, Wall};
use ipn::State;
use ipn::health::{
    Args, HealthState, Severity, UnhealthyAction, UnhealthyState, Warnable, arg, control_code,
};
use tailcfg::DisplayMessage;
use tailcfg::go::GoTime;

/// By now a relay frame or a keep-alive of the control server should have come.
const TOO_IDLE: Duration = Duration::from_secs(125);
/// So long after the user turned the node on, relays are given time.
const WARM_UP: Duration = Duration::from_secs(5);
/// A long poll that ended less than this ago is about to be opened again.
const MAP_POLL_GRACE: Duration = Duration::from_secs(10);
/// How often time alone may change what is raised.
const CHECK_EVERY: Duration = Duration::from_secs(60);

/// What is known, and what follows from it.
#[derive(Debug, Default)]
pub(crate) struct Health {
    raised: BTreeMap<Warnable, Raised>,
    pub(crate) facts: Facts,
}

/// What the warnings are derived from.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) state: Option<State>,
    pub(crate) want_running: bool,
    pub(crate) on_since: Option<Instant>,
    pub(crate) link_down: bool,
    pub(crate) login_error: Option<String>,
    pub(crate) store_trouble: Option<String>,
    pub(crate) unsaved: Option<String>,
    pub(crate) sync_disabled: bool,
    pub(crate) in_map_poll: bool,
    pub(crate) map_poll_ended: Option<Instant>,
    pub(crate) map_heard: Option<Instant>,
    pub(crate) home_derp: u16,
    pub(crate) derp_connected: BTreeMap<u16, bool>,
    pub(crate) derp_heard: BTreeMap<u16, Instant>,
    pub(crate) derp_trouble: BTreeMap<u16, String>,
    pub(crate) derp_map: Option<Arc<DerpMap>>,
    pub(crate) udp4_unbound: bool,
    pub(crate) filter_refused: bool,
    pub(crate) router_failure: Option<String>,
    pub(crate) router_note: Option<String>,
    /// Others are to be routed, and the machine does not forward.
    pub(crate) forwarding_off: bool,
    pub(crate) dns_failure: Option<String>,
    pub(crate) dns_trouble: Option<String>,
    pub(crate) dns_note: Option<String>,
    pub(crate) dns_unread: Option<String>,
    pub(crate) control_messages: Arc<BTreeMap<String, DisplayMessage>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Raised {
    since: Instant,
    since_wall: GoTime,
    args: Option<Args>,
}

impl Health {
    /// Learns the state, and when the user turned the node on.
    pub(crate) fn set_state(&mut self, state: State, want_running: bool, now: Instant) {
        let facts = &mut self.facts;
        facts.state = Some(state);
        if !want_running {
            facts.on_since = None;
        } else if !facts.want_running && facts.on_since.is_none() && state != State::Running {
            facts.on_since = Some(now);
        }
        facts.want_running = want_running;
    }

    /// The long poll is open, and something came on it.
    pub(crate) fn map_heard(&mut self, now: Instant) {
        self.facts.in_map_poll = true;
        self.facts.map_heard = Some(now);
    }

    /// The long poll has ended.
    pub(crate) fn map_ended(&mut self, now: Instant) {
        if std::mem::take(&mut self.facts.in_map_poll) {
            self.facts.map_poll_ended = Some(now);
        }
    }

    /// Derives the warnings anew.
    pub(crate) fn check(&mut self, now: Instant, wall: Wall) {
        for (warnable, args) in derive(&self.facts, now) {
            match args {
                None => drop(self.raised.remove(&warnable)),
                Some(args) => {
                    let args = (!args.is_empty()).then_some(args);
                    let raised = self.raised.entry(warnable).or_insert_with(|| Raised {
                        since: now,
                        since_wall: GoTime::from_unix_nanos(wall.as_unix_nanos()),
                        args: None,
                    });
                    raised.args = args;
                }
            }
        }
    }

    fn is_raised(&self, warnable: Warnable) -> bool {
        self.raised.contains_key(&warnable)
            && !warnable
                .definition()
                .depends_on
                .iter()
                .any(|other| self.is_raised(*other))
    }

    fn visible(&self, now: Instant) -> impl Iterator<Item = (Warnable, &Raised)> {
        self.raised
            .iter()
            .filter(move |(warnable, raised)| {
                now.since(raised.since) >= warnable.definition().time_to_visible
            })
            .filter(|(warnable, _)| self.is_raised(**warnable))
            .map(|(warnable, raised)| (*warnable, raised))
    }

    /// The warnings as the bus shows them.
    pub(crate) fn state(&self, now: Instant) -> HealthState {
        let mut warnings: BTreeMap<String, UnhealthyState> = self
            .visible(now)
            .map(|(warnable, raised)| {
                let shown = warnable.unhealthy(raised.since_wall, raised.args.as_ref());
                (warnable.code().to_owned(), shown)
            })
            .collect();
        for (id, message) in &*self.facts.control_messages {
            let code = control_code(id);
            warnings.insert(code.clone(), control_warning(code, message));
        }
        HealthState {
            warnings: (!warnings.is_empty()).then_some(warnings),
        }
    }

    /// The warnings as `status` lists them.
    pub(crate) fn texts(&self, now: Instant) -> Vec<String> {
        let none = Args::new();
        let mut texts: Vec<String> = self
            .visible(now)
            .map(|(warnable, raised)| warnable.text(raised.args.as_ref().unwrap_or(&none)))
            .collect();
        let mut control: Vec<String> = self
            .facts
            .control_messages
            .values()
            .map(control_text)
            .collect();
        control.sort();
        texts.extend(control);
        texts
    }

    /// When time alone may change what is raised or shown.
    pub(crate) fn next_timeout(&self, now: Instant) -> Option<Instant> {
        self.facts.state?;
        let shown = self
            .raised
            .iter()
            .map(|(warnable, raised)| raised.since + warnable.definition().time_to_visible);
        let warm = self.facts.on_since.map(|on| on + WARM_UP);
        let poll = self
            .facts
            .map_poll_ended
            .map(|ended| ended + MAP_POLL_GRACE);
        shown
            .chain(warm)
            .chain(poll)
            .filter(|at| *at > now)
            .chain(self.facts.want_running.then_some(now + CHECK_EVERY))
            .min()
    }
}

/// Whether each warning is raised, and with which arguments; what is not named stays as it is.
fn derive(facts: &Facts, now: Instant) -> Vec<(Warnable, Option<Args>)> {
    let mut out = Vec::new();
    let mut set = |warnable, args: Option<Args>| out.push((warnable, args));
    let flag = |on: bool| on.then(Args::new);

    set(
        Warnable::StateStoreHealth,
        facts.store_trouble.as_ref().map(|error| error_args(error)),
    );
    set(
        Warnable::StateNotSaved,
        facts.unsaved.as_ref().map(|error| error_args(error)),
    );
    if facts.state.is_none() {
        return out;
    }
    let warm = facts.on_since.is_some_and(|on| now.since(on) <= WARM_UP);
    set(
        Warnable::WarmingUp,
        flag(warm && facts.state != Some(State::Running)),
    );
    set(Warnable::NetworkStatus, flag(facts.link_down));
    set(Warnable::SyncDisabled, flag(facts.sync_disabled));
    set(Warnable::NoUdp4Bind, flag(facts.udp4_unbound));
    set(Warnable::InvalidPacketFilter, flag(facts.filter_refused));
    derive_relays(facts, now, &mut set);

    let off = !facts.want_running;
    let state = facts.state.unwrap_or_default().name();
    set(
        Warnable::WantRunningFalse,
        off.then(|| args(&[(arg::STATE, state)])),
    );
    if off {
        return out;
    }
    set(
        Warnable::LoginState,
        facts.login_error.as_ref().map(|error| error_args(error)),
    );
    if facts.login_error.is_some() {
        return out;
    }
    let ended_long_ago = facts
        .map_poll_ended
        .is_none_or(|ended| now.since(ended) > MAP_POLL_GRACE);
    let out_of_poll = !facts.in_map_poll && ended_long_ago;
    set(Warnable::NotInMapPoll, flag(out_of_poll));
    if out_of_poll {
        return out;
    }
    let silent = facts
        .map_heard
        .map(|heard| now.since(heard))
        .filter(|idle| *idle > TOO_IDLE);
    set(
        Warnable::MapResponseTimeout,
        silent.map(|idle| args(&[(arg::DURATION, &go_duration(idle))])),
    );
    if silent.is_some() {
        return out;
    }
    let legacy = |failure: &Option<String>| {
        failure
            .as_ref()
            .map(|error| args(&[(arg::LEGACY_ERROR, error)]))
    };
    set(Warnable::Router, legacy(&facts.router_failure));
    set(Warnable::RouterNote, legacy(&facts.router_note));
    set(Warnable::IpForwardingOff, flag(facts.forwarding_off));
    let unset = facts.dns_failure.as_ref().or(facts.dns_trouble.as_ref());
    set(Warnable::DnsSetFailed, unset.map(|error| error_args(error)));
    let unread = facts.dns_unread.as_ref();
    set(
        Warnable::DnsReadFailed,
        unread.map(|error| error_args(error)),
    );
    set(
        Warnable::ResolvConfOverwritten,
        flag(facts.dns_note.is_some()),
    );
    set(
        Warnable::DerpRegionError,
        facts.derp_trouble.iter().next_back().map(|(region, text)| {
            args(&[
                (arg::DERP_REGION_ID, &region.to_string()),
                (arg::ERROR, text),
            ])
        }),
    );
    out
}

fn derive_relays(facts: &Facts, now: Instant, set: &mut dyn FnMut(Warnable, Option<Args>)) {
    let home = facts.home_derp;
    let fresh = facts.on_since.is_some_and(|on| now.since(on) < WARM_UP);
    if fresh || !facts.in_map_poll {
        set(Warnable::NoDerpHome, None);
        set(Warnable::NoDerpConnection, None);
        set(Warnable::DerpTimedOut, None);
    } else {
        let missing = facts.want_running && home == 0;
        set(Warnable::NoDerpHome, missing.then(Args::new));
    }
    let connected = facts.derp_connected.get(&home).copied().unwrap_or_default();
    if home == 0 {
        set(Warnable::NoDerpConnection, None);
    } else if connected {
        set(Warnable::NoDerpConnection, None);
        let idle = facts.derp_heard.get(&home).map(|heard| now.since(*heard));
        let silent = idle.filter(|idle| *idle >= TOO_IDLE).map(|idle| {
            let mut args = region_args(facts, home);
            args.insert(arg::DURATION.to_owned(), go_duration(idle));
            args
        });
        set(Warnable::DerpTimedOut, silent);
    } else {
        set(Warnable::NoDerpConnection, Some(region_args(facts, home)));
    }
}

fn region_args(facts: &Facts, region: u16) -> Args {
    let map = facts.derp_map.as_ref();
    let name = map
        .and_then(|map| map.regions.get(&region))
        .map_or("", |region| &region.name);
    args(&[
        (arg::DERP_REGION_ID, &region.to_string()),
        (arg::DERP_REGION_NAME, name),
    ])
}

fn args(pairs: &[(&str, &str)]) -> Args {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn error_args(error: &str) -> Args {
    args(&[(arg::ERROR, error)])
}

fn control_warning(code: String, message: &DisplayMessage) -> UnhealthyState {
    UnhealthyState {
        warnable_code: code,
        severity: match message.severity.as_str() {
            "high" => Severity::High,
            "low" => Severity::Low,
            _ => Severity::Medium,
        },
        title: message.title.clone(),
        text: message.text.clone(),
        impacts_connectivity: message.impacts_connectivity,
        primary_action: message
            .primary_action
            .as_ref()
            .map(|action| UnhealthyAction {
                url: action.url.clone(),
                label: action.label.clone(),
            }),
        ..UnhealthyState::default()
    }
    .with_etag()
}

fn control_text(message: &DisplayMessage) -> String {
    let mut text = match (message.title.as_str(), message.text.as_str()) {
        (title, "") if !title.is_empty() => format!("{title}."),
        ("", text) => text.to_owned(),
        (title, text) => format!("{title}: {text}"),
    };
    if let Some(action) = &message.primary_action {
        text.push_str(&format!(" {}: {}", action.label, action.url));
    }
    text
}

/// Whole seconds as Go prints them: `2m5s`.
fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}
