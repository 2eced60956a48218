//! `status` (`ipn/ipnstate`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use keys::NodePublic;
use serde::{Deserialize, Serialize};
use tailcfg::go::{GoTime, RawJson};
use tailcfg::{ClientVersion, DnsRecord, Location, NodeId, UserId, UserProfile, wire};

use crate::wire_leaf;

wire! {
    /// The whole node.
    ///
    /// Compat: a list that is `None` is written as `null`, and which lists are `null` when is what scripts see.
    pub struct Status {
        /// The daemon's long version.
        "Version" = version: String,
        /// Whether packets go through a network device of the OS.
        "TUN" = tun: bool,
        /// The state's name.
        "BackendState" = backend_state: String,
        /// Whether there is a node key.
        "HaveNodeKey" ? have_node_key: bool,
        /// The page where the login goes on.
        "AuthURL" = auth_url: String,
        /// Our addresses, IPv4 first.
        "TailscaleIPs" = tailscale_ips: Option<Vec<IpAddr>>,
        /// Our own node.
        "Self" = self_status: Option<Box<PeerStatus>>,
        /// The exit node in use.
        "ExitNodeStatus" ? exit_node_status: Option<ExitNodeStatus>,
        /// Texts of the health warnings.
        "Health" = health: Option<Vec<String>>,
        /// As in `current_tailnet`.
        "MagicDNSSuffix" = magic_dns_suffix: String,
        /// The tailnet.
        "CurrentTailnet" = current_tailnet: Option<TailnetStatus>,
        /// Names that we can get certificates for.
        "CertDomains" = cert_domains: Option<Vec<String>>,
        /// Names that the tailnet adds to its nodes' names.
        "ExtraRecords" = extra_records: Option<Vec<DnsRecord>>,
        /// Every peer, by node key.
        "Peer" = peer: Option<BTreeMap<NodePublic, PeerStatus>>,
        /// Users that the peers belong to.
        "User" = user: Option<BTreeMap<UserId, UserProfile>>,
        /// What is known of newer versions.
        "ClientVersion" = client_version: Option<ClientVersion>,
    }

    /// The tailnet.
    pub struct TailnetStatus {
        /// Name.
        "Name" = name: String,
        /// Suffix of the names in it, without dots around it.
        "MagicDNSSuffix" = magic_dns_suffix: String,
        /// Whether names are answered.
        "MagicDNSEnabled" = magic_dns_enabled: bool,
    }

    /// The exit node in use.
    pub struct ExitNodeStatus {
        /// Its stable id.
        "ID" = id: String,
        /// Whether it is connected to the control server.
        "Online" = online: bool,
        /// Its addresses.
        "TailscaleIPs" = tailscale_ips: Option<Vec<IpNet>>,
    }

    /// One node.
    pub struct PeerStatus {
        /// Stable id.
        "ID" = id: String,
        /// Number.
        "NodeID" = node_id: NodeId,
        /// WireGuard key.
        "PublicKey" = public_key: NodePublic,
        /// What the machine calls itself.
        "HostName" = host_name: String,
        /// Full name, with a dot at the end.
        "DNSName" = dns_name: String,
        /// Operating system.
        "OS" = os: String,
        /// Whose it is.
        "UserID" = user_id: UserId,
        /// Who shared it, if somebody else did.
        "AltSharerUserID" ? alt_sharer_user_id: UserId,
        /// Its addresses, IPv4 first.
        "TailscaleIPs" = tailscale_ips: Option<Vec<IpAddr>>,
        /// What is routed to it.
        "AllowedIPs" ? allowed_ips: Option<Vec<IpNet>>,
        /// Its tags.
        "Tags" ? tags: Option<Vec<String>>,
        /// Subnets that it is the one to route.
        "PrimaryRoutes" ? primary_routes: Option<Vec<IpNet>>,
        /// Where it says that it can be reached.
        "Addrs" = addrs: Option<Vec<String>>,
        /// The address in use; empty if relayed or idle.
        "CurAddr" = cur_addr: String,
        /// Its home relay region's code.
        "Relay" = relay: String,
        /// The peer relay in use.
        "PeerRelay" = peer_relay: String,
        /// Bytes received from it.
        "RxBytes" = rx_bytes: i64,
        /// Bytes sent to it.
        "TxBytes" = tx_bytes: i64,
        /// When it was made.
        "Created" = created: GoTime,
        /// When we last sent to it.
        "LastWrite" = last_write: GoTime,
        /// When the control server last saw it, if it is away.
        "LastSeen" = last_seen: GoTime,
        /// When the last WireGuard handshake succeeded.
        "LastHandshake" = last_handshake: GoTime,
        /// Whether it is connected to the control server.
        "Online" = online: bool,
        /// Whether it is our exit node.
        "ExitNode" = exit_node: bool,
        /// Whether it could be.
        "ExitNodeOption" = exit_node_option: bool,
        /// Whether there was traffic of late.
        "Active" = active: bool,
        /// Where its own API is.
        "PeerAPIURL" = peer_api_url: Option<Vec<String>>,
        /// Whether files can be sent to it.
        "TaildropTarget" = taildrop_target: TaildropTarget,
        /// Why not.
        "NoFileSharingReason" = no_file_sharing_reason: String,
        /// Capabilities, the names only.
        "Capabilities" ? capabilities: Vec<String>,
        /// Capabilities and their arguments.
        "CapMap" ? cap_map: BTreeMap<String, Option<Vec<RawJson>>>,
        /// SSH host keys.
        "sshHostKeys" ? ssh_host_keys: Vec<String>,
        /// Whether it is here only because we share a node with its user.
        "ShareeNode" ? sharee_node: bool,
        /// Whether the control server told of it.
        "InNetworkMap" = in_network_map: bool,
        /// Whether the path machine knows it.
        "InMagicSock" = in_magic_sock: bool,
        /// Whether WireGuard knows it.
        "InEngine" = in_engine: bool,
        /// Whether its key has run out.
        "Expired" ? expired: bool,
        /// When its key runs out.
        "KeyExpiry" ? key_expiry: Option<GoTime>,
        /// Where it stands.
        "Location" ? location: Option<Location>,
    }
}

/// Whether files can be sent to a peer; a number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaildropTarget(pub i32);
wire_leaf!(TaildropTarget);

impl TaildropTarget {
    /// Not looked at.
    pub const UNKNOWN: Self = Self(0);
    /// Yes.
    pub const AVAILABLE: Self = Self(1);
    /// There is no netmap.
    pub const NO_NETMAP: Self = Self(2);
    /// We are not running.
    pub const NOT_RUNNING: Self = Self(3);
    /// The tailnet does not let us.
    pub const MISSING_CAP: Self = Self(4);
    /// It is away.
    pub const OFFLINE: Self = Self(5);
    /// Nothing is known of it.
    pub const NO_PEER_INFO: Self = Self(6);
    /// Its system cannot.
    pub const UNSUPPORTED_OS: Self = Self(7);
    /// It has no API for peers.
    pub const NO_PEER_API: Self = Self(8);
    /// It is another user's.
    pub const OWNED_BY_OTHER_USER: Self = Self(9);
}
