//! All commands, in the order in which help lists them.

mod debug;
mod unbuilt;

use std::future::ready;

use goflag::{Flag, FlagSet, GoDuration, Kind, Value};

use crate::cmd::{
    bugreport, completion, dns, dns_status, down, exit_node, get, ip, licenses, logout, metrics,
    nc, netcheck, ping, root, set, status, switch, up, update, version, wait, whoami, whois,
};
use crate::command::{Act, Command, default_socket};
use crate::usage::HIDDEN;

/// The program itself.
pub(crate) static ROOT: Command = Command {
    long: "To learn about one command, put --help after it: \"tailscale status --help\".",
    flags: root_flags,
    subs: &[
        UP,
        DOWN,
        SET,
        GET,
        LOGIN,
        LOGOUT,
        SWITCH,
        unbuilt::CONFIGURE,
        unbuilt::SYSPOLICY,
        NETCHECK,
        unbuilt::ROUTECHECK,
        IP,
        DNS,
        STATUS,
        METRICS,
        PING,
        NC,
        unbuilt::SSH,
        unbuilt::FUNNEL,
        unbuilt::SERVE,
        unbuilt::SERVICE,
        VERSION,
        unbuilt::WEB,
        unbuilt::FILE,
        BUGREPORT,
        unbuilt::CERT,
        unbuilt::LOCK,
        LICENSES,
        EXIT_NODE,
        UPDATE,
        WHOIS,
        WHOAMI,
        debug::DEBUG,
        unbuilt::DRIVE,
        unbuilt::ID_TOKEN,
        unbuilt::CONFIGURE_HOST,
        unbuilt::SYSTRAY,
        unbuilt::APPC_ROUTES,
        WAIT,
        COMPLETION,
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

const LOGIN: Command = Command {
    long: "Makes a new account besides those that this machine knows, and logs in with it.",
    flags: up::login_flags,
    ..Command::new(
        "login",
        "tailscale login [flags]",
        "Log in to another account",
        Act::Run(|c, p| Box::pin(up::login(c, p))),
    )
};

const SET: Command = Command {
    long: "Only what is named changes: unlike \"tailscale up\", there are no defaults.",
    flags: up::set_flags,
    shows_defaults: false,
    ..Command::new(
        "set",
        "tailscale set [flags]",
        "Change single settings",
        Act::Run(|c, p| Box::pin(set::run(c, p))),
    )
};

const GET: Command = Command {
    long: "Shows the setting of that name; all of them without a name or with \"all\". The names are those of\n\
           the flags of \"tailscale set\".",
    flags: || {
        FlagSet::new("get").bool("json", false, "print JSON").bool(
            "set-flags",
            false,
            "print them as arguments for \"tailscale set\"",
        )
    },
    ..Command::new(
        "get",
        "tailscale get [flags] [setting-name | all]",
        "Show settings",
        Act::Run(|c, p| Box::pin(get::run(c, p))),
    )
};

const SWITCH: Command = Command {
    long: "Changes to an account that has logged in on this machine before, named by the id that --list\n\
           prints, its tailnet, its account or its nickname.",
    flags: || {
        FlagSet::new("switch")
            .bool("list", false, "list the accounts")
            .bool("json", false, "list the accounts as JSON")
    },
    subs: &[Command {
        long: "Forgets an account on this machine; logging in again brings it back.",
        ..Command::new(
            "remove",
            "tailscale switch remove <id>",
            "Forget an account",
            Act::Run(|c, p| Box::pin(switch::remove(c, p))),
        )
    }],
    ..Command::new(
        "switch",
        "tailscale switch <id>\ntailscale switch --list [--json]",
        "Change to another account",
        Act::Run(|c, p| Box::pin(switch::run(c, p))),
    )
};

const BUGREPORT: Command = Command {
    long: "Writes a marker into the daemon's log, with what is known of this machine, and prints it: whoever looks for the\n\
           fault finds the place by it. A note goes into the log, too.",
    flags: || {
        FlagSet::new("bugreport")
            .bool("diagnose", false, "look deeper")
            .bool(
                "record",
                false,
                "wait for Enter, and write a second marker then",
            )
    },
    ..Command::new(
        "bugreport",
        "tailscale bugreport [note]",
        "Mark a moment in the logs",
        Act::Run(|c, p| Box::pin(bugreport::run(c, p))),
    )
};

const LICENSES: Command = Command::new(
    "licenses",
    "tailscale licenses",
    "Show open source licences",
    Act::Run(|c, p| Box::pin(ready(licenses::run(c, p)))),
);

const UPDATE: Command = Command {
    long: "This program never updates itself. It says how it came here, and who brings a newer one.",
    flags: || {
        FlagSet::new("update")
            .bool("dry-run", false, "the same: nothing is ever done")
            .bool("yes", false, "the same: nothing is asked")
            .string("track", "", "the same: nothing is fetched")
            .string("version", "", "the same: nothing is fetched")
    },
    ..Command::new(
        "update",
        "tailscale update",
        "Say who brings another version",
        Act::Run(|c, p| Box::pin(ready(update::run(c, p)))),
    )
};

const COMPLETION: Command = Command {
    long: "For the shell that runs:\n\
           \n\
           bash         source <(tailscale completion bash)\n\
           zsh          source <(tailscale completion zsh)\n\
           fish         tailscale completion fish | source\n\
           PowerShell   tailscale completion powershell | Out-String | Invoke-Expression\n\
           \n\
           For all to come, write the output to /etc/bash_completion.d/tailscale, to a file _tailscale in zsh's $fpath,\n\
           to ~/.config/fish/completions/tailscale.fish, or to a file that PowerShell's profile runs.",
    subs: &[
        shell(Command::new(
            "bash",
            "source <(tailscale completion bash)",
            "Print the script for bash",
            Act::Run(|c, p| Box::pin(ready(completion::script(c, p, "bash")))),
        )),
        shell(Command::new(
            "zsh",
            "source <(tailscale completion zsh)",
            "Print the script for zsh",
            Act::Run(|c, p| Box::pin(ready(completion::script(c, p, "zsh")))),
        )),
        shell(Command::new(
            "fish",
            "tailscale completion fish | source",
            "Print the script for fish",
            Act::Run(|c, p| Box::pin(ready(completion::script(c, p, "fish")))),
        )),
        shell(Command::new(
            "powershell",
            "tailscale completion powershell | Out-String | Invoke-Expression",
            "Print the script for PowerShell",
            Act::Run(|c, p| Box::pin(ready(completion::script(c, p, "powershell")))),
        )),
        Command {
            hidden: true,
            ..shell(Command::new(
                "__complete",
                "tailscale completion __complete -- <args to complete...>",
                "Say what may come next",
                Act::Run(|c, p| Box::pin(completion::complete(c, p))),
            ))
        },
    ],
    ..Command::new(
        "completion",
        "tailscale completion <shell> [--flags] [--descs]",
        "Print shell completion scripts",
        Act::Group,
    )
};

const fn shell(command: Command) -> Command {
    Command {
        flags: completion::flags,
        ..command
    }
}

const WHOAMI: Command = Command {
    long: "Tells what \"tailscale whois\" tells of this machine's own address, and the tailnet.",
    flags: || FlagSet::new("whoami").bool("json", false, "print JSON"),
    ..Command::new(
        "whoami",
        "tailscale whoami [--json]",
        "Show this machine and its user",
        Act::Run(|c, p| Box::pin(whoami::run(c, p))),
    )
};

const DNS: Command = Command {
    subs: &[
        Command {
            long: "Prints what the control server says of names, who is asked for which, and what the machine's own resolver is\n\
                   without this node. With --all also what is seldom of interest: servers for where the machine's own are not known,\n\
                   names for certificates, further records, and names that this node does not look up for those whose exit node it is.",
            flags: || {
                FlagSet::new("status")
                    .bool("all", false, "print all there is")
                    .bool("json", false, "print JSON")
            },
            ..Command::new(
                "status",
                "tailscale dns status [--all] [--json]",
                "Print the DNS configuration",
                Act::Run(|c, p| Box::pin(dns_status::run(c, p))),
            )
        },
        Command {
            long: "Asks the daemon's own resolver for a name. Without a type it asks for an IPv4 address (A); other types are\n\
                   AAAA, CNAME, MX, NS, PTR, SRV, TXT. Also tells which servers are asked for such a name.",
            flags: || FlagSet::new("query").bool("json", false, "print JSON"),
            ..Command::new(
                "query",
                "tailscale dns query [--json] <name> [type]",
                "Ask the forwarder",
                Act::Run(|c, p| Box::pin(dns::query(c, p))),
            )
        },
    ],
    ..Command::new(
        "dns",
        "tailscale dns status [--all] [--json]\ntailscale dns query [--json] <name> [type]",
        "Look into the built-in DNS forwarder",
        Act::Group,
    )
};

const EXIT_NODE: Command = Command {
    subs: &[
        Command {
            flags: || FlagSet::new("list").string("filter", "", "only those in this country"),
            ..Command::new(
                "list",
                "tailscale exit-node list [flags]",
                "List exit nodes",
                Act::Run(|c, p| Box::pin(exit_node::list(c, p))),
            )
        },
        Command::new(
            "suggest",
            "tailscale exit-node suggest",
            "Name the best exit node",
            Act::Run(|c, p| Box::pin(exit_node::suggest(c, p))),
        ),
    ],
    ..Command::new(
        "exit-node",
        "tailscale exit-node [flags]",
        "Show the tailnet's exit nodes",
        Act::Group,
    )
};

const METRICS: Command = Command {
    subs: &[
        Command::new(
            "print",
            "tailscale metrics print",
            "Print the metrics in Prometheus' text format",
            Act::Run(|c, p| Box::pin(metrics::print(c, p))),
        ),
        Command::new(
            "write",
            "tailscale metrics write <path>",
            "Write the metrics to a file",
            Act::Run(|c, p| Box::pin(metrics::write(c, p))),
        ),
    ],
    ..Command::new(
        "metrics",
        "tailscale metrics <subcommand> [flags]",
        "Show metrics for users",
        Act::Group,
    )
};

const WAIT: Command = Command {
    long: "Waits until tailscaled runs, its network is on and an interface has the node's address (in userspace\n\
           mode there is no interface to wait for), so that a service can listen on it:\n\
           \n    tailscale wait && /path/to/service\n\
           \n\
           The unit tailscale-online.target does the same for systemd.",
    flags: || {
        FlagSet::new("wait").duration(
            "timeout",
            GoDuration::ZERO,
            "how long to wait; 0 waits for ever",
        )
    },
    ..Command::new(
        "wait",
        "tailscale wait",
        "Wait until the network can be used",
        Act::Run(|c, p| Box::pin(wait::run(c, p))),
    )
};

const NETCHECK: Command = Command {
    long: "Measures with the map of relays that tailscaled has. Without one, TS_NETCHECK_DERP_MAP names a file or\n\
           a URL of a map: nobody else is asked.",
    flags: || {
        FlagSet::new("netcheck")
            .string(
                "format",
                "",
                "\"json\" or \"json-line\"; empty is for people",
            )
            .duration(
                "every",
                GoDuration::ZERO,
                "measure again and again with this pause; only what changed is asked",
            )
            .bool("verbose", false, "say more")
            .string("bind-address", "", "send probes from this local IP address")
            .int(
                "bind-port",
                0,
                "send probes from this UDP port; 0 takes a free one",
            )
    },
    ..Command::new(
        "netcheck",
        "tailscale netcheck",
        "Report on the local network",
        Act::Run(|c, p| Box::pin(netcheck::run(c, p))),
    )
};
