//! A connection inside Noise as a plain byte stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use keys::ChallengePublic;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use transport::Stream;
use ts2021::{EarlyReader, Opener, Sealer, Session};

/// How much plaintext may wait for the socket, in bytes.
const WRITE_AHEAD: usize = 64 << 10;
const READ_LEN: usize = 16 << 10;

/// A byte stream inside Noise, for the client's side: the server's early payload is taken out of it.
#[derive(Debug)]
pub struct NoiseStream {
    inner: Stream,
    sealer: Sealer,
    opener: Opener,
    early: EarlyReader,
    plain: Vec<u8>,
    plain_read: usize,
    sealed: Vec<u8>,
    sealed_sent: usize,
}

impl NoiseStream {
    /// Wraps a connection whose handshake is done.
    pub fn new(inner: Stream, session: Session) -> Self {
        Self {
            inner,
            sealer: session.sealer,
            opener: session.opener,
            early: EarlyReader::new(),
            plain: Vec::new(),
            plain_read: 0,
            sealed: Vec::new(),
            sealed_sent: 0,
        }
    }

    /// The challenge of the early payload, once it has been read.
    pub fn challenge(&self) -> Option<ChallengePublic> {
        self.early.challenge()
    }

    fn take_input(&mut self, input: &[u8]) -> io::Result<()> {
        let broken = |error: Box<dyn std::error::Error + Send + Sync>| {
            io::Error::new(io::ErrorKind::InvalidData, error)
        };
        self.plain.clear();
        self.plain_read = 0;
        if self.early.is_done() {
            return self
                .opener
                .handle_input(input, &mut self.plain)
                .map_err(|error| broken(error.into()));
        }
        let mut opened = Vec::new();
        self.opener
            .handle_input(input, &mut opened)
            .map_err(|error| broken(error.into()))?;
        self.early
            .handle_plaintext(&opened, &mut self.plain)
            .map_err(|error| broken(error.into()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self
            .sealed
            .get(self.sealed_sent..)
            .filter(|rest| !rest.is_empty())
        {
            let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sealed_sent += sent;
        }
        self.sealed.clear();
        self.sealed.shrink_to(READ_LEN);
        self.sealed_sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for NoiseStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let plain = this.plain.get(this.plain_read..).unwrap_or_default();
            if !plain.is_empty() {
                let take = plain.len().min(buf.remaining());
                buf.put_slice(plain.get(..take).unwrap_or_default());
                this.plain_read += take;
                return Poll::Ready(Ok(()));
            }
            let mut raw = [0; READ_LEN];
            let mut raw = ReadBuf::new(&mut raw);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut raw))?;
            if raw.filled().is_empty() {
                return Poll::Ready(match this.opener.is_at_boundary() {
                    true => Ok(()),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                });
            }
            this.take_input(raw.filled())?;
        }
    }
}

impl AsyncWrite for NoiseStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.sealed.len() - this.sealed_sent >= WRITE_AHEAD {
            ready!(this.poll_send(cx))?;
        }
        let piece = buf.get(..WRITE_AHEAD).unwrap_or(buf);
        this.sealer
            .seal(piece, &mut this.sealed)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        // An error shows again at the next write or flush.
        let _ = this.poll_send(cx)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
