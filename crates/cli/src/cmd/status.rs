//! `tailscale status`.

use std::cmp::Ordering;
use std::fmt::Write as _;

use goflag::{Parsed, quote};
use ipn::{PeerStatus, State, Status};
use tailcfg::go::GoTime;

use super::{display_name, why_not_running};
use crate::command::{Context, Error};
use crate::text::json;
use crate::text::table::Columns;

pub(crate) async fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    if !parsed.args().is_empty() {
        return Err("unexpected non-flag arguments to 'tailscale status'".into());
    }
    let body = context.status_text(parsed.bool("peers")).await?;
    if parsed.bool("json") {
        let body = if parsed.bool("active") {
            active_only(&body)?
        } else {
            body
        };
        return context.out(json::indent(&body, "", "  "));
    }
    if parsed.bool("web") {
        return Err("status --web: not built yet in this version".into());
    }
    let status: Status =
        serde_json::from_str(&body).map_err(|error| format!("decode status: {error}"))?;
    let health = health(&status);
    if let Some(why) = why_not_running(&status) {
        if status.backend_state == State::NoState.name() && !health.is_empty() {
            context.out(health + "\n")?;
        }
        context.out(why + "\n")?;
        return Err(Error::Exit(1));
    }
    let view = View {
        header: parsed.bool("header"),
        own: parsed.bool("self"),
        peers: parsed.bool("peers"),
        active: parsed.bool("active"),
    };
    let mut text = table(&status, &view, now());
    if !health.is_empty() {
        let _ = write!(text, "\n{health}");
    }
    context.out(text)
}

/// Seconds since 1970.
fn now() -> i64 {
    rt::wall().as_unix_secs()
}

/// What the user wants to see.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command"
)]
pub(super) struct View {
    pub(super) header: bool,
    pub(super) own: bool,
    pub(super) peers: bool,
    pub(super) active: bool,
}

/// The JSON without the peers that have no session.
fn active_only(body: &str) -> Result<String, String> {
    let undecodable = |error: serde_json::Error| format!("decode status: {error}");
    let mut status: json::Object = serde_json::from_str(body).map_err(undecodable)?;
    if let Some(value) = status.get_mut("Peer") {
        let mut peers: json::Object = serde_json::from_str(value.get()).map_err(undecodable)?;
        let active =
            |text: &str| serde_json::from_str::<PeerStatus>(text).is_ok_and(|peer| peer.active);
        let was_null = value.get() == "null";
        peers.0.retain(|(_, peer)| active(peer.get()));
        if !was_null {
            *value =
                serde_json::value::RawValue::from_string(peers.to_text()).map_err(undecodable)?;
        }
    }
    Ok(status.to_text())
}

/// The health warnings; empty if there are none.
fn health(status: &Status) -> String {
    let warnings = status.health.as_deref().unwrap_or_default();
    if warnings.is_empty() {
        return String::new();
    }
    let lines: String = warnings
        .iter()
        .map(|text| format!("#     - {text}\n"))
        .collect();
    format!("# Health check:\n{lines}")
}

/// The table for people, and a note when exit nodes were left out of it.
pub(super) fn table(status: &Status, view: &View, now: i64) -> String {
    let mut rows = String::new();
    if view.header {
        rows.push_str("IP\tHostname\tOwner\tOS\tStatus\t\n--\t--------\t-----\t--\t------\t\n");
    }
    if let Some(own) = status.self_status.as_deref().filter(|_| view.own) {
        row(&mut rows, status, own, now);
    }
    let mut location_based = false;
    let mut peers: Vec<&PeerStatus> = Vec::new();
    for peer in status
        .peer
        .iter()
        .flat_map(|peers| peers.values())
        .filter(|p| view.peers && !p.sharee_node)
    {
        // Hundreds of rented exit nodes would drown the tailnet's own machines.
        if peer.exit_node_option && !peer.exit_node && peer.dns_name.ends_with("mullvad.ts.net.") {
            location_based = true;
        } else if peer.active || !view.active {
            peers.push(peer);
        }
    }
    peers.sort_by(|a, b| order(a, b));
    peers
        .into_iter()
        .for_each(|peer| row(&mut rows, status, peer, now));
    let mut out = Columns { min: 0, pad: 2 }.align(&rows);
    if location_based {
        out.push_str("\n# To see the full list of exit nodes, including location-based exit nodes, run `tailscale exit-node list`  \n");
    }
    out
}

