//! What a command line of `up` means for the settings that are stored.

use std::net::IpAddr;

use goflag::{FlagSet, Parsed, Value};
use ipn::{MaskedPrefs, Prefs, State, is_login_server_synonym};

use super::flags::{Os, SETTINGS, Shown, UpArgs, setting};
use crate::text::shell;

/// What the daemon and the machine are like when `up` starts.
pub(crate) struct Situation<'a> {
    pub(crate) os: Os,
    /// Whether this is a Synology box, where two settings have other defaults.
    pub(crate) synology: bool,
    /// The Unix user, from `$USER`.
    pub(crate) user: &'a str,
    /// The state's name.
    pub(crate) state: &'a str,
    /// The address of the exit node in use, also when the settings have only its id.
    pub(crate) exit_node: Option<IpAddr>,
    /// Whether the user sits at a connection that comes through Tailscale.
    pub(crate) ssh_over_tailscale: bool,
}

/// What `up` has to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Plan {
    /// Only turn the network on.
    TurnOn,
    /// Change settings of a running node.
    Edit(Box<MaskedPrefs>),
    /// Start with these settings, logging in if needed.
    Start(Box<Prefs>),
}

/// A question to ask before the plan may be carried out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Risk {
    /// The name for `--accept-risk`.
    pub(crate) name: &'static str,
    /// What may happen.
    pub(crate) text: &'static str,
}

/// Decides what to do with the settings wanted (`new`) where `current` are stored.
///
/// # Errors
///
/// The command line would change settings that it does not name, or the control server of a running node.
pub(crate) fn plan(
    mut new: Prefs,
    current: &Prefs,
    args: &UpArgs,
    parsed: &Parsed,
    flags: &FlagSet,
    situation: &Situation<'_>,
) -> Result<(Plan, Vec<Risk>), String> {
    let mut turn_on = false;
    if !args.reset {
        keep_operator(&mut new, current, parsed, situation.user);
        turn_on = check_reverts(&new, current, parsed, flags, situation)?;
    }
    let same_server = current.control_url == new.control_url
        || (is_login_server_synonym(&current.control_url)
            && is_login_server_synonym(&new.control_url));
    let running = situation.state == State::Running.name();
    if !same_server && running && !args.force_reauth {
        return Err("can't change --login-server without --force-reauth".to_owned());
    }
    let risks = risks(args, current, situation);
    let just_edit = running
        && !args.force_reauth
        && args.auth_key.is_empty()
        && same_server
        && current.advertise_tags == new.advertise_tags;
    let plan = if just_edit {
        Plan::Edit(Box::new(edit(new, args, parsed, flags)))
    } else if turn_on {
        Plan::TurnOn
    } else {
        Plan::Start(Box::new(new))
    };
    Ok((plan, risks))
}

/// Who operates the daemon need not say so each time.
fn keep_operator(new: &mut Prefs, current: &Prefs, parsed: &Parsed, user: &str) {
    if new.operator_user.is_empty() && current.operator_user == user && !parsed.given("operator") {
        new.operator_user.clone_from(&current.operator_user);
    }
}

fn risks(args: &UpArgs, current: &Prefs, situation: &Situation<'_>) -> Vec<Risk> {
    let mut risks = Vec::new();
    if situation.ssh_over_tailscale {
        risks.extend(ssh_risk(args.ssh, current.run_ssh));
        if args.force_reauth {
            let text = "You are connected over Tailscale; this action may result in your SSH session disconnecting.";
            risks.push(Risk {
                name: "lose-ssh",
                text,
            });
        }
    }
    risks
}

/// What turning our SSH server on or off does to a session through Tailscale.
pub(crate) fn ssh_risk(want: bool, have: bool) -> Option<Risk> {
    let text = match (want, have) {
        (true, false) => {
            "You are connected over Tailscale; this action will reroute SSH traffic to Tailscale SSH and will result in your session \
             disconnecting."
        }
        (false, true) => {
            "You are connected using Tailscale SSH; this action will result in your session disconnecting."
        }
        _ => return None,
    };
    Some(Risk {
        name: "lose-ssh",
        text,
    })
}

