//! The four message types. All integers are little-endian; the first byte is the type and three zero bytes follow.
//!
//! ```text
//! initiation (148)  type 1 · sender u32 · ephemeral 32 · static 32+16 · timestamp 12+16 · mac1 16 · mac2 16
//! response    (92)  type 2 · sender u32 · receiver u32 · ephemeral 32 · empty 0+16 · mac1 16 · mac2 16
//! cookie      (64)  type 3 · receiver u32 · nonce 24 · cookie 16+16
//! data      (32+n)  type 4 · receiver u32 · counter u64 · ciphertext n · tag 16
//! ```

/// Bytes in front of a data message's ciphertext.
pub const HEADER_LEN: usize = 16;
/// Bytes of the authenticator behind it.
pub const TAG_LEN: usize = 16;
/// How much longer a data message is than its (padded) packet.
pub const DATA_OVERHEAD: usize = HEADER_LEN + TAG_LEN;
/// No datagram is longer than this, over whichever path.
pub const MAX_DATAGRAM: usize = 65535;

pub(crate) const INITIATION_LEN: usize = 148;
pub(crate) const RESPONSE_LEN: usize = 92;
pub(crate) const COOKIE_LEN: usize = 64;
pub(crate) const MACS_LEN: usize = 32;

pub(crate) const INITIATION: u8 = 1;
pub(crate) const RESPONSE: u8 = 2;
pub(crate) const COOKIE: u8 = 3;
pub(crate) const DATA: u8 = 4;

/// A datagram by its type; nothing in it is authenticated yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Somebody wants a session.
    Initiation(Initiation<'a>),
    /// The answer to our initiation.
    Response(Response<'a>),
    /// Our handshake message was not looked at: its receiver is under load and wants proof of our address.
    CookieReply(CookieReply<'a>),
    /// A packet of a session.
    Data {
        /// Our index of the session.
        receiver: u32,
        /// The message's number in the session.
        counter: u64,
    },
}

/// Why a datagram is no WireGuard message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotWireGuard {
    /// The type is unknown.
    Type,
    /// The length does not fit the type.
    Length,
}

impl std::fmt::Display for NotWireGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Type => "unknown wireguard message type",
            Self::Length => "wrong length for a wireguard message",
        })
    }
}

impl std::error::Error for NotWireGuard {}

/// The bytes of an initiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initiation<'a>(pub(crate) &'a [u8; INITIATION_LEN]);

/// The bytes of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response<'a>(pub(crate) &'a [u8; RESPONSE_LEN]);

/// The bytes of a cookie reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CookieReply<'a>(pub(crate) &'a [u8; COOKIE_LEN]);

/// Reads the type, and checks the length that goes with it.
pub fn classify(datagram: &[u8]) -> Result<Message<'_>, NotWireGuard> {
    let kind = datagram.first_chunk::<4>().ok_or(NotWireGuard::Length)?;
    match kind {
        [INITIATION, 0, 0, 0] => datagram
            .try_into()
            .map(|bytes| Message::Initiation(Initiation(bytes))),
        [RESPONSE, 0, 0, 0] => datagram
            .try_into()
            .map(|bytes| Message::Response(Response(bytes))),
        [COOKIE, 0, 0, 0] => datagram
            .try_into()
            .map(|bytes| Message::CookieReply(CookieReply(bytes))),
        [DATA, 0, 0, 0] => {
            return match datagram.first_chunk::<HEADER_LEN>() {
                Some(header) if (DATA_OVERHEAD..=MAX_DATAGRAM).contains(&datagram.len()) => {
                    Ok(Message::Data {
                        receiver: u32::from_le_bytes(field(header, 4)),
                        counter: u64::from_le_bytes(field(header, 8)),
                    })
                }
                _ => Err(NotWireGuard::Length),
            };
        }
        _ => return Err(NotWireGuard::Type),
    }
    .map_err(|_| NotWireGuard::Length)
}

impl<'a> Initiation<'a> {
    /// The sender's index of the session to be.
    pub fn sender(&self) -> u32 {
        u32::from_le_bytes(field(self.0, 4))
    }

    pub(crate) fn ephemeral(&self) -> [u8; 32] {
        field(self.0, 8)
    }

    pub(crate) fn sealed_static(&self) -> [u8; 48] {
        field(self.0, 40)
    }

    pub(crate) fn sealed_timestamp(&self) -> [u8; 28] {
        field(self.0, 88)
    }

    /// The message as a whole.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Response<'a> {
    /// The sender's index of the session.
    pub fn sender(&self) -> u32 {
        u32::from_le_bytes(field(self.0, 4))
    }

    /// Our index, as given in the initiation.
    pub fn receiver(&self) -> u32 {
        u32::from_le_bytes(field(self.0, 8))
    }

    pub(crate) fn ephemeral(&self) -> [u8; 32] {
        field(self.0, 12)
    }

    pub(crate) fn sealed_empty(&self) -> [u8; 16] {
        field(self.0, 44)
    }

    /// The message as a whole.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }
}

impl CookieReply<'_> {
    /// Our index, as given in the message that it answers.
    pub fn receiver(&self) -> u32 {
        u32::from_le_bytes(field(self.0, 4))
    }

    pub(crate) fn nonce(&self) -> [u8; 24] {
        field(self.0, 8)
    }

    pub(crate) fn sealed_cookie(&self) -> [u8; 32] {
        field(self.0, 32)
    }
}

/// `N` bytes at a constant place of a fixed-size message; the callers' places are all inside.
pub(crate) fn field<const N: usize>(message: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(bytes) = message.get(at..at + N) {
        out.copy_from_slice(bytes);
    }
    out
}

/// The header of a data message.
pub(crate) fn data_header(receiver: u32, counter: u64) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[0] = DATA;
    header[4..8].copy_from_slice(&receiver.to_le_bytes());
    header[8..].copy_from_slice(&counter.to_le_bytes());
    header
}