/// By name, host name, address, key.
fn order(a: &PeerStatus, b: &PeerStatus) -> Ordering {
    let ips = |peer: &PeerStatus| peer.tailscale_ips.iter().flatten().next().copied();
    let by_ip = match (ips(a), ips(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => Ordering::Equal,
    };
    a.dns_name
        .cmp(&b.dns_name)
        .then_with(|| a.host_name.cmp(&b.host_name))
        .then(by_ip)
        .then_with(|| a.public_key.cmp(&b.public_key))
}

fn row(out: &mut String, status: &Status, peer: &PeerStatus, now: i64) {
    let ip = peer
        .tailscale_ips
        .iter()
        .flatten()
        .next()
        .map(ToString::to_string)
        .unwrap_or_default();
    let name = display_name(status, peer);
    let _ = writeln!(
        out,
        "{ip}\t{name}\t{}\t{}\t{}\t",
        owner(status, peer),
        peer.os,
        activity(peer, now)
    );
}

/// The login name of the node's user up to the `@`; of who shared it, if it is shared.
fn owner(status: &Status, peer: &PeerStatus) -> String {
    let id = if peer.alt_sharer_user_id == 0 {
        peer.user_id
    } else {
        peer.alt_sharer_user_id
    };
    if id == 0 {
        return "-".to_owned();
    }
    let Some(user) = status.user.as_ref().and_then(|users| users.get(&id)) else {
        return id.to_string();
    };
    match user.login_name.split_once('@') {
        Some((name, _)) => format!("{name}@"),
        None => user.login_name.clone(),
    }
}

/// The last column: what the node does, and how we reach it.
fn activity(peer: &PeerStatus, now: i64) -> String {
    let traffic = peer.tx_bytes != 0 || peer.rx_bytes != 0;
    let away = if peer.online {
        String::new()
    } else {
        format!("; offline{}", last_seen(peer.last_seen, now))
    };
    let role = if peer.exit_node {
        "exit node"
    } else if peer.exit_node_option {
        "offers exit node"
    } else {
        ""
    };
    let mut out = if peer.active {
        let role = if role.is_empty() {
            String::new()
        } else {
            format!("{role}; ")
        };
        format!("active; {role}{}{away}", path(peer))
    } else if !role.is_empty() {
        format!("idle; {role}{away}")
    } else if traffic {
        format!("idle{away}")
    } else if peer.online {
        "-".to_owned()
    } else {
        away.trim_start_matches("; ").to_owned()
    };
    if traffic {
        let _ = write!(out, ", tx {} rx {}", peer.tx_bytes, peer.rx_bytes);
    }
    out
}

fn path(peer: &PeerStatus) -> String {
    if !peer.cur_addr.is_empty() {
        format!("direct {}", peer.cur_addr)
    } else if !peer.peer_relay.is_empty() {
        format!("peer-relay {}", peer.peer_relay)
    } else if !peer.relay.is_empty() {
        format!("relay {}", quote(&peer.relay))
    } else {
        String::new()
    }
}

/// How long ago, in the largest whole unit and at least a minute.
pub(super) fn last_seen(seen: GoTime, now: i64) -> String {
    let Some(seen) = seen.some() else {
        return String::new();
    };
    let minutes = (now.saturating_sub(seen.unix_secs()) / 60).max(1);
    match minutes {
        ..60 => format!(", last seen {minutes}m ago"),
        60..1440 => format!(", last seen {}h ago", minutes / 60),
        _ => format!(", last seen {}d ago", minutes / 1440),
    }
}
