//! `tailscale debug`.

use std::future::ready;

use goflag::FlagSet;

use crate::cmd::debug;
use crate::command::{Act, Command};

const fn unbuilt(name: &'static str, usage: &'static str, short: &'static str) -> Command {
    Command::new(name, usage, short, Act::NotBuilt)
}

pub(super) const DEBUG: Command = Command {
    long: "For finding faults. What is here may change at any time.",
    hidden: true,
    subs: &[
        DERP_MAP,
        unbuilt(
            "component-logs",
            "tailscale debug component-logs [magicsock|sockstats|syspolicy]",
            "Log more about one part",
        ),
        unbuilt(
            "daemon-goroutines",
            "tailscale debug daemon-goroutines",
            "Print the original's goroutines",
        ),
        DAEMON_LOGS,
        unbuilt(
            "daemon-bus-events",
            "tailscale debug daemon-bus-events",
            "Watch the internal bus",
        ),
        unbuilt(
            "daemon-bus-graph",
            "tailscale debug daemon-bus-graph",
            "Print the internal bus's graph",
        ),
        unbuilt(
            "daemon-bus-queues",
            "tailscale debug daemon-bus-queues",
            "Print the internal bus's queues",
        ),
        unbuilt(
            "metrics",
            "tailscale debug metrics",
            "Print tailscaled's metrics",
        ),
        ENV,
        STAT,
        unbuilt(
            "hostinfo",
            "tailscale debug hostinfo",
            "Print what is reported about this machine",
        ),
        unbuilt(
            "local-creds",
            "tailscale debug local-creds",
            "Print how to reach the LocalAPI",
        ),
        unbuilt(
            "localapi",
            "tailscale debug localapi [<method>] <path> [<body| \"-\">]",
            "Call the LocalAPI",
        ),
        unbuilt(
            "restun",
            "tailscale debug restun",
            "Probe the network again",
        ),
        unbuilt(
            "rebind",
            "tailscale debug rebind",
            "Open the UDP sockets again",
        ),
        unbuilt(
            "rotate-disco-key",
            "tailscale debug rotate-disco-key",
            "Make a new disco key",
        ),
        unbuilt(
            "derp-set-on-demand",
            "tailscale debug derp-set-on-demand",
            "Keep no relay connected (breaks reachability)",
        ),
        unbuilt(
            "derp-unset-on-demand",
            "tailscale debug derp-unset-on-demand",
            "Keep the home relay connected",
        ),
        unbuilt(
            "break-tcp-conns",
            "tailscale debug break-tcp-conns",
            "Cut tailscaled's TCP connections",
        ),
        unbuilt(
            "break-derp-conns",
            "tailscale debug break-derp-conns",
            "Cut the relay connections",
        ),
        unbuilt(
            "pick-new-derp",
            "tailscale debug pick-new-derp",
            "Use another home relay for a while",
        ),
        unbuilt(
            "force-prefer-derp",
            "tailscale debug force-prefer-derp",
            "Prefer a relay region (0 ends it)",
        ),
        unbuilt(
            "force-netmap-update",
            "tailscale debug force-netmap-update",
            "Apply the network map once more",
        ),
        unbuilt(
            "reload-config",
            "tailscale debug reload-config",
            "Read the configuration file again",
        ),
        unbuilt(
            "control-knobs",
            "tailscale debug control-knobs",
            "Print the knobs set by control",
        ),
        PREFS,
        unbuilt(
            "watch-ipn",
            "tailscale debug watch-ipn",
            "Watch the backend's notifications",
        ),
        unbuilt("netmap", "tailscale debug netmap", "Print the network map"),
        unbuilt(
            "via",
            "tailscale debug via <site-id> <v4-cidr>\ntailscale debug via <v6-route>",
            "Convert between IPv4 routes and their 'via' form",
        ),
        unbuilt(
            "ts2021",
            "tailscale debug ts2021",
            "Try the control protocol",
        ),
        unbuilt(
            "set-expire",
            "tailscale debug set-expire --in=1m",
            "Let this machine's key expire",
        ),
        unbuilt(
            "dev-store-set",
            "tailscale debug dev-store-set",
            "Set a state value",
        ),
        unbuilt("derp", "tailscale debug derp", "Test a relay region"),
        unbuilt("capture", "tailscale debug capture", "Capture packets"),
        unbuilt("portmap", "tailscale debug portmap", "Try port mapping"),
        unbuilt(
            "peer-endpoint-changes",
            "tailscale debug peer-endpoint-changes <hostname-or-IP>",
            "Print how a peer's endpoints changed",
        ),
        unbuilt(
            "dial-types",
            "tailscale debug dial-types <hostname-or-IP> <port>",
            "Try ways to connect",
        ),
        unbuilt(
            "resolve",
            "tailscale debug resolve <hostname>",
            "Look up a name",
        ),
        unbuilt(
            "go-buildinfo",
            "tailscale debug go-buildinfo",
            "Print the original's build information",
        ),
        unbuilt(
            "peer-relay-servers",
            "tailscale debug peer-relay-servers",
            "Print the peer relays to choose from",
        ),
        unbuilt("test-risk", "tailscale debug test-risk", "Ask about a risk"),
        unbuilt(
            "statedir",
            "tailscale debug statedir",
            "Print the state directory",
        ),
        unbuilt(
            "peer-relay-sessions",
            "tailscale debug peer-relay-sessions",
            "Print the sessions relayed here",
        ),
        unbuilt(
            "clear-netmap-cache",
            "tailscale debug clear-netmap-cache",
            "Forget cached network maps",
        ),
    ],
    ..Command::new(
        "debug",
        "tailscale debug <debug-flags | subcommand>",
        "Commands for finding faults",
        Act::Run(|c, p| Box::pin(ready(debug::run(c, p)))),
    )
};

const DERP_MAP: Command = Command::new(
    "derp-map",
    "tailscale debug derp-map",
    "Print the map of relays",
    Act::Run(|c, p| Box::pin(debug::derp_map(c, p))),
);

const DAEMON_LOGS: Command = Command {
    flags: || {
        FlagSet::new("daemon-logs")
            .int("verbose", 0, "show lines up to this level")
            .bool(
                "time",
                false,
                "start lines with the time at which they were logged",
            )
    },
    ..Command::new(
        "daemon-logs",
        "tailscale debug daemon-logs",
        "Follow tailscaled's log",
        Act::Run(|c, p| Box::pin(debug::daemon_logs(c, p))),
    )
};

const ENV: Command = Command::new(
    "env",
    "tailscale debug env",
    "Print this program's environment",
    Act::Run(|c, p| Box::pin(ready(debug::env(c, p)))),
);

const STAT: Command = Command::new(
    "stat",
    "tailscale debug stat <files...>",
    "Describe files",
    Act::Run(|c, p| Box::pin(ready(debug::stat(c, p)))),
);

const PREFS: Command = Command {
    flags: || FlagSet::new("prefs").bool("pretty", false, "print one line for people"),
    ..Command::new(
        "prefs",
        "tailscale debug prefs",
        "Print the settings",
        Act::Run(|c, p| Box::pin(debug::prefs(c, p))),
    )
};
