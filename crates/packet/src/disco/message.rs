//! What is inside a disco envelope: type u8, version u8 (0), body. Integers are big-endian; an address is 16 bytes (IPv4
//! mapped into IPv6) and a port.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use keys::{DiscoPublic, NodePublic};

/// The number by which a pong is matched with its ping.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TxId(pub [u8; 12]);

impl std::fmt::Debug for TxId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in &self.0[..6] {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A disco message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// 1: is this path alive?
    Ping(Ping),
    /// 2: it is.
    Pong(Pong),
    /// 3, over DERP only: here is where I may be reached, please ping me. n × 18 bytes.
    CallMeMaybe(Vec<SocketAddr>),
    /// 4: a client binds to a relay endpoint.
    BindEndpoint(RelayCommon),
    /// 5: the relay asks the client to prove its address.
    BindChallenge(RelayCommon),
    /// 6: the client proves it.
    BindAnswer(RelayCommon),
    /// 7, over DERP only: meet me at this relay endpoint.
    CallMeMaybeVia(RelayEndpoint),
    /// 8, over DERP only: a client asks a relay for an endpoint.
    AllocateRequest(Allocate),
    /// 9, over DERP only: the relay's answer; u32 generation, then the endpoint.
    AllocateResponse {
        /// Copied from the request.
        generation: u32,
        /// The endpoint.
        endpoint: RelayEndpoint,
    },
}

/// Body: transaction 12, node key 32 if given, then zero bytes of padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// Chosen at random.
    pub tx: TxId,
    /// Who the sender says it is; zero if it does not say. Not to be believed by itself.
    pub node_key: NodePublic,
    /// Zero bytes behind it, to probe how long a packet may be.
    pub padding: usize,
}

/// Body: transaction 12, address 18.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pong {
    /// Copied from the ping.
    pub tx: TxId,
    /// Where the ping came from, as its receiver saw it.
    pub src: SocketAddr,
}

/// Body of the three bind messages: VNI u32, generation u32, remote key 32, challenge 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayCommon {
    /// The endpoint's number; must equal the Geneve header's.
    pub vni: u32,
    /// New and not zero for each handshake.
    pub generation: u32,
    /// The other client's disco key.
    pub remote: DiscoPublic,
    /// Chosen by the relay, zero in the bind.
    pub challenge: [u8; 32],
}

/// A relay endpoint: server disco 32, client discos 2 × 32, Lamport id u64, VNI u32, bind lifetime i64 ns, steady-state
/// lifetime i64 ns, then at least one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayEndpoint {
    /// The relay's disco key.
    pub server: DiscoPublic,
    /// The two clients, in the byte order of their keys.
    pub clients: [DiscoPublic; 2],
    /// Larger is newer.
    pub lamport_id: u64,
    /// The endpoint's number.
    pub vni: u32,
    /// How long it waits for both to bind.
    pub bind_lifetime: Duration,
    /// How long it lives without traffic.
    pub steady_state_lifetime: Duration,
    /// Where the relay listens.
    pub addresses: Vec<SocketAddr>,
}

/// Body of the allocation request: the clients 2 × 32, generation u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocate {
    /// The two clients, in the byte order of their keys.
    pub clients: [DiscoPublic; 2],
    /// Comes back in the response.
    pub generation: u32,
}

/// Why bytes are no message that we understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseError {
    /// The body is too short, or not of a length that its type allows.
    Length,
    /// A type that we do not know.
    UnknownType(u8),
    /// A version of a known type that we do not know.
    UnknownVersion(u8),
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length => f.write_str("wrong length"),
            Self::UnknownType(t) => write!(f, "unknown type 0x{t:02x}"),
            Self::UnknownVersion(v) => write!(f, "unknown version {v}"),
        }
    }
}

impl std::error::Error for ParseError {}

