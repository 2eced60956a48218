//! What rules are made of, in the two dialects that there are.
//!
//! `iptables` is today mostly a front of nftables, and lists only rules that it could have made itself: three of the steps
//! below it wants as its own old modules (`nft_compat`), whose binary layouts are those of `linux/netfilter/xt_*.h`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Family;
use crate::netlink::message::Request;

/// The register that a comparison reads.
const REGISTER: u32 = 1;
/// The register of verdicts.
const VERDICT: u32 = 0;
/// The room for an interface's name; comparisons need all of it.
const NAME_LEN: usize = 16;

const UDP: u8 = 17;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

/// How rules are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// As `nft` does.
    #[default]
    Native,
    /// As `iptables` does, which refuses to list what is written otherwise.
    Iptables,
}

/// States of a connection, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct States(pub u16);

impl States {
    /// Of a connection that both sides have taken part in, or of one that belongs to such a one.
    pub const ESTABLISHED_OR_RELATED: Self = Self(2 | 4);
    /// The first packet of a connection.
    pub const NEW: Self = Self(8);
    /// The kernel was told not to look.
    const UNTRACKED: Self = Self(64);
}

/// One step of a rule: a condition that ends the rule where it does not hold, or what to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// The packet came by this interface.
    InputName(String),
    /// The packet did not come by this interface.
    NotInputName(String),
    /// The packet leaves by this interface.
    OutputName(String),
    /// The packet's transport protocol.
    Protocol(u8),
    /// The packet comes from here.
    Source(IpNet),
    /// It is UDP for this port.
    UdpPort(u16),
    /// These bits of the packet's mark are these.
    MarkIs {
        /// The bits.
        mark: u32,
        /// Which bits.
        mask: u32,
    },
    /// One of these bits of the packet's mark is set.
    MarkHas {
        /// Which bits.
        mask: u32,
    },
    /// One of these bits of the connection's mark is set.
    ConnectionMarkHas {
        /// Which bits.
        mask: u32,
    },
    /// The connection is in one of these states.
    StateIs(States),
    /// The connection is in none of these states.
    StateIsNot(States),
    /// Count it, as all of `iptables`' rules do.
    Counter,
    /// Change these bits of the packet's mark.
    SetMark {
        /// The new bits.
        mark: u32,
        /// Which bits.
        mask: u32,
    },
    /// Copy these bits of the packet's mark to the connection's.
    SaveMark {
        /// Which bits.
        mask: u32,
    },
    /// Copy these bits of the connection's mark to the packet's.
    RestoreMark {
        /// Which bits.
        mask: u32,
    },
    /// Let it pass, as far as chains of this hook with this priority go.
    Accept,
    /// Drop it.
    Drop,
    /// Go on behind the jump that led here.
    Return,
    /// Ask another chain of this table, then go on.
    Jump(String),
    /// Give it the address of the interface by which it leaves.
    Masquerade {
        /// Whether each flow gets a port of its own at random, whatever port it came from.
        is_random: bool,
    },
}

impl Step {
    /// Adds the expressions of this step to a rule's list.
    pub(super) fn write(&self, list: Request, dialect: Dialect, family: Family) -> Request {
        match self {
            Self::InputName(name) => compare(meta(list, IIFNAME), EQUAL, &padded(name)),
            Self::NotInputName(name) => compare(meta(list, IIFNAME), NOT_EQUAL, &padded(name)),
            Self::OutputName(name) => compare(meta(list, OIFNAME), EQUAL, &padded(name)),
            Self::Protocol(number) => compare(meta(list, L4PROTO), EQUAL, &[*number]),
            Self::Source(net) => source(list, *net),
            Self::UdpPort(port) => {
                let list = compare(meta(list, L4PROTO), EQUAL, &[UDP]);
                compare(payload(list, TRANSPORT, 2, 2), EQUAL, &port.to_be_bytes())
            }
            Self::MarkIs { mark, mask } => {
                compare(bits(meta(list, MARK), *mask), EQUAL, &mark.to_ne_bytes())
            }
            Self::MarkHas { mask } => compare(bits(meta(list, MARK), *mask), NOT_EQUAL, &[0; 4]),
            Self::ConnectionMarkHas { mask } => connection_mark_has(list, *mask, dialect),
            Self::StateIs(states) => state(list, *states, true, dialect),
            Self::StateIsNot(states) => state(list, *states, false, dialect),
            Self::Counter => expression(list, "counter", |data| data),
            Self::SetMark { mark, mask } => set_mark(list, *mark, *mask, dialect),
            Self::SaveMark { mask } => copy_mark(list, *mask, 1, dialect),
            Self::RestoreMark { mask } => copy_mark(list, *mask, 2, dialect),
            Self::Accept => verdict(list, 1, None),
            Self::Drop => verdict(list, 0, None),
            Self::Return => verdict(list, -5, None),
            Self::Jump(chain) => verdict(list, JUMP, Some(chain)),
            Self::Masquerade { is_random } => masquerade(list, *is_random, dialect, family),
        }
    }
}

