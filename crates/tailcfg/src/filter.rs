//! Packet filter rules.

use ipnet::IpNet;

use crate::{CapMap, wire};

wire! {
    /// Ports from first to last, both included (`tailcfg.PortRange`).
    pub struct PortRange {
        /// First.
        "First" = first: u16,
        /// Last.
        "Last" = last: u16,
    }

    /// Destinations (`tailcfg.NetPortRange`).
    pub struct NetPortRange {
        /// `*`, an address, a prefix, or a range `a-b`.
        "IP" = ip: String,
        /// Prefix length in a retired form; a value is an error.
        "Bits" ? bits: Option<i64>,
        /// Ports.
        "Ports" = ports: PortRange,
    }

    /// What the sources may do with the application at the destinations (`tailcfg.CapGrant`).
    pub struct CapGrant {
        /// Destinations.
        "Dsts" = dsts: Vec<IpNet>,
        /// Capabilities without arguments.
        "Caps" ? caps: Vec<String>,
        /// Capabilities with arguments.
        "CapMap" ? cap_map: CapMap,
    }

    /// Who may talk to whom (`tailcfg.FilterRule`).
    pub struct FilterRule {
        /// Each `*`, an address, a prefix, a range `a-b`, or `cap:` and a node capability.
        "SrcIPs" = src_ips: Vec<String>,
        /// Prefix lengths in a retired form; a value is an error.
        "SrcBits" ? src_bits: Vec<i64>,
        /// Destinations.
        "DstPorts" ? dst_ports: Vec<NetPortRange>,
        /// IP protocol numbers; empty means TCP, UDP and ICMP.
        "IPProto" ? ip_proto: Vec<i64>,
        /// Application capabilities.
        "CapGrant" ? cap_grant: Vec<CapGrant>,
    }
}

impl FilterRule {
    /// Everybody to everything.
    #[must_use]
    pub fn allow_all() -> Self {
        Self {
            src_ips: vec!["*".into()],
            dst_ports: vec![NetPortRange {
                ip: "*".into(),
                bits: None,
                ports: PortRange {
                    first: 0,
                    last: u16::MAX,
                },
            }],
            ..Self::default()
        }
    }
}
