//! Every bound of the relay in one place.

use std::time::Duration;

/// How long a client may take to prove its key.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a TLS handshake or one HTTP request may take, and how long an idle HTTP connection is kept.
pub(crate) const HTTP: Duration = Duration::from_secs(30);
/// The largest HTTP request head.
pub(crate) const HEAD_LEN: usize = 16 << 10;
/// The most HTTP headers.
pub(crate) const HEADERS: usize = 64;
/// How long a write of a client may stand still.
pub(crate) const WRITE: Duration = Duration::from_secs(2);
/// How long the last frames of a connection that is being closed may take.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);
/// Packets that may wait for a client. The originals let 32 wait, but hand over one packet at a time; here one read of a
/// sender brings up to some hundred at once, and a shorter queue would drop from the middle of each.
pub(crate) const QUEUE_PACKETS: usize = 256;
/// Bytes that may wait for a client.
pub(crate) const QUEUE_BYTES: usize = 512 << 10;
/// Disco messages that may wait for a client; they have room of their own so that data cannot push them out.
pub(crate) const QUEUE_DISCO: usize = 32;
/// Output buffers above this are given back when a client falls idle.
pub(crate) const IDLE_BUFFER: usize = 4 << 10;
/// Default of [`Config::tcp_keepalive`](crate::Config::tcp_keepalive).
pub(crate) const TCP_KEEPALIVE: Duration = Duration::from_secs(10 * 60);
/// Default of [`Config::tcp_user_timeout`](crate::Config::tcp_user_timeout).
pub(crate) const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);
/// Lines about ended clients that may be logged at once, and then one per second: strangers cause them.
pub(crate) const LOG_BURST: u32 = 50;
