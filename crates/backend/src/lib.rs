//! The brain: profiles, login state, and the rules that turn events into effects.
//!
//! [`Backend`] holds what the user wants and what the control server last said. Each [`Event`] goes to one sub-machine,
//! which changes intent only; then one function compares what is wanted with what was last asked for and emits
//! [`Effect`]s for the differences. Readers look at the [`Snapshot`] after the last event and never touch the brain.
//!
//! Calling order: `handle`, then `poll_effect` until it has no more, then `next_timeout`.
//!
//! Not here: sockets, files, clocks, tasks. Pings, whois and other reads have functions over the snapshot
//! ([`status`]). The one invariant: the same events with the same times and randomness give the same effects.

mod effect;
mod event;
mod snapshot;

pub use effect::{ControlEffect, Effect, FilterConfig, Login, Network};
pub use event::{
    Answer, ClientId, Command, CommandError, CommandId, ControlEvent, EngineEvent, Event,
    Registered, Target,
};
pub use snapshot::Snapshot;
