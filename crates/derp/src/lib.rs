//! DERP, the relay protocol: frames, the client's and the server's side as byte-in/byte-out machines, and the domain
//! [`DerpMap`].
//!
//! A relayed connection is a byte stream of frames. Both sides start with a short handshake and then stay in one steady
//! state:
//!
//! ```text
//! server  ServerKey   (ServerHandshake::greeting)
//! client  ClientInfo  (ClientHandshake::poll gives its bytes and a ClientDecoder)
//! server  ServerInfo  (ServerHandshake::poll gives its bytes and a ServerDecoder)
//! ```
//!
//! Bytes that arrive go into a [`FrameReader`] ([`room`](FrameReader::room) and [`filled`](FrameReader::filled), or
//! [`push`](FrameReader::push)); messages come out of a decoder's `poll`; frames to send are appended to any `Vec<u8>` by
//! [`put`]. Nothing here reads a clock or owns a socket, and nothing a peer sends can make it panic: what is malformed but
//! harmless is skipped, as the originals do, and the rest is an error that ends the connection.

mod client;
mod error;
mod frame;
mod info;
mod limit;
mod map;
pub mod put;
mod reader;
mod server;

pub use client::{ClientDecoder, ClientHandshake, Hello, ServerMessage};
pub use error::{FrameError, HandshakeError};
pub use frame::{
    DERP_MAGIC, FrameType, HEADER_LEN, KEEP_ALIVE, KEY_LEN, MAX_PACKET_LEN, PROTOCOL_VERSION,
    PeerGoneReason, PeerPresent, PresentFlags, looks_like_disco,
};
pub use info::{ClientInfo, ServerInfo};
pub use limit::TokenBucket;
pub use map::{DerpMap, FamilyAddr, Node, NodeCert, Region, RegionId};
pub use reader::{FrameReader, Keep, RawFrame};
pub use server::{Accepted, ClientMessage, ServerDecoder, ServerHandshake};

#[cfg(test)]
mod tests;
