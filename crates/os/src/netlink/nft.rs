//! nftables over netlink (`linux/netfilter/nf_tables.h`): tables, chains and rules, changed as one batch.
//!
//! Every message has a fixed part of 4 bytes: family u8, version u8 (0), resource u16 in network byte order. Numbers in
//! attributes are in network byte order; texts end with a zero. A [`Batch`] is taken whole or not at all.

use std::io;

use super::message::{ACK, APPEND, CREATE, Request};
use super::socket::Netlink;

/// `NFNL_SUBSYS_NFTABLES`, in the upper half of a message's kind.
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DEL_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// The register that a comparison reads.
const REGISTER: u32 = 1;
/// The register of verdicts.
const VERDICT: u32 = 0;
/// The room for an interface's name; comparisons need all of it.
const NAME_LEN: usize = 16;

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Ip6 => 10,
        }
    }
}

/// Where in the kernel a base chain is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Packets to this machine.
    Input,
    /// Packets through this machine.
    Forward,
    /// Packets that are about to leave.
    Postrouting,
}

impl Hook {
    fn number(self) -> u32 {
        match self {
            Self::Input => 1,
            Self::Forward => 2,
            Self::Postrouting => 4,
        }
    }
}

/// What a base chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Accepts and drops.
    Filter,
    /// Rewrites addresses.
    Nat,
}

impl ChainKind {
    fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }
}

/// Which chain: family, table, name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain<'a> {
    /// The table's family.
    pub family: Family,
    /// The table.
    pub table: &'a str,
    /// The chain's name in it.
    pub name: &'a str,
}

/// One step of a rule: a condition that ends the rule where it does not hold, or what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The packet came by this interface.
    InputName(String),
    /// The packet leaves by this interface.
    OutputName(String),
    /// The packet's transport protocol.
    Protocol(u8),
    /// Drop it.
    Drop,
    /// Give it the address of the interface by which it leaves.
    Masquerade {
        /// Whether each flow gets a port of its own at random, whatever port it came from.
        is_random: bool,
    },
}

/// Changes that are made together.
#[derive(Debug, Clone, Default)]
pub struct Batch(Vec<Request>);

impl Batch {
    /// Makes a table; one that is there already is kept.
    pub fn add_table(&mut self, family: Family, name: &str) {
        self.0
            .push(message(NEW_TABLE, family, CREATE).text(1, name));
    }

    /// Removes a table and all that is in it.
    pub fn remove_table(&mut self, family: Family, name: &str) {
        self.0.push(message(DEL_TABLE, family, 0).text(1, name));
    }

    /// Makes a chain that is asked at a hook; chains of lower priority are asked first.
    pub fn add_base_chain(&mut self, chain: Chain<'_>, kind: ChainKind, hook: Hook, priority: i32) {
        let request = message(NEW_CHAIN, chain.family, CREATE)
            .text(1, chain.table)
            .text(3, chain.name)
            .nest(4, |nest| {
                nest.number_be(1, hook.number())
                    .attribute(2, &priority.to_be_bytes())
            })
            .text(7, kind.name());
        self.0.push(request);
    }

    /// Adds a rule behind those that a chain has.
    pub fn add_rule(&mut self, chain: Chain<'_>, steps: &[Step]) {
        let request = message(NEW_RULE, chain.family, CREATE | APPEND)
            .text(1, chain.table)
            .text(2, chain.name)
            .nest(4, |list| steps.iter().fold(list, step));
        self.0.push(request);
    }

    /// Makes the changes; all or none.
    pub fn commit(self, netlink: &mut Netlink) -> io::Result<()> {
        let frame = |kind| {
            let fixed = [0, 0, 0, SUBSYSTEM as u8];
            (Request::new(kind, 0).fixed(&fixed), false)
        };
        let changes = self.0.into_iter().map(|request| (request, true));
        let all = std::iter::once(frame(BATCH_BEGIN))
            .chain(changes)
            .chain(std::iter::once(frame(BATCH_END)));
        netlink.transaction(all.collect())
    }
}

