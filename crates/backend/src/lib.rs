//! The brain: profiles, login state, and the rules that turn events into effects.
//!
//! [`Backend`] holds what the user wants and what the control server last said. Each [`Event`] goes to one sub-machine,
//! which changes intent only; then one function compares what is wanted with what was last asked for and emits
//! [`Effect`]s for the differences. Readers look at the [`Snapshot`] after the last event and never touch the brain.
//!
//! Calling order: [`Backend::handle`], then [`Backend::poll_effect`] until it has no more, then
//! [`Backend::next_timeout`].
//!
//! Not here: sockets, files, clocks, tasks. Whois, name lookups and the composition of `status` are functions over the
//! snapshot ([`status`]). The one invariant: the same events with the same times and randomness give the same effects.

mod backend;
mod commands;
mod control;
mod derive;
mod effect;
mod event;
mod health;
mod profiles;
mod session;
mod snapshot;
pub mod status;
mod suggest;
mod trial;

pub use backend::{Backend, Stored};
pub use derive::dns::{for_others as dns_for_others, peer_api, zones as dns_zones};
pub use derive::routes::Routes;
pub use effect::{ControlEffect, Effect, FilterConfig, Login, Network, PeersUpdate};
pub use event::{
    Answer, ClientId, Command, CommandError, CommandId, ControlEvent, EngineEvent, Event, Preview,
    Recipient, Registered, Target,
};
pub use snapshot::Snapshot;
pub use suggest::Suggestion;

#[cfg(test)]
mod tests;
