//! TCP, TLS and HTTP both ways, avoiding our own tunnel.
//!
//! Out: a [`Dialer`] opens connections (happy eyeballs, proxies, a mark on each socket), [`tls`] wraps them, [`upgrade`]
//! turns a request into a byte stream, [`derp`] reaches relays, [`client`] does small one-shot requests, [`Kept`] asks one server
//! again and again.
//! In: [`server`] is the one bounded HTTP/1 server loop, [`cert`] makes and loads certificates with their pins.
//!
//! Not here: what is said over these connections.
//!
//! The one invariant: nothing that a peer sends makes us hold more than a fixed amount of memory or wait without a limit.

pub mod cert;
pub mod client;
pub mod derp;
mod dial;
mod error;
mod executor;
pub mod head;
mod kept;
pub mod proxy;
pub mod server;
mod stream;
pub mod tls;
pub mod upgrade;
mod x509;

pub use dial::{DialConfig, Dialer, HttpRoute};
pub use error::Error;
pub use executor::Executor;
pub use kept::{Kept, Open};
pub use proxy::ProxyConfig;
pub use stream::{Io, Stream};

#[cfg(test)]
mod tests;
