//! The client's side of a connection.

use std::borrow::Cow;
use std::time::Duration;

use keys::nacl::SharedKey;
use keys::{NodePrivate, NodePublic};
use rand_core::CryptoRng;

use crate::frame::split_key;
use crate::{
    ClientInfo, DERP_MAGIC, FrameError, FrameReader, FrameType, HandshakeError, KEY_LEN, Keep,
    PeerGoneReason, PeerPresent, ServerInfo, put,
};

/// The largest frame that a client accepts.
const MAX_FRAME: u32 = 1 << 20;
/// The largest greeting.
const MAX_GREETING: u32 = 1 << 10;

/// The client's part of the handshake.
///
/// Feed [`reader`](Self::reader) and call [`poll`](Self::poll) after each read until it gives a [`Hello`]. Where the server's
/// key is known from its certificate (fast start), the first `poll` gives it without any read, and the server's greeting,
/// which still comes, is skipped by the decoder.
#[derive(Debug)]
pub struct ClientHandshake {
    private: NodePrivate,
    info: ClientInfo,
    known_server: Option<NodePublic>,
    reader: FrameReader,
}

/// The handshake is done for the client, which may send packets right after `frame`. Whether the server accepts it shows
/// when [`ServerMessage::Info`] arrives.
#[derive(Debug)]
pub struct Hello {
    /// The `ClientInfo` frame to send first.
    pub frame: Vec<u8>,
    /// Takes over the received bytes.
    pub decoder: ClientDecoder,
}

impl ClientHandshake {
    /// Starts a handshake; `server` is the server's key where fast start told it.
    pub fn new(private: NodePrivate, info: ClientInfo, server: Option<NodePublic>) -> Self {
        Self {
            private,
            info,
            known_server: server,
            reader: FrameReader::new(),
        }
    }

    /// Where received bytes go.
    pub fn reader(&mut self) -> &mut FrameReader {
        &mut self.reader
    }

    /// Goes on; `None` means that more bytes are needed.
    pub fn poll(&mut self, rng: &mut dyn CryptoRng) -> Result<Option<Hello>, HandshakeError> {
        let server = match self.known_server {
            Some(server) => server,
            None => match self.read_greeting()? {
                Some(server) => server,
                None => return Ok(None),
            },
        };
        let shared = SharedKey::new(self.private.expose_bytes(), server.as_bytes())
            .ok_or(HandshakeError::BadKey)?;
        let sealed = shared.seal(rng, self.info.to_json().as_bytes());
        let mut frame = Vec::with_capacity(5 + KEY_LEN + sealed.len());
        put::frame(
            &mut frame,
            FrameType::CLIENT_INFO,
            &[self.private.public().as_bytes().as_slice(), &sealed],
        );
        Ok(Some(Hello {
            frame,
            decoder: ClientDecoder {
                server,
                shared,
                reader: std::mem::take(&mut self.reader),
            },
        }))
    }

    fn read_greeting(&mut self) -> Result<Option<NodePublic>, HandshakeError> {
        let Some(frame) = self.reader.poll(|_| Keep::Whole { max: MAX_GREETING })? else {
            return Ok(None);
        };
        if frame.kind != FrameType::SERVER_KEY {
            return Err(HandshakeError::UnexpectedFrame {
                got: frame.kind,
                want: FrameType::SERVER_KEY,
            });
        }
        let body = frame
            .body
            .strip_prefix(&DERP_MAGIC)
            .ok_or(HandshakeError::BadGreeting)?;
        let (server, _future) = split_key(body).ok_or(HandshakeError::BadGreeting)?;
        Ok(Some(server))
    }
}

