//! Which rules the firewall should have, as values.
//!
//! Compat: chains, order and content are those of the originals (`util/linuxfw/iptables_runner.go`), since people and
//! programs look for them, and either program must be able to clean up behind the other.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::Ipv4Addr;

use host::{CgnatGuard, FirewallConfig, NetfilterMode};
use ipnet::{IpNet, Ipv4Net};
use packet::addr::CGNAT;

use super::super::{BYPASS_MARK, MARK_MASK};
use crate::netlink::nft::{ChainKind, Family, Hook, States, Step};

/// Marks packets that came out of the tunnel and are forwarded.
const SUBNET_MARK: u32 = 0x4_0000;
/// Virtual machines of ChromeOS live here, inside the carriers' range; no node does.
const CHROMEOS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 115, 92, 0), 23);

pub(super) const INPUT: &str = "ts-input";
pub(super) const FORWARD: &str = "ts-forward";
pub(super) const POSTROUTING: &str = "ts-postrouting";

/// A chain of the machine's, asked at a hook, into which we put a rule or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) table: &'static str,
    pub(super) name: &'static str,
    pub(super) kind: ChainKind,
    pub(super) hook: Hook,
    pub(super) priority: i32,
}

const fn base(
    table: &'static str,
    name: &'static str,
    kind: ChainKind,
    hook: Hook,
    priority: i32,
) -> Base {
    Base {
        table,
        name,
        kind,
        hook,
        priority,
    }
}

const BASE_INPUT: Base = base("filter", "INPUT", ChainKind::Filter, Hook::Input, 0);
const BASE_FORWARD: Base = base("filter", "FORWARD", ChainKind::Filter, Hook::Forward, 0);
const BASE_POSTROUTING: Base = base("nat", "POSTROUTING", ChainKind::Nat, Hook::Postrouting, 100);
const BASE_PREROUTING: Base = base(
    "mangle",
    "PREROUTING",
    ChainKind::Filter,
    Hook::Prerouting,
    -150,
);
const BASE_OUTPUT: Base = base("mangle", "OUTPUT", ChainKind::Route, Hook::Output, -150);

/// A chain of ours, and the one of the machine's from which it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OwnChain {
    pub(super) name: &'static str,
    pub(super) base: Base,
    /// Whether it is asked at all.
    pub(super) is_hooked: bool,
    pub(super) rules: Vec<Vec<Step>>,
}

/// A rule of ours in a chain of the machine's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) base: Base,
    pub(super) rule: Vec<Step>,
}

/// The firewall of one family. Empty means: nothing of ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wish {
    pub(super) chains: Vec<OwnChain>,
    pub(super) guests: Vec<Guest>,
}

/// What the machine's state adds to the wish.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Surroundings<'a> {
    pub(super) device: &'a str,
    /// Our addresses.
    pub(super) addresses: &'a [IpNet],
    /// Whether the machine's own networks use the carriers' range.
    pub(super) is_cgnat_underlay: bool,
    /// What leads into the tunnel.
    pub(super) routes: &'a [IpNet],
}

/// Table and name of the chains that are ours.
pub(super) const OWN_CHAINS: [(&str, &str); 3] =
    [("filter", INPUT), ("filter", FORWARD), ("nat", POSTROUTING)];

/// Table, our chain, and the chain of the machine's from which it is asked.
pub(super) const HOOKS: [(&str, &str, &str); 3] = [
    ("filter", INPUT, "INPUT"),
    ("filter", FORWARD, "FORWARD"),
    ("nat", POSTROUTING, "POSTROUTING"),
];

/// Tells the rules of ours apart, and an old one from a new one.
pub(super) fn tag(rule: &[Step]) -> u64 {
    // Stable within one build, which is enough: whatever differs is written anew.
    let mut hasher = DefaultHasher::new();
    rule.hash(&mut hasher);
    hasher.finish()
}

/// The rules for one family.
pub(super) fn wish(config: &FirewallConfig, around: &Surroundings<'_>, family: Family) -> Wish {
    if config.mode == NetfilterMode::Off {
        return Wish::default();
    }
    let is_hooked = config.mode == NetfilterMode::On;
    let chain = |name, base, rules| OwnChain {
        name,
        base,
        is_hooked,
        rules,
    };
    let v6 = family == Family::Ip6;
    let mut chains = vec![
        chain(INPUT, BASE_INPUT, input(config, around, v6)),
        chain(FORWARD, BASE_FORWARD, forward(config, around, v6)),
    ];
    if config.snat {
        chains.push(chain(POSTROUTING, BASE_POSTROUTING, vec![masquerade()]));
    } else {
        chains.push(chain(POSTROUTING, BASE_POSTROUTING, Vec::new()));
    }
    let guests = if is_hooked {
        connection_marks().to_vec()
    } else {
        Vec::new()
    };
    Wish { chains, guests }
}

