//! Names of capabilities, as the server writes them.

/// An exit node that may be suggested.
pub const SUGGEST_EXIT_NODE: &str = "suggest-exit-node";
/// Exit nodes are chosen by the tailnet's scores.
pub const TRAFFIC_STEERING: &str = "traffic-steering";
/// The node tells peers what it does, for those who look for faults.
pub const DEBUG: &str = "https://tailscale.com/cap/debug";
/// Node: is an administrator's.
pub const ADMIN: &str = "https://tailscale.com/cap/is-admin";
/// Node: may send files.
pub const FILE_SHARING: &str = "https://tailscale.com/cap/file-sharing";
/// Node: SSH is available.
pub const SSH: &str = "https://tailscale.com/cap/ssh";
/// Node: HTTPS certificates are available.
pub const HTTPS: &str = "https";
/// Node: funnel is available.
pub const FUNNEL: &str = "funnel";
/// Node: tailnet lock may be used.
pub const TAILNET_LOCK: &str = "https://tailscale.com/cap/tailnet-lock";
/// Node: has no IPv4 address but a native one.
pub const NATIVE_IPV4: &str = "native-ipv4";
/// Node: no patches, whole maps only.
pub const DISABLE_DELTA_UPDATES: &str = "disable-delta-updates";
/// Node: answer MagicDNS with IPv6 beside IPv4.
pub const MAGIC_DNS_AAAA: &str = "magicdns-aaaa";
/// Node: subdomains of a node's name resolve to the node.
pub const DNS_SUBDOMAIN_RESOLVE: &str = "dns-subdomain-resolve";
/// Node: whether new nodes update themselves.
pub const DEFAULT_AUTO_UPDATE: &str = "default-auto-update";
/// Node: keep the UDP port random.
pub const RANDOMIZE_CLIENT_PORT: &str = "randomize-client-port";
/// Node: never probe without need.
pub const SILENT_DISCO: &str = "silent-disco";
/// Node: no UPnP.
pub const DISABLE_UPNP: &str = "debug-disable-upnp";
/// Node: nothing but TCP to port 443.
pub const ONLY_TCP_443: &str = "only-tcp-443";
/// Node: one route for all IPv4 addresses of peers.
pub const ONE_CGNAT: &str = "one-cgnat?v=true";
/// Node: the guard of the carriers' address range is off.
pub const DISABLE_LINUX_CGNAT_DROP_RULE: &str = "disable-linux-cgnat-drop-rule";
/// Node: trains of datagrams are not asked for on receive.
pub const DISABLE_UDP_GRO: &str = "disable-udp-gro";
/// Node: datagrams are sent one by one.
pub const DISABLE_UDP_GSO: &str = "disable-udp-gso";
/// Node: the TUN device is given no super-packets of UDP.
pub const DISABLE_TUN_UDP_GRO: &str = "disable-tun-udp-gro";
/// Node: the TUN device is given no super-packets of TCP.
pub const DISABLE_TUN_TCP_GRO: &str = "disable-tun-tcp-gro";
/// Node: the last datagram of a train is shorter than the others.
pub const NEVER_GSO_EQUAL_TAIL: &str = "never-gso-equal-tail";
/// Node: the network's display name is the argument.
pub const TAILNET_DISPLAY_NAME: &str = "tailnet-display-name";

/// Peer: may be sent files.
pub const FILE_SHARING_TARGET: &str = "https://tailscale.com/cap/file-sharing-target";
/// Peer: may send files.
pub const FILE_SHARING_SEND: &str = "https://tailscale.com/cap/file-send";
/// Peer: may look at debug pages.
pub const DEBUG_PEER: &str = "https://tailscale.com/cap/debug-peer";
/// Peer: may wake machines.
pub const WAKE_ON_LAN: &str = "https://tailscale.com/cap/wake-on-lan";
/// Peer: may send funnel traffic.
pub const INGRESS: &str = "https://tailscale.com/cap/ingress";
