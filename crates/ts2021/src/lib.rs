//! The control transport as a machine: Noise handshake and records both ways, early payload, map framing.
//!
//! A connection starts with a Noise IK handshake whose first message travels in an HTTP header ([`Initiator`] on the
//! client, [`Responder`] on the server). It yields a [`Session`]: a [`Sealer`] and an [`Opener`], which turn plaintext
//! into records and back. Inside the plaintext the server may first say something of its own ([`EarlyReader`],
//! [`encode_early`]); the rest is HTTP/2. The body of a map response is split into messages by [`MapFrames`].
//!
//! Not here: sockets, HTTP, JSON schemas, decompression.
//!
//! The one invariant: whatever arrives, in whatever pieces, the outcome depends on the bytes alone, and after the first
//! error a direction is dead.
//!
//! Source: the originals' `control/controlbase`, `control/controlhttp`, `control/ts2021`; noiseprotocol.org revision 34.

mod early;
mod handshake;
mod map;
mod record;
mod symmetric;

pub use early::{EARLY_LEN_MAX, EARLY_MAGIC, EarlyError, EarlyReader, encode_early};
pub use handshake::{HandshakeError, INITIATION_LEN, Initiator, RESPONSE_LEN, Responder, Session};
pub use map::{MAP_FRAME_LEN_MAX, MapFrameError, MapFrames, map_frame_header};
pub use record::{FRAME_LEN_MAX, Opener, PLAINTEXT_LEN_MAX, RecordError, Sealer, error_frame};

/// The path of the upgrade request, always at the host's root.
pub const UPGRADE_PATH: &str = "/ts2021";
/// The value of the `Upgrade` header in both directions.
pub const UPGRADE_PROTOCOL: &str = "tailscale-control-protocol";
/// The header that carries the initiation, in standard base64 with padding.
pub const HANDSHAKE_HEADER: &str = "X-Tailscale-Handshake";

#[cfg(test)]
mod tests;
