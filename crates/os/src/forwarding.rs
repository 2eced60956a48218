//! Whether the kernel forwards packets, without which a node routes nothing for others. The texts are the original's
//! (`net/netutil/ip_forward.go`), which its command line shows as they are.

use std::io;
use std::path::{Path, PathBuf};

use crate::netlink::{Netlink, Protocol, Route};

const HELP: &str = "\nSee https://tailscale.com/s/ip-forwarding";

/// What stands in the way of routing IPv4 and IPv6 for others; empty if nothing does.
#[must_use]
pub fn problem() -> String {
    problem_in(Path::new("/proc/sys"))
}

/// What keeps the kernel from forwarding UDP between the machine's default link and the device as fast as it could; empty if nothing does. Text
/// and rule are the original's (`net/netkernelconf`).
#[must_use]
pub fn udp_problem(device: &str) -> String {
    let found = look_at_udp(device).unwrap_or_else(|error| {
        Some(format!(
            "couldn't check system's UDP GRO forwarding configuration, {error}"
        ))
    });
    found.unwrap_or_default()
}

fn look_at_udp(device: &str) -> io::Result<Option<String>> {
    let Some(default) = default_link()? else {
        return Ok(None);
    };
    let mut netlink = Netlink::open(Protocol::Generic)?;
    let device = netlink.features(device)?;
    // Without it nothing is forwarded in trains.
    if device.is_none_or(|device| !device.active.contains("tx-udp-segmentation")) {
        return Ok(None);
    }
    let link = netlink.features(&default)?.unwrap_or_default();
    let is_known = link.changeable.contains(WANTED);
    let is_good = link.active.contains(WANTED) && !link.active.contains(UNWANTED);
    Ok((is_known && !is_good).then(|| {
        format!(
            "UDP GRO forwarding is suboptimally configured on {default}, UDP forwarding throughput capability will increase with a \
             configuration change.\nSee https://tailscale.com/s/ethtool-config-udp-gro"
        )
    }))
}

const WANTED: &str = "rx-udp-gro-forwarding";
const UNWANTED: &str = "rx-gro-list";

/// The link by which the machine reaches the internet.
fn default_link() -> io::Result<Option<String>> {
    let mut netlink = Netlink::open(Protocol::Route)?;
    let routes = netlink.routes()?;
    let is_default = |route: &&Route| route.to.prefix_len() == 0 && route.table == MAIN;
    let defaults = routes.iter().filter(is_default);
    let best = defaults.min_by_key(|route| (route.to.addr().is_ipv6(), route.metric));
    let index = best.and_then(|route| route.link);
    let mut links = netlink.links()?.into_iter();
    Ok(links
        .find(|link| Some(link.index) == index)
        .map(|link| link.name))
}

/// The table that is asked for want of a better one.
const MAIN: u32 = 254;

fn problem_in(root: &Path) -> String {
    let found = look(root).unwrap_or_else(|error| {
        Some(format!(
            "Couldn't check system's IP forwarding configuration, subnet routing/exit nodes may not work: {error}"
        ))
    });
    found.map_or_else(String::new, |text| text + HELP)
}

fn look(root: &Path) -> io::Result<Option<String>> {
    let v4 = is_on(root, Path::new("net/ipv4/ip_forward"))?;
    let v6 = is_on(root, Path::new("net/ipv6/conf/all/forwarding"))?;
    if v4 && v6 {
        return Ok(None);
    }
    let mut warnings = Vec::new();
    if !v6 {
        warnings.push("IPv6 forwarding is disabled.".to_owned());
    }
    // For IPv4 an interface's own switch is what counts.
    let mut any = false;
    for interface in interfaces(root)? {
        let key = PathBuf::from("net/ipv4/conf").join(&interface);
        if is_on(root, &key.join("forwarding"))? {
            any = true;
        } else {
            let shown = interface.replace('.', "/");
            warnings.push(format!(
                "Traffic received on {interface} won't be forwarded (net.ipv4.conf.{shown}.forwarding disabled)"
            ));
        }
    }
    Ok(match any {
        false => {
            Some("IP forwarding is disabled, subnet routing/exit nodes will not work.".to_owned())
        }
        true if warnings.is_empty() => None,
        true => Some(format!(
            "{}\nSubnet routes and exit nodes may not work correctly.",
            warnings.join("\n")
        )),
    })
}

/// All but the loopback interface.
fn interfaces(root: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root.join("net/ipv4/conf"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| !matches!(&**name, "all" | "default" | "lo"));
    names.sort();
    Ok(names)
}

/// A switch that is not there is off; without any of them nothing can be said.
fn is_on(root: &Path, key: &Path) -> io::Result<bool> {
    let text = match std::fs::read_to_string(root.join(key)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && root.is_dir() => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    match text.trim() {
        "0" => Ok(false),
        "1" | "2" => Ok(true),
        other => {
            let text = format!("unexpected value {other} for {}", key.display());
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with these switches.
    fn machine(switches: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (key, value) in switches {
            let path = root.path().join("net").join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{value}\n")).unwrap();
        }
        root
    }

    fn with(v4: &str, v6: &str, eth0: &str, dotted: &str) -> String {
        let root = machine(&[
            ("ipv4/ip_forward", v4),
            ("ipv6/conf/all/forwarding", v6),
            ("ipv4/conf/all/forwarding", v4),
            ("ipv4/conf/lo/forwarding", "0"),
            ("ipv4/conf/eth0/forwarding", eth0),
            ("ipv4/conf/vlan.7/forwarding", dotted),
        ]);
        problem_in(root.path())
    }

    #[test]
    fn all_is_well_where_both_forward() {
        assert_eq!(with("1", "1", "0", "0"), "");
        assert_eq!(with("1", "2", "1", "1"), "");
        // IPv4 by each interface is as good.
        assert_eq!(with("0", "1", "1", "1"), "");
    }

    #[test]
    fn what_is_off_is_named() {
        let text = with("0", "0", "0", "0");
        assert!(text.starts_with("IP forwarding is disabled, subnet routing"));
        assert!(text.ends_with("\nSee https://tailscale.com/s/ip-forwarding"));
        let text = with("0", "0", "1", "0");
        assert_eq!(
            text.lines().take(3).collect::<Vec<_>>(),
            [
                "IPv6 forwarding is disabled.",
                "Traffic received on vlan.7 won't be forwarded (net.ipv4.conf.vlan/7.forwarding disabled)",
                "Subnet routes and exit nodes may not work correctly.",
            ]
        );
    }

    #[test]
    fn a_machine_that_says_nothing_is_named_so() {
        let nothing = Path::new("/nonexistent/proc/sys");
        assert!(problem_in(nothing).starts_with("Couldn't check"));
        let root = machine(&[("ipv4/ip_forward", "7")]);
        assert!(problem_in(root.path()).contains("unexpected value 7 for net/ipv4/ip_forward"));
        // A kernel without IPv6 has no switch for it.
        let root = machine(&[("ipv4/ip_forward", "1"), ("ipv4/conf/eth0/forwarding", "1")]);
        assert!(problem_in(root.path()).starts_with("IPv6 forwarding is disabled.\n"));
    }
}
