//! One measurement.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use derp::{DerpMap, FamilyAddr, Node, RegionId};
use host::Instant;
use rand_core::CryptoRng;

use crate::stun::{self, REQUEST_LEN, TxId};
use crate::{Family, Interfaces, Report, probe_plan};

/// How long STUN answers are waited for.
const STUN_PHASE: Duration = Duration::from_secs(3);
/// How long everything may take.
const TOTAL: Duration = Duration::from_secs(5);
/// When this many regions have answered, the others get as long as the slowest needed (twice that in a full measurement).
const ENOUGH_REGIONS: usize = 3;

/// What a measurement starts from.
#[derive(Debug, Clone)]
pub struct CheckOptions<'a> {
    /// The families that may be tried.
    pub interfaces: Interfaces,
    /// Whether an IPv6 socket can be bound to `::1` at all.
    pub os_has_ipv6: bool,
    /// The last report, for a measurement of the nearest regions only; `None` measures all of them.
    pub last: Option<&'a Report>,
    /// The home region, which is always asked.
    pub home: Option<RegionId>,
    /// Ask no STUN server: only TCP port 443 may be used.
    pub only_tcp_443: bool,
    /// Ask only STUN servers: no fallback to HTTPS.
    pub only_stun: bool,
}

/// Names a probe whose node's address must be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(u32);

/// What a measurement wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this datagram from the socket that peers will be told about, and say so with [`Check::handle_sent`].
    Send {
        /// The address family of the socket.
        family: Family,
        /// Where to.
        to: SocketAddr,
        /// The datagram.
        datagram: [u8; REQUEST_LEN],
    },
    /// Look up a name and answer with [`Check::handle_resolved`].
    Resolve {
        /// To be given back.
        probe: ProbeId,
        /// The name.
        host: String,
        /// Which kind of address is wanted.
        family: Family,
    },
    /// UDP does not work: time a request to `/derp/latency-check` of each region, and answer each with
    /// [`Check::handle_https`].
    MeasureHttps {
        /// The regions.
        regions: Vec<RegionId>,
    },
}

/// One measurement as a machine.
///
/// After each `handle_*` and at [`next_timeout`](Self::next_timeout), call [`poll_action`](Self::poll_action) until it gives
/// nothing, then [`poll_report`](Self::poll_report): the report is the end.
#[derive(Debug)]
pub struct Check {
    map: Arc<DerpMap>,
    started: Instant,
    full: bool,
    only_stun: bool,
    sets: Vec<Set>,
    resolving: BTreeMap<ProbeId, PendingProbe>,
    next_probe: u32,
    in_flight: BTreeMap<TxId, InFlight>,
    stop_at: Instant,
    phase: Phase,
    actions: VecDeque<Action>,
    ready: VecDeque<(PendingProbe, SocketAddr)>,
    report: Report,
}

#[derive(Debug)]
struct Set {
    region: RegionId,
    family: Family,
    /// Not yet due, last first.
    probes: Vec<crate::Probe>,
    done: bool,
}

#[derive(Debug, Clone, Copy)]
struct PendingProbe {
    set: usize,
    port: u16,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    set: usize,
    sent: Instant,
}

#[derive(Debug)]
enum Phase {
    Stun,
    Https { missing: BTreeSet<RegionId> },
    Done,
}

impl Check {
    /// Starts a measurement of `map` at `now`.
    pub fn start(map: Arc<DerpMap>, options: &CheckOptions<'_>, now: Instant) -> Self {
        let plan = if options.only_tcp_443 {
            Vec::new()
        } else {
            probe_plan(&map, options.interfaces, options.last, options.home)
        };
        let sets = plan
            .into_iter()
            .map(|mut set| {
                set.probes.reverse();
                Set {
                    region: set.region,
                    family: set.family,
                    probes: set.probes,
                    done: false,
                }
            })
            .collect();
        Self {
            map,
            started: now,
            full: options.last.is_none(),
            only_stun: options.only_stun,
            sets,
            resolving: BTreeMap::new(),
            next_probe: 0,
            in_flight: BTreeMap::new(),
            stop_at: now + STUN_PHASE,
            phase: Phase::Stun,
            actions: VecDeque::new(),
            ready: VecDeque::new(),
            report: Report {
                os_has_ipv6: options.os_has_ipv6,
                ..Report::default()
            },
        }
    }

