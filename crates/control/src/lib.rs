//! Talks to the control server: Noise transport, register, long poll, pings and C2N.
//!
//! A [`Client`] owns one task per conversation: one registers, one keeps the long poll, one uploads what has changed here.
//! They share one HTTP/2 connection inside Noise, dialled when first needed and again when it has died. What the server says
//! comes out as [`Event`]s.
//!
//! Not here: what the news mean (the brain), node keys' making and keeping, signatures of the tailnet lock.
//!
//! The one invariant: whatever the server sends, the client lives on: it reports an error and tries again, later and later
//! ([`Retry`]).
//!
//! Source: the originals' `control/controlclient`, `control/ts2021`, `control/controlhttp`.

mod c2n;
mod client;
mod connection;
mod decode;
mod dial_plan;
mod error;
mod map;
mod noise;
mod ping;
mod register;
mod retry;
mod server_url;
mod update;

pub use c2n::{C2nRequest, C2nResponse, C2nRouter, parse_request};
pub use client::{Client, ClientConfig, Event, LoginRequest, MapParams};
pub use connection::fetch_server_key;
pub use decode::{DecodeError, MESSAGE_LEN_MAX, decode_message};
pub use dial_plan::DialPlan;
pub use error::Error;
pub use noise::NoiseStream;
pub use retry::Retry;
pub use server_url::{Ports, ServerUrl};

#[cfg(test)]
mod tests;
