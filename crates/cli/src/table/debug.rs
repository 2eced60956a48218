//! `tailscale debug`.

use std::future::ready;

use goflag::{FlagSet, GoDuration};

use crate::cmd::debug::{self, actions, convert, localapi, system, watch};
use crate::cmd::up;
use crate::command::{Act, Command};

const fn unbuilt(name: &'static str, usage: &'static str, short: &'static str) -> Command {
    Command::new(name, usage, short, Act::NotBuilt)
}

/// A command that has the daemon do one thing.
macro_rules! action {
    ($name:literal, $action:literal, $short:literal) => {
        Command::new(
            $name,
            concat!("tailscale debug ", $name),
            $short,
            Act::Run(|c, p| Box::pin(actions::run(c, p, $action))),
        )
    };
}

pub(super) const DEBUG: Command = Command {
    long: "For finding faults. What is here may change at any time.",
    hidden: true,
    subs: &[
        DERP_MAP,
        COMPONENT_LOGS,
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
        METRICS,
        ENV,
        STAT,
        SYSTEM,
        unbuilt(
            "hostinfo",
            "tailscale debug hostinfo",
            "Print what is reported about this machine",
        ),
        LOCAL_CREDS,
        LOCALAPI,
        action!("restun", "restun", "Probe the network again"),
        action!("rebind", "rebind", "Open the UDP sockets again"),
        action!(
            "rotate-disco-key",
            "rotate-disco-key",
            "Make a new disco key"
        ),
        action!(
            "derp-set-on-demand",
            "derp-set-homeless",
            "Keep no relay connected (breaks reachability)"
        ),
        action!(
            "derp-unset-on-demand",
            "derp-unset-homeless",
            "Keep the home relay connected"
        ),
        action!(
            "break-tcp-conns",
            "break-tcp-conns",
            "Cut tailscaled's TCP connections"
        ),
        action!(
            "break-derp-conns",
            "break-derp-conns",
            "Cut the relay connections"
        ),
        action!(
            "pick-new-derp",
            "pick-new-derp",
            "Use another home relay for a while"
        ),
        FORCE_PREFER_DERP,
        action!(
            "force-netmap-update",
            "force-netmap-update",
            "Apply the network map once more"
        ),
        RELOAD_CONFIG,
        CONTROL_KNOBS,
        PREFS,
        WATCH_IPN,
        NETMAP,
        VIA,
        unbuilt(
            "ts2021",
            "tailscale debug ts2021",
            "Try the control protocol",
        ),
        SET_EXPIRE,
        unbuilt(
            "dev-store-set",
            "tailscale debug dev-store-set",
            "Set a state value",
        ),
        DERP,
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
        RESOLVE,
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
        TEST_RISK,
        STATE_DIR,
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

const COMPONENT_LOGS: Command = Command {
    flags: || {
        FlagSet::new("component-logs").duration(
            "for",
            GoDuration::from_secs(3600),
            "for how long; zero or less turns it off",
        )
    },
    ..Command::new(
        "component-logs",
        "tailscale debug component-logs [magicsock|sockstats|syspolicy]",
        "Log more about one part",
        Act::Run(|c, p| Box::pin(actions::component_logs(c, p))),
    )
};

const METRICS: Command = Command {
    flags: || FlagSet::new("metrics").bool("watch", false, "print what changes"),
    ..Command::new(
        "metrics",
        "tailscale debug metrics",
        "Print tailscaled's metrics",
        Act::Run(|c, p| Box::pin(debug::metrics(c, p))),
    )
};

const LOCAL_CREDS: Command = Command::new(
    "local-creds",
    "tailscale debug local-creds",
    "Print how to reach the LocalAPI",
    Act::Run(|c, p| Box::pin(ready(localapi::credentials(c, p)))),
);

const LOCALAPI: Command = Command {
    flags: || FlagSet::new("localapi").bool("v", false, "print the fields of the answer too"),
    ..Command::new(
        "localapi",
        "tailscale debug localapi [<method>] <path> [<body| \"-\">]",
        "Call the LocalAPI",
        Act::Run(|c, p| Box::pin(localapi::call(c, p))),
    )
};

const FORCE_PREFER_DERP: Command = Command::new(
    "force-prefer-derp",
    "tailscale debug force-prefer-derp",
    "Prefer a relay region (0 ends it)",
    Act::Run(|c, p| Box::pin(actions::force_prefer_derp(c, p))),
);

const RELOAD_CONFIG: Command = Command::new(
    "reload-config",
    "tailscale debug reload-config",
    "Read the configuration file again",
    Act::Run(|c, p| Box::pin(actions::reload_config(c, p))),
);

const CONTROL_KNOBS: Command = Command::new(
    "control-knobs",
    "tailscale debug control-knobs",
    "Print the knobs set by control",
    Act::Run(|c, p| Box::pin(actions::control_knobs(c, p))),
);

const WATCH_IPN: Command = Command {
    flags: watch::flags,
    ..Command::new(
        "watch-ipn",
        "tailscale debug watch-ipn",
        "Watch the backend's notifications",
        Act::Run(|c, p| Box::pin(watch::run(c, p))),
    )
};

const NETMAP: Command = Command::new(
    "netmap",
    "tailscale debug netmap",
    "Print the network map",
    Act::Run(|c, p| Box::pin(actions::netmap(c, p))),
);

const VIA: Command = Command::new(
    "via",
    "tailscale debug via <site-id> <v4-cidr>\ntailscale debug via <v6-route>",
    "Convert between IPv4 routes and their 'via' form",
    Act::Run(|c, p| Box::pin(ready(convert::via(c, p)))),
);

const SET_EXPIRE: Command = Command {
    flags: || {
        FlagSet::new("set-expire").duration(
            "in",
            GoDuration::ZERO,
            "how long from now the key lives",
        )
    },
    ..Command::new(
        "set-expire",
        "tailscale debug set-expire --in=1m",
        "Let this machine's key expire",
        Act::Run(|c, p| Box::pin(actions::set_expire(c, p))),
    )
};

const RESOLVE: Command = Command {
    flags: || FlagSet::new("resolve").string("net", "ip", "which addresses: ip, ip4 or ip6"),
    ..Command::new(
        "resolve",
        "tailscale debug resolve <hostname>",
        "Look up a name",
        Act::Run(|c, p| Box::pin(convert::resolve(c, p))),
    )
};

const TEST_RISK: Command = Command {
    flags: || up::risk_flag(FlagSet::new("test-risk")),
    ..Command::new(
        "test-risk",
        "tailscale debug test-risk",
        "Ask about a risk",
        Act::Run(|c, p| Box::pin(debug::test_risk(c, p))),
    )
};

const STATE_DIR: Command = Command::new(
    "statedir",
    "tailscale debug statedir",
    "Print the state directory",
    Act::Run(|c, p| Box::pin(actions::state_dir(c, p))),
);

const DERP: Command = Command::new(
    "derp",
    "tailscale debug derp",
    "Test a relay region",
    Act::Run(|c, p| Box::pin(actions::derp(c, p))),
);

const SYSTEM: Command = Command {
    subs: &[Command {
        long: "Compares what this machine's routes, rules, firewall and resolver are with what they should be, and says what would be\n\
               done about it. The daemon does that by itself within a second.",
        flags: || FlagSet::new("diff").bool("json", false, "print JSON"),
        ..Command::new(
            "diff",
            "tailscale debug system diff [--json]",
            "Compare the machine with what it should be",
            Act::Run(|c, p| Box::pin(system::diff(c, p))),
        )
    }],
    ..Command::new(
        "system",
        "tailscale debug system <subcommand>",
        "Look at what the daemon does to the machine",
        Act::Group,
    )
};
