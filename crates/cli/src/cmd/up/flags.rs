//! The flags of `up`, and the settings behind them.

use goflag::{Flag, FlagSet, GoDuration, Kind, Parsed, Value};
use ipn::{DEFAULT_CONTROL_URL, MaskedPrefs, NetfilterMode, Prefs};
use packet::addr;

use crate::usage::HIDDEN;

/// The operating systems whose flags differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Os {
    Linux,
    Windows,
    Other,
}

impl Os {
    pub(crate) const fn here() -> Self {
        if cfg!(target_os = "linux") {
            Self::Linux
        } else if cfg!(windows) {
            Self::Windows
        } else {
            Self::Other
        }
    }
}

/// The flags of `up` on this system.
pub(crate) fn up_flags() -> FlagSet {
    up_flags_on(Os::here())
}

/// The flags of `login` on this system.
pub(crate) fn login_flags() -> FlagSet {
    connect_flags(FlagSet::new("login"), Os::here()).string(
        "nickname",
        "",
        "what to call the account",
    )
}

/// Compat: names, kinds and defaults are frozen, because scripts name them all (`up` refuses to forget a setting).
pub(crate) fn up_flags_on(os: Os) -> FlagSet {
    let set = connect_flags(FlagSet::new("up"), os)
        .bool(
            "json",
            false,
            "print JSON (its fields may change between versions)",
        )
        .bool(
            "reset",
            false,
            "put settings that are not named back to their defaults",
        )
        .bool(
            "force-reauth",
            false,
            "log in again (the network may go down meanwhile: not over a connection that needs it)",
        );
    risk_flag(set)
}

/// What `up` and `login` share.
fn connect_flags(set: FlagSet, os: Os) -> FlagSet {
    setting_flags(set, os)
        .string("login-server", DEFAULT_CONTROL_URL, "URL of the control server")
        .bool("dry-run", false, "say what would be done to this machine, and do nothing")
        .string("advertise-tags", "", "tags to ask for, separated by commas (\"tag:eng,tag:ssh\"; \"tag:\" may be left out)")
        .bool("qr", false, "show login URLs as QR codes")
        .string("qr-format", "auto", "size of QR codes (auto, ascii, large, small)")
        .string("auth-key", "", "log in with this key; \"file:\" and a path reads it from a file")
        .string("audience", "", "audience of the ID token for workload identity federation")
        .string("client-id", "", "client ID for workload identity federation")
        .string("client-secret", "", "OAuth client secret to make an auth key with; \"file:\" and a path reads it from a file")
        .string("id-token", "", "ID token for workload identity federation; \"file:\" and a path reads it from a file")
        .flag(host_routes())
        .duration("timeout", GoDuration::ZERO, "how long to wait for the network to run; 0s waits for ever")
}

/// The flags of `set` on this system.
pub(crate) fn set_flags() -> FlagSet {
    let set = setting_flags(FlagSet::new("set"), Os::here())
        .string("nickname", "", "what to call the account")
        .bool("dry-run", false, "say what would be done to this machine, and do nothing")
        .bool("update-check", true, "tell when there is a newer version")
        .bool("auto-update", false, "install newer versions without asking")
        .bool("webclient", false, "serve a web page at port 5252 of this node that controls it")
        .bool("remote-config", false, format!("{HIDDEN}let the tailnet's administrators control all of this node"))
        .bool("sync", false, format!("{HIDDEN}talk to the control server (false is for tests of network failures)"))
        .string("relay-server-port", "", "UDP port on which to relay for peers; 0 takes a free one, empty turns it off")
        .string(
            "relay-server-static-endpoints",
            "",
            "where that port can be reached besides what is found out, separated by commas (\"[2001:db8::1]:40000,192.0.2.1:40000\"); \
             empty for nowhere else",
        );
    risk_flag(set)
}

/// Adds `--accept-risk`.
pub(crate) fn risk_flag(set: FlagSet) -> FlagSet {
    set.string(
        "accept-risk",
        "",
        "ask no questions about these risks: lose-ssh,mac-app-connector,all",
    )
}

