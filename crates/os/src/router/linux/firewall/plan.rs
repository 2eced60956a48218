//! What to change, from what there is and what is wished. One family, one batch.

use std::collections::BTreeSet;

use super::wish::{Base, Guest, HOOKS, OWN_CHAINS, OwnChain, Wish, tag};
use crate::netlink::nft::{Batch, Chain, ChainInfo, Dialect, Family, RuleInfo, Step, TableInfo};

/// What the kernel has, of one family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Have {
    pub(super) tables: Vec<TableInfo>,
    pub(super) chains: Vec<ChainInfo>,
    pub(super) rules: Vec<RuleInfo>,
}

/// Marks the tables and base chains that we made because there were none: they go when we go, if nobody else uses them.
const MADE: u64 = 0x7473_6d61_6465;

/// The changes from `have` to `wish`; none if all is as it should be.
pub(super) fn plan(have: &Have, wish: &Wish, family: Family, dialect: Dialect) -> Batch {
    let mut plan = Plan {
        have,
        family,
        batch: Batch::new(dialect),
        made: BTreeSet::new(),
        gone: BTreeSet::new(),
    };
    for chain in &wish.chains {
        plan.own_chain(chain);
    }
    for guest in &wish.guests {
        plan.guest(guest);
    }
    plan.remove_strays(wish);
    plan.remove_empty(wish);
    plan.batch
}

struct Plan<'a> {
    have: &'a Have,
    family: Family,
    batch: Batch,
    /// Tables (empty second name) and chains that this plan makes.
    made: BTreeSet<(&'static str, &'static str)>,
    /// Handles of the rules that this plan removes.
    gone: BTreeSet<u64>,
}

impl<'a> Plan<'a> {
    fn chain<'b>(&self, table: &'b str, name: &'b str) -> Chain<'b> {
        Chain {
            family: self.family,
            table,
            name,
        }
    }

    fn has_chain(&self, table: &str, name: &str) -> bool {
        let same = |chain: &ChainInfo| chain.table == table && chain.name == name;
        self.have.chains.iter().any(same)
    }

