//! Compiles filter rules and judges packets, with return-flow tracking (the originals' `wgengine/filter`).
//!
//! [`Rules::parse`] reads what control sent, [`Filter::new`] compiles it together with the addresses that are ours, and
//! [`Filter::judge_in`] judges each packet (or each run of packets of one flow). A filter is immutable: new rules make a
//! new filter, which goes on with the same [`Flows`], so that replies to what we have sent keep coming in.
//!
//! Not here: who may use which inner source address (the packet pipeline checks that first), logging, and the decision
//! to refuse a whole rule set.
//!
//! The one invariant: what no rule allows is dropped. An empty filter accepts nothing but replies.

mod compiled;
mod filter;
mod flows;
mod rules;
mod verdict;

pub use filter::{Filter, Hook, Hooks, LocalSet};
pub use flows::{Flow, Flows};
pub use rules::{ParseProblem, Rules};
pub use verdict::{DropReason, Verdict};

/// Answers whether the node with this address has this node capability.
pub type PeerCaps<'a> = &'a dyn Fn(std::net::IpAddr, &str) -> bool;

/// For callers that know of no node capabilities.
pub fn no_caps(_: std::net::IpAddr, _: &str) -> bool {
    false
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