/// `NFT_JUMP`.
pub(super) const JUMP: i32 = -3;

// Keys of `meta`.
const MARK: u32 = 3;
const IIFNAME: u32 = 6;
const OIFNAME: u32 = 7;
const L4PROTO: u32 = 16;
// Keys of `ct`.
const CT_STATE: u32 = 0;
const CT_MARK: u32 = 3;
// Bases of `payload`.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

fn expression(list: Request, name: &str, fill: impl FnOnce(Request) -> Request) -> Request {
    list.nest(1, |element| element.text(1, name).nest(2, fill))
}

/// Loads a property of the packet.
fn meta(list: Request, key: u32) -> Request {
    expression(list, "meta", |data| {
        data.number_be(2, key).number_be(1, REGISTER)
    })
}

/// Loads a property of the connection.
fn connection(list: Request, key: u32) -> Request {
    expression(list, "ct", |data| {
        data.number_be(2, key).number_be(1, REGISTER)
    })
}

/// Loads bytes of the packet.
fn payload(list: Request, base: u32, offset: u32, len: u32) -> Request {
    expression(list, "payload", |data| {
        data.number_be(1, REGISTER)
            .number_be(2, base)
            .number_be(3, offset)
            .number_be(4, len)
    })
}

/// Goes on only if what was loaded compares to `value` so.
fn compare(list: Request, how: u32, value: &[u8]) -> Request {
    expression(list, "cmp", |data| {
        data.number_be(1, REGISTER)
            .number_be(2, how)
            .nest(3, |data| data.attribute(1, value))
    })
}

/// Clears all bits but those of a mask.
fn mask(list: Request, mask: &[u8]) -> Request {
    change_bits(list, mask, &vec![0; mask.len()])
}

fn bits(list: Request, wanted: u32) -> Request {
    mask(list, &wanted.to_ne_bytes())
}

/// What was loaded becomes `(it & keep) ^ flip`.
fn change_bits(list: Request, keep: &[u8], flip: &[u8]) -> Request {
    expression(list, "bitwise", |data| {
        data.number_be(1, REGISTER)
            .number_be(2, REGISTER)
            .number_be(3, keep.len() as u32)
            .nest(4, |data| data.attribute(1, keep))
            .nest(5, |data| data.attribute(1, flip))
    })
}

fn verdict(list: Request, code: i32, chain: Option<&str>) -> Request {
    expression(list, "immediate", |data| {
        data.number_be(1, VERDICT).nest(2, |value| {
            value.nest(2, |verdict| {
                let verdict = verdict.attribute(1, &code.to_be_bytes());
                match chain {
                    Some(chain) => verdict.text(2, chain),
                    None => verdict,
                }
            })
        })
    })
}

fn source(list: Request, net: IpNet) -> Request {
    let (octets, netmask, offset) = match (net.network(), net.netmask()) {
        (IpAddr::V4(ip), IpAddr::V4(netmask)) => {
            (ip.octets().to_vec(), netmask.octets().to_vec(), 12)
        }
        (IpAddr::V6(ip), IpAddr::V6(netmask)) => {
            (ip.octets().to_vec(), netmask.octets().to_vec(), 8)
        }
        // The two are of one family.
        _ => return list,
    };
    let loaded = payload(list, NETWORK, offset, octets.len() as u32);
    let loaded = match net.prefix_len() == net.max_prefix_len() {
        true => loaded,
        false => mask(loaded, &netmask),
    };
    compare(loaded, EQUAL, &octets)
}

fn connection_mark_has(list: Request, wanted: u32, dialect: Dialect) -> Request {
    match dialect {
        Dialect::Native => compare(bits(connection(list, CT_MARK), wanted), NOT_EQUAL, &[0; 4]),
        // struct xt_connmark_mtinfo1: mark u32, mask u32, invert u8.
        Dialect::Iptables => {
            let mut info = [0; 16];
            info[4..8].copy_from_slice(&wanted.to_ne_bytes());
            info[8] = 1;
            module(list, "match", "connmark", 1, &info[..12])
        }
    }
}

