//! The vocabulary of frames: `type u8, length u32 big-endian, body`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use keys::NodePublic;

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 5;
/// Bytes of a key in a frame.
pub const KEY_LEN: usize = 32;
/// The largest packet that may be relayed, without framing.
pub const MAX_PACKET_LEN: usize = 64 << 10;
/// The protocol version that both sides speak.
pub const PROTOCOL_VERSION: i64 = 2;
/// How often at least a server says that it lives; a client gives up after twice this.
pub const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// The first bytes of a server's greeting: `DERP` and U+1F511.
pub const DERP_MAGIC: [u8; 8] = *b"DERP\xf0\x9f\x94\x91";

/// What a frame is. Any byte may come from a newer peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameType(pub u8);

impl FrameType {
    /// Server's greeting: magic, public key, room for more.
    pub const SERVER_KEY: Self = Self(0x01);
    /// Client's public key and a box with [`ClientInfo`](crate::ClientInfo).
    pub const CLIENT_INFO: Self = Self(0x02);
    /// A box with [`ServerInfo`](crate::ServerInfo).
    pub const SERVER_INFO: Self = Self(0x03);
    /// Destination key and packet.
    pub const SEND_PACKET: Self = Self(0x04);
    /// Source key and packet.
    pub const RECV_PACKET: Self = Self(0x05);
    /// Empty: the server lives.
    pub const KEEP_ALIVE: Self = Self(0x06);
    /// One byte: whether this region is the client's home.
    pub const NOTE_PREFERRED: Self = Self(0x07);
    /// Key, and a reason unless the server is old.
    pub const PEER_GONE: Self = Self(0x08);
    /// Key, then unless the server is old 16 bytes address and 2 bytes port, then 1 byte flags.
    pub const PEER_PRESENT: Self = Self(0x09);
    /// Source key, destination key and packet, between servers of one region.
    pub const FORWARD_PACKET: Self = Self(0x0a);
    /// Empty: a server of the region wants to hear who is connected.
    pub const WATCH_CONNS: Self = Self(0x10);
    /// Key whose connections to close, from a server of the region.
    pub const CLOSE_PEER: Self = Self(0x11);
    /// Eight bytes to be echoed.
    pub const PING: Self = Self(0x12);
    /// The echo.
    pub const PONG: Self = Self(0x13);
    /// Text of a problem; empty when it is over.
    pub const HEALTH: Self = Self(0x14);
    /// Two u32 big-endian in milliseconds: when to reconnect and how long to try.
    pub const RESTARTING: Self = Self(0x15);
}

/// Why a peer cannot be reached through this server. Any byte may come from a newer server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerGoneReason(pub u8);

impl PeerGoneReason {
    /// It disconnected.
    pub const DISCONNECTED: Self = Self(0x00);
    /// The server does not know it.
    pub const NOT_HERE: Self = Self(0x01);
}

/// Bit set about a client of a relay; zero means that the server predates it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PresentFlags(pub u8);

impl PresentFlags {
    /// An ordinary client.
    pub const REGULAR: u8 = 1;
    /// Another server of the region.
    pub const MESH_PEER: u8 = 1 << 1;
    /// A prober.
    pub const PROBER: u8 = 1 << 2;
    /// The client would rather be on another node of the region.
    pub const NOT_IDEAL: u8 = 1 << 3;
}

/// A client of this region, as told to the region's other servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerPresent {
    /// The client's key.
    pub key: NodePublic,
    /// Where it connects from; `None` from an old server.
    pub addr: Option<SocketAddr>,
    /// What it is.
    pub flags: PresentFlags,
}

impl PeerPresent {
    /// Reads a frame's body; `None` if it is too short for a key.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let (key, rest) = split_key(body)?;
        let mut present = Self {
            key,
            addr: None,
            flags: PresentFlags(0),
        };
        let Some((ip, rest)) = rest.split_first_chunk::<16>() else {
            return Some(present);
        };
        let Some((port, rest)) = rest.split_first_chunk::<2>() else {
            return Some(present);
        };
        let ip = IpAddr::V6(Ipv6Addr::from(*ip)).to_canonical();
        present.addr = Some(SocketAddr::new(ip, u16::from_be_bytes(*port)));
        if let Some(flags) = rest.first() {
            present.flags = PresentFlags(*flags);
        }
        Some(present)
    }
}

/// Whether a packet looks like a disco message: its magic (`TS` and U+1F4AC), a sender key and a nonce.
pub fn looks_like_disco(packet: &[u8]) -> bool {
    packet.len() >= 6 + 32 + 24 && packet.starts_with(b"TS\xf0\x9f\x92\xac")
}

/// Splits the key off the front of a body.
pub(crate) fn split_key(body: &[u8]) -> Option<(NodePublic, &[u8])> {
    let (key, rest) = body.split_first_chunk::<KEY_LEN>()?;
    Some((NodePublic::from_bytes(*key), rest))
}
