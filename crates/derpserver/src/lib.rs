//! A relay: DERP over HTTP upgrade, with TLS or without, and STUN beside it.
//!
//! [`Server::start`] binds everything and serves until the value is dropped or [`Server::shutdown`]. One connection is one
//! task: it reads the HTTP request, and either answers it or becomes a relayed client. Clients meet in the hub, which knows
//! who is connected; packets go from a client's reader straight into the bounded queue of the receiving client, whose writer
//! sends all that waits in one write.
//!
//! A relay sees only ciphertext, and nothing that a client sends can take down more than its own connection.
//!
//! Not built: meshing the relays of a region, WebSocket, certificates by ACME. Each says so when asked for.

mod client;
mod conn;
mod hub;
mod limits;
mod page;
mod queue;
mod request;
mod server;
mod stats;
mod stun;
mod tls;
mod verify;

pub use page::HomePage;
pub use server::{Config, Server, StartError};
pub use stats::{DropReason, PacketKind, Snapshot};
pub use tls::{Certificate, CertificateError};
pub use verify::Verify;

#[cfg(test)]
mod tests;
