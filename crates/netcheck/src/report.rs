//! What one measurement found.

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use derp::RegionId;

/// The state of the network at one time. Names follow the originals' `netcheck.Report`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// A STUN server answered.
    pub udp: bool,
    /// Something answered over IPv4.
    pub ipv4: bool,
    /// Something answered over IPv6.
    pub ipv6: bool,
    /// An IPv4 datagram could be sent.
    pub ipv4_can_send: bool,
    /// An IPv6 datagram could be sent.
    pub ipv6_can_send: bool,
    /// The system has IPv6 at all.
    pub os_has_ipv6: bool,
    /// An ICMPv4 echo was answered.
    pub icmpv4: bool,
    /// Whether different servers saw us at different IPv4 addresses; `None` until two have answered.
    pub mapping_varies_by_dest_ip: Option<bool>,
    /// The home region chosen by [`HomePicker`](crate::HomePicker).
    pub preferred_derp: Option<RegionId>,
    /// The best latency of each region that answered in any way.
    pub region_latency: BTreeMap<RegionId, Duration>,
    /// The best STUN latency over IPv4.
    pub region_v4_latency: BTreeMap<RegionId, Duration>,
    /// The best STUN latency over IPv6.
    pub region_v6_latency: BTreeMap<RegionId, Duration>,
    /// Our IPv4 address as the first server saw it.
    pub global_v4: Option<SocketAddrV4>,
    /// Our IPv6 address as the last server saw it.
    pub global_v6: Option<SocketAddrV6>,
    /// How many servers saw us at each address.
    pub global_counters: BTreeMap<SocketAddr, u32>,
}

impl Report {
    /// Takes a STUN answer into account.
    pub(crate) fn add_stun(&mut self, region: RegionId, seen: SocketAddr, latency: Duration) {
        self.udp = true;
        keep_lower(&mut self.region_latency, region, latency);
        *self.global_counters.entry(seen).or_default() += 1;
        match seen {
            SocketAddr::V4(seen) => {
                self.ipv4 = true;
                keep_lower(&mut self.region_v4_latency, region, latency);
                match self.global_v4 {
                    None => self.global_v4 = Some(seen),
                    Some(first) if first != seen => self.mapping_varies_by_dest_ip = Some(true),
                    Some(_) => {
                        // Once two addresses differed, a third that agrees changes nothing.
                        self.mapping_varies_by_dest_ip.get_or_insert(false);
                    }
                }
            }
            SocketAddr::V6(seen) => {
                self.ipv6 = true;
                keep_lower(&mut self.region_v6_latency, region, latency);
                self.global_v6 = Some(seen);
            }
        }
    }

    /// Takes a latency into account that was measured without UDP.
    pub(crate) fn add_fallback(&mut self, region: RegionId, is_ipv6: bool, latency: Duration) {
        keep_lower(&mut self.region_latency, region, latency);
        if is_ipv6 {
            self.ipv6 = true;
        } else {
            self.ipv4 = true;
        }
    }

    /// Our addresses that peers may reach: the best one of each family, and every other that was seen more than once (some
    /// NATs begin new mappings while an old one still lives, and only the new one works then).
    pub fn global_addrs(&self) -> Vec<SocketAddr> {
        let best = [
            self.global_v4.map(SocketAddr::V4),
            self.global_v6.map(SocketAddr::V6),
        ];
        let others = self
            .global_counters
            .iter()
            .filter(|(addr, count)| **count > 1 && !best.contains(&Some(**addr)))
            .map(|(addr, _)| *addr);
        best.into_iter().flatten().chain(others).collect()
    }
}

fn keep_lower(map: &mut BTreeMap<RegionId, Duration>, region: RegionId, latency: Duration) {
    map.entry(region)
        .and_modify(|best| *best = latency.min(*best))
        .or_insert(latency);
}