    /// When the measurement began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// A datagram came; whether it was an answer to this measurement. Only the transaction counts, not the sender: a
    /// server may answer from another address.
    pub fn handle_datagram(&mut self, datagram: &[u8], now: Instant) -> bool {
        let Ok((tx, seen)) = stun::parse_response(datagram) else {
            return false;
        };
        let Some(flight) = self.in_flight.remove(&tx) else {
            return false;
        };
        let Some(set) = self.sets.get_mut(flight.set) else {
            return false;
        };
        set.done = true;
        let region = set.region;
        self.report.add_stun(region, seen, now.since(flight.sent));
        self.stop_early_if_enough(now);
        true
    }

    /// A datagram was handed to the system. A loss there (`EPERM` by a firewall, full buffers) counts as sent: the family
    /// works.
    pub fn handle_sent(&mut self, family: Family, ok: bool) {
        if ok {
            match family {
                Family::V4 => self.report.ipv4_can_send = true,
                Family::V6 => self.report.ipv6_can_send = true,
            }
        }
    }

    /// A name was looked up; `None` if it has no address of the family.
    pub fn handle_resolved(&mut self, probe: ProbeId, ip: Option<IpAddr>) {
        let Some(pending) = self.resolving.remove(&probe) else {
            return;
        };
        let Some(set) = self.sets.get(pending.set) else {
            return;
        };
        if let Some(ip) = ip.filter(|ip| ip.is_ipv6() == (set.family == Family::V6)) {
            self.ready
                .push_back((pending, SocketAddr::new(ip, pending.port)));
        }
    }

    /// A request of [`Action::MeasureHttps`] was answered (the time from request to answer, and by which address), or
    /// failed.
    pub fn handle_https(&mut self, region: RegionId, answer: Option<(Duration, IpAddr)>) {
        let Phase::Https { missing } = &mut self.phase else {
            return;
        };
        if !missing.remove(&region) {
            return;
        }
        if let Some((latency, ip)) = answer {
            self.report.add_fallback(region, ip.is_ipv6(), latency);
        }
    }

    /// The next thing to do at `now`.
    pub fn poll_action(&mut self, now: Instant, rng: &mut dyn CryptoRng) -> Option<Action> {
        if let Phase::Stun = self.phase {
            self.fire_due(now);
            if let Some(action) = self.send_ready(now, rng) {
                return Some(action);
            }
            if self.stun_over(now) {
                self.end_stun(now);
            }
        }
        self.actions.pop_front()
    }

    /// The report, once. Call when [`poll_action`](Self::poll_action) gave nothing.
    pub fn poll_report(&mut self, now: Instant) -> Option<Report> {
        if let Phase::Https { missing } = &self.phase
            && (missing.is_empty() || now >= self.started + TOTAL)
        {
            self.phase = Phase::Done;
            return Some(std::mem::take(&mut self.report));
        }
        None
    }

