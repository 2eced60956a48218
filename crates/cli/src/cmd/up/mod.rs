//! `tailscale up` and `login`: settings from flags, a check that none is lost by accident, and the wait for the network.

mod flags;
mod plan;
mod prefs;
mod wait;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use goflag::Parsed;
use ipn::{MaskedPrefs, Options, Prefs, Status, WatchMask, is_login_server_synonym};
use packet::addr;
use tailcfg::go::Secret;
use tokio::io::AsyncReadExt as _;

pub(crate) use self::flags::Os;
use self::flags::UpArgs;
pub(crate) use self::flags::{
    Setting, Shown, is_exit_node, login_flags, netfilter_name, risk_flag, set_flags, setting,
    up_flags,
};
use self::plan::{Plan, Situation};
pub(crate) use self::plan::{Risk, argument, ssh_risk};
pub(crate) use self::prefs::{NO_SNAT_AT_EXIT, netfilter_mode, routes, set_exit_node};
use crate::cmd::trial;
use crate::command::{Context, Env, Error};
use crate::daemon::os_error;
use crate::text::quoted_list;

/// Flags of the original that this version cannot honour; ignoring them would pretend.
const UNBUILT: [&str; 4] = ["audience", "client-id", "client-secret", "id-token"];

pub(crate) async fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    run_as(context, parsed, "up").await
}

/// `tailscale login`: `up` with a new, empty profile.
pub(crate) async fn login(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    refuse_unbuilt(parsed, "login")?;
    context.new_profile().await?;
    run_as(context, parsed, "login").await
}

fn refuse_unbuilt(parsed: &Parsed, verb: &str) -> Result<(), Error> {
    let unset = |name: &&&str| matches!(parsed.value(name).to_string().as_str(), "" | "false");
    let asked_for = UNBUILT.iter().filter(|name| parsed.given(name));
    match asked_for.into_iter().find(|name| !unset(name)) {
        Some(flag) => Err(format!("{verb} --{flag}: not built yet in this version").into()),
        None => Ok(()),
    }
}

async fn run_as(context: &mut Context<'_>, parsed: &Parsed, verb: &str) -> Result<(), Error> {
    if !parsed.args().is_empty() {
        return Err(format!(
            "too many non-flag arguments: {}",
            quoted_list(parsed.args())
        )
        .into());
    }
    let os = Os::here();
    let args = UpArgs::new(parsed, os);
    refuse_unbuilt(parsed, verb)?;
    let status = context.status_or_hint(true).await?;
    let (mut wanted, warnings) = prefs::from_args(&args, &status, os)?;
    for warning in warnings {
        context.out(format!("Warning: {warning}\n"))?;
    }
    warn_on_routes(context, &wanted).await?;
    let current = context.prefs().await?;
    if verb == "up" {
        // Compat: only `login` and `set` name profiles.
        wanted.profile_name.clone_from(&current.profile_name);
    }
    let user = context.env.var("USER").to_owned();
    let situation = Situation {
        os,
        synology: os == Os::Linux && std::path::Path::new("/etc.defaults/synoinfo.conf").exists(),
        user: &user,
        state: &status.backend_state,
        exit_node: exit_node_ip(&current, &status),
        ssh_over_tailscale: ssh_over_tailscale(context.env),
    };
    // Compat: the original looks for settings given among the flags of `up`, so that `login` gives none.
    let none = up_flags().read([""; 0]).ok();
    let given = none.as_ref().filter(|_| verb != "up").unwrap_or(parsed);
    let (plan, risks) = plan::plan(wanted, &current, &args, given, &up_flags(), &situation)?;
    if parsed.get_bool("dry-run") == Some(true) {
        return trial::preview(context, &edit_of(plan)).await;
    }
    for risk in risks {
        ask(context, &risk, &args.accept_risk).await?;
    }
    carry_out(context, plan, &current, &args, &status).await?;
    health_warnings(context).await
}

