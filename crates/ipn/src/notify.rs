//! Messages on the bus (`ipn.Notify`).

use std::collections::BTreeMap;
use std::sync::Arc;

use keys::NodePublic;
use serde::{Deserialize, Serialize};
use tailcfg::go::{GoTime, RawJson};
use tailcfg::{ClientVersion, Node, NodeId, PeerChange, UserId, UserProfile, wire};

use crate::health::HealthState;
use crate::{DriveShare, Prefs, State, Status, wire_leaf};

/// Says "it happened"; an empty object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}
wire_leaf!(Empty, State);

wire! {
    /// One message on the bus. Every part that is there is news; the rest is as it was.
    ///
    /// Compat: parts marked `=` are written as `null` when absent, and consumers count on finding them.
    pub struct Notify {
        /// The daemon's long version; in every message.
        "Version" = version: String,
        /// This subscription's name; in its first message only.
        "SessionID" ? session_id: String,
        /// Something went wrong that the user must see.
        "ErrMessage" = err_message: Option<String>,
        /// A login has succeeded.
        "LoginFinished" = login_finished: Option<Empty>,
        /// The state.
        "State" = state: Option<State>,
        /// The prefs, without secrets.
        "Prefs" = prefs: Option<Arc<Prefs>>,
        /// Our own node.
        "SelfChange" ? self_change: Option<Arc<Node>>,
        /// The whole status; in a first message only.
        "InitialStatus" ? initial_status: Option<Arc<Status>>,
        /// The whole netmap in the old shape.
        "NetMap" = net_map: Option<RawJson>,
        /// Narrow changes of peers.
        "PeerChangedPatch" ? peer_changed_patch: Vec<PeerChange>,
        /// Peers that came or changed.
        "PeersChanged" ? peers_changed: Vec<Arc<Node>>,
        /// Peers that went.
        "PeersRemoved" ? peers_removed: Vec<NodeId>,
        /// Users that the peers above belong to.
        "UserProfiles" ? user_profiles: BTreeMap<UserId, UserProfile>,
        /// WireGuard session states, by stable id.
        "PeerState" ? peer_state: BTreeMap<String, RawJson>,
        /// Engine figures.
        "Engine" = engine: Option<Arc<EngineStatus>>,
        /// A page that the user should open.
        "BrowseToURL" = browse_to_url: Option<String>,
        /// Files have come.
        "FilesWaiting" ? files_waiting: Option<Empty>,
        /// Files that are coming.
        "IncomingFiles" ? incoming_files: Option<Vec<RawJson>>,
        /// Files that are going.
        "OutgoingFiles" ? outgoing_files: Option<Vec<RawJson>>,
        /// Where a front end can reach the daemon (macOS).
        "LocalTCPPort" ? local_tcp_port: Option<u16>,
        /// What is known of newer versions.
        "ClientVersion" ? client_version: Option<ClientVersion>,
        /// Taildrive shares.
        "DriveShares" = drive_shares: Option<Vec<DriveShare>>,
        /// All health warnings.
        "Health" ? health: Option<Arc<HealthState>>,
        /// The exit node that would be best.
        "SuggestedExitNode" ? suggested_exit_node: Option<String>,
        /// The policy in force.
        "Policy" ? policy: Option<RawJson>,
    }

    /// Engine figures (`ipn.EngineStatus`).
    pub struct EngineStatus {
        /// Bytes received from peers.
        "RBytes" = r_bytes: i64,
        /// Bytes sent to peers.
        "WBytes" = w_bytes: i64,
        /// Peers with a live session.
        "NumLive" = num_live: i64,
        /// Open relay links.
        "LiveDERPs" = live_derps: i64,
        /// Figures of the peers with a live session.
        "LivePeers" = live_peers: BTreeMap<NodePublic, PeerStatusLite>,
    }

    /// Figures of one peer (`ipnstate.PeerStatusLite`).
    pub struct PeerStatusLite {
        /// Which peer.
        "NodeKey" = node_key: NodePublic,
        /// Bytes sent.
        "TxBytes" = tx_bytes: i64,
        /// Bytes received.
        "RxBytes" = rx_bytes: i64,
        /// When the last handshake succeeded; zero is never.
        "LastHandshake" = last_handshake: GoTime,
    }
}
