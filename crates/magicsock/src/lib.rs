//! Chooses the path to each peer: disco over the relay, home DERP, reverse routes, pings.
//!
//! [`Magicsock`] is one pure machine. Peers and relays are configured (`set_*`, `upsert_peer`), what arrives goes in by
//! `handle_*`, what must happen in the world comes out of [`poll_output`](Magicsock::poll_output), and
//! [`next_timeout`](Magicsock::next_timeout) says when [`handle_timeout`](Magicsock::handle_timeout) is due. Drain the outputs
//! after every call that takes `now`.
//!
//! A peer is reached through a relay region: the one it calls home, or the one where we heard from it last. A link to
//! a region is opened when something must be sent there and closed after a minute without sending, unless the region is our
//! own home. Disco messages travel beside the tunnel; they are boxed for the receiver, and only keys of configured peers are
//! listened to.
//!
//! Invariants: a route learnt from a relay belongs to the link that taught it and dies with it. Nothing that an
//! unknown sender says changes any state. Nothing is sent to a peer that we do not talk to, so an idle tailnet is silent.

mod disco;
mod home;
mod links;
mod machine;
mod peers;
mod pings;

pub use links::LinkId;
pub use machine::{Magicsock, Output, Route};
pub use peers::PeerView;
pub use pings::{PingFailure, PingId, PongReceived};

#[cfg(test)]
mod tests;
