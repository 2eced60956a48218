//! Chooses the path to each peer: direct paths found by disco, home DERP, reverse routes, pings.
//!
//! [`Magicsock`] is one pure machine. Peers and relays are configured (`set_*`, `upsert_peer`), what arrives goes in by
//! `handle_*`, what must happen in the world comes out of [`poll_output`](Magicsock::poll_output), and
//! [`next_timeout`](Magicsock::next_timeout) says when [`handle_timeout`](Magicsock::handle_timeout) is due. Drain the outputs
//! after every call that takes `now`.
//!
//! A peer is reached straight at an address, if one of its candidates has answered a ping of ours within the last seconds.
//! Candidates come from the network map, from call-me-maybe messages, and from pings that came from somewhere. While there
//! is traffic, heartbeats keep that path known to work and candidates are pinged for a better one. Until a path is known to
//! work, everything also goes through a relay region: the one the peer calls home, or the one where we heard from it last.
//! A link to
//! a region is opened when something must be sent there and closed after a minute without sending, unless the region is our
//! own home. Disco messages travel beside the tunnel; they are boxed for the receiver, and only keys of configured peers are
//! listened to.
//!
//! Invariants: a route learnt from a relay belongs to the link that taught it and dies with it. Nothing that an
//! unknown sender says changes any state, and where a datagram comes from never changes where ours go: only an answer to a
//! ping does. Nothing is sent to a peer that we do not talk to, so an idle tailnet is silent.

mod candidates;
mod disco;
mod discovery;
mod endpoints;
mod home;
mod links;
mod machine;
mod paths;
mod peers;
mod pings;
mod quality;

pub use discovery::PingScope;
pub use endpoints::{BoundPorts, Endpoint, EndpointKind};
pub use links::LinkId;
pub use machine::{Magicsock, Output, RelayRoute, Route};
pub use peers::PeerView;
pub use pings::{PingFailure, PingId, PongReceived, Via};

#[cfg(test)]
mod tests;
