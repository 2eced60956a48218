//! WireGuard handshakes, sessions, timers, cookies and replay windows, one peer at a time (the WireGuard whitepaper,
//! "Next Generation Kernel Network Tunnel").
//!
//! Two halves that never wait for each other:
//!
//! - [`Peer`] is the mutable, timed, rare half: handshakes and key rotation. One thread owns all of them. It is a
//!   machine: `handle_*` takes input, [`Peer::poll_output`] gives output, [`Peer::next_timeout`] says when to call
//!   [`Peer::handle_timeout`].
//! - [`Session`] is the hot half which a handshake yields: immutable keys, an atomic send counter, a replay window
//!   behind a small lock. It is shared with whoever moves packets, and made for batches: reserve a range of counters,
//!   seal each packet straight into its place in one output buffer, open in place, one access to the window per batch.
//!
//! Around them: [`Identity`] is our static key, [`classify`] reads the first bytes of a datagram, [`Gate`] decides which
//! handshakes deserve work, [`IndexTable`] maps the indices that we gave out.
//!
//! Not here: who may be a peer, where its datagrams go, which inner addresses it may use, and packets that wait for a
//! session. All of that is the caller's: peers are created when needed, after [`Identity::open_initiation`] has said
//! whose initiation it is.
//!
//! The one invariant: no counter is ever used twice with one key. [`Counter`] values exist once and are consumed by
//! sealing.

mod activity;
mod cookie;
mod crypto;
mod handshake;
mod identity;
mod index;
mod message;
mod peer;
mod replay;
mod session;
#[cfg(test)]
mod testing;
mod timestamp;

pub use activity::Activity;
pub use cookie::{Admit, Gate, Source};
pub use handshake::HandshakeError;
pub use identity::{Identity, Opened};
pub use index::{IndexTable, Slot};
pub use message::{
    CookieReply, DATA_OVERHEAD, HEADER_LEN, Initiation, MAX_DATAGRAM, Message, NotWireGuard,
    Response, TAG_LEN, classify,
};
pub use peer::{Context, Output, Peer, State};
pub use replay::ReplayWindow;
pub use session::{
    Counter, OpenError, Opening, Reserved, SealError, Session, Unsealed, padded_len, sealed_len,
};
