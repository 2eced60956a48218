//! What the engine tells the brain.

use std::collections::BTreeMap;

use keys::DiscoPublic;
use magicsock::Endpoint;
use packet::PeerId;

/// Something changed that others must know.
#[derive(Debug, Clone, PartialEq)]
pub enum EngineEvent {
    /// Our home relay region is this one; 0 for none. Control must be told.
    HomeDerp(u16),
    /// The relay links. A link is `live` once its first connection attempt has ended, well or badly: this is what the
    /// originals wait for before they call themselves Running.
    DerpLinks {
        /// Open links whose first attempt has ended.
        live: usize,
        /// Links that are connected at this moment.
        connected: usize,
    },
    /// A relay link came up or went down.
    DerpConnected {
        /// Which region.
        region: u16,
        /// Whether it is up.
        connected: bool,
    },
    /// A region reports a problem, or its link cannot be established; an empty text means that it is well again.
    DerpTrouble {
        /// Which region.
        region: u16,
        /// The region's own words, or the error of the last attempt.
        text: String,
    },
    /// What we know of our network; control must be told. Sent only when something but a latency changed.
    NetInfo(NetInfo),
    /// Whether there is no IPv4 socket although there should be one. It is tried again when the links change.
    Udp4Unbound(bool),
    /// The UDP sockets have these ports, for IPv4 and IPv6; 0 where there is none.
    Ports([u16; 2]),
    /// We may be reached at these addresses, and no others. Control must be told.
    Endpoints(Vec<Endpoint>),
    /// The TUN device can be used no more. Nothing passes between host and tailnet until the engine is started again.
    TunLost(String),
    /// A peer told us its disco key inside the tunnel (TSMP). The network map decides whether to believe it.
    DiscoAdvertised {
        /// Whose packet it was.
        peer: PeerId,
        /// The key.
        key: DiscoPublic,
    },
}

impl EngineEvent {
    /// Whether `newer` makes this event pointless.
    pub(crate) fn same_subject(&self, newer: &Self) -> bool {
        match (self, newer) {
            (Self::HomeDerp(_), Self::HomeDerp(_))
            | (Self::DerpLinks { .. }, Self::DerpLinks { .. })
            | (Self::Endpoints(_), Self::Endpoints(_))
            | (Self::Udp4Unbound(_), Self::Udp4Unbound(_))
            | (Self::TunLost(_), Self::TunLost(_))
            | (Self::NetInfo(_), Self::NetInfo(_)) => true,
            (Self::DerpConnected { region: a, .. }, Self::DerpConnected { region: b, .. })
            | (Self::DerpTrouble { region: a, .. }, Self::DerpTrouble { region: b, .. }) => a == b,
            (Self::DiscoAdvertised { peer: a, .. }, Self::DiscoAdvertised { peer: b, .. }) => {
                a == b
            }
            _ => false,
        }
    }
}

/// The outcome of probing our network (`tailcfg.NetInfo`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NetInfo {
    /// Whether our NAT maps one socket to different addresses for different destinations.
    pub mapping_varies_by_dest_ip: Option<bool>,
    /// Whether IPv6 reaches the Internet.
    pub working_ipv6: Option<bool>,
    /// Whether the machine has IPv6 at all.
    pub os_has_ipv6: Option<bool>,
    /// Whether UDP reaches the Internet.
    pub working_udp: Option<bool>,
    /// Whether ICMP echo over IPv4 reaches the Internet.
    pub working_icmpv4: Option<bool>,
    /// Our home relay region; 0 for none.
    pub preferred_derp: u16,
    /// Seconds to each region, by `<region>-v4` and `<region>-v6`.
    pub derp_latency: BTreeMap<String, f64>,
}
