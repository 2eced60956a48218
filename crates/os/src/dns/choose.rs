//! Who configures the machine's resolver (the originals' `net/dns/manager_linux.go`).

use std::net::{IpAddr, Ipv4Addr};

use super::resolv_conf::{Owner, ResolvConf, owner};

/// Where systemd-resolved answers.
const STUB: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));
/// NetworkManager's versions through which systemd-resolved must be told: older ones refuse, newer ones do not listen.
const TOLD_VERSIONS: std::ops::RangeInclusive<[u32; 3]> = [1, 26, 0]..=[1, 26, 5];

/// Through whom the resolver is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    Direct,
    Resolved,
    /// One of the versions through which systemd-resolved must be told; whether it shares names out.
    EarlyNm {
        splits: bool,
    },
    DebianResolvconf,
    Openresolv,
}

impl Manager {
    /// The originals' name for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Resolved => "systemd-resolved",
            Self::EarlyNm { .. } => "network-manager",
            Self::DebianResolvconf => "debian-resolvconf",
            Self::Openresolv => "openresolv",
        }
    }
}

/// Which of the two programs of that name `resolvconf` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolvconf {
    Debian,
    Openresolv,
}

impl Facts {
    /// Whether NetworkManager has a say.
    pub(super) fn concerns_network_manager(&self) -> bool {
        matches!(self.owner(), Owner::Resolved | Owner::NetworkManager)
    }

    /// Whether it matters which `resolvconf` there is.
    pub(super) fn concerns_resolvconf(&self) -> bool {
        self.owner() == Owner::Resolvconf
    }

    fn owner(&self) -> Owner {
        self.resolv_conf.as_deref().map_or(Owner::Nobody, owner)
    }
}

/// What there is on the machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Facts {
    /// The text of `/etc/resolv.conf`, if there is one.
    pub(super) resolv_conf: Option<String>,
    /// The text of `/etc/nsswitch.conf`.
    pub(super) nsswitch: Option<String>,
    /// Which `resolvconf` there is.
    pub(super) resolvconf: Option<Resolvconf>,
    /// NetworkManager, if it runs.
    pub(super) network_manager: Option<NetworkManager>,
}

/// A running NetworkManager.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct NetworkManager {
    pub(super) version: String,
    /// How it configures DNS.
    pub(super) dns_mode: String,
}

/// Who it is, and what about it is not as it should be.
pub(super) fn choose(facts: &Facts) -> (Manager, Option<&'static str>) {
    let Some(text) = &facts.resolv_conf else {
        return (Manager::Direct, None);
    };
    let manager = match owner(text) {
        Owner::Nobody => Manager::Direct,
        Owner::Resolvconf => match facts.resolvconf {
            None => Manager::Direct,
            Some(Resolvconf::Debian) => Manager::DebianResolvconf,
            Some(Resolvconf::Openresolv) => Manager::Openresolv,
        },
        Owner::Resolved | Owner::NetworkManager if !asks_resolved(facts, text) => Manager::Direct,
        Owner::Resolved => match &facts.network_manager {
            Some(other) if other.dns_mode == "systemd-resolved" && other.must_be_told() => {
                other.told()
            }
            _ => Manager::Resolved,
        },
        Owner::NetworkManager => match &facts.network_manager {
            Some(other) if other.must_be_told() => other.told(),
            Some(other) if other.dns_mode != "systemd-resolved" => Manager::Direct,
            Some(_) => return (Manager::Resolved, Some(MISWIRED)),
            None => Manager::Resolved,
        },
    };
    (manager, None)
}

const MISWIRED: &str = "systemd-resolved and NetworkManager are wired together incorrectly; MagicDNS will probably not work. \
    For more info, see https://tailscale.com/s/resolved-nm";

impl NetworkManager {
    /// It shares names out only where it has another do that.
    fn told(&self) -> Manager {
        Manager::EarlyNm {
            splits: ["dnsmasq", "systemd-resolved"].contains(&self.dns_mode.as_str()),
        }
    }

    fn must_be_told(&self) -> bool {
        let mut parts = self
            .version
            .split(['.', '-'])
            .map_while(|part| part.parse().ok());
        let mut part = || parts.next();
        let (Some(major), Some(minor)) = (part(), part()) else {
            return false;
        };
        TOLD_VERSIONS.contains(&[major, minor, part().unwrap_or(0)])
    }
}

