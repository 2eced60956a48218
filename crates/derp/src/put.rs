//! Appends whole frames to a buffer, so that many go out in one write.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use keys::NodePublic;

use crate::{DERP_MAGIC, FrameType, KEY_LEN, MAX_PACKET_LEN, PeerGoneReason, PeerPresent};

/// A packet is larger than [`MAX_PACKET_LEN`] and cannot be relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketTooBig(
    /// Its length.
    pub usize,
);

impl std::fmt::Display for PacketTooBig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "packet too big to relay: {}", self.0)
    }
}

impl std::error::Error for PacketTooBig {}

/// A frame of any type whose body is `parts` one after the other.
pub fn frame(out: &mut Vec<u8>, kind: FrameType, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    out.push(kind.0);
    // No caller comes near 4 GiB: bodies are packets, keys and the small JSON of the handshake.
    out.extend_from_slice(&(len as u32).to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// A server's greeting.
pub fn server_key(out: &mut Vec<u8>, key: &NodePublic) {
    frame(
        out,
        FrameType::SERVER_KEY,
        &[DERP_MAGIC.as_slice(), key.as_bytes().as_slice()],
    );
}

/// Client to server: relay `packet` to `dst`.
pub fn send_packet(out: &mut Vec<u8>, dst: &NodePublic, packet: &[u8]) -> Result<(), PacketTooBig> {
    packet_frame(out, FrameType::SEND_PACKET, dst, packet)
}

/// Server to client: a packet from `src`.
pub fn recv_packet(out: &mut Vec<u8>, src: &NodePublic, packet: &[u8]) -> Result<(), PacketTooBig> {
    packet_frame(out, FrameType::RECV_PACKET, src, packet)
}

fn packet_frame(
    out: &mut Vec<u8>,
    kind: FrameType,
    key: &NodePublic,
    packet: &[u8],
) -> Result<(), PacketTooBig> {
    if packet.len() > MAX_PACKET_LEN {
        return Err(PacketTooBig(packet.len()));
    }
    frame(out, kind, &[key.as_bytes().as_slice(), packet]);
    Ok(())
}

/// Server to server: a packet from `src`, who is connected to the sender, to `dst`.
pub fn forward_packet(
    out: &mut Vec<u8>,
    src: &NodePublic,
    dst: &NodePublic,
    packet: &[u8],
) -> Result<(), PacketTooBig> {
    if packet.len() > MAX_PACKET_LEN {
        return Err(PacketTooBig(packet.len()));
    }
    let (src, dst) = (src.as_bytes().as_slice(), dst.as_bytes().as_slice());
    frame(out, FrameType::FORWARD_PACKET, &[src, dst, packet]);
    Ok(())
}

/// Server to client: the connection lives.
pub fn keep_alive(out: &mut Vec<u8>) {
    frame(out, FrameType::KEEP_ALIVE, &[]);
}

/// Client to server: whether this region is the client's home.
pub fn note_preferred(out: &mut Vec<u8>, preferred: bool) {
    frame(out, FrameType::NOTE_PREFERRED, &[&[u8::from(preferred)]]);
}

/// Server to client: `peer` cannot be reached here.
pub fn peer_gone(out: &mut Vec<u8>, peer: &NodePublic, reason: PeerGoneReason) {
    frame(
        out,
        FrameType::PEER_GONE,
        &[peer.as_bytes().as_slice(), &[reason.0]],
    );
}

/// Server to server: a client connected. An unknown address is written as zeroes.
pub fn peer_present(out: &mut Vec<u8>, present: &PeerPresent) {
    let unknown = SocketAddr::from(([0u16; 8], 0));
    let addr = present.addr.unwrap_or(unknown);
    let ip = match addr.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => Ipv6Addr::from(ip.octets()),
    };
    frame(
        out,
        FrameType::PEER_PRESENT,
        &[
            present.key.as_bytes().as_slice(),
            ip.octets().as_slice(),
            addr.port().to_be_bytes().as_slice(),
            &[present.flags.0],
        ],
    );
}

/// Server to server: tell me who is connected.
pub fn watch_conns(out: &mut Vec<u8>) {
    frame(out, FrameType::WATCH_CONNS, &[]);
}

/// Server to server: close the connections of `peer`.
pub fn close_peer(out: &mut Vec<u8>, peer: &NodePublic) {
    frame(out, FrameType::CLOSE_PEER, &[peer.as_bytes().as_slice()]);
}

/// Either way: echo this.
pub fn ping(out: &mut Vec<u8>, data: [u8; 8]) {
    frame(out, FrameType::PING, &[&data]);
}

/// Either way: the echo of a ping.
pub fn pong(out: &mut Vec<u8>, data: [u8; 8]) {
    frame(out, FrameType::PONG, &[&data]);
}

/// Server to client: something is wrong with this connection; empty when it is over.
pub fn health(out: &mut Vec<u8>, problem: &str) {
    frame(out, FrameType::HEALTH, &[problem.as_bytes()]);
}

/// Server to client: the server restarts. Durations are cut to 49 days.
pub fn restarting(out: &mut Vec<u8>, reconnect_in: Duration, try_for: Duration) {
    let millis = |d: Duration| u32::try_from(d.as_millis()).unwrap_or(u32::MAX);
    frame(
        out,
        FrameType::RESTARTING,
        &[
            millis(reconnect_in).to_be_bytes().as_slice(),
            millis(try_for).to_be_bytes().as_slice(),
        ],
    );
}

/// How long a [`send_packet`] or [`recv_packet`] frame is.
pub const fn packet_frame_len(packet: usize) -> usize {
    crate::HEADER_LEN + KEY_LEN + packet
}
