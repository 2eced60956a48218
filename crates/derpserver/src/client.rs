//! One relayed client, from its proof of identity to its end.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use derp::{
    Accepted, ClientMessage, FrameError, HandshakeError, PeerGoneReason, ServerDecoder,
    ServerHandshake, ServerInfo, put,
};
use keys::NodePublic;
use rt::{OsRng, RateLimit};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::hub::{Client, ConnId};
use crate::limits;
use crate::queue::{Pushed, Taken};
use crate::server::Shared;
use crate::stats::{DropReason, PacketKind};
use crate::verify::Refused;

/// Why a client's connection ended, other than by its hanging up.
#[derive(Debug)]
pub(crate) enum ClientEnd {
    Io(io::Error),
    Handshake(HandshakeError),
    Frame(FrameError),
    TimedOut(&'static str),
    Refused(NodePublic, Refused),
    MeshNotBuilt,
}

impl std::fmt::Display for ClientEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Handshake(error) => error.fmt(f),
            Self::Frame(error) => error.fmt(f),
            Self::TimedOut(what) => write!(f, "timed out while {what}"),
            Self::Refused(key, why) => write!(f, "client {key} rejected: {why}"),
            Self::MeshNotBuilt => f.write_str(MESH_NOT_BUILT),
        }
    }
}

impl From<io::Error> for ClientEnd {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<HandshakeError> for ClientEnd {
    fn from(error: HandshakeError) -> Self {
        Self::Handshake(error)
    }
}

impl From<FrameError> for ClientEnd {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

const MESH_NOT_BUILT: &str = "mesh: not built (this relay does not talk to other relays)";

/// Serves a client whose request was answered, until it goes. `early` is what it has sent already.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    mut stream: S,
    early: &[u8],
) -> Result<(), ClientEnd> {
    shared.stats.accepts.add(1);
    let greet = handshake(shared, &mut stream, early);
    let accepted = timeout(limits::HANDSHAKE, greet)
        .await
        .map_err(|_| ClientEnd::TimedOut("waiting for the client's key"))??;
    let Some(accepted) = accepted else {
        return Ok(());
    };
    if let Err(why) = shared.verify.check(&accepted.key).await {
        return Err(ClientEnd::Refused(accepted.key, why));
    }
    let client = Arc::new(Client::new(shared.next_id(), accepted.key));
    // Before anything can be queued, so that it is the first frame.
    client
        .queue
        .push_control(|out| out.extend_from_slice(&accepted.reply));
    shared.hub.register(&client);
    Session {
        shared,
        client: &client,
    }
    .run(stream, accepted.decoder)
    .await
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    stream: &mut S,
    early: &[u8],
) -> Result<Option<Accepted>, ClientEnd> {
    let mut handshake = ServerHandshake::new(shared.private_key.clone());
    stream.write_all(&handshake.greeting()).await?;
    stream.flush().await?;
    handshake.reader().push(early);
    loop {
        if let Some(accepted) = handshake.poll(&ServerInfo::default(), &mut OsRng)? {
            return Ok(Some(accepted));
        }
        let n = stream.read(handshake.reader().room()).await?;
        if n == 0 {
            return Ok(None);
        }
        handshake.reader().filled(n);
    }
}

struct Session<'a> {
    shared: &'a Shared,
    client: &'a Arc<Client>,
}

