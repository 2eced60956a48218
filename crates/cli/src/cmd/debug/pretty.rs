//! Settings in one line, as the daemon logs them.

use std::fmt::Write as _;

use goflag::quote;
use ipn::{DEFAULT_CONTROL_URL, Prefs};

use crate::cmd::up;
use crate::text::list;

/// Compat: Go's `Prefs.Pretty` on Linux. Keys never reach this program, so that the identity is only a name.
pub(super) fn prefs(prefs: &Prefs) -> String {
    let mut out = format!(
        "Prefs{{ra={} dns={} want={} ",
        prefs.route_all, prefs.corp_dns, prefs.want_running
    );
    for (on, word) in [
        (prefs.run_ssh, "ssh=true "),
        (prefs.run_web_client, "webclient=true "),
        (prefs.logged_out, "loggedout=true "),
        (prefs.sync == Some(false), "sync=false "),
        (prefs.force_daemon, "server=true "),
        (prefs.notepad_urls, "notepad=true "),
        (prefs.shields_up, "shields=true "),
        (prefs.remote_config, "remoteconfig=true "),
    ] {
        if on {
            out.push_str(word);
        }
    }
    exit_node(&mut out, prefs);
    routes(&mut out, prefs);
    for (name, items) in [
        ("tags", &prefs.advertise_tags),
        ("services", &prefs.advertise_services),
    ] {
        if !items.is_empty() {
            let _ = write!(out, "{name}={} ", items.join(","));
        }
    }
    let _ = write!(out, "nf={} ", up::netfilter_name(prefs.netfilter_mode));
    let url = Some(&prefs.control_url).filter(|url| *url != DEFAULT_CONTROL_URL);
    for (name, text) in [
        ("url", url.map_or("", String::as_str)),
        ("host", &prefs.hostname),
        ("op", &prefs.operator_user),
    ] {
        if !text.is_empty() {
            let _ = write!(out, "{name}={} ", quote(text));
        }
    }
    if !prefs.netfilter_kind.is_empty() {
        let _ = write!(out, "netfilterKind={} ", prefs.netfilter_kind);
    }
    out.push_str(match (prefs.auto_update.apply, prefs.auto_update.check) {
        (Some(true), _) => "update=on ",
        (_, true) => "update=check ",
        (_, false) => "update=off ",
    });
    if prefs.app_connector.advertise {
        out.push_str("appconnector=advertise ");
    }
    if let Some(port) = prefs.relay_server_port {
        let _ = write!(out, "relayServerPort={port} ");
    }
    if !prefs.relay_server_static_endpoints.is_empty() {
        let endpoints = list(&prefs.relay_server_static_endpoints);
        let _ = write!(out, "relayServerStaticEndpoints={endpoints} ");
    }
    match &prefs.persist {
        None => out.push_str("Persist=nil"),
        Some(persist) => {
            let user = quote(&persist.user_profile.login_name);
            let _ = write!(out, "Persist{{o=, n= u={user} ak=-}}");
        }
    }
    out + "}"
}

fn exit_node(out: &mut String, prefs: &Prefs) {
    let exit = match prefs.exit_node_ip.0 {
        Some(ip) => ip.to_string(),
        None => prefs.exit_node_id.clone(),
    };
    if !exit.is_empty() {
        let _ = write!(out, "exit={exit} lan={} ", prefs.exit_node_allow_lan_access);
    }
    if !prefs.auto_exit_node.is_empty() {
        let _ = write!(out, "auto={} ", prefs.auto_exit_node);
    }
}

fn routes(out: &mut String, prefs: &Prefs) {
    let some = !prefs.advertise_routes.is_empty();
    let _ = write!(out, "routes={} ", list(&prefs.advertise_routes));
    if some || prefs.no_snat {
        let _ = write!(out, "snat={} ", !prefs.no_snat);
    }
    if some || prefs.no_stateful_filtering == Some(true) {
        let off = prefs.no_stateful_filtering.unwrap_or_default();
        let _ = write!(out, "statefulFiltering={} ", !off);
    }
}
