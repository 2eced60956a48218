//! The Noise IK handshake, both roles.

use std::fmt;

use keys::{MachinePrivate, MachinePublic, shared_secret};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::record::{ERROR_TYPE, HEADER_LEN, Opener, Sealer};
use crate::symmetric::{Symmetric, TAG_LEN};

const INITIATION_TYPE: u8 = 1;
const RESPONSE_TYPE: u8 = 2;
const KEY_LEN: usize = 32;
/// An initiation as it goes into the header: version u16 BE, type 1, length u16 BE (96), ephemeral key 32, sealed
/// static key 48, sealed nothing 16.
pub const INITIATION_LEN: usize = 5 + KEY_LEN + KEY_LEN + TAG_LEN + TAG_LEN;
/// A response frame: type 2, length u16 BE (48), ephemeral key 32, sealed nothing 16.
pub const RESPONSE_LEN: usize = HEADER_LEN + KEY_LEN + TAG_LEN;

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeError {
    /// The message does not have this shape.
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The peer's key is of low order: the result would be a secret that everybody knows.
    WeakKey,
    /// The message was not made by the holder of the expected key, for this protocol version.
    NotAuthentic,
    /// The peer refused, in its own words. Anybody on the way can have written them.
    Refused {
        /// The words, shortened and without control characters.
        text: String,
    },
    /// The cryptography library refused to work.
    Crypto,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { what } => write!(f, "noise handshake: {what}"),
            Self::WeakKey => f.write_str("noise handshake: the peer's key is of low order"),
            Self::NotAuthentic => {
                f.write_str("noise handshake: decrypting the peer's message failed")
            }
            Self::Refused { text } => write!(f, "noise handshake refused by the server: `{text}`"),
            Self::Crypto => f.write_str("noise handshake: the cryptography library failed"),
        }
    }
}

impl std::error::Error for HandshakeError {}

