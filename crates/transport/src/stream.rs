//! One type for every kind of connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream both ways.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection, whatever it is made of, with bytes that were read too early in front.
pub struct Stream {
    early: Bytes,
    io: Box<dyn Io>,
}

impl Stream {
    /// Wraps a connection.
    pub fn new(io: impl Io + 'static) -> Self {
        Self::with_early(Bytes::new(), io)
    }

    /// Wraps a connection of which `early` has been read already.
    pub fn with_early(early: Bytes, io: impl Io + 'static) -> Self {
        Self {
            early,
            io: Box::new(io),
        }
    }

    /// Puts bytes back in front.
    #[must_use]
    pub fn unread(mut self, early: Bytes) -> Self {
        if self.early.is_empty() {
            self.early = early;
            return self;
        }
        Self::with_early(early, self)
    }
}

impl From<hyper::upgrade::Upgraded> for Stream {
    fn from(upgraded: hyper::upgrade::Upgraded) -> Self {
        Self::new(TokioIo::new(upgraded))
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let take = self.early.len().min(buf.remaining());
        buf.put_slice(self.early.get(..take).unwrap_or_default());
        self.early.advance(take);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