/// Whether programs of this machine ask systemd-resolved, whatever the file's comment says.
fn asks_resolved(facts: &Facts, text: &str) -> bool {
    if facts.nsswitch.as_deref().is_some_and(asks_resolved_first) {
        return true;
    }
    let servers = ResolvConf::parse(text).map(|file| file.nameservers);
    servers.is_ok_and(|servers| !servers.is_empty() && servers.iter().all(|server| *server == STUB))
}

/// Whether `resolve` comes before `dns` among those that know hosts (nsswitch.conf(5)).
fn asks_resolved_first(nsswitch: &str) -> bool {
    let mut hosts = nsswitch
        .lines()
        .filter_map(|line| line.trim().strip_prefix("hosts:"));
    let sources = hosts.next().unwrap_or_default().split_whitespace();
    let mut known = sources.filter(|source| matches!(*source, "dns" | "resolve"));
    known.next() == Some("resolve")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOLVED: &str =
        "# This is managed by man:systemd-resolved(8). Do not edit.\nnameserver 127.0.0.53\n";
    const NM: &str = "# Generated by NetworkManager\nnameserver 127.0.0.53\n";
    const NM_ALONE: &str = "# Generated by NetworkManager\nnameserver 192.0.2.1\n";
    const RESOLVCONF: &str = "# Generated by resolvconf\nnameserver 192.0.2.1\n";

    fn with(text: &str) -> Facts {
        Facts {
            resolv_conf: Some(text.into()),
            ..Facts::default()
        }
    }

    fn nm(version: &str, mode: &str) -> Option<NetworkManager> {
        Some(NetworkManager {
            version: version.into(),
            dns_mode: mode.into(),
        })
    }

    #[test]
    fn the_machine_decides() {
        let manager = |facts: &Facts| choose(facts).0;
        assert_eq!(manager(&Facts::default()), Manager::Direct);
        assert_eq!(manager(&with("nameserver 192.0.2.1\n")), Manager::Direct);
        assert_eq!(manager(&with(RESOLVED)), Manager::Resolved);
        // It only says so.
        let lie = RESOLVED.replace("127.0.0.53", "192.0.2.1");
        assert_eq!(manager(&with(&lie)), Manager::Direct);
        let by_library = Facts {
            nsswitch: Some("passwd: files\nhosts: files resolve [!UNAVAIL=return] dns\n".into()),
            ..with(&lie)
        };
        assert_eq!(manager(&by_library), Manager::Resolved);
        let too_late = Facts {
            nsswitch: Some("hosts: files dns resolve\n".into()),
            ..with(&lie)
        };
        assert_eq!(manager(&too_late), Manager::Direct);
    }

    fn early(splits: bool) -> Manager {
        Manager::EarlyNm { splits }
    }

    #[test]
    fn network_manager_is_told_where_only_it_is_heard() {
        for (text, version, mode, expected) in [
            (RESOLVED, "1.26.3", "systemd-resolved", early(true)),
            (RESOLVED, "1.26.3", "default", Manager::Resolved),
            (RESOLVED, "1.26.6", "systemd-resolved", Manager::Resolved),
            (RESOLVED, "1.42", "systemd-resolved", Manager::Resolved),
            (NM, "1.26.0-2.el8", "none", early(false)),
            (NM, "1.42.4", "default", Manager::Direct),
            (NM_ALONE, "1.42.4", "default", Manager::Direct),
        ] {
            let facts = Facts {
                network_manager: nm(version, mode),
                ..with(text)
            };
            assert_eq!(choose(&facts), (expected, None), "{text} {version} {mode}");
        }
        assert_eq!(choose(&with(NM)), (Manager::Resolved, None));
        let miswired = Facts {
            network_manager: nm("1.42.4", "systemd-resolved"),
            ..with(NM)
        };
        assert_eq!(choose(&miswired), (Manager::Resolved, Some(MISWIRED)));
    }

    #[test]
    fn which_resolvconf_it_is_decides() {
        for (kind, expected) in [
            (None, Manager::Direct),
            (Some(Resolvconf::Debian), Manager::DebianResolvconf),
            (Some(Resolvconf::Openresolv), Manager::Openresolv),
        ] {
            let facts = Facts {
                resolvconf: kind,
                ..with(RESOLVCONF)
            };
            assert_eq!(choose(&facts).0, expected);
        }
    }
}
