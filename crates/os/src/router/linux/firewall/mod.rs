//! The firewall: chains of ours in the tables that the machine uses, since an accept is final only in its own base chain.
//!
//! [`wish`](wish::wish) says which rules there should be, [`plan`](plan::plan) how to get there from what there is; each
//! family's changes are committed as one batch. Rules of ours are known by a mark in their user data, which is a digest of
//! the rule, so that reading the marks back shows what is missing, old or foreign. Nothing of others is touched.

mod plan;
mod wish;

use std::env;
use std::io;
use std::path::Path;

use host::{Difference, FirewallConfig, FirewallKind, NetfilterMode};
use ipnet::IpNet;
use rustix::io::Errno;

use self::plan::{Have, plan};
use self::wish::{Surroundings, Wish, wish};
use crate::netlink::nft::{Dialect, Family};
use crate::netlink::{Netlink, Protocol};

/// What the router knows that the firewall needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) device: &'a str,
    pub(super) has_v6: bool,
    pub(super) addresses: &'a [IpNet],
    pub(super) routes: &'a [IpNet],
    pub(super) is_cgnat_underlay: bool,
}

/// Makes the firewall as wished. Gives what could not be done.
pub(super) fn reconcile(config: &FirewallConfig, around: Around<'_>) -> Vec<String> {
    let mut failures = Vec::new();
    for family in Family::IP {
        if let Err(error) = reconcile_family(config, around, family) {
            failures.push(failure(family, config, &error));
        }
    }
    if config.mode == NetfilterMode::On && failures.is_empty() {
        failures.extend(honour_marks().err());
    }
    failures
}

/// What of the firewall is not as wished.
pub(super) fn differences(
    config: &FirewallConfig,
    around: Around<'_>,
) -> io::Result<Vec<Difference>> {
    let mut found = Vec::new();
    for family in Family::IP {
        let wish = wish_for(config, around, family);
        let have = match open().and_then(|mut netlink| read(&mut netlink, family)) {
            Err(error) if wish == Wish::default() && is_missing(&error) => continue,
            have => have?,
        };
        if !plan(&have, &wish, family, dialect(config)).is_empty() {
            let name = if family == Family::Ip6 {
                "IPv6"
            } else {
                "IPv4"
            };
            let step = match wish == Wish::default() {
                true => format!("remove our {name} rules"),
                false => format!("set our {name} rules ({:?})", config.mode),
            };
            found.push(Difference {
                part: "firewall",
                step,
                about: None,
            });
        }
    }
    Ok(found)
}

/// Whether something of the firewall is not as wished.
pub(super) fn has_drifted(config: &FirewallConfig, around: Around<'_>) -> bool {
    Family::IP.into_iter().any(|family| {
        let changes = open().and_then(|mut netlink| {
            let have = read(&mut netlink, family)?;
            Ok(plan(
                &have,
                &wish_for(config, around, family),
                family,
                dialect(config),
            ))
        });
        changes.is_ok_and(|changes| !changes.is_empty())
    })
}

fn reconcile_family(config: &FirewallConfig, around: Around<'_>, family: Family) -> io::Result<()> {
    let wish = wish_for(config, around, family);
    let mut netlink = match open() {
        // A kernel without nftables has nothing of ours.
        Err(error) if wish == Wish::default() && is_missing(&error) => return Ok(()),
        netlink => netlink?,
    };
    let have = match read(&mut netlink, family) {
        Err(error) if wish == Wish::default() && is_missing(&error) => return Ok(()),
        have => have?,
    };
    let changes = plan(&have, &wish, family, dialect(config));
    if changes.is_empty() {
        return Ok(());
    }
    match changes.commit(&mut netlink) {
        // The kernel lacks the modules of `iptables`, so nobody lists rules with it.
        Err(error) if dialect(config) == Dialect::Iptables && is_missing(&error) => {
            plan(&have, &wish, family, Dialect::Native).commit(&mut netlink)
        }
        outcome => outcome,
    }
}

fn wish_for(config: &FirewallConfig, around: Around<'_>, family: Family) -> Wish {
    if family == Family::Ip6 && !around.has_v6 {
        return Wish::default();
    }
    let surroundings = Surroundings {
        device: around.device,
        addresses: around.addresses,
        is_cgnat_underlay: around.is_cgnat_underlay,
        routes: around.routes,
    };
    wish(config, &surroundings, family)
}

fn open() -> io::Result<Netlink> {
    Netlink::open(Protocol::Netfilter)
}

fn read(netlink: &mut Netlink, family: Family) -> io::Result<Have> {
    Ok(Have {
        tables: netlink.tables(family)?,
        chains: netlink.chains(family)?,
        rules: netlink.rules_of(family)?,
    })
}

/// Compat: as the originals choose (`util/linuxfw/detector.go`): what the environment says, then what is asked for, then
/// nftables only where there is no `iptables`.
fn dialect(config: &FirewallConfig) -> Dialect {
    let asked = env::var("TS_DEBUG_FIREWALL_MODE").unwrap_or_default();
    match (asked.as_str(), config.kind) {
        ("nftables", _) => Dialect::Native,
        ("iptables", _) => Dialect::Iptables,
        (_, FirewallKind::Nftables) => Dialect::Native,
        (_, FirewallKind::Iptables) => Dialect::Iptables,
        (_, FirewallKind::Auto) if has_iptables() => Dialect::Iptables,
        (_, FirewallKind::Auto) => Dialect::Native,
    }
}

fn has_iptables() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(Into::into);
    env::split_paths(&path).chain(usual).any(|folder| {
        ["iptables", "ip6tables"]
            .iter()
            .any(|name| Path::new(&folder).join(name).exists())
    })
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::NOENT
                | Errno::OPNOTSUPP
                | Errno::PROTONOSUPPORT
                | Errno::AFNOSUPPORT
                | Errno::INVAL
                | Errno::PERM
        )
    )
}

fn failure(family: Family, config: &FirewallConfig, error: &io::Error) -> String {
    let family = match family {
        Family::Ip6 => "IPv6",
        Family::Ip | Family::Inet => "IPv4",
    };
    let what = match config.mode {
        NetfilterMode::Off => "remove our rules from",
        NetfilterMode::NoDivert | NetfilterMode::On => "set up",
    };
    let hint = match Errno::from_io_error(error) {
        Some(Errno::PERM) => "; this needs CAP_NET_ADMIN, or --netfilter-mode=off",
        _ if is_missing(error) => {
            "; the kernel may lack nf_tables: try `modprobe nf_tables`, or --netfilter-mode=off"
        }
        _ => "",
    };
    format!("{what} the {family} firewall: {error}{hint}")
}

/// The reverse path filter looks at marks only if told to. A machine that forbids it keeps its own setting.
fn honour_marks() -> Result<(), String> {
    const SWITCH: &str = "/proc/sys/net/ipv4/conf/all/src_valid_mark";
    match std::fs::read_to_string(SWITCH) {
        Ok(text) if text.trim() == "1" => return Ok(()),
        // Without IPv4, or hidden.
        Err(_) => return Ok(()),
        Ok(_) => {}
    }
    match std::fs::write(SWITCH, "1") {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            tracing::debug!("write {SWITCH}: {error}");
            Ok(())
        }
        outcome => outcome.map_err(|error| format!("write {SWITCH}: {error}")),
    }
}
