//! One node.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use keys::{DiscoPublic, MachinePublic, NodePublic};
use packet::addr::v6_from_v4;
use serde::{Deserialize, Serialize};
use tailcfg::go::GoTime;
use tailcfg::{CapMap, Hostinfo, MapRequest, NodeId, RegionId, UserId};

use super::TAGGED_USER;

/// The most endpoints of a node that are passed on.
const ENDPOINTS_MAX: usize = 64;

/// One node, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) stable_id: String,
    pub(crate) machine: MachinePublic,
    pub(crate) key: NodePublic,
    pub(crate) disco: DiscoPublic,
    pub(crate) user: UserId,
    /// What the host calls itself, fit for DNS.
    pub(crate) hostname: String,
    /// The first label of the node's name, unique in the tailnet.
    pub(crate) label: String,
    /// Whether an administrator gave the label.
    #[serde(default)]
    pub(crate) is_named: bool,
    /// Whether an administrator, or the rules, let the machine take part.
    #[serde(default = "approved_before_approval")]
    pub(crate) approved: bool,
    /// Whether others may open connections to it, but it none to them.
    #[serde(default)]
    pub(crate) jailed: bool,
    /// Capabilities that it has for itself.
    #[serde(default)]
    pub(crate) attributes: CapMap,
    /// Subnets that may be routed to it.
    #[serde(default)]
    pub(crate) routes: Vec<IpNet>,
    pub(crate) v4: Ipv4Addr,
    pub(crate) tags: Vec<String>,
    pub(crate) ephemeral: bool,
    pub(crate) key_expiry: GoTime,
    pub(crate) created: GoTime,
    pub(crate) last_seen: Option<GoTime>,
    pub(crate) endpoints: Vec<SocketAddr>,
    pub(crate) home_derp: RegionId,
    pub(crate) cap: i32,
    /// What others may know of the host.
    pub(crate) hostinfo: Hostinfo,
    #[serde(skip)]
    pub(crate) online: bool,
}

/// State of times when every machine took part.
fn approved_before_approval() -> bool {
    true
}

/// What the administrator sees of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Number.
    pub id: NodeId,
    /// Full name without a dot at the end.
    pub name: String,
    /// Whose it is; `tagged-devices` for tagged ones.
    pub user: String,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Tags.
    pub tags: Vec<String>,
    /// Whether it may take part.
    #[serde(default = "approved_before_approval")]
    pub approved: bool,
    /// Whether it is connected.
    pub online: bool,
    /// Whether it vanishes when offline.
    pub ephemeral: bool,
    /// When its key runs out; zero is never.
    pub key_expiry: GoTime,
    /// When it was last connected.
    pub last_seen: Option<GoTime>,
    /// WireGuard key.
    pub node_key: NodePublic,
    /// Machine key.
    pub machine_key: MachinePublic,
    /// Home relay, 0 if unknown.
    pub home_derp: RegionId,
    /// Where it says that it can be reached.
    pub endpoints: Vec<SocketAddr>,
    /// Its capability version.
    pub cap: i32,
    /// Its operating system.
    pub os: String,
}

impl Node {
    /// The user that others see.
    pub(crate) fn owner(&self) -> UserId {
        match self.tags.is_empty() {
            true => self.user,
            false => TAGGED_USER,
        }
    }

    pub(crate) fn is_expired(&self, now: GoTime) -> bool {
        !self.key_expiry.is_zero() && self.key_expiry <= now
    }

    pub(crate) fn addresses(&self) -> Vec<IpNet> {
        let v4 = IpNet::from(IpAddr::V4(self.v4));
        let v6 = v6_from_v4(self.v4).map(|ip| IpNet::from(IpAddr::V6(ip)));
        std::iter::once(v4).chain(v6).collect()
    }

    /// The subnets that are routed to it: advertised and permitted.
    pub(crate) fn routed(&self) -> Vec<IpNet> {
        let advertised = &self.hostinfo.routable_ips;
        let routed = self
            .routes
            .iter()
            .filter(|route| advertised.contains(route));
        routed.copied().collect()
    }

    /// Takes what the node tells about itself.
    pub(crate) fn update(&mut self, request: MapRequest) {
        self.cap = request.version;
        if !request.disco_key.is_zero() {
            self.disco = request.disco_key;
        }
        let mut endpoints = request.endpoints;
        endpoints.retain(|endpoint| is_worth_passing_on(endpoint.ip()));
        endpoints.truncate(ENDPOINTS_MAX);
        self.endpoints = endpoints;
        if let Some(hostinfo) = request.hostinfo {
            self.take_hostinfo(*hostinfo);
        }
    }

    /// Keeps the part that is everybody's business.
    pub(crate) fn take_hostinfo(&mut self, hostinfo: Hostinfo) {
        if let Some(region) = hostinfo.net_info.map(|info| info.preferred_derp)
            && region != 0
        {
            self.home_derp = region;
        }
        self.hostinfo = Hostinfo {
            os: hostinfo.os,
            hostname: hostinfo.hostname,
            shields_up: hostinfo.shields_up,
            services: hostinfo.services,
            userspace: hostinfo.userspace,
            routable_ips: hostinfo.routable_ips,
            ..Hostinfo::default()
        };
    }

    pub(crate) fn fqdn(&self, domain: &str) -> String {
        format!("{}.{domain}.", self.label)
    }

    pub(crate) fn info(&self, domain: &str, user: &str) -> NodeInfo {
        NodeInfo {
            id: self.id,
            name: format!("{}.{domain}", self.label),
            user: user.into(),
            addresses: self.addresses().iter().map(IpNet::addr).collect(),
            tags: self.tags.clone(),
            approved: self.approved,
            online: self.online,
            ephemeral: self.ephemeral,
            key_expiry: self.key_expiry,
            last_seen: self.last_seen,
            node_key: self.key,
            machine_key: self.machine,
            home_derp: self.home_derp,
            endpoints: self.endpoints.clone(),
            cap: self.cap,
            os: self.hostinfo.os.clone(),
        }
    }
}

/// A link-local address means nothing on another link.
fn is_worth_passing_on(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_unspecified() && !ip.is_multicast(),
    }
}
