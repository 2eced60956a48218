//! Health warnings: their codes, texts and dependencies as data, and the shapes on the bus (`health/warnings.go`,
//! `health/state.go`).
//!
//! Compat: scripts and graphical clients match on codes and on whole texts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tailcfg::go::{self, GoTime};
use tailcfg::wire;

use crate::wire_leaf;

/// What a warning's text is filled in with, by the names that the bus shows.
pub type Args = BTreeMap<String, String>;

/// How loudly a client should tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// At once, in the way.
    High,
    /// Visibly.
    #[default]
    Medium,
    /// For who looks.
    Low,
}
wire_leaf!(Severity);

/// Every warning that the daemon itself can raise. Those of the control server have codes of their own,
/// [`control_code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Warnable {
    /// A newer version exists.
    UpdateAvailable,
    /// A newer version exists that mends a hole.
    SecurityUpdateAvailable,
    /// This is a build for testing.
    IsUsingUnstableVersion,
    /// No link but loopback is up.
    NetworkStatus,
    /// The user has turned the node off.
    WantRunningFalse,
    /// The local log cannot be written.
    LocalLogConfigError,
    /// Nobody is logged in, or the last login failed.
    LoginState,
    /// No long poll with the control server for a long time.
    NotInMapPoll,
    /// No relay region could be chosen.
    NoDerpHome,
    /// The home relay cannot be reached.
    NoDerpConnection,
    /// The home relay is silent.
    DerpTimedOut,
    /// A relay says that it is not well.
    DerpRegionError,
    /// No UDP socket could be bound.
    NoUdp4Bind,
    /// The long poll is open and silent.
    MapResponseTimeout,
    /// A TLS handshake failed.
    TlsConnectionFailed,
    /// The daemon has been on for less than five seconds.
    WarmingUp,
    /// Routes are advertised, and the machine does not forward.
    IpForwardingOff,
    /// The tailnet's packet filter was refused as a whole.
    InvalidPacketFilter,
    /// The state store cannot be trusted.
    StateStoreHealth,
    /// The state could not be written (not one of the originals').
    StateNotSaved,
    /// The user has cut the node off from its control server.
    SyncDisabled,
    /// The OS routing could not be applied.
    Router,
    /// The OS resolver could not be configured.
    DnsSetFailed,
    /// The OS resolver's own settings could not be read.
    DnsReadFailed,
    /// Somebody else writes resolv.conf again and again.
    ResolvConfOverwritten,
    /// The OS routing was done otherwise than one might expect.
    RouterNote,
}

/// What is fixed about a warning.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// The code that clients know it by.
    pub code: &'static str,
    /// One line for a title.
    pub title: &'static str,
    /// How loud.
    pub severity: Severity,
    /// If one of these is raised as well, this one is hidden.
    pub depends_on: &'static [Warnable],
    /// Whether packets may not get through.
    pub impacts_connectivity: bool,
    /// How long it must last before anybody is told.
    pub time_to_visible: Duration,
    text: &'static str,
}

const PLAIN: Definition = Definition {
    code: "",
    title: "",
    severity: Severity::Medium,
    depends_on: &[],
    impacts_connectivity: false,
    time_to_visible: Duration::ZERO,
    text: "",
};

/// The argument names, as on the bus.
pub mod arg {
    /// The version that runs.
    pub const CURRENT_VERSION: &str = "current-version";
    /// The version that could run.
    pub const AVAILABLE_VERSION: &str = "available-version";
    /// What went wrong.
    pub const ERROR: &str = "error";
    /// How long.
    pub const DURATION: &str = "duration";
    /// The relay region's number.
    pub const DERP_REGION_ID: &str = "derp-region-id";
    /// The relay region's name.
    pub const DERP_REGION_NAME: &str = "derp-region-name";
    /// The server that was spoken to.
    pub const SERVER_NAME: &str = "server-name";
    /// The backend's state.
    pub const STATE: &str = "State";
    /// What went wrong in a part that has no texts of its own.
    pub const LEGACY_ERROR: &str = "LegacyError";
}

