//! A small coordination server for labs and tests, speaking the real protocol, so that real Tailscale clients can join it
//! too.
//!
//! [`Server::start`] listens on plain HTTP (the Noise transport inside authenticates both sides) and serves one tailnet:
//! auth keys and logins by people, approval of machines, addresses, names, tags, expiry, a relay map, filter rules, full
//! maps and changes, questions to nodes. Its administration is a JSON API on a unix socket of its own ([`AdminClient`])
//! and the same functions in process ([`Server::admin`]).
//!
//! Layers, from the inside: `tailnet` decides and does no IO; `state` keeps it, publishes snapshots and writes the file;
//! `machine` and `stream` answer nodes inside the Noise transport; `public`, `page` and `admin_http` answer the listeners.
//!
//! Not here: a policy language, SSH policies, tailnet lock, certificates. A node that asks for them gets a clear error. The one invariant: a node is spoken to only over a connection that its machine key has proved.

mod admin;
mod admin_client;
mod admin_http;
mod calls;
mod machine;
mod noise;
mod page;
mod public;
mod server;
mod state;
mod store;
mod stream;
mod tailnet;

pub use admin::{Admin, AskError, C2nAnswer, C2nQuestion, PingQuestion};
pub use admin_client::{AdminClient, AdminError};
pub use server::{Config, Error, Server};
pub use tailnet::{
    Approval, AuthKeyInfo, LoginInfo, NewAuthKey, NodeInfo, Presence, Refused, Settings,
};

#[cfg(test)]
mod tests;
