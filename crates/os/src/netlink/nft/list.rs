//! What the kernel has: tables, chains and rules, as far as we need to know them.

use std::io;

use super::expression::JUMP;
use super::{Family, GET_CHAIN, GET_RULE, GET_TABLE, TAG, message};
use crate::netlink::message::{DUMP, attributes, read_text};
use crate::netlink::socket::Netlink;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    /// Its name.
    pub name: String,
    /// Our mark, if it bears one.
    pub tag: Option<u64>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainInfo {
    /// The table that it is in.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Whether it is asked at a hook.
    pub is_base: bool,
    /// Our mark, if it bears one.
    pub tag: Option<u64>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleInfo {
    /// The table that it is in.
    pub table: String,
    /// The chain that it is in.
    pub chain: String,
    /// What the kernel calls it.
    pub handle: u64,
    /// Our mark, if it bears one.
    pub tag: Option<u64>,
    /// The chain to which it jumps, if it does.
    pub jump: Option<String>,
}

/// The fixed part of every message.
const FIXED: usize = 4;

impl TableInfo {
    /// Reads what follows a message's header. `None` for damage.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut name = None;
        let mut tag = None;
        for (kind, value) in attributes(body.get(FIXED..)?) {
            match kind {
                1 => name = Some(read_text(value)),
                6 => tag = read_tag(value),
                _ => {}
            }
        }
        Some(Self { name: name?, tag })
    }
}

impl ChainInfo {
    /// Reads what follows a message's header. `None` for damage.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let (mut table, mut name, mut is_base, mut tag) = (None, None, false, None);
        for (kind, value) in attributes(body.get(FIXED..)?) {
            match kind {
                1 => table = Some(read_text(value)),
                3 => name = Some(read_text(value)),
                4 => is_base = true,
                12 => tag = read_tag(value),
                _ => {}
            }
        }
        Some(Self {
            table: table?,
            name: name?,
            is_base,
            tag,
        })
    }
}

impl RuleInfo {
    /// Reads what follows a message's header. `None` for damage.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let (mut table, mut chain, mut handle) = (None, None, None);
        let (mut tag, mut jump) = (None, None);
        for (kind, value) in attributes(body.get(FIXED..)?) {
            match kind {
                1 => table = Some(read_text(value)),
                2 => chain = Some(read_text(value)),
                3 => handle = value.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)),
                4 => jump = read_jump(value),
                7 => tag = read_tag(value),
                _ => {}
            }
        }
        Some(Self {
            table: table?,
            chain: chain?,
            handle: handle?,
            tag,
            jump,
        })
    }
}

/// The first attribute of a kind.
fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}

/// Where a rule with these expressions jumps.
fn read_jump(expressions: &[u8]) -> Option<String> {
    attributes(expressions)
        .filter(|(_, element)| find(element, 1).map(read_text).as_deref() == Some("immediate"))
        .find_map(|(_, element)| {
            let verdict = find(find(find(element, 2)?, 2)?, 2)?;
            let code = i32::from_be_bytes(*find(verdict, 1)?.first_chunk()?);
            (code == JUMP).then(|| find(verdict, 2).map(read_text))?
        })
}

/// Our mark among user data: a list of type u8, length u8, value.
fn read_tag(mut data: &[u8]) -> Option<u64> {
    while let [kind, len, rest @ ..] = data {
        let value = rest.get(..usize::from(*len))?;
        if *kind == TAG {
            return Some(u64::from_be_bytes(value.try_into().ok()?));
        }
        data = rest.get(usize::from(*len)..)?;
    }
    None
}

impl Netlink {
    /// All tables of a family.
    pub fn tables(&mut self, family: Family) -> io::Result<Vec<TableInfo>> {
        self.list(GET_TABLE, family, TableInfo::parse)
    }

    /// All chains of a family.
    pub fn chains(&mut self, family: Family) -> io::Result<Vec<ChainInfo>> {
        self.list(GET_CHAIN, family, ChainInfo::parse)
    }

    /// All rules of a family, in order.
    pub fn rules_of(&mut self, family: Family) -> io::Result<Vec<RuleInfo>> {
        self.list(GET_RULE, family, RuleInfo::parse)
    }

    fn list<T>(
        &mut self,
        kind: u16,
        family: Family,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let request = message(kind, family, DUMP);
        let answers = self.dump(&request)?;
        Ok(answers
            .iter()
            .filter_map(|answer| parse(&answer.body))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::message::messages;
    use crate::netlink::nft::{Batch, Chain, Step};

    fn rule(fill: impl FnOnce(&mut Batch, Chain<'_>)) -> RuleInfo {
        let mut batch = Batch::default();
        let chain = Chain {
            family: Family::Ip,
            table: "filter",
            name: "INPUT",
        };
        fill(&mut batch, chain);
        let bytes = batch
            .changes
            .remove(0)
            .attribute(3, &7u64.to_be_bytes())
            .finish(1);
        RuleInfo::parse(messages(&bytes).next().unwrap().body).unwrap()
    }

    #[test]
    fn marks_and_jumps_are_read_back() {
        let steps = [Step::Counter, Step::Jump("ts-input".into())];
        let read = rule(|batch, chain| batch.insert_tagged_rule(chain, &steps, 0xfeed));
        assert_eq!(
            (read.tag, read.jump.as_deref(), read.handle),
            (Some(0xfeed), Some("ts-input"), 7)
        );
        let read = rule(|batch, chain| batch.add_rule(chain, &[Step::Accept]));
        assert_eq!((read.tag, read.jump), (None, None));
    }

    proptest! {
        #[test]
        fn damage_is_no_trouble(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (TableInfo::parse(&bytes), ChainInfo::parse(&bytes), RuleInfo::parse(&bytes));
            let _ = (read_tag(&bytes), read_jump(&bytes));
        }
    }
}
