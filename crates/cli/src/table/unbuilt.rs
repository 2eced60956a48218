//! Commands that are known by name and that this version does not have.

use crate::command::{Act, Command};

const fn unbuilt(name: &'static str, usage: &'static str, short: &'static str) -> Command {
    Command::new(name, usage, short, Act::NotBuilt)
}

const fn group(
    name: &'static str,
    usage: &'static str,
    short: &'static str,
    subs: &'static [Command],
) -> Command {
    Command {
        subs,
        ..Command::new(name, usage, short, Act::Group)
    }
}

const fn hidden(command: Command) -> Command {
    Command {
        hidden: true,
        ..command
    }
}

pub(super) const CONFIGURE: Command = group(
    "configure",
    "tailscale configure <subcommand>",
    "Prepare this machine for more uses of Tailscale",
    &[
        unbuilt(
            "kubeconfig",
            "tailscale configure kubeconfig <hostname-or-fqdn>",
            "Reach a Kubernetes cluster through its auth proxy",
        ),
        hidden(unbuilt(
            "flash-appliance",
            "tailscale configure flash-appliance [flags]",
            "Write an appliance image to a disk",
        )),
        hidden(unbuilt(
            "pve-appliance",
            "tailscale configure pve-appliance --storage=<name> [flags]",
            "Make a Proxmox appliance",
        )),
        unbuilt(
            "systray",
            "tailscale configure systray [options]",
            "Set up the tray application",
        ),
    ],
);
pub(super) const SYSPOLICY: Command = group(
    "syspolicy",
    "tailscale syspolicy <subcommand>",
    "Show the policies set for this machine",
    &[
        unbuilt(
            "list",
            "tailscale syspolicy list",
            "Print the policies in force",
        ),
        unbuilt(
            "reload",
            "tailscale syspolicy reload",
            "Read the policies again and print them",
        ),
    ],
);
pub(super) const ROUTECHECK: Command = hidden(unbuilt(
    "routecheck",
    "tailscale routecheck",
    "Report which routers of shared routes answer",
));
pub(super) const SSH: Command = unbuilt(
    "ssh",
    "tailscale ssh [user@]<host> [args...]",
    "SSH to a peer",
);
pub(super) const FUNNEL: Command = Command {
    subs: &[
        unbuilt(
            "status",
            "tailscale funnel status [--json]",
            "Show what is offered to the internet",
        ),
        unbuilt(
            "reset",
            "tailscale funnel reset",
            "Stop offering to the internet",
        ),
    ],
    ..unbuilt(
        "funnel",
        "tailscale funnel <target>\ntailscale funnel status [--json]\ntailscale funnel reset",
        "Offer content and local servers to the internet",
    )
};
pub(super) const SERVE: Command = Command {
    subs: &[
        unbuilt(
            "status",
            "tailscale serve status [--json]",
            "Show what is served",
        ),
        unbuilt("reset", "tailscale serve reset", "Stop serving"),
        unbuilt(
            "drain",
            "tailscale serve drain <service>",
            "Take no more connections for a service",
        ),
        unbuilt(
            "clear",
            "tailscale serve clear <service>",
            "Forget a service's configuration",
        ),
        unbuilt(
            "advertise",
            "tailscale serve advertise <service>",
            "Offer this machine as a service's proxy",
        ),
        unbuilt(
            "get-config",
            "tailscale serve get-config <file> [--service=<service>] [--all]",
            "Save the configuration",
        ),
        unbuilt(
            "set-config",
            "tailscale serve set-config <file> [--service=<service>] [--all]",
            "Load the configuration",
        ),
    ],
    ..unbuilt(
        "serve",
        "tailscale serve <target>\ntailscale serve status [--json]\ntailscale serve reset",
        "Offer content and local servers to the tailnet",
    )
};
pub(super) const SERVICE: Command = group(
    "service",
    "tailscale service",
    "Show the tailnet's services",
    &[unbuilt(
        "list",
        "tailscale service list",
        "List the services that this machine can reach",
    )],
);
pub(super) const WEB: Command = unbuilt(
    "web",
    "tailscale web [flags]",
    "Serve a web page that controls tailscaled",
);
pub(super) const FILE: Command = group(
    "file",
    "tailscale file <cp|get> ...",
    "Send or receive files",
    &[
        unbuilt(
            "cp",
            "tailscale file cp <files...> <target>:",
            "Send files to a peer",
        ),
        unbuilt(
            "get",
            "tailscale file get [--wait] [--verbose] [--conflict=(skip|overwrite|rename)] <target-directory>",
            "Take received files out of the inbox",
        ),
    ],
);
pub(super) const CERT: Command = unbuilt(
    "cert",
    "tailscale cert [flags] <domain>",
    "Get a TLS certificate",
);
pub(super) const LOCK: Command = Command {
    subs: &[
        unbuilt(
            "init",
            "tailscale lock init [--gen-disablement-for-support] --gen-disablements N <trusted-key>...",
            "Turn tailnet lock on",
        ),
        unbuilt(
            "status",
            "tailscale lock status",
            "Show the state of tailnet lock",
        ),
        unbuilt(
            "add",
            "tailscale lock add <public-key>...",
            "Trust more signing keys",
        ),
        unbuilt(
            "remove",
            "tailscale lock remove [--re-sign=false] <public-key>...",
            "Trust fewer signing keys",
        ),
        unbuilt(
            "sign",
            "tailscale lock sign <node-key> [<rotation-key>]\ntailscale lock sign <auth-key>",
            "Sign a node or auth key",
        ),
        unbuilt(
            "disable",
            "tailscale lock disable <disablement-secret>",
            "Turn tailnet lock off for the tailnet",
        ),
        unbuilt(
            "disablement-kdf",
            "tailscale lock disablement-kdf <hex-encoded-disablement-secret>",
            "Derive a disablement value from its secret",
        ),
        unbuilt(
            "log",
            "tailscale lock log [--limit N]",
            "List the changes of tailnet lock",
        ),
        unbuilt(
            "local-disable",
            "tailscale lock local-disable",
            "Turn tailnet lock off for this machine",
        ),
        unbuilt(
            "revoke-keys",
            "tailscale lock revoke-keys <tailnet-lock-key>...\n  revoke-keys [--cosign] [--finish] <recovery-blob>",
            "Revoke stolen signing keys",
        ),
    ],
    ..unbuilt(
        "lock",
        "tailscale lock <subcommand> [arguments...]",
        "Manage tailnet lock",
    )
};
pub(super) const DRIVE: Command = group(
    "drive",
    "tailscale drive share <name> <path>\n\
     tailscale drive rename <oldname> <newname>\n\
     tailscale drive unshare <name>\n\
     tailscale drive list",
    "Share folders with the tailnet",
    &[
        unbuilt(
            "share",
            "tailscale drive share <name> <path>",
            "Share a folder",
        ),
        unbuilt(
            "rename",
            "tailscale drive rename <oldname> <newname>",
            "Rename a share",
        ),
        unbuilt(
            "unshare",
            "tailscale drive unshare <name>",
            "Stop sharing a folder",
        ),
        unbuilt("list", "tailscale drive list", "List the shares"),
    ],
);
pub(super) const ID_TOKEN: Command = hidden(unbuilt(
    "id-token",
    "tailscale id-token <aud>",
    "Get an OIDC token that names this machine",
));
pub(super) const CONFIGURE_HOST: Command = hidden(unbuilt(
    "configure-host",
    "tailscale configure-host",
    "Prepare a Synology host",
));
pub(super) const SYSTRAY: Command =
    unbuilt("systray", "tailscale systray", "Run the tray application");
pub(super) const APPC_ROUTES: Command = unbuilt(
    "appc-routes",
    "tailscale appc-routes",
    "Print the app connector's routes",
);
