//! The local HTTP API: routes, request types, permissions, client, server plumbing.
//!
//! [`serve`] answers on the unix socket: it checks who is there and what they may do, reads the request into a typed
//! [`Request`], and gives it to a [`Handler`]. The routes are one table ([`routes::ROUTES`]). [`Client`] is the other
//! side, for the command line and for tests.
//!
//! Compat: status codes, texts and headers are those of the originals (`ipn/localapi`, `ipn/ipnserver`), because their
//! command line compares them.
//!
//! Not here: what a request does. The one invariant: nothing reaches a handler whose rights have not been checked.

mod actor;
mod client;
mod dns;
mod error;
mod reply;
mod request;
pub mod routes;
mod server;
mod watch;

pub use actor::{Actor, Right};
pub use client::{Client, ClientError, Dialed, RawAnswer, escape};
pub use dns::{DnsAnswer, DnsSystem, SuggestedExitNode, SystemDifference};
pub use error::ApiError;
pub use reply::{Duplex, Reply};
pub use request::parameter;
pub use request::{DialRequest, Request, WhoIsAddr};
pub use server::{Handler, bind, serve};
pub use watch::{FELL_BEHIND, for_subscriber};

/// What the `Host` header says, whatever the socket is called.
pub const HOST: &str = "local-tailscaled.sock";

/// The capability version on this API. It tells local programs what the API can do, and is not the one that the control
/// server is told.
pub const LOCAL_CAP: u16 = 145;

#[cfg(test)]
mod tests;