/// An established session: one half for each direction.
pub struct Session {
    /// Seals what we send.
    pub sealer: Sealer,
    /// Opens what we receive.
    pub opener: Opener,
    /// The peer's machine key.
    pub peer: MachinePublic,
    /// The capability version that both sides named.
    pub version: u16,
    /// The handshake hash, unique to this session (channel binding).
    pub handshake_hash: [u8; 32],
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.peer)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The client's side, between initiation and response. One per attempt: each has its own ephemeral key.
pub struct Initiator {
    symmetric: Symmetric,
    machine: MachinePrivate,
    ephemeral: MachinePrivate,
    server: MachinePublic,
    version: u16,
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator")
            .field("server", &self.server)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Initiator {
    /// Starts a handshake with the server that owns `server`; the bytes are the initiation.
    pub fn new(
        machine: &MachinePrivate,
        server: &MachinePublic,
        version: u16,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Self, [u8; INITIATION_LEN]), HandshakeError> {
        let ephemeral = MachinePrivate::generate(rng);
        Self::with_ephemeral(machine, server, version, &prologue(version), ephemeral)
    }

    pub(crate) fn with_ephemeral(
        machine: &MachinePrivate,
        server: &MachinePublic,
        version: u16,
        prologue: &[u8],
        ephemeral: MachinePrivate,
    ) -> Result<(Self, [u8; INITIATION_LEN]), HandshakeError> {
        let mut symmetric = Symmetric::new(prologue);
        symmetric.mix_hash(server.as_bytes());

        let mut message = Vec::with_capacity(INITIATION_LEN);
        message.extend_from_slice(&version.to_be_bytes());
        message.push(INITIATION_TYPE);
        message.extend_from_slice(&96u16.to_be_bytes());
        let ephemeral_public = ephemeral.public();
        message.extend_from_slice(ephemeral_public.as_bytes());
        symmetric.mix_hash(ephemeral_public.as_bytes());
        symmetric.mix_key(&*agree(&ephemeral, server)?);
        symmetric.encrypt_and_hash(machine.public().as_bytes(), &mut message)?;
        symmetric.mix_key(&*agree(machine, server)?);
        symmetric.encrypt_and_hash(&[], &mut message)?;

        let this = Self {
            symmetric,
            machine: machine.clone(),
            ephemeral,
            server: *server,
            version,
        };
        let message = message.try_into().map_err(|_| HandshakeError::Crypto)?;
        Ok((this, message))
    }

    /// How many bytes of `received` (all that came after the HTTP upgrade) the server's answer has; `None` while it is
    /// incomplete. Call [`finish`](Self::finish) with exactly those bytes.
    pub fn answer_len(received: &[u8]) -> Result<Option<usize>, HandshakeError> {
        let Some((header, rest)) = received.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let [kind, high, low] = *header;
        let len = usize::from(u16::from_be_bytes([high, low]));
        match kind {
            RESPONSE_TYPE if len == RESPONSE_LEN - HEADER_LEN => {}
            RESPONSE_TYPE => return malformed("the response has a wrong length"),
            ERROR_TYPE => {}
            _ => return malformed("the answer is neither a response nor an error"),
        }
        Ok((rest.len() >= len).then_some(HEADER_LEN + len))
    }

    /// Takes the server's answer and yields the session.
    pub fn finish(mut self, answer: &[u8]) -> Result<Session, HandshakeError> {
        if let Some((&[ERROR_TYPE, _, _], text)) = answer.split_first_chunk::<HEADER_LEN>() {
            return Err(HandshakeError::Refused {
                text: readable(text),
            });
        }
        let (ephemeral, sealed) = split_message(answer, RESPONSE_TYPE, RESPONSE_LEN)?;
        let symmetric = &mut self.symmetric;
        symmetric.mix_hash(ephemeral.as_bytes());
        symmetric.mix_key(&*agree(&self.ephemeral, &ephemeral)?);
        symmetric.mix_key(&*agree(&self.machine, &ephemeral)?);
        symmetric.decrypt_and_hash(sealed)?;
        let (tx, rx, handshake_hash) = self.symmetric.split();
        Ok(Session {
            sealer: Sealer::new(&tx)?,
            opener: Opener::new(&rx)?,
            peer: self.server,
            version: self.version,
            handshake_hash,
        })
    }
}

/// The server's side, between initiation and response: the client is known and has proved itself.
pub struct Responder {
    symmetric: Symmetric,
    client: MachinePublic,
    client_ephemeral: MachinePublic,
    version: u16,
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("client", &self.client)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Responder {
    /// Opens an initiation (the decoded header). `server` is the control server's Noise key.
    pub fn open(server: &MachinePrivate, initiation: &[u8]) -> Result<Self, HandshakeError> {
        let Some((version, frame)) = initiation.split_first_chunk::<2>() else {
            return malformed("the initiation is too short");
        };
        let version = u16::from_be_bytes(*version);
        Self::with_prologue(server, version, &prologue(version), frame)
    }

    pub(crate) fn with_prologue(
        server: &MachinePrivate,
        version: u16,
        prologue: &[u8],
        frame: &[u8],
    ) -> Result<Self, HandshakeError> {
        let (ephemeral, sealed) = split_message(frame, INITIATION_TYPE, INITIATION_LEN - 2)?;
        let Some((sealed_client, sealed_end)) = sealed.split_at_checked(KEY_LEN + TAG_LEN) else {
            return malformed("the initiation is too short");
        };
        let mut symmetric = Symmetric::new(prologue);
        symmetric.mix_hash(server.public().as_bytes());
        symmetric.mix_hash(ephemeral.as_bytes());
        symmetric.mix_key(&*agree(server, &ephemeral)?);
        let client = symmetric.decrypt_and_hash(sealed_client)?;
        let client = <[u8; KEY_LEN]>::try_from(client).map_err(|_| HandshakeError::NotAuthentic)?;
        let client = MachinePublic::from_bytes(client);
        symmetric.mix_key(&*agree(server, &client)?);
        symmetric.decrypt_and_hash(sealed_end)?;
        Ok(Self {
            symmetric,
            client,
            client_ephemeral: ephemeral,
            version,
        })
    }

    /// The client's machine key.
    pub fn client(&self) -> MachinePublic {
        self.client
    }

    /// The client's capability version.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Accepts: the bytes are the response frame, which goes right behind the HTTP upgrade's header block.
    pub fn respond(
        self,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Session, [u8; RESPONSE_LEN]), HandshakeError> {
        self.with_ephemeral(&MachinePrivate::generate(rng))
    }

    pub(crate) fn with_ephemeral(
        mut self,
        ephemeral: &MachinePrivate,
    ) -> Result<(Session, [u8; RESPONSE_LEN]), HandshakeError> {
        let symmetric = &mut self.symmetric;
        let mut message = Vec::with_capacity(RESPONSE_LEN);
        message.push(RESPONSE_TYPE);
        message.extend_from_slice(&48u16.to_be_bytes());
        let ephemeral_public = ephemeral.public();
        message.extend_from_slice(ephemeral_public.as_bytes());
        symmetric.mix_hash(ephemeral_public.as_bytes());
        symmetric.mix_key(&*agree(ephemeral, &self.client_ephemeral)?);
        symmetric.mix_key(&*agree(ephemeral, &self.client)?);
        symmetric.encrypt_and_hash(&[], &mut message)?;
        let (rx, tx, handshake_hash) = self.symmetric.split();
        let session = Session {
            sealer: Sealer::new(&tx)?,
            opener: Opener::new(&rx)?,
            peer: self.client,
            version: self.version,
            handshake_hash,
        };
        let message = message.try_into().map_err(|_| HandshakeError::Crypto)?;
        Ok((session, message))
    }
}

fn prologue(version: u16) -> Vec<u8> {
    format!("Tailscale Control Protocol v{version}").into_bytes()
}

fn malformed<T>(what: &'static str) -> Result<T, HandshakeError> {
    Err(HandshakeError::Malformed { what })
}

fn agree(
    private: &MachinePrivate,
    public: &MachinePublic,
) -> Result<Zeroizing<[u8; 32]>, HandshakeError> {
    shared_secret(private.expose_bytes(), public.as_bytes()).ok_or(HandshakeError::WeakKey)
}

/// The ephemeral key and the sealed rest of a handshake frame of exactly `len` bytes.
fn split_message(
    frame: &[u8],
    kind: u8,
    len: usize,
) -> Result<(MachinePublic, &[u8]), HandshakeError> {
    if frame.len() != len {
        return malformed("the message has a wrong length");
    }
    let Some((header, rest)) = frame.split_first_chunk::<HEADER_LEN>() else {
        return malformed("the message is too short");
    };
    let [found, high, low] = *header;
    if found != kind {
        return malformed("the message has a wrong type");
    }
    if usize::from(u16::from_be_bytes([high, low])) != rest.len() {
        return malformed("the message's header has a wrong length");
    }
    let Some((ephemeral, sealed)) = rest.split_first_chunk::<KEY_LEN>() else {
        return malformed("the message is too short");
    };
    Ok((MachinePublic::from_bytes(*ephemeral), sealed))
}

/// The server's words for a log line: at most 200 characters, nothing that moves a terminal's cursor.
fn readable(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect()
}
