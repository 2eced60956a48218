//! Control's rules as text, and what they mean.

use std::net::IpAddr;
use std::str::FromStr as _;

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};
use packet::Proto;
use tailcfg::{CapGrant, FilterRule};

/// Parsed rules, in control's order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules {
    pub(crate) rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    pub(crate) protos: ProtoSet,
    pub(crate) srcs: Vec<IpNet>,
    pub(crate) src_caps: Vec<String>,
    pub(crate) dsts: Vec<Dst>,
    pub(crate) grants: Vec<CapGrant>,
}

/// A destination: a prefix, and ports first to last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dst {
    pub(crate) net: IpNet,
    pub(crate) first: u16,
    pub(crate) last: u16,
}

/// A part of the rules that was left out because it could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseProblem {
    /// `SrcBits` or `Bits`, a form that was retired before our capability version. No rule is used then.
    RetiredBits,
    /// Neither `*` nor an address, a prefix, a range or a capability.
    InvalidAddress(String),
    /// A prefix whose host bits are not zero.
    HostBits(String),
    /// A range that runs backwards or from one family to the other.
    InvalidRange(String),
    /// A capability where only addresses may stand.
    CapInDestination(String),
}

impl std::fmt::Display for ParseProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RetiredBits => f.write_str("filter rule has bits in a retired form"),
            Self::InvalidAddress(text) => write!(f, "invalid IP address \"{text}\""),
            Self::HostBits(text) => write!(f, "{text} contains non-network bits set"),
            Self::InvalidRange(text) => write!(f, "invalid IP range \"{text}\""),
            Self::CapInDestination(text) => {
                write!(f, "unexpected capability \"{text}\" in DstPorts")
            }
        }
    }
}

impl std::error::Error for ParseProblem {}

impl Rules {
    /// Reads control's rules. What cannot be read is left out, which can only make the filter stricter, and reported.
    pub fn parse(rules: &[FilterRule]) -> (Self, Vec<ParseProblem>) {
        let retired = |rule: &FilterRule| {
            !rule.src_bits.is_empty() || rule.dst_ports.iter().any(|dst| dst.bits.is_some())
        };
        if rules.iter().any(retired) {
            return (Self::default(), vec![ParseProblem::RetiredBits]);
        }
        let mut problems = Vec::new();
        let rules = rules
            .iter()
            .map(|rule| Rule::parse(rule, &mut problems))
            .collect();
        (Self { rules }, problems)
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a rule with destinations has a source in common with `net`: such rules would let a peer with these
    /// addresses in.
    pub fn admit_from(&self, net: &IpNet) -> bool {
        self.rules
            .iter()
            .filter(|rule| !rule.dsts.is_empty())
            .flat_map(|rule| &rule.srcs)
            .any(|src| src.contains(net) || net.contains(src))
    }
}

impl Rule {
    fn parse(rule: &FilterRule, problems: &mut Vec<ParseProblem>) -> Self {
        let mut parsed = Self {
            protos: ProtoSet::from_wire(&rule.ip_proto),
            srcs: Vec::with_capacity(rule.src_ips.len()),
            src_caps: Vec::new(),
            dsts: Vec::with_capacity(rule.dst_ports.len()),
            grants: rule.cap_grant.clone(),
        };
        for text in &rule.src_ips {
            match IpSet::parse(text) {
                Ok(IpSet::Nets(nets)) => parsed.srcs.extend(nets),
                Ok(IpSet::Cap(cap)) if cap.is_empty() => {}
                Ok(IpSet::Cap(cap)) => parsed.src_caps.push(cap),
                Err(problem) => problems.push(problem),
            }
        }
        for dst in &rule.dst_ports {
            match IpSet::parse(&dst.ip) {
                Ok(IpSet::Nets(nets)) => {
                    parsed.dsts.extend(nets.into_iter().map(|net| Dst {
                        net,
                        first: dst.ports.first,
                        last: dst.ports.last,
                    }));
                }
                Ok(IpSet::Cap(cap)) => problems.push(ParseProblem::CapInDestination(cap)),
                Err(problem) => problems.push(problem),
            }
        }
        parsed
    }
}

impl Dst {
    pub(crate) fn has(&self, ip: IpAddr, port: u16) -> bool {
        (self.first..=self.last).contains(&port) && self.net.contains(&ip)
    }

    pub(crate) fn all_ports(&self) -> bool {
        (self.first, self.last) == (0, u16::MAX)
    }
}

/// What one text of the rules stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IpSet {
    Nets(Vec<IpNet>),
    Cap(String),
}

impl IpSet {
    pub(crate) fn parse(text: &str) -> Result<Self, ParseProblem> {
        if text == "*" {
            let all = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
            return Ok(Self::Nets(all.into()));
        }
        // A capability's name may hold anything, slashes and hyphens included.
        if let Some(cap) = text.strip_prefix("cap:") {
            return Ok(Self::Cap(cap.to_owned()));
        }
        if text.contains('/') {
            let net =
                IpNet::from_str(text).map_err(|_| ParseProblem::InvalidAddress(text.to_owned()))?;
            if net != net.trunc() {
                return Err(ParseProblem::HostBits(text.to_owned()));
            }
            return Ok(Self::Nets(vec![net]));
        }
        let address = |part: &str| {
            IpAddr::from_str(part).map_err(|_| ParseProblem::InvalidAddress(text.to_owned()))
        };
        match text.split_once('-') {
            Some((first, last)) if !last.contains('-') => range(address(first)?, address(last)?)
                .ok_or_else(|| ParseProblem::InvalidRange(text.to_owned())),
            _ => Ok(Self::Nets(vec![IpNet::from(address(text)?)])),
        }
    }
}

fn range(first: IpAddr, last: IpAddr) -> Option<IpSet> {
    let nets = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
            Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
            Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect()
        }
        _ => return None,
    };
    Some(IpSet::Nets(nets))
}

/// A set of protocol numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ProtoSet([u64; 4]);

impl ProtoSet {
    /// No numbers mean TCP, UDP and ICMP. Numbers that are no protocol are left out.
    fn from_wire(numbers: &[i64]) -> Self {
        let mut set = Self::default();
        if numbers.is_empty() {
            for proto in [Proto::TCP, Proto::UDP, Proto::ICMP4, Proto::ICMP6] {
                set.insert(proto);
            }
        }
        for number in numbers {
            if let Ok(number) = u8::try_from(*number) {
                set.insert(Proto(number));
            }
        }
        set
    }

    fn insert(&mut self, proto: Proto) {
        self.0[usize::from(proto.0 / 64)] |= 1 << (proto.0 % 64);
    }

    pub(crate) fn has(&self, proto: Proto) -> bool {
        self.0[usize::from(proto.0 / 64)] & (1 << (proto.0 % 64)) != 0
    }
}
