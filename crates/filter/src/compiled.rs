//! Rules, indexed by source.
//!
//! Control sends a node only rules about that node, so nearly all have the same destinations and differ in their
//! sources: the source is what tells them apart.

use std::collections::BTreeMap;
use std::net::IpAddr;

use packet::{PrefixMap, Proto};
use tailcfg::CapMap;

use crate::PeerCaps;
use crate::rules::{Dst, ProtoSet, Rule, Rules};

/// Rules that are ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    rules: Vec<Access>,
    /// Which of `rules` have a source that contains the address.
    by_src: PrefixMap<Vec<u32>>,
    /// Which of `rules` have a source by capability.
    by_cap: Vec<u32>,
    grants: Vec<Grant>,
    /// Which of `grants` have a source that contains the address.
    grants_by_src: PrefixMap<Vec<u32>>,
}

/// The part of a rule that lets packets in.
#[derive(Debug)]
struct Access {
    protos: ProtoSet,
    src_caps: Vec<String>,
    dsts: Vec<Dst>,
    /// Whether any destination is IPv4, and IPv6.
    families: [bool; 2],
}

/// The part of a rule that gives capabilities.
#[derive(Debug)]
struct Grant(Vec<tailcfg::CapGrant>);

/// What a rule is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    pub(crate) proto: Proto,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) dst_port: u16,
}

impl Compiled {
    pub(crate) fn new(rules: Rules) -> Self {
        let mut compiled = Self::default();
        for rule in rules.rules {
            compiled.add(rule);
        }
        compiled
    }

    fn add(&mut self, rule: Rule) {
        if !rule.dsts.is_empty() {
            let number = self.rules.len() as u32;
            for src in &rule.srcs {
                self.by_src.entry_or_default(*src).push(number);
            }
            if !rule.src_caps.is_empty() {
                self.by_cap.push(number);
            }
            self.rules.push(Access {
                protos: rule.protos,
                src_caps: rule.src_caps,
                families: [
                    rule.dsts.iter().any(|dst| dst.net.addr().is_ipv4()),
                    rule.dsts.iter().any(|dst| dst.net.addr().is_ipv6()),
                ],
                dsts: rule.dsts,
            });
        }
        if !rule.grants.is_empty() {
            let number = self.grants.len() as u32;
            for src in &rule.srcs {
                self.grants_by_src.entry_or_default(*src).push(number);
            }
            self.grants.push(Grant(rule.grants));
        }
    }

    /// TCP, UDP and SCTP: protocol, source, destination and port.
    pub(crate) fn allow(&self, ask: &Question, caps: PeerCaps<'_>) -> bool {
        let fits = |rule: &Access| {
            rule.protos.has(ask.proto) && rule.dsts.iter().any(|dst| dst.has(ask.dst, ask.dst_port))
        };
        self.from(ask.src).any(fits) || self.with_cap(ask.src, caps).any(fits)
    }

    /// ICMP: who may reach an address at all, may also ping it. Compat: a source by capability counts for all addresses
    /// of its family.
    pub(crate) fn allow_icmp(&self, ask: &Question, caps: PeerCaps<'_>) -> bool {
        self.from(ask.src)
            .any(|rule| rule.dsts.iter().any(|dst| dst.net.contains(&ask.dst)))
            || self
                .with_cap(ask.src, caps)
                .any(|rule| rule.families[usize::from(ask.dst.is_ipv6())])
    }

    /// Protocols without ports: only rules that name the protocol and all ports, and sources by address.
    pub(crate) fn allow_portless(&self, ask: &Question) -> bool {
        self.from(ask.src).any(|rule| {
            rule.protos.has(ask.proto)
                && rule
                    .dsts
                    .iter()
                    .any(|dst| dst.all_ports() && dst.net.contains(&ask.dst))
        })
    }

    /// The capabilities that `src` has towards `dst`, in the rules' order.
    pub(crate) fn caps_of(&self, src: IpAddr, dst: IpAddr) -> CapMap {
        let mut numbers: Vec<u32> = self.grants_by_src.matches(src).flatten().copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut caps = BTreeMap::new();
        for grant in numbers.iter().filter_map(|n| self.grants.get(*n as usize)) {
            for grant in &grant.0 {
                // Compat: each destination that contains the address counts, values of all are collected.
                let times = grant.dsts.iter().filter(|net| net.contains(&dst)).count();
                for _ in 0..times {
                    collect(grant, &mut caps);
                }
            }
        }
        caps
    }

    fn from(&self, src: IpAddr) -> impl Iterator<Item = &Access> {
        self.by_src
            .matches(src)
            .flatten()
            .filter_map(|n| self.rules.get(*n as usize))
    }

    fn with_cap(&self, src: IpAddr, caps: PeerCaps<'_>) -> impl Iterator<Item = &Access> {
        self.by_cap
            .iter()
            .filter_map(|n| self.rules.get(*n as usize))
            .filter(move |rule| rule.src_caps.iter().any(|cap| caps(src, cap)))
    }
}

fn collect(grant: &tailcfg::CapGrant, caps: &mut CapMap) {
    for cap in grant.caps.iter().filter(|cap| !cap.is_empty()) {
        caps.entry(cap.clone()).or_default();
    }
    for (cap, values) in grant.cap_map.iter().filter(|(cap, _)| !cap.is_empty()) {
        let all = caps.entry(cap.clone()).or_default();
        if let Some(values) = values {
            all.get_or_insert_default().extend(values.iter().cloned());
        }
    }
}
