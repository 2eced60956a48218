//! What a node says about its machine.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::go::{RawJson, Wire, Zero};
use crate::{RegionId, wire};

wire! {
    /// What a node says about its machine (`tailcfg.Hostinfo`).
    pub struct Hostinfo {
        /// Version of the client.
        "IPNVersion" ? ipn_version: String,
        /// Log stream of the user interface.
        "FrontendLogID" ? frontend_log_id: String,
        /// Log stream of the daemon.
        "BackendLogID" ? backend_log_id: String,
        /// `linux`, `macOS`, `windows`, ….
        "OS" ? os: String,
        /// Kernel or release.
        "OSVersion" ? os_version: String,
        /// Whether it runs in a container.
        "Container" ? container: Option<bool>,
        /// Code of the hosting environment.
        "Env" ? env: String,
        /// Distribution.
        "Distro" ? distro: String,
        /// Its version.
        "DistroVersion" ? distro_version: String,
        /// Its code name.
        "DistroCodeName" ? distro_code_name: String,
        /// Program that embeds the client.
        "App" ? app: String,
        /// Whether there is a desktop.
        "Desktop" ? desktop: Option<bool>,
        /// How it was packaged.
        "Package" ? package: String,
        /// Model of the device.
        "DeviceModel" ? device_model: String,
        /// Token for push messages.
        "PushDeviceToken" ? push_device_token: String,
        /// The machine's name.
        "Hostname" ? hostname: String,
        /// Whether inbound connections are refused.
        "ShieldsUp" ? shields_up: bool,
        /// Whether it is there only because somebody shared with its owner.
        "ShareeNode" ? sharee_node: bool,
        /// Whether the user gave up support to keep logs at home.
        "NoLogsNoSupport" ? no_logs_no_support: bool,
        /// Whether the server may configure it.
        "RemoteConfig" ? remote_config: bool,
        /// Whether it would like to use funnel.
        "WireIngress" ? wire_ingress: bool,
        /// Whether it has a funnel open.
        "IngressEnabled" ? ingress_enabled: bool,
        /// Whether the server may have it update itself.
        "AllowsUpdate" ? allows_update: bool,
        /// Hardware name as `uname -m` says.
        "Machine" ? machine: String,
        /// Go's name of the architecture.
        "GoArch" ? go_arch: String,
        /// Its variant.
        "GoArchVar" ? go_arch_var: String,
        /// What it was built with.
        "GoVersion" ? go_version: String,
        /// Subnets that it offers.
        "RoutableIPs" ? routable_ips: Vec<IpNet>,
        /// Tags that it asks for.
        "RequestTags" ? request_tags: Vec<String>,
        /// Hardware addresses to wake it by.
        "WoLMACs" ? wol_macs: Vec<String>,
        /// What it listens on.
        "Services" ? services: Vec<Service>,
        /// The network it is on.
        "NetInfo" ? net_info: Option<Box<NetInfo>>,
        /// SSH host keys.
        "sshHostKeys" ? ssh_host_keys: Vec<String>,
        /// Cloud.
        "Cloud" ? cloud: String,
        /// Whether it has no TUN.
        "Userspace" ? userspace: Option<bool>,
        /// Whether it routes subnets without the kernel.
        "UserspaceRouter" ? userspace_router: Option<bool>,
        /// Whether it is an app connector.
        "AppConnector" ? app_connector: Option<bool>,
        /// Hash of the services that it hosts.
        "ServicesHash" ? services_hash: String,
        /// Whether it relays for peers.
        "PeerRelay" ? peer_relay: bool,
        /// The exit node that it uses.
        "ExitNodeID" ? exit_node_id: String,
        /// Where it is.
        "Location" ? location: Option<Box<Location>>,
        /// Its TPM.
        "TPM" ? tpm: Option<RawJson>,
        /// Whether its state file is encrypted.
        "StateEncrypted" ? state_encrypted: Option<bool>,
    }

    /// Where a node is (`tailcfg.Location`).
    pub struct Location {
        /// Name.
        "Country" ? country: String,
        /// Code.
        "CountryCode" ? country_code: String,
        /// Name.
        "City" ? city: String,
        /// Code.
        "CityCode" ? city_code: String,
        /// Degrees.
        "Latitude" ? latitude: f64,
        /// Degrees.
        "Longitude" ? longitude: f64,
        /// Higher is preferred.
        "Priority" ? priority: i64,
    }

    /// The network that a node is on (`tailcfg.NetInfo`).
    pub struct NetInfo {
        /// Whether its NAT gives each destination another mapping.
        "MappingVariesByDestIP" ? mapping_varies_by_dest_ip: Option<bool>,
        /// Whether IPv6 reaches the Internet.
        "WorkingIPv6" ? working_ipv6: Option<bool>,
        /// Whether the system has IPv6.
        "OSHasIPv6" ? os_has_ipv6: Option<bool>,
        /// Whether UDP reaches the Internet.
        "WorkingUDP" ? working_udp: Option<bool>,
        /// Whether ICMP reaches the Internet.
        "WorkingICMPv4" ? working_icmpv4: Option<bool>,
        /// Whether there is a port mapping.
        "HavePortMap" ? have_port_map: bool,
        /// Whether the router speaks UPnP.
        "UPnP" ? upnp: Option<bool>,
        /// Whether it speaks NAT-PMP.
        "PMP" ? pmp: Option<bool>,
        /// Whether it speaks PCP.
        "PCP" ? pcp: Option<bool>,
        /// Home relay.
        "PreferredDERP" ? preferred_derp: RegionId,
        /// `wired`, `wifi`, `mobile`.
        "LinkType" ? link_type: String,
        /// Seconds by `<region>-v4` and `<region>-v6`.
        "DERPLatency" ? derp_latency: BTreeMap<String, f64>,
        /// Firewall in use.
        "FirewallMode" ? firewall_mode: String,
    }

    /// Something that a node listens on (`tailcfg.Service`).
    pub struct Service {
        /// `tcp`, `udp`, `peerapi4`, `peerapi6`, `peerapi-dns-proxy`.
        "Proto" = proto: String,
        /// Port.
        "Port" = port: u16,
        /// What it is.
        "Description" ? description: String,
    }
}

/// A [`Hostinfo`] as text.
///
/// A tailnet has thousands of peers and their host infos are seldom looked at, so they stay what they came as: some
/// 200 bytes instead of 1.5 KiB.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostinfoText(Option<RawJson>);

impl HostinfoText {
    /// The host info. What does not decode counts as empty.
    #[must_use]
    pub fn parse(&self) -> Hostinfo {
        self.0
            .as_ref()
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    }

    /// The JSON text, if there is any.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        self.0.as_ref().map(RawJson::get)
    }
}

impl From<&Hostinfo> for HostinfoText {
    fn from(hostinfo: &Hostinfo) -> Self {
        Self(Some(RawJson::of(hostinfo)))
    }
}

impl Wire for HostinfoText {
    fn de<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        RawJson::deserialize(deserializer).map(|text| Some(Self(Some(text))))
    }
}

impl Zero for HostinfoText {
    fn is_zero(&self) -> bool {
        self.0.is_none()
    }
}

impl Serialize for HostinfoText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}
