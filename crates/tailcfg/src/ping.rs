//! Pings that the server asks for.

use std::net::IpAddr;

use crate::go::Bytes;
use crate::{RegionId, wire};

wire! {
    /// The server wants an answer (`tailcfg.PingRequest`).
    pub struct PingRequest {
        /// Where the answer goes. Empty means that there is no request.
        "URL" = url: String,
        /// Whether the answer goes over the Noise transport.
        "URLIsNoise" ? url_is_noise: bool,
        /// Whether to log it.
        "Log" ? log: bool,
        /// Empty for a HEAD of the URL, `c2n`, or a comma list of `disco`, `TSMP`, `ICMP`, `peerapi`.
        "Types" ? types: String,
        /// Whom to ping.
        "IP" ? ip: Option<IpAddr>,
        /// For `c2n`: an HTTP/1 request.
        "Payload" ? payload: Bytes,
    }

    /// What a ping found (`tailcfg.PingResponse`).
    pub struct PingResponse {
        /// Which kind of ping.
        "Type" = kind: String,
        /// The address asked for.
        "IP" ? ip: String,
        /// The address that answered.
        "NodeIP" ? node_ip: String,
        /// The node that answered.
        "NodeName" ? node_name: String,
        /// What went wrong.
        "Err" ? err: String,
        /// Round trip.
        "LatencySeconds" ? latency_seconds: f64,
        /// The direct path, if there was one.
        "Endpoint" ? endpoint: String,
        /// The peer relay, if one was used.
        "PeerRelay" ? peer_relay: String,
        /// The relay region, if one was used.
        "DERPRegionID" ? derp_region_id: RegionId,
        /// Its code.
        "DERPRegionCode" ? derp_region_code: String,
        /// The peer API's port, for pings that learn it.
        "PeerAPIPort" ? peer_api_port: u16,
        /// Whether the address is our own.
        "IsLocalIP" ? is_local_ip: bool,
    }
}
