//! A machine in the tailnet.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use keys::{DiscoPublic, MachinePublic, NodePublic};

use crate::go::{Bytes, GoTime, RawJson};
use crate::{HostinfoText, NodeId, RegionId, Resolver, UserId, wire};

/// Capabilities and their arguments.
pub type CapMap = BTreeMap<String, Option<Vec<RawJson>>>;

wire! {
    /// A machine in the tailnet (`tailcfg.Node`).
    pub struct Node {
        /// Number.
        "ID" = id: NodeId,
        /// Text that stays the same through re-registration.
        "StableID" = stable_id: String,
        /// Full name, with a dot at the end.
        "Name" = name: String,
        /// Who made it.
        "User" = user: UserId,
        /// Who shared it, if somebody else did.
        "Sharer" ? sharer: UserId,
        /// WireGuard key.
        "Key" = key: NodePublic,
        /// When the key runs out; zero is never.
        "KeyExpiry" ? key_expiry: GoTime,
        /// Tailnet lock signature.
        "KeySignature" ? key_signature: Bytes,
        /// Machine key.
        "Machine" ? machine: MachinePublic,
        /// Disco key.
        "DiscoKey" ? disco_key: DiscoPublic,
        /// Its own addresses.
        "Addresses" = addresses: Vec<IpNet>,
        /// What is routed to it; `None` is the same as its addresses.
        "AllowedIPs" ? allowed_ips: Option<Vec<IpNet>>,
        /// Where it can be reached.
        "Endpoints" ? endpoints: Vec<SocketAddr>,
        /// Home relay in a retired form, `127.3.3.40:N`.
        "DERP" ? legacy_derp: String,
        /// Home relay.
        "HomeDERP" ? home_derp: RegionId,
        /// What it says about itself.
        "Hostinfo" ? hostinfo: HostinfoText,
        /// When it was made.
        "Created" ? created: GoTime,
        /// Its capability version.
        "Cap" ? cap: i32,
        /// Its tags.
        "Tags" ? tags: Vec<String>,
        /// Subnets that it is the one to route.
        "PrimaryRoutes" ? primary_routes: Vec<IpNet>,
        /// When it was last connected.
        "LastSeen" ? last_seen: Option<GoTime>,
        /// Whether it is connected; `None` if we may not know.
        "Online" ? online: Option<bool>,
        /// Whether an administrator approved it.
        "MachineAuthorized" ? machine_authorized: bool,
        /// Capabilities in a retired form.
        "Capabilities" ? capabilities: Vec<String>,
        /// Capabilities.
        "CapMap" ? cap_map: CapMap,
        /// Not signed, and may use nothing but the peer API.
        "UnsignedPeerAPIOnly" ? unsigned_peer_api_only: bool,
        /// Name for people; computed by the client.
        "ComputedName" ? computed_name: String,
        /// The same with the host's own name if that differs.
        "ComputedNameWithHost" ? computed_name_with_host: String,
        /// Where it logs flows.
        "DataPlaneAuditLogID" ? data_plane_audit_log_id: String,
        /// Whether its key has run out.
        "Expired" ? expired: bool,
        /// The IPv4 address that it knows us by.
        "SelfNodeV4MasqAddrForThisPeer" ? self_node_v4_masq_addr_for_this_peer: Option<IpAddr>,
        /// The IPv6 address that it knows us by.
        "SelfNodeV6MasqAddrForThisPeer" ? self_node_v6_masq_addr_for_this_peer: Option<IpAddr>,
        /// Speaks plain WireGuard only.
        "IsWireGuardOnly" ? is_wireguard_only: bool,
        /// May not start connections to us.
        "IsJailed" ? is_jailed: bool,
        /// Servers to ask when this plain WireGuard peer is the exit node.
        "ExitNodeDNSResolvers" ? exit_node_dns_resolvers: Vec<Resolver>,
    }
}