    fn rules_in(&self, table: &str, chain: &str) -> impl Iterator<Item = &'a RuleInfo> {
        let have = self.have;
        let (table, chain) = (table.to_owned(), chain.to_owned());
        have.rules
            .iter()
            .filter(move |rule| rule.table == table && rule.chain == chain)
    }

    fn ensure_table(&mut self, table: &'static str) {
        let is_there = self.have.tables.iter().any(|have| have.name == table);
        if !is_there && self.made.insert((table, "")) {
            self.batch.add_tagged_table(self.family, table, MADE);
        }
    }

    fn ensure_base(&mut self, base: &Base) {
        self.ensure_table(base.table);
        if !self.has_chain(base.table, base.name) && self.made.insert((base.table, base.name)) {
            let chain = self.chain(base.table, base.name);
            self.batch
                .add_tagged_base_chain(chain, (base.kind, base.hook, base.priority), MADE);
        }
    }

    fn own_chain(&mut self, own: &OwnChain) {
        let table = own.base.table;
        let chain = self.chain(table, own.name);
        let tags: Vec<Option<u64>> = own.rules.iter().map(|rule| Some(tag(rule))).collect();
        let present: Vec<Option<u64>> = self
            .rules_in(table, own.name)
            .map(|rule| rule.tag)
            .collect();
        let is_there = self.has_chain(table, own.name);
        if !is_there {
            self.ensure_table(table);
            self.batch.add_chain(chain);
        }
        if present != tags {
            if !present.is_empty() {
                self.batch.flush_chain(chain);
            }
            for rule in &own.rules {
                self.batch.add_tagged_rule(chain, rule, tag(rule));
            }
        }
        if own.is_hooked {
            self.hook(own);
        }
    }

    /// One jump from the machine's chain into ours, before all that is there.
    fn hook(&mut self, own: &OwnChain) {
        let jumps = |rule: &&RuleInfo| rule.jump.as_deref() == Some(own.name);
        let mut present = self.rules_in(own.base.table, own.base.name).filter(jumps);
        let kept = present.next();
        let surplus: Vec<u64> = present.map(|rule| rule.handle).collect();
        let base = self.chain(own.base.table, own.base.name);
        if kept.is_none() {
            self.ensure_base(&own.base);
            let jump = [Step::Counter, Step::Jump(own.name.to_owned())];
            self.batch.insert_tagged_rule(base, &jump, tag(&jump));
        }
        for handle in surplus {
            self.remove(base, handle);
        }
    }

    fn guest(&mut self, guest: &Guest) {
        let wanted = tag(&guest.rule);
        let is_there = self
            .rules_in(guest.base.table, guest.base.name)
            .any(|rule| rule.tag == Some(wanted));
        if !is_there {
            self.ensure_base(&guest.base);
            let chain = self.chain(guest.base.table, guest.base.name);
            self.batch.insert_tagged_rule(chain, &guest.rule, wanted);
        }
    }

    fn remove(&mut self, chain: Chain<'_>, handle: u64) {
        if self.gone.insert(handle) {
            self.batch.remove_rule(chain, handle);
        }
    }

    /// Rules of ours in the machine's chains, and chains of ours, that are wished no more.
    fn remove_strays(&mut self, wish: &Wish) {
        let have = self.have;
        for rule in &have.rules {
            let is_own_chain = OWN_CHAINS.contains(&(rule.table.as_str(), rule.chain.as_str()));
            if !is_own_chain && self.is_stray(rule, wish) {
                let chain = self.chain(&rule.table, &rule.chain);
                self.remove(chain, rule.handle);
            }
        }
        for (table, name) in OWN_CHAINS {
            let is_wished = wish.chains.iter().any(|chain| chain.name == name);
            if !is_wished && self.has_chain(table, name) {
                let chain = self.chain(table, name);
                if self.rules_in(table, name).next().is_some() {
                    self.batch.flush_chain(chain);
                }
                // Somebody may have rules that ask our chain; without it, the kernel would refuse the whole batch.
                if !self.is_asked(table, name) {
                    self.batch.remove_chain(chain);
                }
            }
        }
    }

    fn is_asked(&self, table: &str, name: &str) -> bool {
        let asks = |rule: &&RuleInfo| rule.table == table && rule.jump.as_deref() == Some(name);
        let mut asking = self.have.rules.iter().filter(asks);
        asking.any(|rule| !self.gone.contains(&rule.handle))
    }

    /// Whether a rule in a chain of the machine's is ours and wished no more. Jumps into our chains are ours where the
    /// originals put theirs, or if they bear our mark; others are for their makers to remove.
    fn is_stray(&self, rule: &RuleInfo, wish: &Wish) -> bool {
        let jump = rule.jump.as_deref();
        let hook = HOOKS
            .iter()
            .find(|(table, own, _)| *table == rule.table && jump == Some(*own));
        if let Some((_, _, base)) = hook {
            let chain = wish.chains.iter().find(|chain| Some(chain.name) == jump);
            return match chain {
                Some(chain) => !chain.is_hooked && rule.tag.is_some(),
                None => rule.chain == *base || rule.tag.is_some(),
            };
        }
        rule.tag.is_some_and(|present| {
            !wish
                .guests
                .iter()
                .any(|guest| guest.base.table == rule.table && tag(&guest.rule) == present)
        })
    }

    /// Base chains and tables that we made and that nobody else uses.
    fn remove_empty(&mut self, wish: &Wish) {
        let uses = |table: &str, chain: Option<&str>| {
            let own = wish.chains.iter().map(|own| (&own.base, own.is_hooked));
            let guests = wish.guests.iter().map(|guest| (&guest.base, true));
            own.chain(guests).any(|(base, is_hooked)| {
                base.table == table && chain.is_none_or(|name| is_hooked && base.name == name)
            })
        };
        let have = self.have;
        let mut removed: BTreeSet<(&str, &str)> = BTreeSet::new();
        for chain in have.chains.iter().filter(|chain| chain.tag == Some(MADE)) {
            let is_empty = self
                .rules_in(&chain.table, &chain.name)
                .all(|rule| self.gone.contains(&rule.handle));
            if is_empty && !uses(&chain.table, Some(&chain.name)) {
                self.batch
                    .remove_chain(self.chain(&chain.table, &chain.name));
                removed.insert((&chain.table, &chain.name));
            }
        }
        for table in have.tables.iter().filter(|table| table.tag == Some(MADE)) {
            let is_empty = have
                .chains
                .iter()
                .filter(|chain| chain.table == table.name)
                .all(|chain| {
                    let key = (chain.table.as_str(), chain.name.as_str());
                    let is_own = OWN_CHAINS.contains(&key) && !self.is_asked(key.0, key.1);
                    removed.contains(&key) || is_own
                });
            if is_empty && !uses(&table.name, None) {
                self.batch.remove_table(self.family, &table.name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