impl Warnable {
    /// Every warning.
    pub const ALL: [Self; 26] = [
        Self::UpdateAvailable,
        Self::SecurityUpdateAvailable,
        Self::IsUsingUnstableVersion,
        Self::NetworkStatus,
        Self::WantRunningFalse,
        Self::LocalLogConfigError,
        Self::LoginState,
        Self::NotInMapPoll,
        Self::NoDerpHome,
        Self::NoDerpConnection,
        Self::DerpTimedOut,
        Self::DerpRegionError,
        Self::NoUdp4Bind,
        Self::MapResponseTimeout,
        Self::TlsConnectionFailed,
        Self::WarmingUp,
        Self::IpForwardingOff,
        Self::InvalidPacketFilter,
        Self::StateStoreHealth,
        Self::StateNotSaved,
        Self::SyncDisabled,
        Self::Router,
        Self::DnsSetFailed,
        Self::DnsReadFailed,
        Self::ResolvConfOverwritten,
        Self::RouterNote,
    ];

    /// The code that clients know it by.
    pub const fn code(self) -> &'static str {
        self.definition().code
    }

    /// What is fixed about it.
    pub const fn definition(self) -> Definition {
        match self {
            Self::UpdateAvailable => Definition {
                code: "update-available",
                title: "Update available",
                severity: Severity::Low,
                text: "An update from version {current-version} to {available-version} is available. Run `tailscale update` or `tailscale set --auto-update` to update now.",
                ..PLAIN
            },
            Self::SecurityUpdateAvailable => Definition {
                code: "security-update-available",
                title: "Security update available",
                text: "A security update from version {current-version} to {available-version} is available. Run `tailscale update` or `tailscale set --auto-update` to update now.",
                ..PLAIN
            },
            Self::IsUsingUnstableVersion => Definition {
                code: "is-using-unstable-version",
                title: "Using an unstable version",
                severity: Severity::Low,
                text: "This is an unstable version of Tailscale meant for testing and development purposes. Please report any issues to Tailscale.",
                ..PLAIN
            },
            Self::NetworkStatus => Definition {
                code: "network-status",
                title: "Network down",
                impacts_connectivity: true,
                time_to_visible: Duration::from_secs(5),
                text: "Tailscale cannot connect because the network is down. Check your Internet connection.",
                ..PLAIN
            },
            Self::WantRunningFalse => Definition {
                code: "wantrunning-false",
                title: "Tailscale off",
                severity: Severity::Low,
                text: "Tailscale is stopped.",
                ..PLAIN
            },
            Self::LocalLogConfigError => Definition {
                code: "local-log-config-error",
                title: "Local log misconfiguration",
                severity: Severity::Low,
                text: "The local log is misconfigured: {error}",
                ..PLAIN
            },
            Self::LoginState => Definition {
                code: "login-state",
                title: "Logged out",
                depends_on: &[Self::WantRunningFalse],
                text: "You are logged out.{login-error}",
                ..PLAIN
            },
            Self::NotInMapPoll => Definition {
                code: "not-in-map-poll",
                title: "Out of sync",
                depends_on: &[Self::NetworkStatus, Self::WantRunningFalse],
                time_to_visible: Duration::from_secs(8 * 60),
                text: "Unable to connect to the Tailscale coordination server to synchronize the state of your tailnet. Peer reachability might degrade over time.",
                ..PLAIN
            },
            Self::NoDerpHome => Definition {
                code: "no-derp-home",
                title: "No home relay server",
                depends_on: &[Self::NetworkStatus],
                impacts_connectivity: true,
                time_to_visible: Duration::from_secs(10),
                text: "Tailscale could not connect to any relay server. Check your Internet connection.",
                ..PLAIN
            },
            Self::NoDerpConnection => Definition {
                code: "no-derp-connection",
                title: "Relay server unavailable",
                depends_on: &[Self::NetworkStatus, Self::NoDerpHome],
                impacts_connectivity: true,
                time_to_visible: Duration::from_secs(10),
                text: "Tailscale could not connect to the {relay}. Your Internet connection might be down, or the server might be temporarily unavailable.",
                ..PLAIN
            },
            Self::DerpTimedOut => Definition {
                code: "derp-timed-out",
                title: "Relay server timed out",
                depends_on: &[
                    Self::NetworkStatus,
                    Self::NoDerpConnection,
                    Self::NoDerpHome,
                ],
                text: "Tailscale hasn't heard from the {home-relay} in {duration}. The server might be temporarily unavailable, or your Internet connection might be down.",
                ..PLAIN
            },
            Self::DerpRegionError => Definition {
                code: "derp-region-error",
                title: "Relay server error",
                severity: Severity::Low,
                depends_on: &[Self::NetworkStatus],
                text: "The relay server #{derp-region-id} is reporting an issue: {error}",
                ..PLAIN
            },
            Self::NoUdp4Bind => Definition {
                code: "no-udp4-bind",
                title: "NAT traversal setup failure",
                depends_on: &[Self::NetworkStatus, Self::WantRunningFalse],
                impacts_connectivity: true,
                text: "Tailscale couldn't listen for incoming UDP connections.",
                ..PLAIN
            },
            Self::MapResponseTimeout => Definition {
                code: "mapresponse-timeout",
                title: "Network map response timeout",
                depends_on: &[Self::NetworkStatus, Self::WantRunningFalse],
                text: "Tailscale hasn't received a network map from the coordination server in {duration}.",
                ..PLAIN
            },
            Self::TlsConnectionFailed => Definition {
                code: "tls-connection-failed",
                title: "Encrypted connection failed",
                depends_on: &[Self::NetworkStatus],
                text: "Tailscale could not establish an encrypted connection with '\"{server-name}\"': {error}",
                ..PLAIN
            },
            Self::WarmingUp => Definition {
                code: "warming-up",
                title: "Tailscale is starting",
                severity: Severity::Low,
                text: "Tailscale is starting. Please wait.",
                ..PLAIN
            },
            Self::IpForwardingOff => Definition {
                code: "ip-forwarding-off",
                title: "IP forwarding is off",
                impacts_connectivity: true,
                text: "Subnet routing is enabled, but IP forwarding is disabled. Check that IP forwarding is enabled on your machine.",
                ..PLAIN
            },
            Self::InvalidPacketFilter => Definition {
                code: "invalid-packet-filter",
                title: "Invalid packet filter",
                severity: Severity::High,
                text: "The coordination server sent an invalid packet filter permitting traffic to unlocked nodes; rejecting all packets for safety",
                ..PLAIN
            },
            Self::StateStoreHealth => Definition {
                code: "state-store-health",
                title: "Tailscale state store failed to initialize",
                severity: Severity::High,
                impacts_connectivity: true,
                text: "State store failed to initialize, Tailscale will not work until this is resolved. See https://tailscale.com/s/state-store-init-error. Error: {error}",
                ..PLAIN
            },
            Self::StateNotSaved => Definition {
                code: "state-not-saved",
                title: "Tailscale state not saved",
                severity: Severity::High,
                text: "Changes of settings and logins cannot be saved and would be lost at a restart. Free some disk space or mend the state directory; saving is tried again by itself. Error: {error}",
                ..PLAIN
            },
            Self::SyncDisabled => Definition {
                code: "sync-disabled",
                title: "Tailscale Sync is Disabled",
                severity: Severity::High,
                text: "Tailscale control plane syncing is disabled; run `tailscale set --sync` to restore",
                ..PLAIN
            },
            Self::Router => Definition {
                code: "router",
                text: "{LegacyError}",
                ..PLAIN
            },
            Self::DnsSetFailed => Definition {
                code: "dns-set-os-config-failed",
                title: "Failed to set system DNS configuration",
                depends_on: &[Self::NetworkStatus],
                text: "Tailscale failed to set the DNS configuration of your device: {error}",
                ..PLAIN
            },
            Self::DnsReadFailed => Definition {
                code: "dns-read-os-config-failed",
                title: "Failed to read system DNS configuration",
                severity: Severity::Low,
                depends_on: &[Self::NetworkStatus],
                text: "Tailscale failed to fetch the DNS configuration of your device: {error}",
                ..PLAIN
            },
            Self::ResolvConfOverwritten => Definition {
                code: "resolv-conf-overwritten",
                title: "DNS configuration issue",
                text: "System DNS config not ideal. /etc/resolv.conf overwritten. See https://tailscale.com/s/dns-fight",
                ..PLAIN
            },
            // The originals have no such warning.
            Self::RouterNote => Definition {
                code: "router-note",
                text: "{LegacyError}",
                severity: Severity::Low,
                ..PLAIN
            },
        }
    }

    /// The text for people.
    pub fn text(self, args: &Args) -> String {
        fill(self.definition().text, args)
    }

    /// The shape on the bus.
    pub fn unhealthy(self, broken_since: GoTime, args: Option<&Args>) -> UnhealthyState {
        let definition = self.definition();
        // Compat: clients hide everything while the daemon warms up, because everything depends on that.
        let warming_up = (self != Self::WarmingUp).then_some(Self::WarmingUp);
        UnhealthyState {
            warnable_code: definition.code.to_owned(),
            severity: definition.severity,
            title: definition.title.to_owned(),
            text: args.map_or_else(|| self.text(&Args::new()), |args| self.text(args)),
            broken_since: Some(broken_since),
            args: args.cloned().unwrap_or_default(),
            depends_on: definition
                .depends_on
                .iter()
                .copied()
                .chain(warming_up)
                .map(|warnable| warnable.code().to_owned())
                .collect(),
            impacts_connectivity: definition.impacts_connectivity,
            ..UnhealthyState::default()
        }
        .with_etag()
    }
}

