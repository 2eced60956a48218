//! Answers to requests of the server to the node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::go::RawJson;
use crate::{MapResponse, wire};

wire! {
    /// Answer to `/update`.
    pub struct C2nUpdateResponse {
        /// What went wrong.
        "Err" ? err: String,
        /// Whether the user allows updates.
        "Enabled" = enabled: bool,
        /// Whether this installation can update itself.
        "Supported" = supported: bool,
        /// Whether one was started.
        "Started" = started: bool,
    }

    /// What is asked of `/debug/netmap`.
    pub struct C2nDebugNetmapRequest {
        /// A full map to be understood and shown.
        "candidate" ? candidate: Option<Box<MapResponse>>,
        /// Fields to leave out.
        "omitFields" ? omit_fields: Vec<String>,
    }

    /// Answer to `/posture/identity`.
    pub struct C2nPostureIdentity {
        /// Serial numbers of the machine.
        "SerialNumbers" ? serial_numbers: Vec<String>,
        /// Hardware addresses.
        "IfaceHardwareAddrs" ? iface_hardware_addrs: Vec<String>,
        /// Whether the user forbids it.
        "PostureDisabled" ? posture_disabled: bool,
    }

    /// Answer to `/appconnector/routes`.
    pub struct C2nAppConnectorRoutes {
        /// Addresses learned for each domain.
        "Domains" = domains: BTreeMap<String, Vec<IpAddr>>,
    }

    /// Answer to `/tls-cert-status`.
    pub struct C2nTlsCertInfo {
        /// Whether it can be used.
        "Valid" ? valid: bool,
        /// What went wrong.
        "Error" ? error: String,
        /// Whether there is none.
        "Missing" ? missing: bool,
        /// Whether it has run out.
        "Expired" ? expired: bool,
        /// Start of validity.
        "NotBefore" ? not_before: String,
        /// End of validity.
        "NotAfter" ? not_after: String,
    }

    /// Answer to `/vip-services`.
    pub struct C2nVipServices {
        /// The services that this node hosts.
        "VIPServices" ? vip_services: Vec<RawJson>,
        /// Their hash, as in the host info.
        "ServicesHash" = services_hash: String,
    }
}
