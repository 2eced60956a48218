//! From flags to preferences.

use std::collections::BTreeSet;
use std::net::IpAddr;

use goflag::quote;
use ipn::{NetfilterMode, PeerStatus, Prefs, Status};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use packet::addr;
use tailcfg::go::OptAddr;

use super::flags::{Os, UpArgs, is_exit_node};
use crate::text::dnsname;

/// What is wrong with an exit node that leaves sources as they are.
pub(crate) const NO_SNAT_AT_EXIT: &str = "--snat-subnet-routes=false is set with --advertise-exit-node; internet traffic through this exit \
     node may not work as expected";

/// The preferences that a command line asks for, and what the user should be warned of.
pub(crate) fn from_args(
    args: &UpArgs,
    status: &Status,
    os: Os,
) -> Result<(Prefs, Vec<String>), String> {
    let advertise_routes = routes(&args.advertise_routes, args.advertise_exit_node)?;
    if args.exit_node.is_empty() && args.exit_node_allow_lan_access {
        return Err("--exit-node-allow-lan-access can only be used with --exit-node".to_owned());
    }
    let advertise_tags = tags(&args.advertise_tags)?;
    if !args.hostname.is_empty() {
        dnsname::check_hostname(&args.hostname)?;
    }
    let mut prefs = Prefs::new();
    prefs.control_url = args.login_server.clone();
    prefs.want_running = true;
    prefs.route_all = args.accept_routes;
    set_exit_node(&mut prefs, &args.exit_node, status)?;
    prefs.exit_node_allow_lan_access = args.exit_node_allow_lan_access;
    prefs.corp_dns = args.accept_dns;
    prefs.shields_up = args.shields_up;
    prefs.run_ssh = args.ssh;
    prefs.advertise_routes = advertise_routes;
    prefs.advertise_tags = advertise_tags;
    prefs.hostname = args.hostname.clone();
    prefs.force_daemon = args.unattended;
    prefs.operator_user = args.operator.clone();
    prefs.profile_name = args.nickname.clone();
    prefs.app_connector.advertise = args.advertise_connector;
    prefs.posture_checking = args.report_posture;
    let warnings = if os == Os::Linux {
        firewall(&mut prefs, args)?
    } else {
        Vec::new()
    };
    Ok((prefs, warnings))
}

/// The settings that only Linux has.
fn firewall(prefs: &mut Prefs, args: &UpArgs) -> Result<Vec<String>, String> {
    let mut warnings = Vec::new();
    prefs.no_snat = !args.snat;
    if prefs.no_snat && is_exit_node(prefs) {
        warnings.push(NO_SNAT_AT_EXIT.to_owned());
    }
    prefs.no_stateful_filtering = Some(!args.stateful_filtering);
    let (mode, warning) = netfilter_mode(&args.netfilter_mode)?;
    prefs.netfilter_mode = mode;
    warnings.extend(warning.map(str::to_owned));
    Ok(warnings)
}

/// What a word of `--netfilter-mode` means, and what its user should know.
pub(crate) fn netfilter_mode(word: &str) -> Result<(NetfilterMode, Option<&'static str>), String> {
    match word {
        "on" => Ok((NetfilterMode::ON, None)),
        "nodivert" => Ok((
            NetfilterMode::NO_DIVERT,
            Some("netfilter=nodivert; add iptables calls to ts-* chains manually."),
        )),
        "off" => Ok((
            NetfilterMode::OFF,
            Some("netfilter=off; configure iptables yourself."),
        )),
        other => Err(format!("invalid value --netfilter-mode={}", quote(other))),
    }
}

/// The routes to offer, widest first.
pub(crate) fn routes(list: &str, exit_node: bool) -> Result<Vec<IpNet>, String> {
    let default4 = IpNet::V4(Ipv4Net::default());
    let default6 = IpNet::V6(Ipv6Net::default());
    let mut routes = BTreeSet::new();
    if !list.is_empty() {
        for text in list.split(',') {
            routes.insert(route(text)?);
        }
        let (has4, has6) = (routes.contains(&default4), routes.contains(&default6));
        if has4 != has6 {
            let (have, lack, version) = if has4 {
                (default4, default6, 6)
            } else {
                (default6, default4, 4)
            };
            return Err(format!(
                "{have} advertised without its IPv{version} counterpart, please also advertise {lack}"
            ));
        }
    }
    if exit_node {
        routes.extend([default4, default6]);
    }
    let mut routes: Vec<IpNet> = routes.into_iter().collect();
    routes.sort_by_key(|net| (net.prefix_len(), net.addr()));
    Ok(routes)
}

