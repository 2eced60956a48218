//! STUN binding requests and responses (RFC 5389), as much of it as the tailnet uses.
//!
//! Servers of a tailnet answer only requests that carry the software name `tailnode` and end in a valid fingerprint; clients
//! read the responses of any server.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rand_core::CryptoRng;

const HEADER_LEN: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const COOKIE_PORT: u16 = 0x2112;
const BINDING_REQUEST: [u8; 2] = [0, 1];
const BINDING_SUCCESS: [u8; 2] = [1, 1];
const FINGERPRINT_XOR: u32 = 0x5354_554e;
/// Type, length and the CRC.
const FINGERPRINT_LEN: usize = 8;

const ATTR_MAPPED_ADDRESS: u16 = 0x0001;
const ATTR_XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// From a draft before the RFC; servers in the field still send it.
const ATTR_XOR_MAPPED_ADDRESS_OLD: u16 = 0x8020;
const ATTR_SOFTWARE: u16 = 0x8022;
const ATTR_FINGERPRINT: u16 = 0x8028;
const SOFTWARE: [u8; 8] = *b"tailnode";

/// Bytes of a request.
pub const REQUEST_LEN: usize = HEADER_LEN + 4 + SOFTWARE.len() + FINGERPRINT_LEN;

/// Ties a response to its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxId(pub [u8; 12]);

impl TxId {
    /// A fresh one. It must not be guessable: it is all that proves a response.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut bytes = [0; 12];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

/// Why a datagram is not the STUN message that was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StunError {
    /// It is not STUN at all.
    NotStun,
    /// It is not a successful binding response.
    NotResponse,
    /// It is not a binding request.
    NotRequest,
    /// Its attributes overrun it, or hold no address.
    BadAttributes,
    /// The request does not come from a tailnet's software.
    WrongSoftware,
    /// The request does not end in a fingerprint.
    NoFingerprint,
    /// The fingerprint is not that of the request.
    WrongFingerprint,
}

impl fmt::Display for StunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotStun => "not a stun message",
            Self::NotResponse => "not a stun success response",
            Self::NotRequest => "not a stun binding request",
            Self::BadAttributes => "stun attributes are malformed",
            Self::WrongSoftware => "stun request does not come from a tailnet node",
            Self::NoFingerprint => "stun request does not end in a fingerprint",
            Self::WrongFingerprint => "stun request has a wrong fingerprint",
        })
    }
}

impl std::error::Error for StunError {}

/// Whether a datagram is a STUN message: 20 bytes, two zero bits at the front, the magic cookie.
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_LEN && datagram[0] & 0xc0 == 0 && datagram[4..8] == MAGIC_COOKIE
}

/// A binding request: header, SOFTWARE, FINGERPRINT, in the one order that servers accept.
pub fn request(tx: TxId) -> [u8; REQUEST_LEN] {
    let mut out = [0; REQUEST_LEN];
    out[0..2].copy_from_slice(&BINDING_REQUEST);
    out[2..4].copy_from_slice(&((REQUEST_LEN - HEADER_LEN) as u16).to_be_bytes());
    out[4..8].copy_from_slice(&MAGIC_COOKIE);
    out[8..20].copy_from_slice(&tx.0);
    out[20..22].copy_from_slice(&ATTR_SOFTWARE.to_be_bytes());
    out[22..24].copy_from_slice(&(SOFTWARE.len() as u16).to_be_bytes());
    out[24..32].copy_from_slice(&SOFTWARE);
    let fingerprint = fingerprint(&out[..32]);
    out[32..34].copy_from_slice(&ATTR_FINGERPRINT.to_be_bytes());
    out[34..36].copy_from_slice(&4u16.to_be_bytes());
    out[36..40].copy_from_slice(&fingerprint.to_be_bytes());
    out
}

/// Reads a tailnet node's binding request.
pub fn parse_request(datagram: &[u8]) -> Result<TxId, StunError> {
    let (kind, tx, attributes) = split(datagram)?;
    if kind != BINDING_REQUEST {
        return Err(StunError::NotRequest);
    }
    let mut software_ok = false;
    let mut last = None;
    for attribute in Attributes(attributes) {
        let (kind, value) = attribute?;
        software_ok |= kind == ATTR_SOFTWARE && *value == SOFTWARE;
        last = Some((kind, value));
    }
    if !software_ok {
        return Err(StunError::WrongSoftware);
    }
    let Some((ATTR_FINGERPRINT, value)) = last else {
        return Err(StunError::NoFingerprint);
    };
    let covered = &datagram[..datagram.len().saturating_sub(FINGERPRINT_LEN)];
    if *value != fingerprint(covered).to_be_bytes() {
        return Err(StunError::WrongFingerprint);
    }
    Ok(tx)
}