impl Message {
    /// Reads what was inside an envelope. Bytes behind a body are ignored, except where the length tells the number of
    /// addresses.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let (&[kind, version], mut body) = bytes.split_first_chunk().ok_or(ParseError::Length)?;
        let body = &mut body;
        match kind {
            PING => Ping::parse(body).map(Self::Ping),
            PONG => Ok(Self::Pong(Pong {
                tx: TxId(take(body)?),
                src: take_addr(body)?,
            })),
            CALL_ME_MAYBE => Ok(Self::CallMeMaybe(if version == 0 {
                // Compat: a body that is not a whole number of addresses is a message with none, not an error.
                take_addrs(body).unwrap_or_default()
            } else {
                Vec::new()
            })),
            BIND => RelayCommon::parse(body).map(Self::BindEndpoint),
            CHALLENGE => RelayCommon::parse(body).map(Self::BindChallenge),
            ANSWER => RelayCommon::parse(body).map(Self::BindAnswer),
            VIA | ALLOCATE_REQUEST | ALLOCATE_RESPONSE if version != 0 => {
                Err(ParseError::UnknownVersion(version))
            }
            VIA => RelayEndpoint::parse(body).map(Self::CallMeMaybeVia),
            ALLOCATE_REQUEST => Ok(Self::AllocateRequest(Allocate {
                clients: [take_disco(body)?, take_disco(body)?],
                generation: u32::from_be_bytes(take(body)?),
            })),
            ALLOCATE_RESPONSE => Ok(Self::AllocateResponse {
                generation: u32::from_be_bytes(take(body)?),
                endpoint: RelayEndpoint::parse(body)?,
            }),
            other => Err(ParseError::UnknownType(other)),
        }
    }

    /// Appends the message as it goes into an envelope.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.kind(), 0]);
        match self {
            Self::Ping(ping) => ping.encode(out),
            Self::Pong(pong) => {
                out.extend_from_slice(&pong.tx.0);
                put_addr(out, pong.src);
            }
            Self::CallMeMaybe(addresses) => {
                for address in addresses {
                    put_addr(out, *address);
                }
            }
            Self::BindEndpoint(common) | Self::BindChallenge(common) | Self::BindAnswer(common) => {
                common.encode(out);
            }
            Self::CallMeMaybeVia(endpoint) => endpoint.encode(out),
            Self::AllocateRequest(allocate) => {
                for client in &allocate.clients {
                    out.extend_from_slice(client.as_bytes());
                }
                out.extend_from_slice(&allocate.generation.to_be_bytes());
            }
            Self::AllocateResponse {
                generation,
                endpoint,
            } => {
                out.extend_from_slice(&generation.to_be_bytes());
                endpoint.encode(out);
            }
        }
    }

    /// The name in logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ping(_) => "ping",
            Self::Pong(_) => "pong",
            Self::CallMeMaybe(_) => "call-me-maybe",
            Self::BindEndpoint(_) => "bind-udp-relay-endpoint",
            Self::BindChallenge(_) => "bind-udp-relay-endpoint-challenge",
            Self::BindAnswer(_) => "bind-udp-relay-endpoint-answer",
            Self::CallMeMaybeVia(_) => "call-me-maybe-via",
            Self::AllocateRequest(_) => "allocate-udp-relay-endpoint-request",
            Self::AllocateResponse { .. } => "allocate-udp-relay-endpoint-response",
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Ping(_) => PING,
            Self::Pong(_) => PONG,
            Self::CallMeMaybe(_) => CALL_ME_MAYBE,
            Self::BindEndpoint(_) => BIND,
            Self::BindChallenge(_) => CHALLENGE,
            Self::BindAnswer(_) => ANSWER,
            Self::CallMeMaybeVia(_) => VIA,
            Self::AllocateRequest(_) => ALLOCATE_REQUEST,
            Self::AllocateResponse { .. } => ALLOCATE_RESPONSE,
        }
    }
}

