//! A UDP flow as a socket, and what it shares with the engine.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use netstack::{FlowId, Netstack};

use super::queue::{Command, Queue, lock};

/// Datagrams that wait between a task and the engine, per direction. More are dropped: that is what UDP does.
const LIMIT: usize = 256;

/// A UDP flow between one address of ours and one of theirs.
#[derive(Debug)]
pub struct UdpFlow {
    shared: Arc<UdpShared>,
    local: SocketAddr,
    remote: SocketAddr,
}

#[derive(Debug)]
pub(crate) struct UdpShared {
    queue: Arc<Queue>,
    state: Mutex<UdpState>,
}

#[derive(Debug, Default)]
struct UdpState {
    flow: Option<FlowId>,
    ends: Option<(SocketAddr, SocketAddr)>,
    /// The largest datagram that can be sent.
    most: usize,
    received: VecDeque<Vec<u8>>,
    unsent: VecDeque<Vec<u8>>,
    released: bool,
    ended: Option<io::ErrorKind>,
    posted: bool,
    reader: Option<Waker>,
}

impl UdpShared {
    pub(crate) fn new(queue: Arc<Queue>, flow: Option<FlowId>) -> Arc<Self> {
        let state = UdpState {
            flow,
            ..UdpState::default()
        };
        Arc::new(Self {
            queue,
            state: Mutex::new(state),
        })
    }

    pub(crate) fn flow(&self) -> Option<FlowId> {
        lock(&self.state).flow
    }

    fn post(self: &Arc<Self>, state: &mut UdpState) {
        if !state.posted && state.ended.is_none() {
            state.posted = true;
            self.queue.post(Command::Udp(self.clone()));
        }
    }

    /// Resolves when the engine has opened the flow, or could not.
    pub(crate) async fn opened(self: Arc<Self>) -> io::Result<UdpFlow> {
        let (local, remote) = std::future::poll_fn(|cx| {
            let mut state = lock(&self.state);
            match (state.ends, state.ended) {
                (_, Some(why)) => Poll::Ready(Err(io::Error::from(why))),
                (Some(ends), None) => Poll::Ready(Ok(ends)),
                (None, None) => {
                    state.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await?;
        Ok(UdpFlow {
            shared: self,
            local,
            remote,
        })
    }

    /// Engine: the flow is there.
    pub(crate) fn set_opened(&self, flow: FlowId, stack: &Netstack) {
        let mut state = lock(&self.state);
        state.flow = Some(flow);
        state.ends = stack.endpoints(flow);
        state.most = state
            .ends
            .map_or(0, |(local, _)| stack.max_datagram(local.ip()));
        if let Some(waker) = state.reader.take() {
            waker.wake();
        }
    }

    /// Engine: the flow is gone.
    pub(crate) fn set_ended(&self, why: io::ErrorKind) {
        let mut state = lock(&self.state);
        state.ended.get_or_insert(why);
        if let Some(waker) = state.reader.take() {
            waker.wake();
        }
    }

    /// Engine: carries datagrams both ways. False if the hub has no more to do with this flow.
    pub(crate) fn carry(&self, stack: &mut Netstack, now: host::Instant) -> bool {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        state.posted = false;
        let Some(flow) = state.flow else { return true };
        for datagram in state.unsent.drain(..) {
            // A wire that is slower than the task loses what it cannot carry.
            let _ = stack.udp_send(flow, &datagram, now);
        }
        if state.released {
            stack.close(flow, now);
            return false;
        }
        let before = state.received.len();
        while let Some(datagram) = stack.udp_recv(flow) {
            if state.received.len() < LIMIT {
                state.received.push_back(datagram);
            }
        }
        if state.received.len() > before
            && let Some(waker) = state.reader.take()
        {
            waker.wake();
        }
        true
    }
}

impl UdpFlow {
    /// Our end.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The other end.
    pub fn peer_addr(&self) -> SocketAddr {
        self.remote
    }

    /// Sends one datagram. One that finds the queue full is lost, as UDP's are.
    pub fn send(&self, datagram: &[u8]) -> impl Future<Output = io::Result<()>> + Send + use<> {
        std::future::ready(self.try_send(datagram))
    }

    fn try_send(&self, datagram: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.shared.state);
        if let Some(why) = state.ended {
            return Err(why.into());
        }
        if datagram.len() > state.most {
            return Err(io::Error::other("no packet can carry so long a datagram"));
        }
        if state.unsent.len() < LIMIT {
            state.unsent.push_back(datagram.to_vec());
        }
        self.shared.post(&mut state);
        Ok(())
    }

    /// Waits for the next datagram and tells its length; what does not fit into `buf` is cut off.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        let datagram = std::future::poll_fn(|cx| self.poll_recv(cx)).await?;
        let n = datagram.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), datagram.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }

    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        let mut state = lock(&self.shared.state);
        match (state.received.pop_front(), state.ended) {
            (Some(datagram), _) => Poll::Ready(Ok(datagram)),
            (None, Some(why)) => Poll::Ready(Err(why.into())),
            (None, None) => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for UdpFlow {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.released = true;
        self.shared.post(&mut state);
    }
}
