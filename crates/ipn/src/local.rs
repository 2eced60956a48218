//! What the local API takes and gives besides prefs and status.

use tailcfg::go::Secret;
use tailcfg::{RegionId, wire};

use crate::Prefs;

wire! {
    /// What `start` is given (`ipn.Options`).
    pub struct Options {
        /// The log id of the front end.
        "FrontendLogID" = frontend_log_id: String,
        /// Prefs to take over, except the identity in them.
        "UpdatePrefs" = update_prefs: Option<Box<Prefs>>,
        /// A key that makes the next login need nobody.
        "AuthKey" = auth_key: Secret,
    }

    /// What became of one ping (`ipnstate.PingResult`).
    pub struct PingResult {
        /// The address that was pinged.
        "IP" = ip: String,
        /// The tailnet address of the node that handles it.
        "NodeIP" = node_ip: String,
        /// That node's name.
        "NodeName" = node_name: String,
        /// Why there is no answer.
        "Err" = err: String,
        /// There and back, in seconds.
        "LatencySeconds" = latency_seconds: f64,
        /// The `ip:port` that answered, if the path was direct.
        "Endpoint" = endpoint: String,
        /// The peer relay that answered, `ip:port:vni:n`.
        "PeerRelay" = peer_relay: String,
        /// The relay region that the path led through.
        "DERPRegionID" = derp_region_id: RegionId,
        /// Its short name.
        "DERPRegionCode" = derp_region_code: String,
        /// The port of the peer's own API.
        "PeerAPIPort" ? peer_api_port: u16,
        /// Where that API was reached.
        "PeerAPIURL" ? peer_api_url: String,
        /// Whether it was one of our own addresses.
        "IsLocalIP" ? is_local_ip: bool,
    }

    /// What `check-prefs` answers.
    pub struct CheckPrefsResponse {
        /// Why these prefs are refused; empty if they are not.
        "Error" ? error: String,
    }

    /// An error as an object; decoding takes any case of the name.
    pub struct ErrorResponse {
        /// What went wrong.
        "error" = error: String,
    }
}
