//! A userspace TCP/IP endpoint set, polled like every other machine.
//!
//! [`Netstack`] takes IP packets ([`handle_packet`](Netstack::handle_packet)) and time
//! ([`handle_timeout`](Netstack::handle_timeout)), gives IP packets ([`poll_transmit`](Netstack::poll_transmit)) and
//! [`Event`]s, and in between offers TCP connections, UDP flows and echo. Any destination address is accepted: which flow
//! may be, is decided by whoever answers [`Event::Incoming`], before the handshake completes.
//!
//! It owns no sockets, clocks or threads. The invariant: work per packet does not depend on the number of flows, and
//! memory of a flow depends on what is in flight or unread, never on what could be.

mod api;
mod flows;
mod fragments;
mod stack;
mod tcp;
mod timewait;
mod udp;
mod wire;

pub use api::{Closed, Config, Error, Event, FlowId, Recv, Stats, Transmit, Transport};
pub use stack::Netstack;