/// The settings that `up`, `login` and `set` know.
fn setting_flags(set: FlagSet, os: Os) -> FlagSet {
    let set = set
        .bool("accept-routes", os == Os::Windows, "use routes that other nodes offer")
        .bool("accept-dns", true, "use the tailnet's DNS settings")
        .string("exit-node", "", "send internet traffic through this exit node (IP, name or auto:any); empty for none")
        .bool("exit-node-allow-lan-access", false, "reach the local network directly while using an exit node")
        .bool("shields-up", false, "refuse incoming connections")
        .bool("ssh", false, "run an SSH server that obeys the tailnet's policy")
        .string("hostname", "", "name to use instead of the system's")
        .string("advertise-routes", "", "routes to offer to others, separated by commas (\"10.0.0.0/8,192.168.0.0/24\"); empty for none")
        .bool("advertise-connector", false, "offer to be an app connector")
        .bool("advertise-exit-node", false, "offer to be an exit node")
        .bool("report-posture", false, "let the tailnet's administrators see facts about this machine");
    let set = match os {
        Os::Windows => set.bool(
            "unattended",
            false,
            "keep running while nobody is logged in to Windows",
        ),
        Os::Linux | Os::Other => set.string(
            "operator",
            "",
            "Unix user who may control tailscaled without sudo",
        ),
    };
    if os != Os::Linux {
        return set;
    }
    set.bool(
        "snat-subnet-routes",
        true,
        "hide who speaks to offered routes behind this machine's address",
    )
    .bool(
        "stateful-filtering",
        false,
        "track connections that are forwarded to offered routes",
    )
    .string(
        "netfilter-mode",
        "on",
        "how to use the firewall (on, nodivert, off)",
    )
}

/// Kept for old scripts; it can only be true.
fn host_routes() -> Flag {
    let only_true = |text: &str| match text {
        "true" => Ok(()),
        _ => Err("unsupported value; only 'true' is allowed".to_owned()),
    };
    Flag {
        name: "host-routes",
        usage: format!("{HIDDEN}route to each node (always true)"),
        kind: Kind::BoolText(only_true),
        default: Value::String("true".to_owned()),
        default_text: "true".to_owned(),
    }
}

/// A setting as its flag would show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Switch(bool),
    Text(String),
}

/// A flag that stands for one or more preferences.
pub(crate) struct Setting {
    pub(crate) flag: &'static str,
    /// The preference as the flag's value.
    pub(crate) show: fn(&Prefs) -> Shown,
    /// Says that an edit is about the preference.
    pub(crate) mark: fn(&mut MaskedPrefs),
}

macro_rules! settings {
    ($( $flag:literal: |$prefs:ident| $show:expr, $($mark:ident).+ $(, $more:ident)*; )*) => {
        &[$( Setting {
            flag: $flag,
            show: |$prefs| $show.into(),
            mark: |edit| { edit.$($mark).+ = true; $( edit.$more = true; )* },
        } ),*]
    };
}

/// All flags of `up`, `login` and `set` that are settings; the others are about logging in or output.
pub(crate) const SETTINGS: &[Setting] = settings! {
    "accept-dns": |p| p.corp_dns, corp_dns_set;
    "accept-routes": |p| p.route_all, route_all_set;
    "advertise-connector": |p| p.app_connector.advertise, app_connector_set;
    "advertise-exit-node": |p| is_exit_node(p), advertise_routes_set;
    "advertise-routes": |p| routes_text(p), advertise_routes_set;
    "advertise-tags": |p| p.advertise_tags.join(","), advertise_tags_set;
    "auto-update": |p| p.auto_update.apply == Some(true), auto_update_set.apply_set;
    "exit-node": |p| p.exit_node_ip.0.map(|ip| ip.to_string()).unwrap_or_default(), exit_node_ip_set, exit_node_id_set;
    "exit-node-allow-lan-access": |p| p.exit_node_allow_lan_access, exit_node_allow_lan_access_set;
    "hostname": |p| p.hostname.clone(), hostname_set;
    "login-server": |p| p.control_url.clone(), control_url_set;
    "netfilter-mode": |p| netfilter_name(p.netfilter_mode), netfilter_mode_set;
    "nickname": |p| p.profile_name.clone(), profile_name_set;
    "operator": |p| p.operator_user.clone(), operator_user_set;
    "relay-server-port": |p| p.relay_server_port.map(|port| port.to_string()).unwrap_or_default(), relay_server_port_set;
    "relay-server-static-endpoints": |p| joined(&p.relay_server_static_endpoints), relay_server_static_endpoints_set;
    "remote-config": |p| p.remote_config, remote_config_set;
    "report-posture": |p| p.posture_checking, posture_checking_set;
    "shields-up": |p| p.shields_up, shields_up_set;
    "snat-subnet-routes": |p| !p.no_snat, no_snat_set;
    "ssh": |p| p.run_ssh, run_ssh_set;
    "stateful-filtering": |p| p.no_stateful_filtering != Some(true), no_stateful_filtering_set;
    "sync": |p| p.sync == Some(true), sync_set;
    "unattended": |p| p.force_daemon, force_daemon_set;
    "update-check": |p| p.auto_update.check, auto_update_set.check_set;
    "webclient": |p| p.run_web_client, run_web_client_set;
};