    /// When to poll again if nothing comes before; `None` after the report.
    pub fn next_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Stun => {
                let due = self
                    .sets
                    .iter()
                    .filter(|set| !set.done)
                    .filter_map(|set| set.probes.last())
                    .map(|probe| self.started + probe.delay);
                due.chain([self.stop_at]).min()
            }
            Phase::Https { .. } => Some(self.started + TOTAL),
            Phase::Done => None,
        }
    }

    fn fire_due(&mut self, now: Instant) {
        for index in 0..self.sets.len() {
            while let Some((region, family, node)) = self.next_due(index, now) {
                if !self.would_help(region, family) {
                    self.finish_set(index);
                    break;
                }
                self.aim(index, region, family, node);
            }
        }
    }

    fn next_due(&mut self, index: usize, now: Instant) -> Option<(RegionId, Family, usize)> {
        let started = self.started;
        let set = self.sets.get_mut(index).filter(|set| !set.done)?;
        let probe = set.probes.pop_if(|probe| started + probe.delay <= now)?;
        Some((set.region, set.family, probe.node))
    }

    /// Finds out where a probe goes.
    fn aim(&mut self, set: usize, region: RegionId, family: Family, node: usize) {
        let map = self.map.clone();
        let Some(node) = map.region(region).and_then(|r| r.nodes.get(node)) else {
            return;
        };
        let Some(port) = node.stun_port else {
            return;
        };
        let pending = PendingProbe { set, port };
        match target(node, family) {
            Target::Ip(ip) => self.ready.push_back((pending, SocketAddr::new(ip, port))),
            Target::Unreachable => {}
            Target::Dns => {
                let probe = ProbeId(self.next_probe);
                self.next_probe = self.next_probe.wrapping_add(1);
                self.resolving.insert(probe, pending);
                self.actions.push_back(Action::Resolve {
                    probe,
                    host: node.host.clone(),
                    family,
                });
            }
        }
    }

    /// Latency counts from the sending, so a request is made only when it is taken.
    fn send_ready(&mut self, now: Instant, rng: &mut dyn CryptoRng) -> Option<Action> {
        while let Some((pending, to)) = self.ready.pop_front() {
            let Some(set) = self.sets.get(pending.set).filter(|set| !set.done) else {
                continue;
            };
            let tx = TxId::generate(rng);
            let flight = InFlight {
                set: pending.set,
                sent: now,
            };
            self.in_flight.insert(tx, flight);
            return Some(Action::Send {
                family: set.family,
                to,
                datagram: stun::request(tx),
            });
        }
        None
    }

    /// Whether one more answer of this region and family would tell anything new.
    fn would_help(&self, region: RegionId, family: Family) -> bool {
        !self.report.region_latency.contains_key(&region)
            || match family {
                Family::V4 => self.report.mapping_varies_by_dest_ip.is_none(),
                Family::V6 => self.report.region_v6_latency.is_empty(),
            }
    }

    fn finish_set(&mut self, index: usize) {
        if let Some(set) = self.sets.get_mut(index) {
            set.done = true;
        }
    }

    fn stop_early_if_enough(&mut self, now: Instant) {
        if self.report.region_latency.len() != ENOUGH_REGIONS {
            return;
        }
        let slowest = self.report.region_latency.values().max().copied();
        let wait = slowest.unwrap_or_default() * if self.full { 2 } else { 1 };
        self.stop_at = self.stop_at.min(now + wait);
    }

    /// Nothing more can come: time is up, or each set has its answer or nothing left to wait for.
    fn stun_over(&self, now: Instant) -> bool {
        now >= self.stop_at || (0..self.sets.len()).all(|index| self.set_over(index))
    }

    fn set_over(&self, index: usize) -> bool {
        let Some(set) = self.sets.get(index) else {
            return true;
        };
        let waits = || {
            self.resolving.values().any(|p| p.set == index)
                || self.in_flight.values().any(|f| f.set == index)
        };
        set.done || (set.probes.is_empty() && !waits())
    }

    fn end_stun(&mut self, now: Instant) {
        let mut missing = BTreeSet::new();
        if !self.report.udp && !self.only_stun && now < self.started + TOTAL {
            let regions = self.map.regions.values();
            missing.extend(
                regions
                    .filter(|r| !r.avoid && !r.no_measure_no_home && r.relays().next().is_some())
                    .map(|r| r.id),
            );
        }
        if !missing.is_empty() {
            self.actions.push_back(Action::MeasureHttps {
                regions: missing.iter().copied().collect(),
            });
        }
        self.phase = Phase::Https { missing };
    }
}

enum Target {
    Ip(IpAddr),
    Dns,
    Unreachable,
}

fn target(node: &Node, family: Family) -> Target {
    if let Some(ip) = node.stun_test_ip {
        return if ip.is_ipv6() == (family == Family::V6) {
            Target::Ip(ip)
        } else {
            Target::Unreachable
        };
    }
    let (ip, dns) = match family {
        Family::V4 => match node.ipv4 {
            FamilyAddr::Ip(ip) => (Some(IpAddr::V4(ip)), false),
            other => (None, other == FamilyAddr::Dns),
        },
        Family::V6 => match node.ipv6 {
            FamilyAddr::Ip(ip) => (Some(IpAddr::V6(ip)), false),
            other => (None, other == FamilyAddr::Dns),
        },
    };
    match ip {
        Some(ip) => Target::Ip(ip),
        // A literal as host name needs no resolver, and none of the other family may be asked for it.
        None if dns => match node.host.parse::<IpAddr>() {
            Ok(ip) if ip.is_ipv6() == (family == Family::V6) => Target::Ip(ip),
            Ok(_) => Target::Unreachable,
            Err(_) => Target::Dns,
        },
        None => Target::Unreachable,
    }
}
