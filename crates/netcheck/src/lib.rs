//! What network are we on: the STUN codec, the probe plan, the measurement and the choice of the home region.
//!
//! Three pieces that know nothing of each other's insides:
//!
//! * [`stun`] reads and writes datagrams.
//! * [`Check`] is one measurement as a machine: it asks for datagrams to be sent, names to be resolved and HTTPS requests to
//!   be timed, takes the answers, and ends with a [`Report`].
//! * [`HomePicker`] remembers the reports of the last minutes and chooses the home region of each, slow to change its mind.
//!
//! A round is: `Check::start(map, options from the last report)`, run it to its report, `HomePicker::choose(report)`.

mod check;
mod home;
mod plan;
mod report;
pub mod stun;

pub use check::{Action, Check, CheckOptions, ProbeId};
pub use home::{Heard, HomePicker, fallback_home};
pub use plan::{Family, Interfaces, Probe, ProbeSet, probe_plan};
pub use report::Report;

#[cfg(test)]
mod tests;
