//! TSMP: small messages between Tailscale nodes, as IP protocol 99 inside the tunnel (the originals' `net/packet/tsmp.go`).

use std::net::{IpAddr, SocketAddr};

use keys::DiscoPublic;

use crate::{IpView, Proto, ip_packet};

/// A TSMP message. First byte of the wire form: its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// `!`: the sender refused a flow of ours.
    Reject(Reject),
    /// `p` and 8 bytes which come back in the pong.
    Ping([u8; 8]),
    /// `o`, the ping's bytes, and the sender's PeerAPI port as big-endian u16.
    Pong {
        /// Copied from the ping.
        data: [u8; 8],
        /// 0 if the sender has none, or is too old to say.
        peer_api_port: u16,
    },
    /// `a` and 32 bytes: the sender's disco key, authenticated by the session that it came through.
    DiscoKey(DiscoPublic),
}

/// Which flow was refused, and why: proto u8, reason u8, source port u16, destination port u16, then optionally a byte
/// of flags. The IP header around it has the flow's addresses reversed, so that it reaches the flow's opener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reject {
    /// The flow's protocol.
    pub proto: Proto,
    /// Why.
    pub reason: RejectReason,
    /// Who opened the flow.
    pub src: SocketAddr,
    /// Whom it was for.
    pub dst: SocketAddr,
    /// Whether the refusal might be a mistake in the other node's set-up (flags bit 0).
    pub maybe_broken: bool,
}

/// Why a flow was refused; the byte on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RejectReason(pub u8);

impl RejectReason {
    /// The packet filter.
    pub const ACL: Self = Self(b'A');
    /// Shields are up.
    pub const SHIELDS_UP: Self = Self(b'S');
    /// IP forwarding is off there.
    pub const IP_FORWARDING: Self = Self(b'F');
    /// The host's firewall.
    pub const HOST_FIREWALL: Self = Self(b'W');
    /// An app connector does not know the transit address.
    pub const UNKNOWN_TRANSIT_IP: Self = Self(b'T');
}

impl std::fmt::Display for RejectReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match *self {
            Self::ACL => "acl",
            Self::SHIELDS_UP => "shields",
            Self::IP_FORWARDING => "host-ip-forwarding-unavailable",
            Self::HOST_FIREWALL => "host-firewall",
            Self::UNKNOWN_TRANSIT_IP => "app-connector-transit-ip-unknown",
            Self(other) => return write!(f, "0x{other:02x}"),
        })
    }
}

impl Message {
    /// Reads the TSMP message in `view`; `None` if it is not TSMP or of a kind that we do not know.
    pub fn parse(view: &IpView<'_>) -> Option<Self> {
        if !view.is(Proto::TSMP) {
            return None;
        }
        let (kind, body) = view.payload().split_first()?;
        match kind {
            b'!' => {
                let (head, rest) = body.split_first_chunk::<6>()?;
                Some(Self::Reject(Reject {
                    proto: Proto(head[0]),
                    reason: RejectReason(head[1]),
                    src: SocketAddr::new(view.dst(), u16::from_be_bytes([head[2], head[3]])),
                    dst: SocketAddr::new(view.src(), u16::from_be_bytes([head[4], head[5]])),
                    maybe_broken: rest.first().is_some_and(|flags| flags & 1 != 0),
                }))
            }
            b'p' => body.first_chunk().map(|data| Self::Ping(*data)),
            b'o' => {
                let (data, rest) = body.split_first_chunk()?;
                Some(Self::Pong {
                    data: *data,
                    peer_api_port: rest
                        .first_chunk()
                        .map_or(0, |port| u16::from_be_bytes(*port)),
                })
            }
            b'a' => body
                .first_chunk()
                .map(|key| Self::DiscoKey(DiscoPublic::from_bytes(*key))),
            _ => None,
        }
    }

    /// The packet that carries this message. `None` if the addresses are of different families.
    pub fn packet(&self, src: IpAddr, dst: IpAddr) -> Option<Vec<u8>> {
        let mut body = Vec::with_capacity(33);
        match self {
            Self::Reject(reject) => {
                body.extend_from_slice(&[b'!', reject.proto.0, reject.reason.0]);
                body.extend_from_slice(&reject.src.port().to_be_bytes());
                body.extend_from_slice(&reject.dst.port().to_be_bytes());
                if reject.maybe_broken {
                    body.push(1);
                }
            }
            Self::Ping(data) => {
                body.push(b'p');
                body.extend_from_slice(data);
            }
            Self::Pong {
                data,
                peer_api_port,
            } => {
                body.push(b'o');
                body.extend_from_slice(data);
                body.extend_from_slice(&peer_api_port.to_be_bytes());
            }
            Self::DiscoKey(key) => {
                body.push(b'a');
                body.extend_from_slice(key.as_bytes());
            }
        }
        ip_packet(src, dst, Proto::TSMP, &body)
    }
}

impl Reject {
    /// The refusal of `packet`.
    pub fn of(packet: &IpView<'_>, reason: RejectReason) -> Self {
        Self {
            proto: packet.proto(),
            reason,
            src: packet.src_addr(),
            dst: packet.dst_addr(),
            maybe_broken: false,
        }
    }

    /// The packet that tells the flow's opener. `None` if the flow's addresses are of different families.
    pub fn packet(&self) -> Option<Vec<u8>> {
        Message::Reject(*self).packet(self.dst.ip(), self.src.ip())
    }
}

#[cfg(test)]
mod tests;
