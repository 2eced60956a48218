//! Where we can be reached ourselves: what control and peers are told.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use host::Instant;
use netcheck::Report;

/// Peers are called to addresses that are no older than this (`endpointsFreshEnoughDuration`). Longer than the longest
/// pause between two measurements of a node with traffic, so that such a node need not measure first.
const FRESH: Duration = Duration::from_secs(27);
/// An address that was seen once is offered for this long: a NAT may still know it (`endpointTrackerLifetime`).
const REMEMBERED: Duration = Duration::from_secs(5 * 60 + 10);
/// The most remembered ports of one address (`endpointTrackerMaxPerAddr`).
const REMEMBERED_PER_IP: usize = 6;

/// How an endpoint was found. The numbers are those of the control protocol (`tailcfg.EndpointType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i32)]
pub enum EndpointKind {
    /// An address of an interface.
    Local = 1,
    /// A STUN server saw us there.
    Stun = 2,
    /// The address that STUN servers saw with the port that we asked for: behind a hard NAT, somebody may have forwarded it.
    StunLocalPort = 4,
}

/// One address that we may be reached at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address.
    pub addr: SocketAddr,
    /// How it was found.
    pub kind: EndpointKind,
}

/// The ports that our sockets are bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BoundPorts {
    /// The IPv4 socket's; none without one.
    pub v4: Option<u16>,
    /// The IPv6 socket's; none without one.
    pub v6: Option<u16>,
    /// The port that the user asked for; 0 if any will do.
    pub wanted: u16,
}

#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    /// Of the machine's interfaces; of loopback, if there are no others.
    pub(crate) local: Vec<IpAddr>,
    pub(crate) ports: BoundPorts,
    remembered: BTreeMap<SocketAddr, (EndpointKind, Instant)>,
    current: Vec<Endpoint>,
    refreshed: Option<Instant>,
}

impl Endpoints {
    /// What peers may be told.
    pub(crate) fn current(&self) -> &[Endpoint] {
        &self.current
    }

    pub(crate) fn are_fresh(&self, now: Instant) -> bool {
        self.refreshed.is_some_and(|at| now.since(at) <= FRESH)
    }

    /// The sockets are others now: what was seen of the old ones is worth nothing.
    pub(crate) fn forget(&mut self) {
        self.remembered.clear();
        self.refreshed = None;
    }

    /// Takes a new measurement. Says whether what we offer is different now; order does not count.
    pub(crate) fn refresh(&mut self, report: &Report, now: Instant) -> bool {
        let mut found = self.found(report);
        self.remember(&mut found, now);
        self.add_local(&mut found);
        self.refreshed = Some(now);
        let sorted = |list: &[Endpoint]| {
            let mut list = list.to_vec();
            list.sort();
            list
        };
        let differs = sorted(&found) != sorted(&self.current);
        if differs {
            self.current = found;
        }
        differs
    }

    /// What others see of us, the surest first.
    fn found(&self, report: &Report) -> Vec<Endpoint> {
        let mut found = Vec::new();
        if self.ports.v4.is_none() && self.ports.v6.is_none() {
            return found;
        }
        for addr in report.global_addrs() {
            push(&mut found, addr, EndpointKind::Stun);
        }
        if let Some(first) = report.global_v4
            && report.mapping_varies_by_dest_ip == Some(true)
            && self.ports.wanted != 0
        {
            let addr = SocketAddr::new((*first.ip()).into(), self.ports.wanted);
            push(&mut found, addr, EndpointKind::StunLocalPort);
        }
        found
    }

    /// Adds what was found of late, and remembers what was found now.
    fn remember(&mut self, found: &mut Vec<Endpoint>, now: Instant) {
        self.remembered
            .retain(|_, (_, at)| now.since(*at) <= REMEMBERED);
        for endpoint in &*found {
            self.remembered.insert(endpoint.addr, (endpoint.kind, now));
        }
        let mut newest_first: Vec<_> = self.remembered.iter().collect();
        newest_first.sort_by_key(|(_, (_, at))| std::cmp::Reverse(*at));
        let mut per_ip: BTreeMap<IpAddr, usize> = BTreeMap::new();
        let mut too_many = Vec::new();
        for (addr, (kind, _)) in newest_first {
            let count = per_ip.entry(addr.ip()).or_default();
            *count += 1;
            if *count > REMEMBERED_PER_IP {
                too_many.push(*addr);
            } else {
                push(found, *addr, *kind);
            }
        }
        for addr in too_many {
            self.remembered.remove(&addr);
        }
    }

    /// Adds the machine's own addresses; loopback only if there is nothing else at all, as for tests without a network.
    fn add_local(&self, found: &mut Vec<Endpoint>) {
        let is_alone = found.is_empty();
        for ip in self.local.iter().filter(|ip| is_alone || !ip.is_loopback()) {
            let port = match ip {
                IpAddr::V4(_) => self.ports.v4,
                IpAddr::V6(_) => self.ports.v6,
            };
            if let Some(port) = port {
                push(found, SocketAddr::new(*ip, port), EndpointKind::Local);
            }
        }
    }
}

/// Adds an address once; the first way in which it was found counts.
fn push(found: &mut Vec<Endpoint>, addr: SocketAddr, kind: EndpointKind) {
    if found.iter().all(|known| known.addr != addr) {
        found.push(Endpoint { addr, kind });
    }
}