/// The setting behind a flag.
pub(crate) fn setting(flag: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.flag == flag)
}

impl From<bool> for Shown {
    fn from(on: bool) -> Self {
        Self::Switch(on)
    }
}

impl From<String> for Shown {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Shown {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Whether the routes offered make an exit node: both default routes.
pub(crate) fn is_exit_node(prefs: &Prefs) -> bool {
    let has = |v4: bool| {
        prefs
            .advertise_routes
            .iter()
            .any(|r| r.prefix_len() == 0 && r.addr().is_ipv4() == v4)
    };
    has(true) && has(false)
}

fn joined<T: ToString>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    texts.join(",")
}

fn routes_text(prefs: &Prefs) -> String {
    let routes: Vec<String> = prefs
        .advertise_routes
        .iter()
        .filter(|r| !addr::is_exit_route(r))
        .map(ToString::to_string)
        .collect();
    routes.join(",")
}

/// The word of `--netfilter-mode`.
pub(crate) fn netfilter_name(mode: NetfilterMode) -> String {
    match mode {
        NetfilterMode::OFF => "off".to_owned(),
        NetfilterMode::NO_DIVERT => "nodivert".to_owned(),
        NetfilterMode::ON => "on".to_owned(),
        NetfilterMode(other) => format!("???-{other}"),
    }
}

/// The command line of `up`, each flag with its meaning.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpArgs {
    pub(crate) accept_dns: bool,
    pub(crate) accept_routes: bool,
    pub(crate) advertise_connector: bool,
    pub(crate) advertise_exit_node: bool,
    pub(crate) advertise_routes: String,
    pub(crate) advertise_tags: String,
    pub(crate) exit_node: String,
    pub(crate) exit_node_allow_lan_access: bool,
    pub(crate) hostname: String,
    pub(crate) login_server: String,
    pub(crate) netfilter_mode: String,
    pub(crate) operator: String,
    pub(crate) report_posture: bool,
    pub(crate) shields_up: bool,
    pub(crate) snat: bool,
    pub(crate) ssh: bool,
    pub(crate) stateful_filtering: bool,
    pub(crate) unattended: bool,
    pub(crate) auth_key: String,
    pub(crate) accept_risk: String,
    pub(crate) force_reauth: bool,
    pub(crate) reset: bool,
    pub(crate) json: bool,
    pub(crate) nickname: String,
    /// How to show login URLs as QR codes, where that is asked for.
    pub(crate) qr: Option<String>,
    pub(crate) timeout: GoDuration,
}

impl UpArgs {
    /// From a command line read with [`up_flags_on`] of the same system or [`login_flags`].
    pub(crate) fn new(parsed: &Parsed, os: Os) -> Self {
        let text = |name: &str| parsed.string(name).to_owned();
        // Compat: flags that only one of the two commands has are at their defaults for the other.
        let only_text = |name: &str| parsed.get_string(name).unwrap_or_default().to_owned();
        let only_switch = |name: &str| parsed.get_bool(name).unwrap_or_default();
        let linux = os == Os::Linux;
        Self {
            accept_dns: parsed.bool("accept-dns"),
            accept_routes: parsed.bool("accept-routes"),
            advertise_connector: parsed.bool("advertise-connector"),
            advertise_exit_node: parsed.bool("advertise-exit-node"),
            advertise_routes: text("advertise-routes"),
            advertise_tags: text("advertise-tags"),
            exit_node: text("exit-node"),
            exit_node_allow_lan_access: parsed.bool("exit-node-allow-lan-access"),
            hostname: text("hostname"),
            login_server: text("login-server"),
            netfilter_mode: if linux {
                text("netfilter-mode")
            } else {
                String::new()
            },
            operator: if os == Os::Windows {
                String::new()
            } else {
                text("operator")
            },
            report_posture: parsed.bool("report-posture"),
            shields_up: parsed.bool("shields-up"),
            snat: linux && parsed.bool("snat-subnet-routes"),
            ssh: parsed.bool("ssh"),
            stateful_filtering: linux && parsed.bool("stateful-filtering"),
            unattended: os == Os::Windows && parsed.bool("unattended"),
            auth_key: text("auth-key"),
            accept_risk: only_text("accept-risk"),
            force_reauth: only_switch("force-reauth"),
            reset: only_switch("reset"),
            json: only_switch("json"),
            nickname: only_text("nickname"),
            qr: parsed.bool("qr").then(|| text("qr-format")),
            timeout: parsed.duration("timeout"),
        }
    }
}