fn state(list: Request, states: States, is: bool, dialect: Dialect) -> Request {
    match dialect {
        Dialect::Native => {
            // What the kernel was told not to track is not for us to drop.
            let untracked = if is { 0 } else { States::UNTRACKED.0 };
            let wanted = u32::from(states.0 | untracked);
            let how = if is { NOT_EQUAL } else { EQUAL };
            compare(bits(connection(list, CT_STATE), wanted), how, &[0; 4])
        }
        // struct xt_conntrack_mtinfo3: 146 bytes of what is not asked for, then three u16: what is asked for (1: the
        // state), which of it is inverted, and the states.
        Dialect::Iptables => {
            let mut info = [0; 168];
            info[146..148].copy_from_slice(&1u16.to_ne_bytes());
            info[148..150].copy_from_slice(&u16::from(!is).to_ne_bytes());
            info[150..152].copy_from_slice(&states.0.to_ne_bytes());
            module(list, "match", "conntrack", 3, &info)
        }
    }
}

fn set_mark(list: Request, mark: u32, mask: u32, dialect: Dialect) -> Request {
    match dialect {
        Dialect::Native => store_mark(
            change_bits(
                meta(list, MARK),
                &(!mask).to_ne_bytes(),
                &mark.to_ne_bytes(),
            ),
            "meta",
            MARK,
            3,
        ),
        // struct xt_mark_tginfo2: mark u32, mask u32.
        Dialect::Iptables => {
            let info = [mark.to_ne_bytes(), mask.to_ne_bytes()].concat();
            module(list, "target", "MARK", 2, &info)
        }
    }
}

/// `mode` is that of `xt_CONNMARK`: 1 saves, 2 restores. nftables cannot merge two marks: natively the other bits are lost.
fn copy_mark(list: Request, mask: u32, mode: u8, dialect: Dialect) -> Request {
    match dialect {
        Dialect::Native if mode == 1 => store_mark(bits(meta(list, MARK), mask), "ct", CT_MARK, 4),
        Dialect::Native => store_mark(bits(connection(list, CT_MARK), mask), "meta", MARK, 3),
        // struct xt_connmark_tginfo2: ctmark u32, ctmask u32, nfmask u32, shift_dir u8, shift_bits u8, mode u8.
        Dialect::Iptables => {
            let mut info = [0; 16];
            info[4..8].copy_from_slice(&mask.to_ne_bytes());
            info[8..12].copy_from_slice(&mask.to_ne_bytes());
            info[14] = mode;
            module(list, "target", "CONNMARK", 2, &info)
        }
    }
}

/// Stores the register as a property; `source` is the attribute that names the register.
fn store_mark(list: Request, name: &str, key: u32, source: u16) -> Request {
    expression(list, name, |data| {
        data.number_be(2, key).number_be(source, REGISTER)
    })
}

fn masquerade(list: Request, is_random: bool, dialect: Dialect, family: Family) -> Request {
    /// NF_NAT_RANGE_PROTO_RANDOM_FULLY
    const RANDOM: u32 = 16;
    let flags = if is_random { RANDOM } else { 0 };
    match (dialect, family) {
        (Dialect::Native, _) | (_, Family::Inet) => {
            expression(list, "masq", |data| match is_random {
                true => data.number_be(1, flags),
                false => data,
            })
        }
        // struct nf_nat_ipv4_multi_range_compat: the number of ranges u32, then each: flags u32, two addresses, two ports.
        (Dialect::Iptables, Family::Ip) => {
            let mut info = [0; 24];
            info[..4].copy_from_slice(&1u32.to_ne_bytes());
            info[4..8].copy_from_slice(&flags.to_ne_bytes());
            module(list, "target", "MASQUERADE", 0, &info)
        }
        // struct nf_nat_range: flags u32, two addresses, two ports.
        (Dialect::Iptables, Family::Ip6) => {
            let mut info = [0; 40];
            info[..4].copy_from_slice(&flags.to_ne_bytes());
            module(list, "target", "MASQUERADE", 0, &info)
        }
    }
}

/// One of `iptables`' old modules.
fn module(list: Request, kind: &str, name: &str, revision: u32, info: &[u8]) -> Request {
    let mut info = info.to_vec();
    info.resize(info.len().next_multiple_of(8), 0);
    expression(list, kind, |data| {
        data.text(1, name)
            .number_be(2, revision)
            .attribute(3, &info)
    })
}

fn padded(name: &str) -> [u8; NAME_LEN] {
    let mut bytes = [0; NAME_LEN];
    for (to, from) in bytes.iter_mut().take(NAME_LEN - 1).zip(name.bytes()) {
        *to = from;
    }
    bytes
}
