//! The tailnet as we understand it: validated domain types, and the merge of full and delta map responses.
//!
//! [`MapSession`] takes one stream's responses in order and gives a [`NetMapChange`] for each that changes something.
//! Every change carries the whole [`NetMap`] as it is after it. That is cheap: tables share all that did not change
//! ([`ChunkMap`]), so a change on a tailnet of ten thousand peers costs what it touches and no more.
//!
//! The one invariant: a published [`NetMap`] never changes, and its indexes agree with its peers.
//!
//! Not here: which routes are wanted, how the filter judges, what the OS is told. Source of the merge rules: the
//! originals' `control/controlclient/map.go`.

mod chunks;
mod derp_map;
mod expiry;
mod messages;
mod net_map;
mod peer;
mod peers;
mod session;

pub use chunks::ChunkMap;
pub use derp_map::derp_map_from_wire;
pub use expiry::ClockOffset;
pub use net_map::{NetMap, NetMapChange, Parts, Patch};
pub use peer::{Peer, Rare, sanitize_hostname};
pub use peers::Peers;
pub use session::{MapError, MapSession};

#[cfg(test)]
mod tests;