impl Session<'_> {
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        decoder: ServerDecoder,
    ) -> Result<(), ClientEnd> {
        let (reader, mut writer) = tokio::io::split(stream);
        let result = tokio::select! {
            result = self.read(reader, decoder) => result,
            result = self.write(&mut writer) => result,
        };
        if let Err(ClientEnd::MeshNotBuilt) = result {
            // The reason waits in the queue.
            let mut out = Vec::new();
            self.client.queue.take(&mut out);
            let farewell = async {
                writer.write_all(&out).await?;
                writer.shutdown().await
            };
            let _ = timeout(limits::FAREWELL, farewell).await;
        }
        result
    }

    async fn read(
        &self,
        mut reader: impl AsyncRead + Unpin,
        mut decoder: ServerDecoder,
    ) -> Result<(), ClientEnd> {
        let mut route = Route::default();
        let not_here = RateLimit::new(3, Duration::from_secs(1));
        loop {
            let mut crowded = false;
            while let Some(message) = decoder.poll()? {
                crowded |= self.handle(message, &mut route, &not_here)?;
            }
            if crowded {
                // The receiver's writer was woken on this thread and runs only when this task lets go.
                tokio::task::yield_now().await;
            }
            match reader.read(decoder.reader().room()).await {
                Ok(0) => return Ok(()),
                Ok(n) => decoder.reader().filled(n),
                Err(error) if is_hang_up(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            self.shared.hub.note_spoke(self.client);
        }
    }

    /// Whether the receiver's queue fills up.
    fn handle(
        &self,
        message: ClientMessage<'_>,
        route: &mut Route,
        not_here: &RateLimit,
    ) -> Result<bool, ClientEnd> {
        match message {
            ClientMessage::SendPacket { dst, packet } => {
                return Ok(self.relay(&dst, packet, route, not_here));
            }
            ClientMessage::Ping(data) => self.client.queue.push_pong(data),
            ClientMessage::ForwardPacket { .. }
            | ClientMessage::WatchConns
            | ClientMessage::ClosePeer(_) => {
                self.client
                    .queue
                    .push_control(|out| put::health(out, MESH_NOT_BUILT));
                return Err(ClientEnd::MeshNotBuilt);
            }
            ClientMessage::NotePreferred(_) | ClientMessage::Pong(_) | ClientMessage::Other(_) => {}
        }
        Ok(false)
    }

    fn relay(
        &self,
        dst: &NodePublic,
        packet: &[u8],
        route: &mut Route,
        not_here: &RateLimit,
    ) -> bool {
        let stats = &self.shared.stats;
        stats.packets_received.add(1);
        stats.bytes_received.add(packet.len() as u64);
        let kind = PacketKind::of(packet);
        let Some(receiver) = route.to(self.shared, &self.client.key, dst) else {
            stats.drop_packets(DropReason::UnknownDest, kind, 1, packet.len() as u64);
            // Only a node that looks for a path wants to know; and not too often, or it could be made to flood itself.
            if kind == PacketKind::Disco && not_here.allow(rt::now()) {
                stats.peer_gone_sent.add(1);
                self.client
                    .queue
                    .push_peer_gone(dst, PeerGoneReason::NOT_HERE);
            }
            return false;
        };
        match receiver.queue.push_packet(kind, &self.client.key, packet) {
            Pushed::Queued {
                lost,
                lost_bytes,
                crowded,
            } => {
                if lost > 0 {
                    stats.drop_packets(DropReason::QueueHead, kind, lost, lost_bytes);
                }
                crowded
            }
            Pushed::Closed => {
                let len = packet.len() as u64;
                stats.drop_packets(DropReason::GoneDisconnected, kind, 1, len);
                false
            }
        }
    }

    async fn write(&self, writer: &mut (impl AsyncWrite + Unpin)) -> Result<(), ClientEnd> {
        let mut out = Vec::new();
        let every = with_jitter(self.shared.keep_alive, self.client.id);
        let mut keep_alive = tokio::time::interval(every);
        keep_alive.reset();
        loop {
            let taken = self.client.queue.take(&mut out);
            if out.is_empty() {
                if out.capacity() > limits::IDLE_BUFFER {
                    out = Vec::new();
                    self.client.queue.shrink();
                }
                tokio::select! {
                    () = self.client.queue.ready() => {}
                    _ = keep_alive.tick() => put::keep_alive(&mut out),
                }
                if out.is_empty() {
                    continue;
                }
            }
            let written = write_all(writer, &out, self.shared.write_timeout).await;
            self.count(taken, written.is_ok());
            written?;
            out.clear();
        }
    }

    fn count(&self, taken: Taken, written: bool) {
        let stats = &self.shared.stats;
        if written {
            stats.packets_sent.add(taken.packets);
            stats.bytes_sent.add(taken.bytes);
        } else {
            // Which of the batch were disco is not known any more, and hardly matters.
            stats.drop_packets(
                DropReason::WriteError,
                PacketKind::Other,
                taken.packets,
                taken.bytes,
            );
        }
    }
}

/// Nodes go away without a word: they are killed, or sleep, or lose their network.
fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::TimedOut
    )
}

/// However the connection ends, nobody may find it any more.
impl Drop for Session<'_> {
    fn drop(&mut self) {
        let told = self.shared.hub.unregister(self.client);
        self.shared.stats.peer_gone_sent.add(told as u64);
        for (kind, rest) in self.client.queue.close() {
            let reason = DropReason::GoneDisconnected;
            self.shared
                .stats
                .drop_packets(reason, kind, rest.packets, rest.bytes);
        }
    }
}

/// The limit is on standing still, not on the whole: a slow client is no dead one.
async fn write_all(
    writer: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    limit: Option<Duration>,
) -> Result<(), ClientEnd> {
    while !bytes.is_empty() {
        let n = within(limit, writer.write(bytes)).await?;
        if n == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        bytes = bytes.get(n..).unwrap_or_default();
    }
    within(limit, writer.flush()).await
}

async fn within<T>(
    limit: Option<Duration>,
    write: impl Future<Output = io::Result<T>>,
) -> Result<T, ClientEnd> {
    let Some(limit) = limit else {
        return Ok(write.await?);
    };
    let done = timeout(limit, write)
        .await
        .map_err(|_| ClientEnd::TimedOut("writing to the client"))?;
    Ok(done?)
}

/// Spreads the keep-alives of many clients: 60 s become up to 65, as with the originals.
fn with_jitter(every: Duration, id: ConnId) -> Duration {
    let share = RandomState::new().hash_one(id) % 1000;
    every + every / 12_000 * u32::try_from(share).unwrap_or_default()
}

/// The last answer of the hub: packets come in runs to one receiver.
#[derive(Default)]
struct Route {
    generation: u64,
    dst: NodePublic,
    receiver: Option<Arc<Client>>,
}

impl Route {
    fn to(&mut self, shared: &Shared, src: &NodePublic, dst: &NodePublic) -> Option<&Arc<Client>> {
        let generation = shared.hub.generation();
        if self.receiver.is_none() || self.dst != *dst || self.generation != generation {
            self.generation = generation;
            self.dst = *dst;
            self.receiver = shared.hub.find(src, dst);
        }
        self.receiver.as_ref()
    }
}
