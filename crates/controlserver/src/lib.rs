//! A small coordination server for labs and tests, speaking the real protocol, so that real Tailscale clients can join it
//! too.
//!
//! [`Server::start`] listens on plain HTTP (the Noise transport inside authenticates both sides) and serves one tailnet:
//! auth keys, addresses, names, a relay map, filter rules, full maps and changes. Its administration is a JSON API on a
//! unix socket of its own ([`AdminClient`]) and the same functions in process ([`Server::admin`]).
//!
//! Layers, from the inside: `tailnet` decides and does no IO; `state` keeps it, publishes snapshots and writes the file;
//! `machine` and `stream` answer nodes inside the Noise transport; `public` and `admin` are the listeners.
//!
//! Not here: logins by people, approval of routes, SSH policies, tailnet lock. A node that asks for them gets a clear
//! error. The one invariant: a node is spoken to only over a connection that its machine key has proved.

mod admin;
mod admin_client;
mod machine;
mod noise;
mod public;
mod server;
mod state;
mod store;
mod stream;
mod tailnet;

pub use admin::Admin;
pub use admin_client::{AdminClient, AdminError};
pub use server::{Config, Error, Server};
pub use tailnet::{AuthKeyInfo, NewAuthKey, NodeInfo, Refused};

#[cfg(test)]
mod tests;