/// The answer to a request from `addr`: header and XOR-MAPPED-ADDRESS.
pub fn response(tx: TxId, addr: SocketAddr) -> Vec<u8> {
    let (family, ip) = match addr.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mut out = Vec::with_capacity(HEADER_LEN + 8 + ip.len());
    out.extend_from_slice(&BINDING_SUCCESS);
    out.extend_from_slice(&(8 + ip.len() as u16).to_be_bytes());
    out.extend_from_slice(&MAGIC_COOKIE);
    out.extend_from_slice(&tx.0);
    out.extend_from_slice(&ATTR_XOR_MAPPED_ADDRESS.to_be_bytes());
    out.extend_from_slice(&(4 + ip.len() as u16).to_be_bytes());
    out.extend_from_slice(&[0, family]);
    out.extend_from_slice(&(addr.port() ^ COOKIE_PORT).to_be_bytes());
    out.extend(ip.iter().zip(mask(tx)).map(|(byte, mask)| byte ^ mask));
    out
}

/// Reads a binding response: whose answer it is, and our address as the server saw it.
///
/// XOR-MAPPED-ADDRESS counts, under its own or its draft's number, else MAPPED-ADDRESS; of several the last one. An IPv4
/// address in IPv6 clothes is undressed. What follows the announced length is ignored.
pub fn parse_response(datagram: &[u8]) -> Result<(TxId, SocketAddr), StunError> {
    let (kind, tx, rest) = split(datagram)?;
    if kind != BINDING_SUCCESS {
        return Err(StunError::NotResponse);
    }
    let len = usize::from(u16::from_be_bytes([datagram[2], datagram[3]]));
    let attributes = rest.get(..len).ok_or(StunError::BadAttributes)?;
    let (mut xored, mut plain) = (None, None);
    for attribute in Attributes(attributes) {
        match attribute? {
            (ATTR_XOR_MAPPED_ADDRESS | ATTR_XOR_MAPPED_ADDRESS_OLD, value) => {
                xored = Some(address(value, COOKIE_PORT, mask(tx))?);
            }
            (ATTR_MAPPED_ADDRESS, value) => plain = Some(address(value, 0, [0; 16])?),
            _ => {}
        }
    }
    let addr = xored.or(plain).ok_or(StunError::BadAttributes)?;
    Ok((tx, addr))
}

fn split(datagram: &[u8]) -> Result<([u8; 2], TxId, &[u8]), StunError> {
    if !is_stun(datagram) {
        return Err(StunError::NotStun);
    }
    let mut tx = [0; 12];
    tx.copy_from_slice(&datagram[8..HEADER_LEN]);
    Ok((
        [datagram[0], datagram[1]],
        TxId(tx),
        &datagram[HEADER_LEN..],
    ))
}

/// Type, length and value, each value padded to four bytes.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), StunError>;

    fn next(&mut self) -> Option<Self::Item> {
        let whole = std::mem::take(&mut self.0);
        if whole.is_empty() {
            return None;
        }
        let Some(([t0, t1, l0, l1], rest)) = whole.split_first_chunk::<4>() else {
            return Some(Err(StunError::BadAttributes));
        };
        let len = usize::from(u16::from_be_bytes([*l0, *l1]));
        let Some((padded, rest)) = rest.split_at_checked(len.next_multiple_of(4)) else {
            return Some(Err(StunError::BadAttributes));
        };
        self.0 = rest;
        Some(Ok((u16::from_be_bytes([*t0, *t1]), &padded[..len])))
    }
}

/// What an address is XORed with: the cookie and the transaction.
fn mask(tx: TxId) -> [u8; 16] {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE);
    mask[4..].copy_from_slice(&tx.0);
    mask
}

fn address(value: &[u8], port_mask: u16, mask: [u8; 16]) -> Result<SocketAddr, StunError> {
    let ([_, family, p0, p1], rest) = value
        .split_first_chunk::<4>()
        .ok_or(StunError::BadAttributes)?;
    let unmask = |bytes: &[u8]| -> [u8; 16] {
        let mut out = [0; 16];
        for ((out, byte), mask) in out.iter_mut().zip(bytes).zip(mask) {
            *out = byte ^ mask;
        }
        out
    };
    let ip = match family {
        1 => {
            let [a, b, c, d, ..] = unmask(rest.get(..4).ok_or(StunError::BadAttributes)?);
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        2 => IpAddr::V6(Ipv6Addr::from(unmask(
            rest.get(..16).ok_or(StunError::BadAttributes)?,
        ))),
        _ => return Err(StunError::BadAttributes),
    };
    let port = u16::from_be_bytes([*p0, *p1]) ^ port_mask;
    Ok(SocketAddr::new(ip.to_canonical(), port))
}

fn fingerprint(message: &[u8]) -> u32 {
    crc32(message) ^ FINGERPRINT_XOR
}

/// CRC-32/ISO-HDLC, bit by bit: messages are 32 bytes and rare.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
