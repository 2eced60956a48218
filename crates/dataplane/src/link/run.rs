//! The life of a link: connect, move frames, connect again.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use derp::{
    ClientDecoder, ClientHandshake, ClientInfo, FrameError, HandshakeError, KEEP_ALIVE, Region,
    ServerInfo, ServerMessage, TokenBucket,
};
use host::Instant;
use keys::NodePrivate;
use magicsock::LinkId;
use metrics::{DropReason, UserMetrics};
use rt::{Backoff, OsRng};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use transport::Stream;

use super::queue::{BATCH_LEN, Check};
use super::{COST, Credit, LinkEvent, Packets, SendQueue};
use crate::mailbox::Mailbox;
use crate::relays::{RelayStream, Relays};

/// From the dial to the server's word that we are in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that has said nothing for this long is dead: it should have said that it lives.
const SILENCE: Duration = KEEP_ALIVE.saturating_mul(2);
/// A server that was asked for a sign of life gives it within this time.
const CHECK: Duration = Duration::from_secs(3);
/// Waits between attempts stay below this at first, so that a relay that is back is noticed soon,
const FIRST_CAP: Duration = Duration::from_secs(2);
/// for so many failures,
const FIRST_FAILURES: u32 = 30;
/// and below this later, as the originals' do.
const CAP: Duration = Duration::from_secs(5);
/// A connection that lasted this long was a good one: the next failure is a first one.
const GOOD: Duration = Duration::from_secs(5);
/// Characters of a relay's problem that are passed on.
const HEALTH_LEN: usize = 500;
/// Received bytes that the engine has not worked off yet.
const CREDIT: usize = 256 << 10;

pub(crate) struct LinkConfig {
    pub(crate) link: LinkId,
    pub(crate) region: Region,
    pub(crate) key: NodePrivate,
    pub(crate) relays: Arc<dyn Relays>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) metrics: Arc<UserMetrics>,
    pub(crate) queue: Arc<SendQueue>,
}

#[derive(Debug)]
enum LinkError {
    Io(io::Error),
    Handshake(HandshakeError),
    Frame(FrameError),
    Silent,
    AddressGone,
    Timeout,
}

impl std::fmt::Display for LinkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Handshake(error) => error.fmt(f),
            Self::Frame(error) => error.fmt(f),
            Self::Silent => f.write_str("relay has gone silent"),
            Self::AddressGone => f.write_str("our address on the way to the relay is gone"),
            Self::Timeout => f.write_str("relay did not accept us in time"),
        }
    }
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<FrameError> for LinkError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<HandshakeError> for LinkError {
    fn from(error: HandshakeError) -> Self {
        Self::Handshake(error)
    }
}

/// Keeps the link connected until the task is dropped.
pub(crate) async fn run(config: LinkConfig) {
    let link = Running {
        credit: Arc::new(Semaphore::new(CREDIT)),
        config,
    };
    let mut quick = Backoff::new(FIRST_CAP);
    let mut slow = Backoff::new(CAP);
    loop {
        let started = rt::now();
        let (error, announced) = link.connection().await;
        link.config.queue.disconnected();
        link.tell(LinkEvent::Down(error.to_string()));
        tracing::info!("derp-{}: {error}", link.config.region.id);
        if rt::now().since(started) > GOOD && !matches!(error, LinkError::Timeout) {
            quick.reset();
            slow.reset();
        }
        let patient = quick.failures() >= FIRST_FAILURES;
        let (fast, later) = (quick.next_wait(), slow.next_wait());
        let wait = if patient { later } else { fast };
        tokio::time::sleep(wait.max(announced.min(FIRST_CAP))).await;
    }
}

struct Running {
    config: LinkConfig,
    credit: Arc<Semaphore>,
}

impl Running {
    fn tell(&self, event: LinkEvent) {
        let link = self.config.link;
        self.config
            .mailbox
            .post(|inbox| inbox.links.push_back((link, event)));
    }

