//! `POST /machine/map`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use keys::{DiscoPublic, NodePublic};

use crate::go::{Bytes, GoTime, RawJson};
use crate::{
    CapMap, DerpMap, DnsConfig, FilterRule, Hostinfo, Node, NodeId, PingRequest, RegionId,
    UserProfile, wire,
};

/// How an endpoint was found (`tailcfg.EndpointType`).
pub type EndpointType = i32;

wire! {
    /// Asks for the tailnet, or tells about ourselves (`tailcfg.MapRequest`).
    pub struct MapRequest {
        /// [`CAP`](crate::CAP).
        "Version" = version: i32,
        /// `zstd`, or empty for none.
        "Compress" ? compress: String,
        /// Whether keep-alives are wanted.
        "KeepAlive" ? keep_alive: bool,
        /// Our WireGuard key.
        "NodeKey" = node_key: NodePublic,
        /// Our disco key.
        "DiscoKey" = disco_key: DiscoPublic,
        /// Whether to go on with changes after the first answer.
        "Stream" ? stream: bool,
        /// Our machine.
        "Hostinfo" = hostinfo: Option<Box<Hostinfo>>,
        /// A session to resume.
        "MapSessionHandle" ? map_session_handle: String,
        /// How far it came.
        "MapSessionSeq" ? map_session_seq: i64,
        /// Where we can be reached.
        "Endpoints" ? endpoints: Vec<SocketAddr>,
        /// For each endpoint: 0 unknown, 1 local, 2 STUN, 3 port mapping, 4 STUN with the local port, 5 configured.
        "EndpointTypes" ? endpoint_types: Vec<EndpointType>,
        /// Head of our tailnet lock state.
        "TKAHead" ? tka_head: String,
        /// Retired.
        "ReadOnly" ? read_only: bool,
        /// Whether the answer may be empty: we only tell about ourselves.
        "OmitPeers" ? omit_peers: bool,
        /// Odd things for the server to know.
        "DebugFlags" ? debug_flags: Vec<String>,
        /// Name of the connection, for tests.
        "ConnectionHandleForTest" ? connection_handle_for_test: String,
    }

    /// The tailnet, or what changed of it (`tailcfg.MapResponse`). What is absent has not changed.
    pub struct MapResponse {
        /// Name of the session.
        "MapSessionHandle" ? map_session_handle: String,
        /// How far it came.
        "Seq" ? seq: i64,
        /// Nothing but a sign of life.
        "KeepAlive" ? keep_alive: bool,
        /// The server wants an answer.
        "PingRequest" ? ping_request: Option<Box<PingRequest>>,
        /// A page that the user should see.
        "PopBrowserURL" ? pop_browser_url: String,
        /// Ourselves.
        "Node" ? node: Option<Box<Node>>,
        /// Relays.
        "DERPMap" ? derp_map: Option<Box<DerpMap>>,
        /// All peers, if any are given.
        "Peers" ? peers: Vec<Node>,
        /// Peers that are new or changed.
        "PeersChanged" ? peers_changed: Vec<Node>,
        /// Peers that are gone.
        "PeersRemoved" ? peers_removed: Vec<NodeId>,
        /// Changes of parts of peers.
        "PeersChangedPatch" ? peers_changed_patch: Vec<PeerChange>,
        /// Peers seen or lost.
        "PeerSeenChange" ? peer_seen_change: BTreeMap<NodeId, bool>,
        /// Peers connected or not.
        "OnlineChange" ? online_change: BTreeMap<NodeId, bool>,
        /// Name resolution.
        "DNSConfig" ? dns_config: Option<Box<DnsConfig>>,
        /// Name of the tailnet.
        "Domain" ? domain: String,
        /// Whether to report open ports.
        "CollectServices" ? collect_services: Option<bool>,
        /// Filter rules under the name `base`.
        "PacketFilter" ? packet_filter: Option<Vec<FilterRule>>,
        /// Named filter rules; `None` removes a name, and the name `*` all names.
        "PacketFilters" ? packet_filters: Option<BTreeMap<String, Option<Vec<FilterRule>>>>,
        /// Users that are new or changed.
        "UserProfiles" ? user_profiles: Vec<UserProfile>,
        /// Problems that the server sees.
        "Health" ? health: Option<Vec<String>>,
        /// Messages by name; `None` removes one, and the name `*` all.
        "DisplayMessages" ? display_messages: Option<BTreeMap<String, Option<DisplayMessage>>>,
        /// Who may use SSH.
        "SSHPolicy" ? ssh_policy: Option<RawJson>,
        /// The server's clock.
        "ControlTime" ? control_time: Option<GoTime>,
        /// Tailnet lock.
        "TKAInfo" ? tka_info: Option<TkaInfo>,
        /// Where the tailnet logs flows.
        "DomainDataPlaneAuditLogID" ? domain_data_plane_audit_log_id: String,
        /// Orders.
        "Debug" ? debug: Option<Debug>,
        /// How to reach the server.
        "ControlDialPlan" ? control_dial_plan: Option<ControlDialPlan>,
        /// Whether there is a newer client.
        "ClientVersion" ? client_version: Option<Box<ClientVersion>>,
        /// Whether new nodes update themselves.
        "DefaultAutoUpdate" ? default_auto_update: Option<bool>,
    }

    /// Changes of parts of a peer (`tailcfg.PeerChange`).
    pub struct PeerChange {
        /// Which peer.
        "NodeID" = node_id: NodeId,
        /// Home relay, if not 0.
        "DERPRegion" ? derp_region: RegionId,
        /// Capability version, if not 0.
        "Cap" ? cap: i32,
        /// All capabilities.
        "CapMap" ? cap_map: Option<CapMap>,
        /// All endpoints; empty clears them.
        "Endpoints" ? endpoints: Option<Vec<SocketAddr>>,
        /// WireGuard key.
        "Key" ? key: Option<NodePublic>,
        /// Tailnet lock signature.
        "KeySignature" ? key_signature: Bytes,
        /// Disco key.
        "DiscoKey" ? disco_key: Option<DiscoPublic>,
        /// Whether it is connected.
        "Online" ? online: Option<bool>,
        /// When it was last connected.
        "LastSeen" ? last_seen: Option<GoTime>,
        /// When its key runs out.
        "KeyExpiry" ? key_expiry: Option<GoTime>,
    }

    /// A message for the user (`tailcfg.DisplayMessage`).
    pub struct DisplayMessage {
        /// Headline.
        "Title" = title: String,
        /// Text.
        "Text" = text: String,
        /// `high`, `medium` or `low`.
        "Severity" = severity: String,
        /// Whether the network may not work.
        "ImpactsConnectivity" ? impacts_connectivity: bool,
        /// What to do about it.
        "PrimaryAction" ? primary_action: Option<DisplayMessageAction>,
    }

    /// Something to click (`tailcfg.DisplayMessageAction`).
    pub struct DisplayMessageAction {
        /// Where it leads.
        "URL" = url: String,
        /// What it says.
        "Label" = label: String,
    }

    /// Whether there is a newer client (`tailcfg.ClientVersion`).
    pub struct ClientVersion {
        /// Whether this one is the newest.
        "RunningLatest" ? running_latest: bool,
        /// The newest.
        "LatestVersion" ? latest_version: String,
        /// Whether it mends something dangerous.
        "UrgentSecurityUpdate" ? urgent_security_update: bool,
        /// Whether to tell the user.
        "Notify" ? notify: bool,
        /// With which link.
        "NotifyURL" ? notify_url: String,
        /// With which text.
        "NotifyText" ? notify_text: String,
    }

    /// How to reach the server (`tailcfg.ControlDialPlan`).
    pub struct ControlDialPlan {
        /// Addresses to try.
        "Candidates" = candidates: Vec<ControlIpCandidate>,
    }

    /// One way to reach the server (`tailcfg.ControlIPCandidate`).
    pub struct ControlIpCandidate {
        /// Address.
        "IP" ? ip: Option<IpAddr>,
        /// Or a host that forwards.
        "ACEHost" ? ace_host: String,
        /// How long to wait before trying it.
        "DialStartDelaySec" ? dial_start_delay_sec: f64,
        /// How long to try it.
        "DialTimeoutSec" ? dial_timeout_sec: f64,
        /// Higher is better.
        "Priority" ? priority: i64,
    }

    /// Orders (`tailcfg.Debug`).
    pub struct Debug {
        /// Stop asking for so long.
        "SleepSeconds" ? sleep_seconds: f64,
        /// Stop uploading logs.
        "DisableLogTail" ? disable_log_tail: bool,
        /// End the process with this code.
        "Exit" ? exit: Option<i64>,
    }

    /// State of the tailnet lock (`tailcfg.TKAInfo`).
    pub struct TkaInfo {
        /// Hash of the newest update.
        "Head" ? head: String,
        /// Whether it was switched off.
        "Disabled" ? disabled: bool,
    }
}
