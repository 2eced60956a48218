//! A TCP connection as a byte stream, and what it shares with the engine.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use netstack::{Closed, FlowId, Netstack, Recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::queue::{Command, Queue, lock};

/// Bytes that wait between a task and the engine, per direction. What does not fit waits in the stack, or in the task.
const LIMIT: usize = 256 << 10;

/// A TCP connection through the tunnel.
#[derive(Debug)]
pub struct TcpStream {
    shared: Arc<TcpShared>,
    local: SocketAddr,
    remote: SocketAddr,
}

#[derive(Debug)]
pub(crate) struct TcpShared {
    queue: Arc<Queue>,
    state: Mutex<TcpState>,
}

#[derive(Debug, Default)]
struct TcpState {
    flow: Option<FlowId>,
    ends: Option<(SocketAddr, SocketAddr)>,
    connected: bool,
    received: VecDeque<u8>,
    /// The stack holds more than fitted.
    more: bool,
    eof: bool,
    unsent: VecDeque<u8>,
    fin: bool,
    fin_passed: bool,
    /// Nobody holds the stream any more.
    released: bool,
    ended: Option<io::ErrorKind>,
    /// Something was carried since the last [`trim`](TcpShared::trim).
    used: bool,
    /// The engine has been told to look here.
    posted: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    watcher: Option<Waker>,
}

impl TcpShared {
    pub(crate) fn new(queue: Arc<Queue>, flow: Option<FlowId>) -> Arc<Self> {
        let state = TcpState {
            flow,
            ..TcpState::default()
        };
        Arc::new(Self {
            queue,
            state: Mutex::new(state),
        })
    }

    pub(crate) fn flow(&self) -> Option<FlowId> {
        lock(&self.state).flow
    }

    fn post(self: &Arc<Self>, state: &mut TcpState) {
        if !state.posted && state.ended.is_none() {
            state.posted = true;
            self.queue.post(Command::Tcp(self.clone()));
        }
    }

    /// Resolves when the handshake is over, well or badly. The stream takes over this half of the sharing.
    pub(crate) async fn connected(self: Arc<Self>) -> io::Result<TcpStream> {
        // Whoever stops waiting lets go of the connection.
        let stream = TcpStream {
            shared: self,
            local: UNKNOWN,
            remote: UNKNOWN,
        };
        let (local, remote) = std::future::poll_fn(|cx| stream.poll_connected(cx)).await?;
        let mut stream = stream;
        stream.local = local;
        stream.remote = remote;
        Ok(stream)
    }