    /// One connection from dial to end. Also says how long the server asked to stay away.
    async fn connection(&self) -> (LinkError, Duration) {
        let connected = match timeout(CONNECT_TIMEOUT, self.connect()).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return (error, Duration::ZERO),
            Err(_) => return (LinkError::Timeout, Duration::ZERO),
        };
        self.config.queue.connected(connected.local).await;
        self.tell(LinkEvent::Connected);
        tracing::info!("derp-{}: connected", self.config.region.id);
        let (read, write) = tokio::io::split(connected.io);
        let mut announced = Duration::ZERO;
        let limit = TokenBucket::from_info(&connected.info, since_start(rt::now()));
        let error = tokio::select! {
            error = self.read_all(read, connected.decoder, &mut announced) => error,
            error = self.write_all(write, limit) => error,
        };
        (error, announced)
    }

    /// Dials and does the handshake, up to the server's `ServerInfo`.
    async fn connect(&self) -> Result<Connected, LinkError> {
        let region = self.config.region.clone();
        let RelayStream {
            stream: mut io,
            server_key,
            local,
        } = self.config.relays.dial(region).await?;
        let info = ClientInfo::default();
        let mut handshake = ClientHandshake::new(self.config.key.clone(), info, server_key);
        let mut hello = loop {
            if let Some(hello) = handshake.poll(&mut OsRng)? {
                break hello;
            }
            let n = io.read(handshake.reader().room()).await?;
            if n == 0 {
                return Err(unexpected_end());
            }
            handshake.reader().filled(n);
        };
        self.config.queue.disconnected();
        if self.config.queue.home() {
            derp::put::note_preferred(&mut hello.frame, true);
        }
        io.write_all(&hello.frame).await?;
        io.flush().await?;
        let info = self.await_info(&mut io, &mut hello.decoder).await?;
        Ok(Connected {
            io,
            decoder: hello.decoder,
            info,
            local,
        })
    }

    /// What comes before the server's word that we are in can only be its greeting, or a sign of life.
    async fn await_info(
        &self,
        io: &mut (impl AsyncRead + Unpin),
        decoder: &mut ClientDecoder,
    ) -> Result<ServerInfo, LinkError> {
        loop {
            while let Some(message) = decoder.poll()? {
                if let ServerMessage::Info(info) = message {
                    return Ok(info);
                }
            }
            let n = io.read(decoder.reader().room()).await?;
            if n == 0 {
                return Err(unexpected_end());
            }
            decoder.reader().filled(n);
        }
    }

    /// Reads until the connection ends.
    async fn read_all(
        &self,
        mut io: impl AsyncRead + Unpin,
        mut decoder: ClientDecoder,
        announced: &mut Duration,
    ) -> LinkError {
        loop {
            if let Err(error) = self.handle_frames(&mut decoder, announced).await {
                return error.into();
            }
            match self.read_some(&mut io, decoder.reader().room()).await {
                Ok(0) => return unexpected_end(),
                Ok(n) => decoder.reader().filled(n),
                Err(error) => return error,
            }
        }
    }

    /// Reads once; gives up after the silence that no living server keeps.
    async fn read_some(
        &self,
        io: &mut (impl AsyncRead + Unpin),
        room: &mut [u8],
    ) -> Result<usize, LinkError> {
        let read = tokio::select! {
            read = timeout(SILENCE, io.read(room)) => read,
            check = self.config.queue.checked() => match check {
                Check::Alive => timeout(CHECK, io.read(room)).await,
                Check::AddressGone => return Err(LinkError::AddressGone),
            },
        };
        match read {
            Ok(read) => Ok(read?),
            Err(_) => Err(LinkError::Silent),
        }
    }

    /// Works off what has been read.
    async fn handle_frames(
        &self,
        decoder: &mut ClientDecoder,
        announced: &mut Duration,
    ) -> Result<(), FrameError> {
        let mut packets = Packets::default();
        let mut alive = false;
        while let Some(message) = decoder.poll()? {
            match message {
                ServerMessage::Packet { src, packet } => {
                    packets.push(src, packet);
                    if packets.cost() >= BATCH_LEN {
                        self.pass_on(std::mem::take(&mut packets)).await;
                    }
                    continue;
                }
                ServerMessage::PeerGone { peer, .. } => {
                    // Packets that came before must not teach the route anew.
                    self.pass_on(std::mem::take(&mut packets)).await;
                    let credit = self.credit(COST).await;
                    self.tell(LinkEvent::PeerGone(peer, credit));
                }
                ServerMessage::Health(text) => {
                    let text: String = text.chars().take(HEALTH_LEN).collect();
                    let credit = self.credit(COST + HEALTH_LEN * 4).await;
                    self.tell(LinkEvent::Health(text, credit));
                }
                ServerMessage::Ping(data) => self.config.queue.push_pong(data),
                ServerMessage::Restarting { reconnect_in, .. } => *announced = reconnect_in,
                ServerMessage::Info(_)
                | ServerMessage::KeepAlive
                | ServerMessage::Pong(_)
                | ServerMessage::PeerPresent(_)
                | ServerMessage::Other(_) => {}
            }
            alive = true;
        }
        if !packets.is_empty() {
            self.pass_on(packets).await;
        } else if alive {
            let credit = self.credit(COST).await;
            self.tell(LinkEvent::Alive(credit));
        }
        Ok(())
    }

    /// Hands packets to the engine once it has room for them.
    async fn pass_on(&self, mut packets: Packets) {
        if packets.is_empty() {
            return;
        }
        packets.credit = self.credit(packets.cost()).await;
        self.tell(LinkEvent::Packets(packets));
    }

    /// Waits until the engine has room for this much.
    async fn credit(&self, cost: usize) -> Credit {
        let want = u32::try_from(cost.min(CREDIT)).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        self.credit.clone().acquire_many_owned(want).await.ok()
    }

    /// Writes until the connection ends.
    async fn write_all(
        &self,
        mut io: impl AsyncWrite + Unpin,
        mut limit: Option<TokenBucket>,
    ) -> LinkError {
        let mut out = Vec::new();
        loop {
            out.clear();
            // An idle link keeps no buffer.
            out.shrink_to(0);
            let taken = self.config.queue.take(&mut out).await;
            if taken.drained {
                self.config.mailbox.post(|inbox| inbox.woken = true);
            }
            if taken.dropped > 0 {
                let outbound = &self.config.metrics.outbound;
                outbound.count_dropped(DropReason::Error, taken.dropped.into());
            }
            if let Some(limit) = &mut limit {
                keep_within(limit, &mut out, rt::now());
            }
            let written = async {
                io.write_all(&out).await?;
                io.flush().await
            };
            if let Err(error) = written.await {
                return error.into();
            }
        }
    }
}

struct Connected {
    io: Stream,
    decoder: ClientDecoder,
    info: ServerInfo,
    local: Option<IpAddr>,
}

fn unexpected_end() -> LinkError {
    LinkError::Io(io::ErrorKind::UnexpectedEof.into())
}

fn since_start(now: Instant) -> Duration {
    now.since(Instant::ZERO)
}

/// Drops the packets for which the server's limit has no room.
pub(super) fn keep_within(limit: &mut TokenBucket, frames: &mut Vec<u8>, now: Instant) {
    let mut kept = 0;
    let mut at = 0;
    while let Some(header) = frames.get(at..at + derp::HEADER_LEN) {
        let [kind, a, b, c, d] = *header else { break };
        let len = derp::HEADER_LEN + u32::from_be_bytes([a, b, c, d]) as usize;
        let packet = kind == derp::FrameType::SEND_PACKET.0;
        let payload = len.saturating_sub(derp::HEADER_LEN + derp::KEY_LEN);
        if !packet || limit.allow_packet(payload, since_start(now)) {
            let end = (at + len).min(frames.len());
            frames.copy_within(at..end, kept);
            kept += len;
        }
        at += len;
    }
    frames.truncate(kept);
}