fn route(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text
        .parse()
        .map_err(|_| format!("{} is not a valid IP address or CIDR prefix", quote(text)))?;
    if net != net.trunc() {
        return Err(format!(
            "{net} has non-address bits set; expected {}",
            net.trunc()
        ));
    }
    if let IpNet::V6(net) = net {
        check_via(net)?;
    }
    Ok(net)
}

/// Routes in the range that carries IPv4 in IPv6 must hold a whole site.
fn check_via(net: Ipv6Net) -> Result<(), String> {
    if !addr::VIA.contains(&net.addr()) || net.prefix_len() < addr::VIA.prefix_len() {
        return Ok(());
    }
    if net.prefix_len() < 96 {
        return Err(format!("{net} 4-in-6 prefix must be at least a /96"));
    }
    let [.., high, low, _, _] = net.addr().segments();
    if high != 0 {
        let site = (u32::from(high) << 16) | u32::from(low);
        return Err(format!(
            "route {net} contains invalid site ID {site:08x}; must be 0xffff or less"
        ));
    }
    Ok(())
}

fn tags(list: &str) -> Result<Vec<String>, String> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let whole = |tag: &str| {
        if tag.contains(':') {
            tag.to_owned()
        } else {
            format!("tag:{tag}")
        }
    };
    let tags: Vec<String> = list.split(',').map(whole).collect();
    for tag in &tags {
        check_tag(tag).map_err(|why| format!("tag: {}: {why}", quote(tag)))?;
    }
    Ok(tags)
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let name = tag
        .strip_prefix("tag:")
        .ok_or("tags must start with 'tag:'")?;
    if name.is_empty() {
        return Err("tag names must not be empty");
    }
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err("tag names must start with a letter, after 'tag:'");
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err("tag names can only contain numbers, letters, or dashes");
    }
    Ok(())
}

pub(crate) fn set_exit_node(prefs: &mut Prefs, text: &str, status: &Status) -> Result<(), String> {
    match text.strip_prefix("auto:") {
        _ if text.is_empty() => {}
        Some(expression) if !expression.is_empty() => prefs.auto_exit_node = expression.to_owned(),
        _ => prefs.exit_node_ip = OptAddr(Some(exit_node_ip(text, status)?)),
    }
    Ok(())
}

/// The address of the exit node that the user named by address or name.
fn exit_node_ip(text: &str, status: &Status) -> Result<IpAddr, String> {
    let own = |ip: &IpAddr| status.tailscale_ips.iter().flatten().any(|mine| mine == ip);
    let local = || {
        format!(
            "cannot use {text} as an exit node as it is a local IP address to this machine; did you mean --advertise-exit-node?"
        )
    };
    let Ok(ip) = text.parse::<IpAddr>() else {
        let ip = exit_node_by_name(text, status)?;
        return if own(&ip) { Err(local()) } else { Ok(ip) };
    };
    if own(&ip) {
        return Err(local());
    }
    if status.backend_state == ipn::State::Running.name() {
        let peers = status.peer.iter().flat_map(|peers| peers.values());
        let Some(peer) = peers
            .into_iter()
            .find(|p| p.tailscale_ips.iter().flatten().any(|theirs| *theirs == ip))
        else {
            return Err(format!("no node found in netmap with IP {ip}"));
        };
        if !peer.exit_node_option {
            return Err(format!("node {ip} is not advertising an exit node"));
        }
    }
    Ok(ip)
}

fn exit_node_by_name(name: &str, status: &Status) -> Result<IpAddr, String> {
    let peers = status.peer.as_ref().filter(|peers| !peers.is_empty()).ok_or(
        "cannot resolve exit node by hostname while Tailscale is starting up; please use its Tailscale IP address instead",
    )?;
    let named = |peer: &&PeerStatus| {
        let dotless = peer.dns_name.strip_suffix('.').unwrap_or(&peer.dns_name);
        let base = dnsname::trim_suffix(&peer.dns_name, &status.magic_dns_suffix);
        [base, &peer.dns_name, dotless]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    };
    let mut found = Vec::new();
    for peer in peers.values().filter(named) {
        let ip = peer.tailscale_ips.iter().flatten().next();
        let ip = ip.ok_or_else(|| format!("node {} has no Tailscale IP?", quote(name)))?;
        if !peer.exit_node_option {
            return Err(format!(
                "node {} is not advertising an exit node",
                quote(name)
            ));
        }
        found.push(*ip);
    }
    match found.as_slice() {
        [ip] => Ok(*ip),
        [] => Err(format!(
            "invalid value {} for --exit-node; must be IP or peer hostname",
            quote(name)
        )),
        _ => Err(format!("ambiguous exit node name {}", quote(name))),
    }
}