fn edit(new: Prefs, args: &UpArgs, parsed: &Parsed, flags: &FlagSet) -> MaskedPrefs {
    let mut edit = MaskedPrefs {
        want_running_set: true,
        auto_exit_node_set: !new.auto_exit_node.is_empty(),
        ..Default::default()
    };
    edit.prefs = new;
    let named = flags
        .iter()
        .filter(|flag| args.reset || parsed.given(flag.name));
    for setting in named.filter_map(|flag| setting(flag.name)) {
        (setting.mark)(&mut edit);
    }
    edit
}

/// Refuses a command line that would silently put a setting back to its default. Tells whether it only turns the network on.
fn check_reverts(
    new: &Prefs,
    current: &Prefs,
    parsed: &Parsed,
    flags: &FlagSet,
    situation: &Situation<'_>,
) -> Result<bool, String> {
    if current.control_url.is_empty() {
        return Ok(false);
    }
    let logged_in = current
        .persist
        .as_ref()
        .is_some_and(|p| !p.user_profile.login_name.is_empty());
    if parsed.given_names().next().is_none()
        && logged_in
        && situation.state != State::NeedsLogin.name()
    {
        return Ok(true);
    }
    let mut missing: Vec<String> = SETTINGS
        .iter()
        .filter(|s| flags.get(s.flag).is_some() && !parsed.given(s.flag))
        .filter_map(|s| {
            let stored = shown(s.flag, (s.show)(current), current, situation);
            let wanted = shown(s.flag, (s.show)(new), new, situation);
            (stored != wanted && !excused(s.flag, &stored, &wanted, situation))
                .then(|| argument(s.flag, &stored))
        })
        .collect();
    if missing.is_empty() {
        return Ok(false);
    }
    missing.sort();
    let mut command = String::from(
        "Error: changing settings via 'tailscale up' requires mentioning all\n\
         non-default flags. To proceed, either re-run your command with --reset or\n\
         use the command below to explicitly mention the current value of\n\
         all non-default settings:\n\n\ttailscale up",
    );
    let given = parsed
        .given_names()
        .map(|name| given_argument(name, parsed));
    for argument in given.chain(missing) {
        command.push(' ');
        command.push_str(&argument);
    }
    command.push('\n');
    Err(command)
}

/// The settings know an exit node by id or by address; the user knows the address.
fn shown(flag: &str, shown: Shown, prefs: &Prefs, situation: &Situation<'_>) -> Shown {
    let by_id =
        flag == "exit-node" && prefs.exit_node_ip.0.is_none() && !prefs.exit_node_id.is_empty();
    match situation.exit_node.filter(|_| by_id) {
        Some(ip) => Shown::Text(ip.to_string()),
        None => shown,
    }
}

/// Differences that nobody asked for and nobody misses.
fn excused(flag: &str, stored: &Shown, wanted: &Shown, situation: &Situation<'_>) -> bool {
    let linux = situation.os == Os::Linux;
    match (flag, stored, wanted) {
        ("login-server", Shown::Text(a), Shown::Text(b)) => {
            is_login_server_synonym(a) && is_login_server_synonym(b)
        }
        ("accept-routes", _, Shown::Switch(false)) => linux && situation.synology,
        ("netfilter-mode", _, Shown::Text(mode)) => linux && situation.synology && mode == "on",
        // Compat: 1.66.0 to 1.66.3 stored true by default.
        ("stateful-filtering", Shown::Switch(true), Shown::Switch(false)) => linux,
        _ => false,
    }
}

/// A setting as an argument.
pub(crate) fn argument(flag: &str, value: &Shown) -> String {
    match value {
        Shown::Switch(true) => format!("--{flag}"),
        Shown::Switch(false) => format!("--{flag}=false"),
        Shown::Text(text) => text_argument(flag, text),
    }
}

fn text_argument(flag: &str, text: &str) -> String {
    if text.is_empty() {
        format!("--{flag}=")
    } else {
        format!("--{flag}={}", shell::quote(text))
    }
}

fn given_argument(flag: &str, parsed: &Parsed) -> String {
    match parsed.value(flag) {
        Value::Bool(on) => argument(flag, &Shown::Switch(*on)),
        _ if flag == "host-routes" => format!("--{flag}"),
        other => text_argument(flag, &other.to_string()),
    }
}