impl Ping {
    fn parse(body: &mut &[u8]) -> Result<Self, ParseError> {
        let tx = TxId(take(body)?);
        // Zeroes where the key would be are padding behind a ping without a key.
        let node_key = match body.split_first_chunk::<32>() {
            Some((key, rest)) if *key != [0; 32] => {
                *body = rest;
                NodePublic::from_bytes(*key)
            }
            _ => NodePublic::ZERO,
        };
        Ok(Self {
            tx,
            node_key,
            padding: body.len(),
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tx.0);
        if !self.node_key.is_zero() {
            out.extend_from_slice(self.node_key.as_bytes());
        }
        out.resize(out.len() + self.padding, 0);
    }
}

impl RelayCommon {
    fn parse(body: &mut &[u8]) -> Result<Self, ParseError> {
        Ok(Self {
            vni: u32::from_be_bytes(take(body)?),
            generation: u32::from_be_bytes(take(body)?),
            remote: take_disco(body)?,
            challenge: take(body)?,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.vni.to_be_bytes());
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.extend_from_slice(self.remote.as_bytes());
        out.extend_from_slice(&self.challenge);
    }
}

impl RelayEndpoint {
    fn parse(body: &mut &[u8]) -> Result<Self, ParseError> {
        Ok(Self {
            server: take_disco(body)?,
            clients: [take_disco(body)?, take_disco(body)?],
            lamport_id: u64::from_be_bytes(take(body)?),
            vni: u32::from_be_bytes(take(body)?),
            bind_lifetime: take_lifetime(body)?,
            steady_state_lifetime: take_lifetime(body)?,
            addresses: take_addrs(body).ok_or(ParseError::Length)?,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.server.as_bytes());
        for client in &self.clients {
            out.extend_from_slice(client.as_bytes());
        }
        out.extend_from_slice(&self.lamport_id.to_be_bytes());
        out.extend_from_slice(&self.vni.to_be_bytes());
        for lifetime in [self.bind_lifetime, self.steady_state_lifetime] {
            let nanos = i64::try_from(lifetime.as_nanos()).unwrap_or(i64::MAX);
            out.extend_from_slice(&nanos.to_be_bytes());
        }
        for address in &self.addresses {
            put_addr(out, *address);
        }
    }
}

fn take<const N: usize>(body: &mut &[u8]) -> Result<[u8; N], ParseError> {
    let (head, rest) = body.split_first_chunk::<N>().ok_or(ParseError::Length)?;
    *body = rest;
    Ok(*head)
}

fn take_disco(body: &mut &[u8]) -> Result<DiscoPublic, ParseError> {
    take(body).map(DiscoPublic::from_bytes)
}

/// A negative lifetime is one that has run out.
fn take_lifetime(body: &mut &[u8]) -> Result<Duration, ParseError> {
    let nanos = i64::from_be_bytes(take(body)?);
    Ok(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
}

fn take_addr(body: &mut &[u8]) -> Result<SocketAddr, ParseError> {
    let ip = Ipv6Addr::from(take::<16>(body)?);
    let port = u16::from_be_bytes(take(body)?);
    Ok(SocketAddr::new(IpAddr::V6(ip).to_canonical(), port))
}

/// All that is left as addresses: at least one, and nothing over.
fn take_addrs(body: &mut &[u8]) -> Option<Vec<SocketAddr>> {
    if body.is_empty() || !body.len().is_multiple_of(ADDR) {
        return None;
    }
    let mut addresses = Vec::with_capacity(body.len() / ADDR);
    while !body.is_empty() {
        addresses.push(take_addr(body).ok()?);
    }
    Some(addresses)
}

fn put_addr(out: &mut Vec<u8>, address: SocketAddr) {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    out.extend_from_slice(&ip.octets());
    out.extend_from_slice(&address.port().to_be_bytes());
}

const ADDR: usize = 18;
const PING: u8 = 1;
const PONG: u8 = 2;
const CALL_ME_MAYBE: u8 = 3;
const BIND: u8 = 4;
const CHALLENGE: u8 = 5;
const ANSWER: u8 = 6;
const VIA: u8 = 7;
const ALLOCATE_REQUEST: u8 = 8;
const ALLOCATE_RESPONSE: u8 = 9;
