//! The server's side of a connection.

use keys::nacl::{self, SharedKey};
use keys::{NodePrivate, NodePublic};
use rand_core::CryptoRng;

use crate::frame::split_key;
use crate::{
    ClientInfo, FrameError, FrameReader, FrameType, HandshakeError, KEY_LEN, Keep, MAX_PACKET_LEN,
    ServerInfo, put,
};

/// Nothing about the client is known yet, so its JSON is kept short.
const MAX_CLIENT_INFO: u32 = 256 << 10;
/// Room for later additions to a ping.
const MAX_PING: u32 = 1000;

/// The server's part of the handshake: send [`greeting`](Self::greeting), feed [`reader`](Self::reader) and call
/// [`poll`](Self::poll) after each read.
#[derive(Debug)]
pub struct ServerHandshake {
    private: NodePrivate,
    reader: FrameReader,
}

/// A client has proved its key. The server decides whether it wants it, and then sends `reply`.
#[derive(Debug)]
pub struct Accepted {
    /// The client's key.
    pub key: NodePublic,
    /// What it says about itself.
    pub info: ClientInfo,
    /// The `ServerInfo` frame.
    pub reply: Vec<u8>,
    /// Takes over the received bytes.
    pub decoder: ServerDecoder,
}

impl ServerHandshake {
    /// Waits for a client.
    pub fn new(private: NodePrivate) -> Self {
        Self {
            private,
            reader: FrameReader::new(),
        }
    }

    /// The `ServerKey` frame, which goes first.
    pub fn greeting(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(45);
        put::server_key(&mut out, &self.private.public());
        out
    }

    /// Where received bytes go.
    pub fn reader(&mut self) -> &mut FrameReader {
        &mut self.reader
    }

    /// Goes on; `None` means that more bytes are needed. `info` is what an accepted client will be told.
    pub fn poll(
        &mut self,
        info: &ServerInfo,
        rng: &mut dyn CryptoRng,
    ) -> Result<Option<Accepted>, HandshakeError> {
        let private = &self.private;
        // Whatever comes first is whole or refused by its header: a stranger's unknown frame is not waited for.
        let Some(frame) = self.reader.poll(|kind| match kind {
            FrameType::CLIENT_INFO => Keep::Whole {
                max: MAX_CLIENT_INFO,
            },
            _ => Keep::Prefix {
                prefix: 0,
                max: u32::MAX,
            },
        })?
        else {
            return Ok(None);
        };
        if frame.kind != FrameType::CLIENT_INFO {
            return Err(HandshakeError::UnexpectedFrame {
                got: frame.kind,
                want: FrameType::CLIENT_INFO,
            });
        }
        let too_short = FrameError::WrongLength {
            frame: frame.kind,
            len: frame.body.len(),
        };
        let (key, sealed) = split_key(frame.body).ok_or(too_short)?;
        if sealed.len() < nacl::NONCE_LEN {
            return Err(too_short.into());
        }
        let shared =
            SharedKey::new(private.expose_bytes(), key.as_bytes()).ok_or(HandshakeError::BadKey)?;
        let text = zeroize::Zeroizing::new(shared.open(sealed).ok_or(HandshakeError::BadBox)?);
        let client = ClientInfo::from_json(&text).ok_or(HandshakeError::BadInfo)?;
        let mut reply = Vec::new();
        put::frame(
            &mut reply,
            FrameType::SERVER_INFO,
            &[&shared.seal(rng, info.to_json().as_bytes())],
        );
        Ok(Some(Accepted {
            key,
            info: client,
            reply,
            decoder: ServerDecoder {
                reader: std::mem::take(&mut self.reader),
            },
        }))
    }
}

/// What a client says in the steady state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// Relay a packet.
    SendPacket {
        /// To whom.
        dst: NodePublic,
        /// The packet.
        packet: &'a [u8],
    },
    /// Deliver a packet that another server of the region received.
    ForwardPacket {
        /// From whom.
        src: NodePublic,
        /// To whom.
        dst: NodePublic,
        /// The packet.
        packet: &'a [u8],
    },
    /// Whether this region is the client's home.
    NotePreferred(bool),
    /// Wants to hear who is connected.
    WatchConns,
    /// Wants a client's connections closed.
    ClosePeer(NodePublic),
    /// To be answered with a pong of the same bytes.
    Ping([u8; 8]),
    /// The answer to a ping.
    Pong([u8; 8]),
    /// A frame that means nothing to a server; it only shows that the client lives.
    Other(FrameType),
}

/// Reads what a client says.
#[derive(Debug, Default)]
pub struct ServerDecoder {
    reader: FrameReader,
}

impl ServerDecoder {
    /// Where received bytes go.
    pub fn reader(&mut self) -> &mut FrameReader {
        &mut self.reader
    }

    /// The next message, if one has come whole. After an error the connection must be closed.
    pub fn poll(&mut self) -> Result<Option<ClientMessage<'_>>, FrameError> {
        let Some(frame) = self.reader.poll(keep)? else {
            return Ok(None);
        };
        let wrong = FrameError::WrongLength {
            frame: frame.kind,
            len: frame.len as usize,
        };
        parse(frame.kind, frame.len, frame.body)
            .map(Some)
            .ok_or(wrong)
    }
}

fn keep(kind: FrameType) -> Keep {
    const KEY: u32 = KEY_LEN as u32;
    const PACKET: u32 = MAX_PACKET_LEN as u32;
    match kind {
        FrameType::SEND_PACKET => Keep::Whole { max: KEY + PACKET },
        FrameType::FORWARD_PACKET => Keep::Whole {
            max: 2 * KEY + PACKET,
        },
        FrameType::NOTE_PREFERRED => Keep::Whole { max: 1 },
        FrameType::WATCH_CONNS => Keep::Whole { max: 0 },
        FrameType::CLOSE_PEER => Keep::Whole { max: KEY },
        FrameType::PING => Keep::Prefix {
            prefix: 8,
            max: MAX_PING,
        },
        FrameType::PONG => Keep::Prefix {
            prefix: 8,
            max: u32::MAX,
        },
        _ => Keep::Prefix {
            prefix: 0,
            max: u32::MAX,
        },
    }
}

/// `None` if the length is wrong: a client that cannot count is not worth keeping.
fn parse(kind: FrameType, len: u32, body: &[u8]) -> Option<ClientMessage<'_>> {
    Some(match kind {
        FrameType::SEND_PACKET => {
            let (dst, packet) = split_key(body)?;
            ClientMessage::SendPacket { dst, packet }
        }
        FrameType::FORWARD_PACKET => {
            let (src, rest) = split_key(body)?;
            let (dst, packet) = split_key(rest)?;
            ClientMessage::ForwardPacket { src, dst, packet }
        }
        FrameType::NOTE_PREFERRED => ClientMessage::NotePreferred(*body.first()? != 0),
        FrameType::WATCH_CONNS => ClientMessage::WatchConns,
        FrameType::CLOSE_PEER => ClientMessage::ClosePeer(split_key(body)?.0),
        FrameType::PING => ClientMessage::Ping(*body.first_chunk()?),
        FrameType::PONG if len >= 8 => ClientMessage::Pong(*body.first_chunk()?),
        kind => ClientMessage::Other(kind),
    })
}
