//! Commands that need no daemon: `via` and `resolve`.

use std::time::Duration;

use goflag::{Parsed, quote};
use ipnet::IpNet;
use packet::addr;

use crate::cmd::lookup_words;
use crate::command::{Context, Error};

/// `tailscale debug via`: IPv4 routes inside the IPv6 range that tells sites apart.
pub(crate) fn via(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let text = match parsed.args() {
        [route] => from_via(route)?,
        [site, route] => to_via(site, route)?,
        _ => return Err("expect either <site-id> <v4-cidr> or <v6-route>".into()),
    };
    context.out(text + "\n")
}

fn prefix(text: &str) -> Result<IpNet, String> {
    text.parse()
        .map_err(|_| format!("{} is not a CIDR prefix", quote(text)))
}

fn from_via(route: &str) -> Result<String, String> {
    let IpNet::V6(route) = prefix(route)? else {
        return Err("with one argument, expect an IPv6 CIDR".to_owned());
    };
    if !addr::VIA.contains(&route.addr()) {
        return Err("not a via route".to_owned());
    }
    let v4_len = route
        .prefix_len()
        .checked_sub(96)
        .ok_or("short length, want /96 or more")?;
    let bits = route.addr().to_bits();
    let [site, v4] = [bits >> 32, bits].map(|bits| (bits & u128::from(u32::MAX)) as u32);
    let v4 = std::net::Ipv4Addr::from_bits(v4);
    Ok(format!("site {site} (0x{site:x}), {v4}/{v4_len}"))
}

fn to_via(site: &str, route: &str) -> Result<String, String> {
    let number = match site.strip_prefix("0x").or_else(|| site.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => site.parse(),
    };
    let number = number.map_err(|_| {
        let site = quote(site);
        format!("invalid site-id {site}; must be decimal or hex with 0x prefix")
    })?;
    let site = u16::try_from(number)
        .map_err(|_| "site-id values over 65535 are currently reserved".to_owned())?;
    let IpNet::V4(route) = prefix(route)? else {
        return Err("want IPv4 CIDR with a site ID".to_owned());
    };
    Ok(addr::via(site, route).to_string())
}

/// `tailscale debug resolve`: what the system's resolver says.
pub(crate) async fn resolve(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let [host] = parsed.args() else {
        return Err("usage: tailscale debug resolve <hostname>".into());
    };
    let wanted: fn(&std::net::IpAddr) -> bool = match parsed.string("net") {
        "ip" => |_| true,
        "ip4" => std::net::IpAddr::is_ipv4,
        "ip6" => std::net::IpAddr::is_ipv6,
        other => return Err(format!("unknown network {other}").into()),
    };
    let looked_up = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((host.as_str(), 0)));
    let found = looked_up
        .await
        .map_err(|_| format!("lookup {host}: i/o timeout"))?
        .map_err(|error| lookup_words(host, &error))?;
    let mut ips: Vec<std::net::IpAddr> = found.map(|found| found.ip()).filter(wanted).collect();
    ips.dedup();
    if ips.is_empty() {
        return Err(format!("lookup {host}: no suitable address found").into());
    }
    context.out(ips.iter().map(|ip| format!("{ip}\n")).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_there_and_back() {
        let there = to_via("7", "10.1.2.0/24");
        assert_eq!(there.as_deref(), Ok("fd7a:115c:a1e0:b1a:0:7:a01:200/120"));
        let back = from_via("fd7a:115c:a1e0:b1a:0:7:a01:200/120");
        assert_eq!(back.as_deref(), Ok("site 7 (0x7), 10.1.2.0/24"));
        assert_eq!(
            to_via("0xff", "0.0.0.0/0").as_deref(),
            Ok("fd7a:115c:a1e0:b1a:0:ff::/96")
        );
    }

    #[test]
    fn what_is_no_site_is_told() {
        for (site, route, words) in [
            (
                "x",
                "10.0.0.0/8",
                "invalid site-id \"x\"; must be decimal or hex with 0x prefix",
            ),
            (
                "65536",
                "10.0.0.0/8",
                "site-id values over 65535 are currently reserved",
            ),
            ("1", "::/0", "want IPv4 CIDR with a site ID"),
        ] {
            assert_eq!(to_via(site, route), Err(words.to_owned()));
        }
        for (route, words) in [
            ("10.0.0.0/8", "with one argument, expect an IPv6 CIDR"),
            ("2001:db8::/96", "not a via route"),
            (
                "fd7a:115c:a1e0:b1a:0:7::/95",
                "short length, want /96 or more",
            ),
        ] {
            assert_eq!(from_via(route), Err(words.to_owned()));
        }
    }
}