fn counted(conditions: Vec<Step>, verdict: Step) -> Vec<Step> {
    let mut rule = conditions;
    rule.extend([Step::Counter, verdict]);
    rule
}

fn input(config: &FirewallConfig, around: &Surroundings<'_>, v6: bool) -> Vec<Vec<Step>> {
    let device = around.device.to_owned();
    let own = around
        .addresses
        .iter()
        .filter(|net| net.addr().is_ipv6() == v6)
        .map(|net| IpNet::from(net.addr()));
    // What we send to ourselves does not come by the device.
    let mut rules: Vec<Vec<Step>> = own
        .map(|net| {
            counted(
                vec![Step::InputName("lo".into()), Step::Source(net)],
                Step::Accept,
            )
        })
        .collect();
    rules.push(counted(vec![Step::InputName(device)], Step::Accept));
    let port = if v6 { config.port_v6 } else { config.port_v4 };
    if port != 0 {
        rules.push(counted(vec![Step::UdpPort(port)], Step::Accept));
    }
    if !v6 {
        rules.extend(cgnat_guard(config, around));
    }
    rules
}

/// Nobody else may use the tailnet's addresses (CVE-2019-14899): a packet that comes by another device with a source of the
/// carriers' range is dropped. Where the machine's own networks use that range, only our own and our peers' addresses are
/// ours to guard.
fn cgnat_guard(config: &FirewallConfig, around: &Surroundings<'_>) -> Vec<Vec<Step>> {
    let elsewhere = |net: IpNet, verdict| {
        counted(
            vec![
                Step::NotInputName(around.device.to_owned()),
                Step::Source(net),
            ],
            verdict,
        )
    };
    match config.cgnat {
        CgnatGuard::Off => vec![elsewhere(CGNAT.into(), Step::Return)],
        CgnatGuard::Narrow if around.is_cgnat_underlay => guarded(around)
            .map(|net| elsewhere(net, Step::Drop))
            .collect(),
        CgnatGuard::Narrow | CgnatGuard::Drop => vec![
            elsewhere(CHROMEOS.into(), Step::Return),
            elsewhere(CGNAT.into(), Step::Drop),
        ],
    }
}

/// Our own and our peers' addresses in the carriers' range, as few prefixes as possible.
fn guarded(around: &Surroundings<'_>) -> impl Iterator<Item = IpNet> {
    let all = around.addresses.iter().chain(around.routes);
    let inside = all.filter_map(|net| match net {
        // A peer that routes all of it does not make all of it ours.
        IpNet::V4(net) if CGNAT.contains(net) && *net != CGNAT => Some(net.trunc()),
        _ => None,
    });
    Ipv4Net::aggregate(&inside.collect::<Vec<_>>())
        .into_iter()
        .map(IpNet::V4)
}

fn forward(config: &FirewallConfig, around: &Surroundings<'_>, v6: bool) -> Vec<Vec<Step>> {
    let device = || around.device.to_owned();
    let mark = SUBNET_MARK;
    let mut rules = vec![
        counted(
            vec![Step::InputName(device())],
            Step::SetMark {
                mark,
                mask: MARK_MASK,
            },
        ),
        counted(
            vec![Step::MarkIs {
                mark,
                mask: MARK_MASK,
            }],
            Step::Accept,
        ),
    ];
    if !v6 {
        rules.push(counted(
            vec![Step::OutputName(device()), Step::Source(CGNAT.into())],
            Step::Drop,
        ));
    }
    if config.stateful {
        rules.push(counted(
            vec![
                Step::OutputName(device()),
                Step::StateIsNot(States::ESTABLISHED_OR_RELATED),
            ],
            Step::Drop,
        ));
    }
    rules.push(counted(vec![Step::OutputName(device())], Step::Accept));
    rules
}

fn masquerade() -> Vec<Step> {
    counted(
        vec![Step::MarkIs {
            mark: SUBNET_MARK,
            mask: MARK_MASK,
        }],
        Step::Masquerade { is_random: false },
    )
}

/// Answers to what our own sockets send bear the mark of those again, or a strict reverse path filter would look for their
/// way back in our table and drop them.
fn connection_marks() -> [Guest; 2] {
    const _: () = assert!(BYPASS_MARK & MARK_MASK == BYPASS_MARK);
    [
        Guest {
            base: BASE_PREROUTING,
            rule: counted(
                vec![
                    Step::StateIs(States::ESTABLISHED_OR_RELATED),
                    Step::ConnectionMarkHas { mask: MARK_MASK },
                ],
                Step::RestoreMark { mask: MARK_MASK },
            ),
        },
        Guest {
            base: BASE_OUTPUT,
            rule: counted(
                vec![
                    Step::StateIs(States::NEW),
                    Step::MarkHas { mask: MARK_MASK },
                ],
                Step::SaveMark { mask: MARK_MASK },
            ),
        },
    ]
}
