//! The body of a map response: the tailnet, then its changes, then signs of life while nothing changes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use http_body_util::BodyExt as _;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Frame;
use rand_core::Rng as _;
use tailcfg::{MapResponse, NodeId};
use tokio::sync::{mpsc, watch};

use crate::state::{State, StreamGuard, go_now};
use crate::tailnet::Snapshot;

/// The body of what is answered inside Noise.
pub(crate) type MachineBody = UnsyncBoxBody<Bytes, Infallible>;

/// Changes that come within this time go out as one.
const SETTLE: Duration = Duration::from_millis(20);
/// The most that is added to the time between signs of life, so that not all clients are served at once.
const JITTER_MS: u32 = 8000;
const ZSTD_LEVEL: i32 = 1;

/// How a client wants its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compress {
    Plain,
    Zstd,
}

struct MapStream {
    state: Arc<State>,
    id: NodeId,
    compress: Compress,
    keep_alive: bool,
    snapshots: watch::Receiver<Snapshot>,
    /// Ends when the stream must end.
    extras: mpsc::Receiver<Bytes>,
    /// What the client knows; `None` before the first message.
    known: Option<Snapshot>,
    _guard: StreamGuard,
}

/// Streams the tailnet to a node until the node goes, another stream of it comes, or it is removed.
pub(crate) fn map_stream(
    state: &Arc<State>,
    id: NodeId,
    compress: Compress,
    keep_alive: bool,
) -> MachineBody {
    let (guard, extras) = state.open_stream(id);
    let stream = MapStream {
        state: Arc::clone(state),
        id,
        compress,
        keep_alive,
        snapshots: state.snapshots(),
        extras,
        known: None,
        _guard: guard,
    };
    let messages = stream::unfold(stream, |mut stream| async move {
        let message = stream.next().await?;
        let frame = Frame::data(frame(message, stream.compress)?);
        Some((Ok(frame), stream))
    });
    StreamBody::new(messages).boxed_unsync()
}

/// One whole map as a body of its own. `None` if the node is not in the tailnet.
pub(crate) fn map_once(state: &State, id: NodeId, compress: Compress) -> Option<Bytes> {
    let full = state.snapshots().borrow().full_json(id, go_now())?;
    frame(made(full)?, compress)
}

impl MapStream {
    /// The next message, in JSON.
    async fn next(&mut self) -> Option<Bytes> {
        if self.known.is_none() {
            let now = self.snapshots.borrow_and_update().clone();
            let full = now.full_json(self.id, go_now())?;
            self.known = Some(now);
            return made(full);
        }
        loop {
            let jitter = Duration::from_millis(u64::from(rt::OsRng.next_u32() % JITTER_MS));
            let pause = self.state.keep_alive() + jitter.min(self.state.keep_alive() / 4);
            tokio::select! {
                changed = self.snapshots.changed() => changed.ok()?,
                extra = self.extras.recv() => return extra,
                () = tokio::time::sleep(pause), if self.keep_alive => return encode(&sign_of_life()),
            }
            tokio::time::sleep(SETTLE).await;
            let now = self.snapshots.borrow_and_update().clone();
            if !now.contains(self.id) {
                return None;
            }
            let delta = self
                .known
                .as_ref()
                .and_then(|known| now.delta(known, self.id));
            self.known = Some(now);
            if let Some(delta) = delta {
                return encode(&delta);
            }
        }
    }
}

fn sign_of_life() -> MapResponse {
    MapResponse {
        keep_alive: true,
        ..MapResponse::default()
    }
}

fn encode(response: &MapResponse) -> Option<Bytes> {
    made(tailcfg::go::to_vec(response))
}

/// `None` if it could not be made, which ends the stream.
fn made(json: serde_json::Result<Vec<u8>>) -> Option<Bytes> {
    json.inspect_err(|error| tracing::error!("encoding a map response: {error}"))
        .ok()
        .map(Bytes::from)
}

/// Length u32 LE, then JSON, compressed if wanted. `None` if that cannot be made, which ends the stream.
fn frame(json: Bytes, compress: Compress) -> Option<Bytes> {
    let message = match compress {
        Compress::Plain => json,
        Compress::Zstd => zstd::bulk::compress(&json, ZSTD_LEVEL)
            .inspect_err(|error| tracing::error!("compressing a map response: {error}"))
            .ok()?
            .into(),
    };
    let mut out = BytesMut::with_capacity(4 + message.len());
    out.put_slice(&ts2021::map_frame_header(
        u32::try_from(message.len()).ok()?,
    ));
    out.put_slice(&message);
    Some(out.freeze())
}
