//! systemd-resolved, which shares names out by suffix: our device's servers are asked for what is ours.

use std::net::IpAddr;

use host::DnsConfig;

use super::bus::{Bus, Result};

/// `AF_INET`, `AF_INET6`
const INET: i32 = 2;
const INET6: i32 = 10;
/// All names.
const EVERYTHING: &str = ".";
const REVERSE: &str = ".arpa.";

/// Has resolved ask `want`'s servers on the device of number `link`.
pub(super) async fn apply(
    bus: &Bus,
    link: i32,
    want: &DnsConfig,
) -> std::result::Result<(), String> {
    if *want == DnsConfig::default() {
        return revert(bus, link).await;
    }
    let servers: Vec<(i32, Vec<u8>)> = want.nameservers.iter().map(server).collect();
    said(
        "SetLinkDNS",
        bus.resolved("SetLinkDNS", &(link, servers)).await,
    )?;
    set_domains(bus, link, domains(want)).await?;
    // Versions before 240 know no default route.
    let takes_all = want.matching.is_empty() && !want.nameservers.is_empty();
    optional(
        "SetLinkDefaultRoute",
        bus.resolved("SetLinkDefaultRoute", &(link, takes_all))
            .await,
    );
    // MagicDNS is plain DNS; what else resolved may try of itself only delays it.
    for method in [
        "SetLinkLLMNR",
        "SetLinkMulticastDNS",
        "SetLinkDNSSEC",
        "SetLinkDNSOverTLS",
    ] {
        optional(method, bus.resolved(method, &(link, "no")).await);
    }
    // What was asked of others before may have another answer now.
    optional("FlushCaches", bus.resolved("FlushCaches", &()).await);
    Ok(())
}

/// Takes back everything that was said about the device.
pub(super) async fn revert(bus: &Bus, link: i32) -> std::result::Result<(), String> {
    said("RevertLink", bus.resolved("RevertLink", &(link,)).await)
}

async fn set_domains(
    bus: &Bus,
    link: i32,
    domains: Vec<(String, bool)>,
) -> std::result::Result<(), String> {
    let outcome = bus.resolved("SetLinkDomains", &(link, &domains)).await;
    if !matches!(&outcome, Err(error) if error.to_string().contains("Argument list too long")) {
        return said("SetLinkDomains", outcome);
    }
    // Old versions take few: names matter more than the names of addresses.
    let fewer: Vec<_> = domains
        .into_iter()
        .filter(|(name, _)| !name.ends_with(REVERSE))
        .collect();
    said(
        "SetLinkDomains",
        bus.resolved("SetLinkDomains", &(link, fewer)).await,
    )
}

fn server(ip: &IpAddr) -> (i32, Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => (INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (INET6, ip.octets().to_vec()),
    }
}

/// Suffixes, and whether they are only for the choice of a server: the others are tried behind short names, too.
fn domains(want: &DnsConfig) -> Vec<(String, bool)> {
    let absolute = |name: &String| format!("{name}.");
    let mut domains: Vec<(String, bool)> = want
        .search
        .iter()
        .map(|name| (absolute(name), false))
        .collect();
    for name in want.matching.iter().map(absolute) {
        if !domains.iter().any(|(other, _)| *other == name) {
            domains.push((name, true));
        }
    }
    if want.matching.is_empty() && !want.nameservers.is_empty() {
        domains.push((EVERYTHING.to_owned(), true));
    }
    domains
}

fn said<T>(method: &str, outcome: Result<T>) -> std::result::Result<(), String> {
    outcome
        .map(drop)
        .map_err(|error| format!("systemd-resolved: {method}: {error}"))
}

fn optional<T>(method: &str, outcome: Result<T>) {
    if let Err(error) = outcome {
        tracing::debug!("systemd-resolved: {method}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(matching: &[&str]) -> DnsConfig {
        DnsConfig {
            nameservers: vec!["100.100.100.100".parse().unwrap()],
            search: vec!["tail.example".into()],
            matching: matching.iter().map(ToString::to_string).collect(),
        }
    }

    fn listed(domains: &[(&str, bool)]) -> Vec<(String, bool)> {
        domains
            .iter()
            .map(|(name, only)| ((*name).to_owned(), *only))
            .collect()
    }

    #[test]
    fn suffixes_are_searched_or_only_routed() {
        let split = config(&["corp.example", "tail.example"]);
        assert_eq!(
            domains(&split),
            listed(&[("tail.example.", false), ("corp.example.", true)])
        );
        assert_eq!(
            domains(&config(&[])),
            listed(&[("tail.example.", false), (".", true)])
        );
        let only_search = DnsConfig {
            nameservers: Vec::new(),
            ..config(&[])
        };
        assert_eq!(domains(&only_search), listed(&[("tail.example.", false)]));
    }
}
