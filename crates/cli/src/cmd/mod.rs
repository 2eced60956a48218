//! The commands' functions, one file each.

pub(crate) mod bugreport;
pub(crate) mod completion;
pub(crate) mod debug;
pub(crate) mod dns;
pub(crate) mod dns_status;
pub(crate) mod down;
pub(crate) mod exit_node;
pub(crate) mod get;
pub(crate) mod ip;
pub(crate) mod licenses;
pub(crate) mod logout;
pub(crate) mod metrics;
pub(crate) mod nc;
pub(crate) mod netcheck;
pub(crate) mod ping;
pub(crate) mod root;
pub(crate) mod set;
pub(crate) mod status;
pub(crate) mod switch;
pub(crate) mod trial;
pub(crate) mod up;
pub(crate) mod update;
pub(crate) mod version;
pub(crate) mod wait;
pub(crate) mod whoami;
pub(crate) mod whois;

use std::net::IpAddr;

use goflag::{Parsed, quote};
use ipn::{PeerStatus, State, Status};

use crate::command::{Context, Error};
use crate::text::{dnsname, quoted_list};

/// Refuses arguments after the flags.
fn no_arguments(parsed: &Parsed) -> Result<(), Error> {
    match parsed.args() {
        [] => Ok(()),
        args => Err(Error::Message(format!(
            "too many non-flag arguments: {}",
            quoted_list(args)
        ))),
    }
}

/// Why the node is not on, for people; nothing if it is on or about to be.
fn why_not_running(status: &Status) -> Option<String> {
    match State::from_name(&status.backend_state) {
        Some(State::Running | State::Starting) => None,
        Some(State::Stopped) => Some("Tailscale is stopped.".to_owned()),
        Some(State::NeedsMachineAuth) => {
            Some("Machine is not yet approved by tailnet admin.".to_owned())
        }
        Some(State::NeedsLogin) => {
            let mut text = "Logged out.".to_owned();
            if !status.auth_url.is_empty() {
                text += &format!("\nLog in at: {}", status.auth_url);
            }
            Some(text)
        }
        Some(State::NoState | State::InUseOtherUser) | None => {
            Some(format!("unexpected state: {}", status.backend_state))
        }
    }
}

/// For commands that need a network: says why there is none on standard output, and ends with exit code 1.
fn need_running(context: &mut Context<'_>, status: &Status) -> Result<(), Error> {
    match why_not_running(status) {
        None => Ok(()),
        Some(why) => {
            context.out(why + "\n")?;
            Err(Error::Exit(1))
        }
    }
}

/// A node's name as the status table shows it: short where the tailnet's suffix allows it.
fn display_name(status: &Status, peer: &PeerStatus) -> String {
    let base = dnsname::trim_suffix(&peer.dns_name, &status.magic_dns_suffix);
    if base.is_empty() {
        return format!("({})", quote(&dnsname::sanitize_hostname(&peer.host_name)));
    }
    match dnsname::to_unicode(base).filter(|_| base.starts_with("xn-")) {
        Some(unicode) => format!("{base} ({unicode})"),
        None => base.to_owned(),
    }
}

/// The address that an argument names, and whether it is this machine's.
async fn resolve(context: &mut Context<'_>, arg: &str) -> Result<(IpAddr, bool), Error> {
    if let Ok(ip) = arg.parse() {
        return Ok((ip, false));
    }
    let status = context.status(true).await?;
    let named = |peer: &PeerStatus| {
        arg.eq_ignore_ascii_case(&display_name(&status, peer)) || arg == peer.dns_name
    };
    let first = |peer: &PeerStatus| peer.tailscale_ips.iter().flatten().next().copied();
    let mut peers = status.peer.iter().flat_map(|peers| peers.values());
    if let Some(peer) = peers.find(|peer| named(peer)) {
        let ip = first(peer).ok_or("node found but lacks an IP")?;
        return Ok((ip, false));
    }
    let own = status.self_status.as_deref().filter(|own| named(own));
    if let Some(ip) = own.and_then(first) {
        return Ok((ip, true));
    }
    let found = tokio::net::lookup_host((arg, 0)).await;
    let mut found = found.map_err(|error| {
        let why = lookup_words(arg, &error);
        format!("error looking up IP of {}: {why}", quote(arg))
    })?;
    let to = found
        .next()
        .ok_or_else(|| format!("no IPs found for {}", quote(arg)))?;
    Ok((to.ip(), false))
}

/// Why a name has no address, in Go's words where they are the same on each system.
fn lookup_words(name: &str, error: &std::io::Error) -> String {
    let text = error.to_string();
    let unknown = ["Name or service not known", "No address associated"];
    if unknown.iter().any(|words| text.contains(words)) {
        return format!("lookup {name}: no such host");
    }
    format!("lookup {name}: {text}")
}
