//! Which of two addresses of a peer is better.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// An address that answered, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quality {
    pub(crate) addr: SocketAddr,
    pub(crate) latency: Duration,
}

impl Quality {
    /// Whether this address should replace `other` (`betterAddr` of the originals).
    ///
    /// Points are the percentage by which one is faster, and a bonus for kinds of addresses that cost less or hold better.
    /// The relation is not transitive: compare with the one in use only, never sort by it.
    pub(crate) fn is_better_than(&self, other: &Self) -> bool {
        if self.addr == other.addr {
            return false;
        }
        let (mut ours, mut theirs) = (0, 0);
        if self.latency > other.latency {
            theirs = percent_faster(other.latency, self.latency);
        } else if !other.latency.is_zero() {
            ours = percent_faster(self.latency, other.latency);
        }
        ours += bonus(self.addr.ip());
        theirs += bonus(other.addr.ip());
        // Less than one percent is no reason to move.
        (ours > 1 || theirs != 0) && ours > theirs
    }
}

fn percent_faster(fast: Duration, slow: Duration) -> u128 {
    let share = (fast.as_nanos() * 100).checked_div(slow.as_nanos());
    100 - share.unwrap_or(100).min(100)
}

fn bonus(ip: IpAddr) -> u128 {
    let near = match ip {
        _ if ip.is_loopback() => 50,
        IpAddr::V4(ip) if ip.is_link_local() => 30,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => 30,
        IpAddr::V4(ip) if ip.is_private() => 20,
        IpAddr::V6(ip) if ip.is_unique_local() => 20,
        _ => 0,
    };
    near + if ip.is_ipv6() { 10 } else { 0 }
}