/// Replaces `{name}` by the argument of that name, and the few places whose wording depends on an argument.
fn fill(template: &str, args: &Args) -> String {
    let get = |name: &str| args.get(name).map_or("", String::as_str);
    let mut text = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        match name {
            "login-error" if get(arg::ERROR).is_empty() => {}
            "login-error" => {
                text.push_str(" The last login error was: ");
                text.push_str(get(arg::ERROR));
            }
            "relay" | "home-relay" => text.push_str(&relay(name, args)),
            name => text.push_str(get(name)),
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

fn relay(kind: &str, args: &Args) -> String {
    let get = |name: &str| args.get(name).map_or("", String::as_str);
    let (name, id) = (get(arg::DERP_REGION_NAME), get(arg::DERP_REGION_ID));
    match (name, kind) {
        ("", "relay") => format!("relay server with ID '{id}'"),
        ("", _) => format!("home relay server (region ID '{id}')"),
        (name, _) => format!("'{name}' relay server"),
    }
}

/// The code of a message of the control server.
pub fn control_code(id: &str) -> String {
    format!("control-health.{id}")
}

wire! {
    /// All warnings that are shown: `Notify.Health`.
    pub struct HealthState {
        /// By code; `None` when all is well.
        "Warnings" = warnings: Option<BTreeMap<String, UnhealthyState>>,
    }

    /// One warning that is shown.
    pub struct UnhealthyState {
        /// The code.
        "WarnableCode" = warnable_code: String,
        /// How loud.
        "Severity" = severity: Severity,
        /// One line for a title.
        "Title" = title: String,
        /// The text for people.
        "Text" = text: String,
        /// Since when; messages of the control server have none.
        "BrokenSince" ? broken_since: Option<GoTime>,
        /// What the text was filled in with.
        "Args" ? args: Args,
        /// Codes of warnings that would hide this one.
        "DependsOn" ? depends_on: Vec<String>,
        /// Whether packets may not get through.
        "ImpactsConnectivity" ? impacts_connectivity: bool,
        /// What the user can do.
        "PrimaryAction" ? primary_action: Option<UnhealthyAction>,
        /// Equal for equal contents; means nothing else.
        "ETag" ? etag: String,
    }

    /// A link that may mend a warning.
    pub struct UnhealthyAction {
        /// Where to.
        "URL" = url: String,
        /// What to call it.
        "Label" = label: String,
    }
}

impl UnhealthyState {
    /// The same with its tag set from its contents.
    #[must_use]
    pub fn with_etag(mut self) -> Self {
        self.etag = String::new();
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in go::to_vec(&self).unwrap_or_default() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.etag = format!("{hash:016x}");
        self
    }
}
