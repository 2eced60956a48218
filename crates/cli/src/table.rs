//! All commands, in the order in which help lists them.

mod debug;
mod unbuilt;

use std::future::ready;

use goflag::{Flag, FlagSet, GoDuration, Kind, Value};

use crate::cmd::{down, ip, logout, nc, ping, root, status, up, version, whois};
use crate::command::{Act, Command, default_socket};
use crate::usage::HIDDEN;

/// The program itself.
pub(crate) static ROOT: Command = Command {
    long: "To learn about one command, put --help after it: \"tailscale status --help\".",
    flags: root_flags,
    subs: &[
        UP,
        DOWN,
        unbuilt::SET,
        unbuilt::GET,
        unbuilt::LOGIN,
        LOGOUT,
        unbuilt::SWITCH,
        unbuilt::CONFIGURE,
        unbuilt::SYSPOLICY,
        unbuilt::NETCHECK,
        unbuilt::ROUTECHECK,
        IP,
        unbuilt::DNS,
        STATUS,
        unbuilt::METRICS,
        PING,
        NC,
        unbuilt::SSH,
        unbuilt::FUNNEL,
        unbuilt::SERVE,
        unbuilt::SERVICE,
        VERSION,
        unbuilt::WEB,
        unbuilt::FILE,
        unbuilt::BUGREPORT,
        unbuilt::CERT,
        unbuilt::LOCK,
        unbuilt::LICENSES,
        unbuilt::EXIT_NODE,
        unbuilt::UPDATE,
        WHOIS,
        unbuilt::WHOAMI,
        debug::DEBUG,
        unbuilt::DRIVE,
        unbuilt::ID_TOKEN,
        unbuilt::CONFIGURE_HOST,
        unbuilt::SYSTRAY,
        unbuilt::APPC_ROUTES,
        unbuilt::WAIT,
        unbuilt::COMPLETION,
    ],
    ..Command::new(
        "tailscale",
        "tailscale [flags] <subcommand> [command flags]",
        "Talk to the tailscaled that runs on this machine.",
        Act::Run(|c, p| Box::pin(ready(root::run(c, p)))),
    )
};

fn root_flags() -> FlagSet {
    let socket = default_socket().display().to_string();
    FlagSet::new("tailscale")
        .flag(Flag {
            name: "socket",
            usage: "where tailscaled listens".to_owned(),
            kind: Kind::String,
            default: Value::String(socket.clone()),
            default_text: socket,
        })
        .bool(
            "json-docs",
            false,
            format!("{HIDDEN}print the names and help of all commands and flags as JSON"),
        )
}

const UP: Command = Command {
    long: "Alone, \"tailscale up\" turns the network on with the settings that are stored; it is the\n\
           opposite of \"tailscale down\".\n\
           \n\
           With flags, name all settings that differ from their defaults: one that is stored and not\n\
           named would go back to its default, so that such a command line is refused unless --reset\n\
           says that this is meant. The flags for logging in and for output (--auth-key, --force-reauth,\n\
           --qr, --json, ...) are not settings.",
    flags: up::up_flags,
    ..Command::new(
        "up",
        "tailscale up [flags]",
        "Turn the network on, logging in if needed",
        Act::Run(|c, p| Box::pin(up::run(c, p))),
    )
};

const DOWN: Command = Command {
    flags: || {
        up::risk_flag(FlagSet::new("down").string(
            "reason",
            "",
            "why, where a policy wants to know",
        ))
    },
    ..Command::new(
        "down",
        "tailscale down",
        "Turn the network off",
        Act::Run(|c, p| Box::pin(down::run(c, p))),
    )
};

const LOGOUT: Command = Command {
    long: "The network goes down and the control server forgets this machine's key: coming back needs a login.",
    flags: || FlagSet::new("logout").string("reason", "", "why, where a policy wants to know"),
    ..Command::new(
        "logout",
        "tailscale logout",
        "Turn the network off and expire this machine's key",
        Act::Run(|c, p| Box::pin(logout::run(c, p))),
    )
};