/// What a plan changes.
fn edit_of(plan: Plan) -> MaskedPrefs {
    let mut edit = match plan {
        Plan::Edit(edit) => return *edit,
        Plan::TurnOn => MaskedPrefs::default(),
        Plan::Start(wanted) => {
            let mut edit = MaskedPrefs {
                prefs: *wanted,
                ..MaskedPrefs::default()
            };
            let all = up_flags();
            for setting in all.iter().filter_map(|flag| setting(flag.name)) {
                (setting.mark)(&mut edit);
            }
            edit
        }
    };
    edit.want_running_set = true;
    edit.prefs.want_running = true;
    edit
}

async fn carry_out(
    context: &mut Context<'_>,
    plan: Plan,
    current: &Prefs,
    args: &UpArgs,
    status: &Status,
) -> Result<(), Error> {
    if let Plan::Edit(edit) = plan {
        return trial::apply(context, &edit, current, status, &args.accept_risk).await;
    }
    // The subscription comes first, or the login URL could be told to nobody.
    let bus = context.watch(WatchMask::NONE).await?;
    let mut admin = admin_url(current);
    let turn_on = plan == Plan::TurnOn;
    match plan {
        Plan::Start(wanted) => {
            admin = admin_url(&wanted);
            start(context, *wanted, args, status).await?;
        }
        Plan::TurnOn | Plan::Edit(_) => {
            let mut edit = MaskedPrefs {
                want_running_set: true,
                ..MaskedPrefs::default()
            };
            edit.prefs.want_running = true;
            context.edit_prefs(&edit, "").await?;
        }
    }
    wait::until_running(
        context,
        bus,
        &wait::Waiting::new(args, status, admin, turn_on),
    )
    .await
}

async fn start(
    context: &mut Context<'_>,
    wanted: Prefs,
    args: &UpArgs,
    status: &Status,
) -> Result<(), Error> {
    context.check_prefs(&wanted).await?;
    let auth_key = auth_key(&args.auth_key)?;
    let options = Options {
        update_prefs: Some(Box::new(wanted)),
        auth_key,
        ..Options::default()
    };
    context.start(&options).await?;
    if args.force_reauth || !status.have_node_key {
        context.login_interactive().await?;
    }
    Ok(())
}

/// The auth key itself, from the command line or the file that it names.
fn auth_key(text: &str) -> Result<Secret, Error> {
    let key = match text.strip_prefix("file:") {
        None => text.to_owned(),
        Some(path) => {
            let read = std::fs::read_to_string(path);
            read.map_err(|error| format!("open {path}: {}", os_error(&error)))?
                .trim()
                .to_owned()
        }
    };
    if key.starts_with("tskey-client-") {
        return Err(
            "up --auth-key with an OAuth client secret: not built yet in this version".into(),
        );
    }
    if key.starts_with("arn:aws:ssm:") {
        return Err(
            "up --auth-key from the AWS Parameter Store: not built yet in this version".into(),
        );
    }
    Ok(Secret::new(key))
}

/// Where an administrator approves machines.
fn admin_url(prefs: &Prefs) -> String {
    let url = prefs.control_url.as_str();
    let default = url.is_empty() || is_login_server_synonym(url);
    format!(
        "{}/admin",
        if default {
            "https://login.tailscale.com"
        } else {
            url
        }
    )
}

/// The address of the exit node in the settings, which may know it by id only.
pub(crate) fn exit_node_ip(prefs: &Prefs, status: &Status) -> Option<IpAddr> {
    if prefs.exit_node_ip.0.is_some() || prefs.exit_node_id.is_empty() {
        return prefs.exit_node_ip.0;
    }
    let mut peers = status.peer.iter().flat_map(|peers| peers.values());
    peers
        .find(|peer| peer.id == prefs.exit_node_id)?
        .tailscale_ips
        .iter()
        .flatten()
        .next()
        .copied()
}