    /// Resolves when the flow is over.
    pub(crate) async fn ended(&self) {
        std::future::poll_fn(|cx| {
            let mut state = lock(&self.state);
            if state.ended.is_some() {
                return Poll::Ready(());
            }
            state.watcher = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Engine: the flow has this id.
    pub(crate) fn opened(&self, flow: FlowId) {
        lock(&self.state).flow = Some(flow);
    }

    /// Engine: the handshake is over.
    pub(crate) fn set_connected(&self, ends: Option<(SocketAddr, SocketAddr)>) {
        let mut state = lock(&self.state);
        state.connected = true;
        state.ends = ends;
        wake(&mut state.reader);
    }

    /// Engine: the flow is gone.
    pub(crate) fn set_ended(&self, why: io::ErrorKind) {
        let mut state = lock(&self.state);
        state.ended.get_or_insert(why);
        for waker in [
            state.reader.take(),
            state.writer.take(),
            state.watcher.take(),
        ] {
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// Engine: gives back the buffers of a stream that has been quiet since the last time.
    pub(crate) fn trim(&self) {
        let mut state = lock(&self.state);
        if !std::mem::take(&mut state.used) {
            if state.received.is_empty() {
                state.received = VecDeque::new();
            }
            if state.unsent.is_empty() {
                state.unsent = VecDeque::new();
            }
        }
    }

    /// Engine: carries bytes both ways. False if the hub has no more to do with this flow.
    pub(crate) fn carry(&self, stack: &mut Netstack, now: host::Instant) -> bool {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        state.posted = false;
        state.used = true;
        let Some(flow) = state.flow else { return true };
        state.carry_out(stack, flow);
        if state.released {
            return state.carry_last(stack, flow, now);
        }
        state.carry_in(stack, flow);
        true
    }
}

const UNKNOWN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

impl TcpState {
    fn carry_out(&mut self, stack: &mut Netstack, flow: FlowId) {
        let was_full = self.unsent.len() >= LIMIT / 2;
        loop {
            let (front, _) = self.unsent.as_slices();
            if front.is_empty() {
                break;
            }
            let taken = stack.send(flow, front);
            if taken == 0 {
                break;
            }
            self.unsent.drain(..taken);
        }
        if self.fin && !self.fin_passed && self.unsent.is_empty() {
            self.fin_passed = true;
            stack.shutdown(flow);
        }
        if was_full && self.unsent.len() < LIMIT / 2 || self.unsent.is_empty() {
            wake(&mut self.writer);
        }
    }

    fn carry_in(&mut self, stack: &mut Netstack, flow: FlowId) {
        self.more = false;
        let mut news = false;
        loop {
            if self.received.len() >= LIMIT {
                self.more = true;
                break;
            }
            match stack.recv_into(flow, &mut self.received, LIMIT) {
                Recv::Data(_) => news = true,
                Recv::Eof => {
                    self.eof = true;
                    break;
                }
                Recv::Empty | Recv::Gone => break,
            }
        }
        if news || self.eof {
            wake(&mut self.reader);
        }
    }

    /// The task is gone: what it wrote is still delivered, what it did not read makes this a reset.
    fn carry_last(&mut self, stack: &mut Netstack, flow: FlowId, now: host::Instant) -> bool {
        if !self.received.is_empty() || !self.connected {
            stack.abort(flow);
            return false;
        }
        if !self.unsent.is_empty() {
            return true;
        }
        stack.close(flow, now);
        false
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// What the end of a flow means to a stream. The orderly end of both directions is no error.
pub(crate) fn error_kind(reason: Closed) -> io::ErrorKind {
    match reason {
        Closed::Finished => io::ErrorKind::UnexpectedEof,
        Closed::Refused => io::ErrorKind::ConnectionRefused,
        Closed::Reset => io::ErrorKind::ConnectionReset,
        Closed::TimedOut | Closed::Idle => io::ErrorKind::TimedOut,
        Closed::Aborted => io::ErrorKind::ConnectionAborted,
    }
}

impl TcpStream {
    /// Our end.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The other end.
    pub fn peer_addr(&self) -> SocketAddr {
        self.remote
    }

    fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<(SocketAddr, SocketAddr)>> {
        let mut state = lock(&self.shared.state);
        match (state.connected, state.ends, state.ended) {
            (true, Some(ends), _) => Poll::Ready(Ok(ends)),
            (_, _, Some(why)) => Poll::Ready(Err(why.into())),
            _ => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_read_some(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut guard = lock(&self.shared.state);
        let state = &mut *guard;
        if !state.received.is_empty() {
            let (front, back) = state.received.as_slices();
            let mut done = 0;
            for part in [front, back] {
                let n = part.len().min(buf.remaining());
                buf.put_slice(part.get(..n).unwrap_or_default());
                done += n;
            }
            state.received.drain(..done);
            if state.more && state.received.len() <= LIMIT / 2 {
                state.more = false;
                self.shared.post(state);
            }
            return Poll::Ready(Ok(()));
        }
        match state.ended {
            _ if state.eof => Poll::Ready(Ok(())),
            Some(io::ErrorKind::UnexpectedEof) => Poll::Ready(Ok(())),
            Some(why) => Poll::Ready(Err(why.into())),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_write_some(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut guard = lock(&self.shared.state);
        let state = &mut *guard;
        match state.ended {
            Some(io::ErrorKind::UnexpectedEof) => {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            Some(why) => return Poll::Ready(Err(why.into())),
            None if state.fin => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            None => {}
        }
        let room = LIMIT.saturating_sub(state.unsent.len());
        if room == 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = data.get(..room).unwrap_or(data);
        let was_empty = state.unsent.is_empty();
        state.unsent.extend(taken);
        if was_empty {
            self.shared.post(state);
        }
        Poll::Ready(Ok(taken.len()))
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_read_some(cx, buf)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_some(cx, data)
    }

    /// Nothing to do: the engine sends as soon as it may.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends our direction; the other goes on.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = lock(&self.shared.state);
        if !guard.fin {
            guard.fin = true;
            self.shared.post(&mut guard);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        let mut guard = lock(&self.shared.state);
        guard.released = true;
        self.shared.post(&mut guard);
    }
}
