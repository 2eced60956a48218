//! nftables over netlink (`linux/netfilter/nf_tables.h`): tables, chains and rules, changed as one batch.
//!
//! Every message has a fixed part of 4 bytes: family u8, version u8 (0), resource u16 in network byte order. Numbers in
//! attributes are in network byte order; texts end with a zero. A [`Batch`] is taken whole or not at all.

use std::io;

mod expression;
mod list;

pub use expression::{Dialect, States, Step};
pub use list::{ChainInfo, RuleInfo, TableInfo};

use super::message::{ACK, APPEND, CREATE, Request};
use super::socket::Netlink;

/// `NFNL_SUBSYS_NFTABLES`, in the upper half of a message's kind.
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const DEL_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
const DEL_CHAIN: u16 = SUBSYSTEM << 8 | 5;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const GET_RULE: u16 = SUBSYSTEM << 8 | 7;
const DEL_RULE: u16 = SUBSYSTEM << 8 | 8;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// The type of the user data that marks what is ours: other programs skip types that they do not know.
const TAG: u8 = 0x74;

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
    /// All that rules can be in here.
    pub const IP: [Self; 2] = [Self::Ip, Self::Ip6];

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
    /// Packets that have just come.
    Prerouting,
    /// Packets of this machine.
    Output,
}

impl Hook {
    fn number(self) -> u32 {
        match self {
            Self::Input => 1,
            Self::Forward => 2,
            Self::Postrouting => 4,
            Self::Prerouting => 0,
            Self::Output => 3,
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
    /// Rewrites marks; a changed packet of our own is routed anew.
    Route,
}

impl ChainKind {
    fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
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

/// Changes that are made together.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    changes: Vec<Request>,
    dialect: Dialect,
}

impl Batch {
    /// Changes whose rules are written in this dialect.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self {
            changes: Vec::new(),
            dialect,
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Makes a table; one that is there already is kept.
    pub fn add_table(&mut self, family: Family, name: &str) {
        self.changes
            .push(message(NEW_TABLE, family, CREATE).text(1, name));
    }

    /// Makes a table that bears our mark.
    pub fn add_tagged_table(&mut self, family: Family, name: &str, tag: u64) {
        let request = message(NEW_TABLE, family, CREATE).text(1, name);
        self.changes.push(request.attribute(6, &tag_bytes(tag)));
    }

    /// Removes a table and all that is in it.
    pub fn remove_table(&mut self, family: Family, name: &str) {
        self.changes
            .push(message(DEL_TABLE, family, 0).text(1, name));
    }

    /// Makes a chain that is asked at a hook; chains of lower priority are asked first.
    pub fn add_base_chain(&mut self, chain: Chain<'_>, kind: ChainKind, hook: Hook, priority: i32) {
        self.changes.push(base_chain(chain, kind, hook, priority));
    }

    /// Makes a chain that is asked at a hook and bears our mark.
    pub fn add_tagged_base_chain(
        &mut self,
        chain: Chain<'_>,
        (kind, hook, priority): (ChainKind, Hook, i32),
        tag: u64,
    ) {
        let request = base_chain(chain, kind, hook, priority);
        self.changes.push(request.attribute(12, &tag_bytes(tag)));
    }

    /// Makes a chain to which others jump; one that is there already is kept.
    pub fn add_chain(&mut self, chain: Chain<'_>) {
        let request = message(NEW_CHAIN, chain.family, CREATE)
            .text(1, chain.table)
            .text(3, chain.name);
        self.changes.push(request);
    }

    /// Removes a chain, which must be empty and the target of no jump.
    pub fn remove_chain(&mut self, chain: Chain<'_>) {
        let request = message(DEL_CHAIN, chain.family, 0)
            .text(1, chain.table)
            .text(3, chain.name);
        self.changes.push(request);
    }

    /// Adds a rule behind those that a chain has.
    pub fn add_rule(&mut self, chain: Chain<'_>, steps: &[Step]) {
        let request = self.rule(chain, APPEND, steps);
        self.changes.push(request);
    }

    /// Adds a rule that bears our mark behind those that a chain has.
    pub fn add_tagged_rule(&mut self, chain: Chain<'_>, steps: &[Step], tag: u64) {
        let request = self.rule(chain, APPEND, steps);
        self.changes.push(request.attribute(7, &tag_bytes(tag)));
    }

    /// Adds a rule that bears our mark before those that a chain has.
    pub fn insert_tagged_rule(&mut self, chain: Chain<'_>, steps: &[Step], tag: u64) {
        let request = self.rule(chain, 0, steps);
        self.changes.push(request.attribute(7, &tag_bytes(tag)));
    }

    /// Removes one rule.
    pub fn remove_rule(&mut self, chain: Chain<'_>, handle: u64) {
        let request = message(DEL_RULE, chain.family, 0)
            .text(1, chain.table)
            .text(2, chain.name)
            .attribute(3, &handle.to_be_bytes());
        self.changes.push(request);
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, chain: Chain<'_>) {
        let request = message(DEL_RULE, chain.family, 0)
            .text(1, chain.table)
            .text(2, chain.name);
        self.changes.push(request);
    }

    fn rule(&self, chain: Chain<'_>, flags: u16, steps: &[Step]) -> Request {
        message(NEW_RULE, chain.family, CREATE | flags)
            .text(1, chain.table)
            .text(2, chain.name)
            .nest(4, |list| {
                steps.iter().fold(list, |list, step| {
                    step.write(list, self.dialect, chain.family)
                })
            })
    }

    /// The changes, for tests that play the kernel.
    #[cfg(test)]
    pub(crate) fn into_requests(self) -> Vec<Request> {
        self.changes
    }

    /// Makes the changes; all or none.
    pub fn commit(self, netlink: &mut Netlink) -> io::Result<()> {
        let frame = |kind| {
            let fixed = [0, 0, 0, SUBSYSTEM as u8];
            (Request::new(kind, 0).fixed(&fixed), false)
        };
        let changes = self.changes.into_iter().map(|request| (request, true));
        let all = std::iter::once(frame(BATCH_BEGIN))
            .chain(changes)
            .chain(std::iter::once(frame(BATCH_END)));
        netlink.transaction(all.collect())
    }
}

fn message(kind: u16, family: Family, flags: u16) -> Request {
    Request::new(kind, flags | ACK).fixed(&[family.number(), 0, 0, 0])
}

fn base_chain(chain: Chain<'_>, kind: ChainKind, hook: Hook, priority: i32) -> Request {
    message(NEW_CHAIN, chain.family, CREATE)
        .text(1, chain.table)
        .text(3, chain.name)
        .nest(4, |nest| {
            nest.number_be(1, hook.number())
                .attribute(2, &priority.to_be_bytes())
        })
        .text(7, kind.name())
}

/// User data: type u8, length u8, value.
fn tag_bytes(tag: u64) -> Vec<u8> {
    [&[TAG, 8][..], &tag.to_be_bytes()].concat()
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
        let bytes = batch.changes.remove(0).finish(1);
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