/// Tells who offers routes what keeps the system from forwarding.
pub(crate) async fn warn_on_routes(context: &mut Context<'_>, wanted: &Prefs) -> Result<(), Error> {
    if wanted.advertise_routes.is_empty() && !wanted.app_connector.advertise {
        return Ok(());
    }
    for check in ["check-ip-forwarding", "check-udp-gro-forwarding"] {
        if let Some(warning) = context.check(check).await {
            context.out(format!("Warning: {warning}\n"))?;
        }
    }
    Ok(())
}

/// Shows the health warnings that whoever changed settings should know of.
async fn health_warnings(context: &mut Context<'_>) -> Result<(), Error> {
    // Compat: these are the daemon's texts, which have no other form here.
    const WORTHY: [&str; 4] = [
        "Tailscale SSH enabled, but ",
        "Some peers are advertising routes but --accept-routes is false",
        "this node is locked out; it will not have connectivity until it is signed.",
        "Tailnet Lock state is only being stored in-memory.",
    ];
    let Ok(status) = context.status(false).await else {
        return Ok(());
    };
    let worthy = |text: &&String| {
        WORTHY.iter().any(|known| text.contains(known))
            || text.to_lowercase().contains("update available: ")
    };
    let warnings: Vec<String> = status
        .health
        .iter()
        .flatten()
        .filter(worthy)
        .cloned()
        .collect();
    match warnings.as_slice() {
        [] => Ok(()),
        [one] => context.out(format!("{one}\n")),
        many => {
            let lines: String = many
                .iter()
                .map(|text| format!("#     - {text}\n"))
                .collect();
            context.out(format!("# Health check warnings:\n{lines}"))
        }
    }
}

/// Asks before something risky, unless the user accepted the risk on the command line.
pub(crate) async fn ask(
    context: &mut Context<'_>,
    risk: &Risk,
    accepted: &str,
) -> Result<(), Error> {
    if accepted
        .split(',')
        .any(|name| name == risk.name || name == "all")
    {
        return Ok(());
    }
    context.out(format!(
        "{}\nTo skip this warning, use --accept-risk={}\n",
        risk.text, risk.name
    ))?;
    if context.io.interactive {
        context.out("Continue? [y/N] ")?;
        let answer = read_line(context).await.to_lowercase();
        if matches!(answer.trim(), "y" | "yes" | "sure") {
            return Ok(());
        }
    }
    Err("aborted, no changes made".into())
}

pub(crate) async fn read_line(context: &mut Context<'_>) -> String {
    let mut line = Vec::new();
    while let Ok(byte) = context.io.stdin.read_u8().await {
        if byte == b'\n' || line.len() == 1024 {
            break;
        }
        line.push(byte);
    }
    String::from_utf8_lossy(&line).into_owned()
}

/// Whether the user sits at an SSH connection that comes from a Tailscale address.
pub(crate) fn ssh_over_tailscale(env: &Env) -> bool {
    ssh_client(env).is_some_and(addr::is_tailscale_ip)
}

/// From where the user's SSH connection comes, if there is one.
pub(crate) fn ssh_client(env: &Env) -> Option<IpAddr> {
    let client = if env.var("SUDO_USER").is_empty() {
        env.var("SSH_CLIENT").to_owned()
    } else {
        login_shell_variable("SSH_CLIENT").unwrap_or_default()
    };
    client.split(' ').next()?.parse().ok()
}

/// A variable of the session's first process: sudo hides the user's own.
fn login_shell_variable(name: &str) -> Option<String> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name may hold blanks and parentheses; after its last one come state, parent, group, session.
    let session = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(3)?;
    let environ = std::fs::read(format!("/proc/{session}/environ")).ok()?;
    let environ = String::from_utf8_lossy(&environ);
    environ
        .split('\0')
        .find_map(|pair| Some(pair.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}