/// What a server says in the steady state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerMessage<'a> {
    /// The server accepted us; any limit that it names replaces the one before.
    Info(ServerInfo),
    /// A relayed packet.
    Packet {
        /// Who sent it.
        src: NodePublic,
        /// The packet.
        packet: &'a [u8],
    },
    /// The server lives.
    KeepAlive,
    /// A peer cannot be reached through this server.
    PeerGone {
        /// Which one.
        peer: NodePublic,
        /// Why.
        reason: PeerGoneReason,
    },
    /// A client of the region connected (only told to servers of the region).
    PeerPresent(PeerPresent),
    /// To be answered with a pong of the same bytes.
    Ping([u8; 8]),
    /// The answer to a ping.
    Pong([u8; 8]),
    /// The problem of this connection; empty when it is over.
    Health(Cow<'a, str>),
    /// The server is about to restart.
    Restarting {
        /// When to reconnect.
        reconnect_in: Duration,
        /// For how long to try.
        try_for: Duration,
    },
    /// A frame that is unknown, or too short for its type; it only shows that the server lives.
    Other(FrameType),
}

/// Reads what a server says.
#[derive(Debug)]
pub struct ClientDecoder {
    server: NodePublic,
    shared: SharedKey,
    reader: FrameReader,
}

impl ClientDecoder {
    /// The server's key.
    pub fn server(&self) -> NodePublic {
        self.server
    }

    /// Where received bytes go.
    pub fn reader(&mut self) -> &mut FrameReader {
        &mut self.reader
    }

    /// The next message, if one has come whole. After an error the connection is of no more use.
    pub fn poll(&mut self) -> Result<Option<ServerMessage<'_>>, FrameError> {
        let Some(frame) = self.reader.poll(keep)? else {
            return Ok(None);
        };
        if frame.kind == FrameType::SERVER_INFO {
            return open_info(&self.shared, frame.body).map(|info| Some(ServerMessage::Info(info)));
        }
        Ok(Some(
            parse(frame.kind, frame.body).unwrap_or(ServerMessage::Other(frame.kind)),
        ))
    }
}

fn keep(kind: FrameType) -> Keep {
    match kind {
        FrameType::SERVER_INFO
        | FrameType::RECV_PACKET
        | FrameType::PEER_GONE
        | FrameType::PEER_PRESENT
        | FrameType::HEALTH
        | FrameType::RESTARTING => Keep::Whole { max: MAX_FRAME },
        FrameType::PING | FrameType::PONG => Keep::Prefix {
            prefix: 8,
            max: MAX_FRAME,
        },
        _ => Keep::Prefix {
            prefix: 0,
            max: MAX_FRAME,
        },
    }
}

/// `None` for what is unknown or too short: newer and older servers must both be understood.
fn parse(kind: FrameType, body: &[u8]) -> Option<ServerMessage<'_>> {
    Some(match kind {
        FrameType::RECV_PACKET => {
            let (src, packet) = split_key(body)?;
            ServerMessage::Packet { src, packet }
        }
        FrameType::KEEP_ALIVE => ServerMessage::KeepAlive,
        FrameType::PEER_GONE => {
            let (peer, rest) = split_key(body)?;
            let reason = rest
                .first()
                .map_or(PeerGoneReason::DISCONNECTED, |byte| PeerGoneReason(*byte));
            ServerMessage::PeerGone { peer, reason }
        }
        FrameType::PEER_PRESENT => ServerMessage::PeerPresent(PeerPresent::parse(body)?),
        FrameType::PING => ServerMessage::Ping(*body.first_chunk()?),
        FrameType::PONG => ServerMessage::Pong(*body.first_chunk()?),
        FrameType::HEALTH => ServerMessage::Health(String::from_utf8_lossy(body)),
        FrameType::RESTARTING => {
            let (reconnect, rest) = body.split_first_chunk()?;
            let try_for = rest.first_chunk()?;
            ServerMessage::Restarting {
                reconnect_in: Duration::from_millis(u64::from(u32::from_be_bytes(*reconnect))),
                try_for: Duration::from_millis(u64::from(u32::from_be_bytes(*try_for))),
            }
        }
        _ => return None,
    })
}

fn open_info(shared: &SharedKey, body: &[u8]) -> Result<ServerInfo, FrameError> {
    let text = shared.open(body).ok_or(FrameError::BadServerInfo)?;
    ServerInfo::from_json(&text).ok_or(FrameError::BadServerInfo)
}