fn message(kind: u16, family: Family, flags: u16) -> Request {
    Request::new(kind, flags | ACK).fixed(&[family.number(), 0, 0, 0])
}

fn step(list: Request, step: &Step) -> Request {
    match step {
        Step::InputName(name) => compare(meta(list, 6), &padded(name)),
        Step::OutputName(name) => compare(meta(list, 7), &padded(name)),
        Step::Protocol(number) => compare(meta(list, 16), &[*number]),
        Step::Drop => expression(list, "immediate", |data| {
            data.number_be(1, VERDICT).nest(2, |value| {
                // NF_DROP
                value.nest(2, |verdict| verdict.number_be(1, 0))
            })
        }),
        Step::Masquerade { is_random } => expression(list, "masq", |data| match is_random {
            // NF_NAT_RANGE_PROTO_RANDOM_FULLY
            true => data.number_be(1, 16),
            false => data,
        }),
    }
}

fn expression(list: Request, name: &str, fill: impl FnOnce(Request) -> Request) -> Request {
    list.nest(1, |element| element.text(1, name).nest(2, fill))
}

/// Loads a property of the packet.
fn meta(list: Request, key: u32) -> Request {
    expression(list, "meta", |data| {
        data.number_be(2, key).number_be(1, REGISTER)
    })
}

/// Goes on only if what was loaded equals `value`.
fn compare(list: Request, value: &[u8]) -> Request {
    expression(list, "cmp", |data| {
        data.number_be(1, REGISTER)
            .number_be(2, 0)
            .nest(3, |data| data.attribute(1, value))
    })
}

fn padded(name: &str) -> [u8; NAME_LEN] {
    let mut bytes = [0; NAME_LEN];
    for (to, from) in bytes.iter_mut().take(NAME_LEN - 1).zip(name.bytes()) {
        *to = from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::{HEADER_LEN, attributes, messages};

    #[test]
    #[cfg(target_endian = "little")]
    fn golden_bytes() {
        // `nft add rule ip n i iifname "wan" drop`, as `nft --debug=mnl` shows it.
        let mut batch = Batch::default();
        let chain = Chain {
            family: Family::Ip,
            table: "n",
            name: "i",
        };
        batch.add_rule(chain, &[Step::InputName("wan".into()), Step::Drop]);
        let bytes = batch.0.remove(0).finish(1);
        assert_eq!(bytes[4..8], [6, 10, 5, 0x0c]);
        assert_eq!(bytes[HEADER_LEN..HEADER_LEN + 4], [2, 0, 0, 0]);
        let message = messages(&bytes).next().unwrap();
        let top: Vec<_> = attributes(&message.body[4..]).collect();
        assert_eq!(top[0], (1, &b"n\0"[..]));
        assert_eq!(top[1], (2, &b"i\0"[..]));
        assert_eq!(top[2].0, 4);
        let expressions: Vec<_> = attributes(top[2].1)
            .map(|(_, element)| attributes(element).collect::<Vec<_>>())
            .collect();
        let names: Vec<_> = expressions.iter().map(|parts| parts[0].1).collect();
        assert_eq!(names, [&b"meta\0"[..], b"cmp\0", b"immediate\0"]);
        assert_eq!(
            expressions[1][1].1,
            [
                &[8, 0, 1, 0, 0, 0, 0, 1, 8, 0, 2, 0, 0, 0, 0, 0][..],
                &[24, 0, 3, 0x80, 20, 0, 1, 0],
                b"wan\0\0\0\0\0\0\0\0\0\0\0\0\0",
            ]
            .concat()
        );
        assert_eq!(
            expressions[2][1].1,
            [
                8, 0, 1, 0, 0, 0, 0, 0, 16, 0, 2, 0x80, 12, 0, 2, 0x80, 8, 0, 1, 0, 0, 0, 0, 0
            ]
        );
    }
}