const IP: Command = Command {
    long: "Prints this machine's addresses, or those of the named peer.",
    flags: || {
        FlagSet::new("ip")
            .bool("1", false, "print one address only")
            .bool("4", false, "print IPv4 only")
            .bool("6", false, "print IPv6 only")
            .string(
                "assert",
                "",
                "print nothing; succeed if this is one of the machine's addresses",
            )
    },
    ..Command::new(
        "ip",
        "tailscale ip [-1] [-4] [-6] [peer or service hostname or ip address]",
        "Show Tailscale addresses",
        Act::Run(|c, p| Box::pin(ip::run(c, p))),
    )
};

const STATUS: Command = Command {
    long: "The fields of --json are those of the original's ipn/ipnstate package, type Status.",
    flags: || {
        FlagSet::new("status")
            .bool(
                "json",
                false,
                "print JSON (its fields may change between versions)",
            )
            .bool("web", false, "serve the status as a web page")
            .bool(
                "active",
                false,
                "leave out peers without an active session (not with --web)",
            )
            .bool("self", true, "show this machine")
            .bool("peers", true, "show peers")
            .string(
                "listen",
                "127.0.0.1:8384",
                "where --web listens; port 0 takes a free one",
            )
            .bool("browser", true, "open a browser with --web")
            .bool("header", false, "name the columns")
    },
    ..Command::new(
        "status",
        "tailscale status [--active] [--web] [--json]",
        "Show the state of tailscaled and its peers",
        Act::Run(|c, p| Box::pin(status::run(c, p))),
    )
};

const PING: Command = Command {
    long: "Sends pings through tailscaled and tells which way each answer came: relayed (DERP) or direct.\n\
           It ends after --c pings, or as soon as an answer came directly.\n\
           \n\
           Where this works and the system's own ping does not, look for a firewall on one of the\n\
           machines: these packets do not pass the operating systems' network stacks.\n\
           \n\
           The name must be, or resolve to, an address of the tailnet or of a route that a peer offers.",
    flags: || {
        FlagSet::new("ping")
            .bool("verbose", false, "say more")
            .bool("until-direct", true, "end when an answer came directly")
            .bool(
                "tsmp",
                false,
                "ping inside WireGuard, answered by the peer's tailscaled",
            )
            .bool(
                "icmp",
                false,
                "ping inside WireGuard, answered by the peer's network stack",
            )
            .bool("peerapi", false, "ask the peer's PeerAPI web server")
            .int("c", 10, "how many pings to send; 0 never ends")
            .duration(
                "timeout",
                GoDuration::from_secs(5),
                "how long to wait for each answer",
            )
            .int(
                "size",
                0,
                "bytes per message, for disco pings only; 0 is the least",
            )
    },
    ..Command::new(
        "ping",
        "tailscale ping <hostname-or-IP>",
        "Ping a peer and show the path taken",
        Act::Run(|c, p| Box::pin(ping::run(c, p))),
    )
};

const NC: Command = Command::new(
    "nc",
    "tailscale nc <hostname-or-IP> <port>",
    "Connect stdin and stdout to a TCP port of a peer",
    Act::Run(|c, p| Box::pin(nc::run(c, p))),
);

const VERSION: Command = Command {
    flags: || {
        FlagSet::new("version")
            .bool("daemon", false, "ask tailscaled for its version too")
            .bool("json", false, "print JSON")
            .bool("upstream", false, "look up the newest release on the internet")
            .string("track", "", "with --upstream: \"stable\", \"release-candidate\" or \"unstable\"; empty means this one's")
    },
    ..Command::new(
        "version",
        "tailscale version [flags]",
        "Print the version",
        Act::Run(|c, p| Box::pin(version::run(c, p))),
    )
};

const WHOIS: Command = Command {
    long: "Tells whose machine a Tailscale address belongs to.",
    flags: || {
        FlagSet::new("whois")
            .bool("json", false, "print JSON")
            .string("proto", "", "\"tcp\" or \"udp\"; empty means both")
    },
    ..Command::new(
        "whois",
        "tailscale whois [--json] ip[:port]",
        "Show the machine and user of an address",
        Act::Run(|c, p| Box::pin(whois::run(c, p))),
    )
};
