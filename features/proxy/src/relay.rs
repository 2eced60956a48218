//! Copying between two streams.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;

/// An idle connection costs this much per direction; a busy one grows its buffer, so that few system calls carry much.
const MIN_BUFFER: usize = 8 << 10;
const MAX_BUFFER: usize = 256 << 10;
/// Small reads in a row after which a large buffer is given back.
const SMALL_READS: u32 = 64;
/// How long one direction may be silent after the other has ended.
const HALF_OPEN: Duration = Duration::from_secs(60);

/// Copies both ways until both directions have ended, or one fails.
///
/// Compat: the originals close everything as soon as one direction ends. Here the end is passed on, and the other direction
/// goes on for as long as it is used: a client that ends its request early still gets its answer.
pub(crate) async fn relay<A, B>(a: A, b: B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (a_read, a_write) = tokio::io::split(a);
    let (b_read, b_write) = tokio::io::split(b);
    let (a_ended, b_ended) = (Notify::new(), Notify::new());
    let there = one_way(a_read, b_write, &a_ended, &b_ended);
    let back = one_way(b_read, a_write, &b_ended, &a_ended);
    tokio::try_join!(there, back).map(drop)
}

/// Copies one way; `ended` is told at the end, `other_ended` is heard.
async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    ended: &Notify,
    other_ended: &Notify,
) -> io::Result<()> {
    let mut buffer = vec![0; MIN_BUFFER];
    let mut small = 0;
    let mut alone = false;
    loop {
        let read = from.read(&mut buffer);
        let n = match alone {
            true => tokio::time::timeout(HALF_OPEN, read)
                .await
                .map_err(|_| io::ErrorKind::TimedOut)??,
            false => match first(read, other_ended.notified()).await {
                Some(n) => n?,
                None => {
                    alone = true;
                    continue;
                }
            },
        };
        if n == 0 {
            break;
        }
        to.write_all(buffer.get(..n).unwrap_or_default()).await?;
        small = if n < MIN_BUFFER { small + 1 } else { 0 };
        if n == buffer.len() && n < MAX_BUFFER {
            buffer = vec![0; n * 2];
        } else if small >= SMALL_READS && buffer.len() > MIN_BUFFER {
            buffer = vec![0; MIN_BUFFER];
        }
    }
    ended.notify_one();
    to.shutdown().await
}

/// The result of `work`, or `None` if `interruption` comes first.
async fn first<T>(
    work: impl Future<Output = T>,
    interruption: impl Future<Output = ()>,
) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = interruption => None,
    }
}
