//! A byte stream inside Noise records.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use transport::Stream;
use ts2021::{Opener, Sealer, Session};

/// Ciphertext that is read at once, in bytes.
const READ_LEN: usize = 16 << 10;
/// Plaintext that is sealed at once, in bytes.
const WRITE_LEN: usize = 16 << 10;

/// The plaintext side of a Noise connection.
#[derive(Debug)]
pub(crate) struct NoiseStream {
    inner: Stream,
    sealer: Sealer,
    opener: Opener,
    plaintext: Vec<u8>,
    taken: usize,
    /// Sealed and not yet written.
    sealed: BytesMut,
    scratch: Box<[u8]>,
}

impl NoiseStream {
    /// Speaks plaintext over `inner`. `sealed` goes out first: the handshake's answer.
    pub(crate) fn new(inner: Stream, session: Session, sealed: &[u8]) -> Self {
        Self {
            inner,
            sealer: session.sealer,
            opener: session.opener,
            plaintext: Vec::new(),
            taken: 0,
            sealed: BytesMut::from(sealed),
            scratch: vec![0; READ_LEN].into(),
        }
    }

    /// Seals plaintext that goes out with the next flush.
    pub(crate) fn push(&mut self, plaintext: &[u8]) -> io::Result<()> {
        let mut records = Vec::new();
        self.sealer
            .seal(plaintext, &mut records)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.sealed.extend_from_slice(&records);
        Ok(())
    }

    fn poll_write_sealed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.sealed.is_empty() {
            let wrote = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.sealed))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sealed.advance(wrote);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and opens until there is plaintext; false at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.taken == self.plaintext.len() {
            self.plaintext.clear();
            self.taken = 0;
            let mut buf = ReadBuf::new(&mut self.scratch);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf))?;
            let read = buf.filled();
            if read.is_empty() {
                return Poll::Ready(match self.opener.is_at_boundary() {
                    true => Ok(false),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                });
            }
            self.opener
                .handle_input(read, &mut self.plaintext)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        Poll::Ready(Ok(true))
    }
}

impl AsyncRead for NoiseStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if ready!(self.poll_fill(cx))? {
            let rest = self.plaintext.get(self.taken..).unwrap_or_default();
            let part = rest.get(..buf.remaining()).unwrap_or(rest);
            buf.put_slice(part);
            let len = part.len();
            self.taken += len;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for NoiseStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        plaintext: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_write_sealed(cx))?;
        let part = plaintext.get(..WRITE_LEN).unwrap_or(plaintext);
        self.push(part)?;
        // What cannot go out at once goes with the next call.
        if let Poll::Ready(Err(error)) = self.poll_write_sealed(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_sealed(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_sealed(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
