//! `tailscale set`: only what is named changes.

use std::net::SocketAddr;

use goflag::{Parsed, quote};
use ipn::{MaskedPrefs, Prefs};
use ipnet::IpNet;

use super::{no_arguments, trial, up};
use crate::command::{Context, Error};

/// Where the web page of a node is served.
const WEB_PORT: u16 = 5252;

pub(crate) async fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    no_arguments(parsed)?;
    let status = context.status(true).await?;
    let mut edit = MaskedPrefs {
        prefs: values(parsed),
        ..MaskedPrefs::default()
    };
    if up::Os::here() == up::Os::Linux {
        let (mode, warning) = up::netfilter_mode(parsed.string("netfilter-mode"))?;
        if let Some(warning) = warning {
            warn(context, warning)?;
        }
        edit.prefs.netfilter_mode = mode;
    }
    up::set_exit_node(&mut edit.prefs, parsed.string("exit-node"), &status)?;
    edit.auto_exit_node_set = !edit.prefs.auto_exit_node.is_empty();
    up::warn_on_routes(context, &edit.prefs).await?;
    for setting in parsed.given_names().filter_map(up::setting) {
        (setting.mark)(&mut edit);
    }
    if edit.is_empty() {
        return Err(Error::Help);
    }
    let current = context.prefs().await?;
    if edit.advertise_routes_set {
        edit.prefs.advertise_routes = routes(parsed, &current)?;
    }
    if edit.run_ssh_set && up::ssh_over_tailscale(context.env) {
        let risk = up::ssh_risk(edit.prefs.run_ssh, current.run_ssh);
        if let Some(risk) = risk {
            up::ask(context, &risk, parsed.string("accept-risk")).await?;
        }
    }
    relay_server(&mut edit.prefs, parsed)?;
    if parsed.bool("dry-run") {
        return trial::preview(context, &edit).await;
    }
    let mut after = current.clone();
    after.apply(&edit);
    if after.no_snat && up::is_exit_node(&after) {
        warn(context, up::NO_SNAT_AT_EXIT)?;
    }
    context.check_prefs(&after).await?;
    let accepted = parsed.string("accept-risk");
    trial::apply(context, &edit, &current, &status, accepted).await?;
    let own = status.tailscale_ips.iter().flatten().next();
    match own.filter(|_| edit.prefs.run_web_client) {
        Some(ip) => context.out(format!("\nWeb interface now running at {ip}:{WEB_PORT}\n")),
        None => Ok(()),
    }
}

fn warn(context: &mut Context<'_>, text: &str) -> Result<(), Error> {
    context.out(format!("Warning: {text}\n"))
}

/// All flags as preferences; which of them count is another question.
fn values(parsed: &Parsed) -> Prefs {
    let switch = |name: &str| parsed.bool(name);
    let on_linux = |name: &str| parsed.get_bool(name).unwrap_or_default();
    let mut prefs = Prefs {
        profile_name: parsed.string("nickname").to_owned(),
        route_all: switch("accept-routes"),
        corp_dns: switch("accept-dns"),
        exit_node_allow_lan_access: switch("exit-node-allow-lan-access"),
        shields_up: switch("shields-up"),
        run_ssh: switch("ssh"),
        run_web_client: switch("webclient"),
        hostname: parsed.string("hostname").to_owned(),
        operator_user: parsed.get_string("operator").unwrap_or_default().to_owned(),
        no_snat: !on_linux("snat-subnet-routes"),
        no_stateful_filtering: Some(!on_linux("stateful-filtering")),
        force_daemon: parsed.get_bool("unattended").unwrap_or_default(),
        sync: Some(switch("sync")),
        posture_checking: switch("report-posture"),
        remote_config: switch("remote-config"),
        ..Prefs::default()
    };
    prefs.auto_update.check = switch("update-check");
    prefs.auto_update.apply = Some(switch("auto-update"));
    prefs.app_connector.advertise = switch("advertise-connector");
    prefs
}

/// The routes to offer: of those offered now, what is not named stays.
fn routes(parsed: &Parsed, current: &Prefs) -> Result<Vec<IpNet>, String> {
    let (was_exit, be_exit) = (
        up::is_exit_node(current),
        parsed.bool("advertise-exit-node"),
    );
    let exit_named = parsed.given("advertise-exit-node");
    if parsed.given("advertise-routes") {
        let exit = if exit_named { be_exit } else { was_exit };
        return up::routes(parsed.string("advertise-routes"), exit);
    }
    if was_exit == be_exit {
        return Ok(current.advertise_routes.clone());
    }
    let mut routes = current.advertise_routes.clone();
    routes.retain(|route| route.prefix_len() != 0);
    if be_exit {
        routes.extend(up::routes("", true)?);
    }
    Ok(routes)
}

/// What peers may relay through this node.
fn relay_server(prefs: &mut Prefs, parsed: &Parsed) -> Result<(), String> {
    let port = parsed.string("relay-server-port");
    if !port.is_empty() {
        let port =
            port_number(port).map_err(|why| format!("failed to set relay server port: {why}"))?;
        prefs.relay_server_port = Some(port);
    }
    let endpoints = parsed.string("relay-server-static-endpoints");
    if !endpoints.is_empty() {
        for text in endpoints.split(',') {
            let endpoint: SocketAddr = text.parse().map_err(|_| {
                format!(
                    "failed to set relay server static endpoints: {} is not a valid IP:port",
                    quote(text)
                )
            })?;
            prefs.relay_server_static_endpoints.push(endpoint);
        }
        prefs.relay_server_static_endpoints.sort_unstable();
        prefs.relay_server_static_endpoints.dedup();
    }
    Ok(())
}

/// A decimal number of 16 bits, with Go's words for what is wrong with it.
fn port_number(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let why = if digits {
        "value out of range"
    } else {
        "invalid syntax"
    };
    text.parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| format!("strconv.ParseUint: parsing {}: {why}", quote(text)))
}
