//! Super-packets: many packets of one flow that the kernel hands over, or takes, as one.
//!
//! [`Splitter`] makes packets of a super-packet, [`Coalescer`] makes super-packets of packets; what the one takes apart the
//! other puts together. Both work inside the caller's buffer: no payload is ever moved.

mod coalesce;
mod split;

pub use coalesce::{Coalescer, Limits, Run};
pub use split::{BadGso, Splitter, complete};

/// What a super-packet is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GsoKind {
    /// One packet.
    #[default]
    None,
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP.
    Udp,
}

/// Segmentation of a super-packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gso {
    /// What it is made of.
    pub kind: GsoKind,
    /// Bytes of headers that each segment repeats.
    pub hdr_len: u16,
    /// Payload bytes of each segment but the last.
    pub size: u16,
}

/// What is known of a packet's transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Csum {
    /// Complete in the packet, not checked.
    Full,
    /// Checked already.
    Verified,
    /// The sum of the pseudo header is in place; the rest from `start` goes to `start + offset`.
    Partial {
        /// Where summing starts.
        start: u16,
        /// Where the result goes, from `start`.
        offset: u16,
    },
}

/// The most segments of one super-packet: what kernels take as one train of UDP datagrams.
pub const MAX_SEGMENTS: usize = 64;
/// The most bytes of one super-packet: the length fields of both IP versions have 16 bits.
pub const MAX_LEN: usize = 65_535;

/// The longest headers: IPv4 or IPv6 with some extensions, and TCP, both with all their options.
const MAX_HEADERS: usize = 160;

// Offsets from the start of an IPv4 header.
const LENGTH4: usize = 2;
const ID4: usize = 4;
const CHECKSUM4: usize = 10;
// From the start of an IPv6 header.
const LENGTH6: usize = 4;
// From the start of a TCP header.
const SEQUENCE: usize = 4;
const DATA_OFFSET: usize = 12;
const FLAGS: usize = 13;
const TCP_CHECKSUM: usize = 16;
// From the start of a UDP header.
const UDP_LENGTH: usize = 4;
const UDP_CHECKSUM: usize = 6;

const FLAG_FIN: u8 = 0x01;
const FLAG_PSH: u8 = 0x08;
const FLAG_ACK: u8 = 0x10;
const FLAG_CWR: u8 = 0x80;

const IP6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// Writes a 16-bit number. The place is one that the caller has checked.
pub(crate) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// Reads a 16-bit number; 0 where there is none.
pub(crate) fn get16(bytes: &[u8], at: usize) -> u16 {
    let pair = bytes.get(at..).and_then(|rest| rest.first_chunk());
    pair.map_or(0, |pair| u16::from_be_bytes(*pair))
}

fn get32(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u32::from_be_bytes(*word))
}

/// Corrects the checksum of an IPv4 header.
fn finish_ip4(header: &mut [u8]) {
    put16(header, CHECKSUM4, 0);
    let sum = crate::checksum::of(header);
    put16(header, CHECKSUM4, sum);
}

/// The sum of the addresses of an IP header, and of the other parts of the pseudo header.
fn pseudo(header: &[u8], protocol: u8, transport_len: usize) -> u64 {
    let addresses = match header.first().map(|first| first >> 4) {
        Some(4) => header.get(12..20),
        _ => header.get(8..40),
    };
    let sum = crate::checksum::add(0, addresses.unwrap_or_default());
    sum + u64::from(protocol) + transport_len as u64
}

#[cfg(test)]
mod tests;
