//! The metrics promised to operators.

use std::fmt::Write as _;

use crate::{Counter, Gauge};

/// How a packet travelled. The order is that of the label texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// Through a relay server.
    Derp,
    /// Straight to the peer over IPv4.
    DirectIpv4,
    /// Straight to the peer over IPv6.
    DirectIpv6,
    /// Through another peer over IPv4.
    PeerRelayIpv4,
    /// Through another peer over IPv6.
    PeerRelayIpv6,
}

impl Path {
    const ALL: [Self; 5] = [
        Self::Derp,
        Self::DirectIpv4,
        Self::DirectIpv6,
        Self::PeerRelayIpv4,
        Self::PeerRelayIpv6,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Derp => "derp",
            Self::DirectIpv4 => "direct_ipv4",
            Self::DirectIpv6 => "direct_ipv6",
            Self::PeerRelayIpv4 => "peer_relay_ipv4",
            Self::PeerRelayIpv6 => "peer_relay_ipv6",
        }
    }
}

/// Why a packet went no further. The order is that of the label texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// The packet filter does not allow it.
    Acl,
    /// It could not be sent or delivered.
    Error,
    /// A fragment that the filter cannot judge.
    Fragment,
    /// To or from a link-local address.
    LinkLocalUnicast,
    /// To a multicast address.
    Multicast,
    /// Not a whole packet.
    TooShort,
    /// A transport protocol that the filter does not know.
    UnknownProtocol,
}

impl DropReason {
    const ALL: [Self; 7] = [
        Self::Acl,
        Self::Error,
        Self::Fragment,
        Self::LinkLocalUnicast,
        Self::Multicast,
        Self::TooShort,
        Self::UnknownProtocol,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Acl => "acl",
            Self::Error => "error",
            Self::Fragment => "fragment",
            Self::LinkLocalUnicast => "link_local_unicast",
            Self::Multicast => "multicast",
            Self::TooShort => "too_short",
            Self::UnknownProtocol => "unknown_protocol",
        }
    }
}

/// Packets of one direction.
#[derive(Debug, Default)]
pub struct Traffic {
    packets: [Counter; Path::ALL.len()],
    bytes: [Counter; Path::ALL.len()],
    dropped: [Counter; DropReason::ALL.len()],
}

impl Traffic {
    /// Counts `packets` packets with together `bytes` bytes that travelled by `path`.
    pub fn count(&self, path: Path, packets: u64, bytes: u64) {
        self.packets[path as usize].add(packets);
        self.bytes[path as usize].add(bytes);
    }

    /// Counts `packets` packets that were dropped for `reason`.
    pub fn count_dropped(&self, reason: DropReason, packets: u64) {
        self.dropped[reason as usize].add(packets);
    }

    /// Packets by `path` so far.
    pub fn packets(&self, path: Path) -> u64 {
        self.packets[path as usize].get()
    }

    /// Bytes by `path` so far.
    pub fn bytes(&self, path: Path) -> u64 {
        self.bytes[path as usize].get()
    }

    /// Packets dropped for `reason` so far.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize].get()
    }
}

/// All metrics promised to operators.
#[derive(Debug, Default)]
pub struct UserMetrics {
    /// From other peers.
    pub inbound: Traffic,
    /// To other peers.
    pub outbound: Traffic,
    /// Advertised routes, the exit routes not counted.
    pub advertised_routes: Gauge,
    /// Approved routes, the exit routes not counted.
    pub approved_routes: Gauge,
    /// The home relay region; 0 for none.
    pub home_derp_region_id: Gauge,
    /// Health messages with the label `warning`.
    pub health_warnings: Gauge,
}

impl UserMetrics {
    /// The Prometheus text exposition of the originals: families sorted by name, each with its type and help line even if
    /// it has no sample. Reasons that never occurred have no sample, but for outbound errors, as there.
    pub fn to_prometheus(&self) -> String {
        let mut out = String::with_capacity(4096);
        gauge(
            &mut out,
            "tailscaled_advertised_routes",
            "Number of advertised network routes (e.g. by a subnet router)",
            &self.advertised_routes,
        );
        gauge(
            &mut out,
            "tailscaled_approved_routes",
            "Number of approved network routes (e.g. by a subnet router)",
            &self.approved_routes,
        );
        header(
            &mut out,
            "tailscaled_health_messages",
            "gauge",
            "Number of health messages broken down by type.",
        );
        sample(
            &mut out,
            "tailscaled_health_messages",
            ("type", "warning"),
            self.health_warnings.get(),
        );
        gauge(
            &mut out,
            "tailscaled_home_derp_region_id",
            "DERP region ID of this node's home relay server",
            &self.home_derp_region_id,
        );
        traffic(&mut out, Direction::Inbound, &self.inbound);
        traffic(&mut out, Direction::Outbound, &self.outbound);
        out
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Inbound,
    Outbound,
}

fn traffic(out: &mut String, direction: Direction, traffic: &Traffic) {
    let (name, what, dropped) = match direction {
        Direction::Inbound => (
            "inbound",
            "received from other peers",
            "Counts the number of dropped packets received by the node from other peers",
        ),
        Direction::Outbound => (
            "outbound",
            "sent to other peers",
            "Counts the number of packets dropped while being sent to other peers",
        ),
    };
    let family = |unit| format!("tailscaled_{name}_{unit}_total");
    by_path(
        out,
        &family("bytes"),
        &format!("Counts the number of bytes {what}"),
        &traffic.bytes,
    );

    let drops = family("dropped_packets");
    header(out, &drops, "counter", dropped);
    for reason in DropReason::ALL {
        let count = traffic.dropped(reason);
        let always = direction == Direction::Outbound && reason == DropReason::Error;
        if count > 0 || always {
            sample(out, &drops, ("reason", reason.label()), count);
        }
    }

    by_path(
        out,
        &family("packets"),
        &format!("Counts the number of packets {what}"),
        &traffic.packets,
    );
}

fn by_path(out: &mut String, name: &str, help: &str, counters: &[Counter; Path::ALL.len()]) {
    header(out, name, "counter", help);
    for (path, counter) in Path::ALL.into_iter().zip(counters) {
        sample(out, name, ("path", path.label()), counter.get());
    }
}

fn gauge(out: &mut String, name: &str, help: &str, gauge: &Gauge) {
    header(out, name, "gauge", help);
    // Writing to a `String` cannot fail.
    let _ = writeln!(out, "{name} {}", gauge.get());
}

fn header(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# TYPE {name} {kind}\n# HELP {name} {help}");
}

fn sample(out: &mut String, name: &str, label: (&str, &str), value: impl std::fmt::Display) {
    let _ = writeln!(out, "{name}{{{}=\"{}\"}} {value}", label.0, label.1);
}
