//! The framing that all netlink protocols share (RFC 3549, 2.2; `linux/netlink.h`).
//!
//! A message is a header of 16 bytes (length u32, kind u16, flags u16, sequence u32, port u32, all in the machine's byte
//! order), a fixed part that depends on the kind, and attributes: length u16 (with its own 4 bytes), kind u16, value.
//! Messages and attributes start at multiples of 4.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of a message's header.
pub const HEADER_LEN: usize = 16;
/// Length of an attribute's header.
const ATTRIBUTE_LEN: usize = 4;

/// Every request carries this.
pub const REQUEST: u16 = 0x1;
/// An answer is wanted also if all is well.
pub const ACK: u16 = 0x4;
/// All objects are wanted (`NLM_F_ROOT | NLM_F_MATCH`).
pub const DUMP: u16 = 0x300;
/// An existing object is replaced.
pub const REPLACE: u16 = 0x100;
/// An existing object is an error.
pub const EXCLUSIVE: u16 = 0x200;
/// A missing object is made.
pub const CREATE: u16 = 0x400;
/// The object goes behind its like.
pub const APPEND: u16 = 0x800;
/// On answers: the objects changed while they were listed.
pub const DUMP_INTERRUPTED: u16 = 0x10;

/// The kind of an answer: an errno, 0 if all is well.
pub const ERROR: u16 = 2;
/// The kind of the end of a list.
pub const DONE: u16 = 3;

/// The bits of an attribute's kind that are flags (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const ATTRIBUTE_FLAGS: u16 = 0xc000;
const NESTED: u16 = 0x8000;

/// A request being put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request(Vec<u8>);

impl Request {
    /// A request of one kind. [`REQUEST`] need not be among the flags.
    pub fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        Self(bytes)
    }

    /// Adds the fixed part.
    #[must_use]
    pub fn fixed(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Adds an attribute.
    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        // No value of ours comes near the limit; a longer one would be cut, and the kernel would refuse it.
        let value = &value[..value.len().min(usize::from(u16::MAX) - ATTRIBUTE_LEN)];
        let len = (ATTRIBUTE_LEN + value.len()) as u16;
        self.0.extend_from_slice(&len.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.pad();
        self
    }

    /// Adds an attribute with a number in the machine's byte order.
    #[must_use]
    pub fn number(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Adds an attribute with a number in network byte order.
    #[must_use]
    pub fn number_be(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// Adds an attribute with a text and the zero behind it.
    #[must_use]
    pub fn text(self, kind: u16, value: &str) -> Self {
        self.attribute(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Adds an attribute with an address.
    #[must_use]
    pub fn ip(self, kind: u16, value: IpAddr) -> Self {
        match value {
            IpAddr::V4(ip) => self.attribute(kind, &ip.octets()),
            IpAddr::V6(ip) => self.attribute(kind, &ip.octets()),
        }
    }

    /// Adds an attribute that holds those which `fill` adds.
    #[must_use]
    pub fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        let mut filled = fill(self);
        let len = u16::try_from(filled.0.len() - start).unwrap_or(u16::MAX);
        filled.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        filled
    }

    /// The bytes to send, numbered.
    pub fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }

    fn pad(&mut self) {
        self.0.resize(aligned(self.0.len()), 0);
    }
}

/// A received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is.
    pub kind: u16,
    /// See the constants of this module.
    pub flags: u16,
    /// The number of the request that it answers.
    pub sequence: u32,
    /// Everything behind the header.
    pub body: &'a [u8],
}

impl Message<'_> {
    /// What an [`ERROR`] message says; `None` for other messages.
    pub fn outcome(&self) -> Option<io::Result<()>> {
        if self.kind != ERROR {
            return None;
        }
        Some(match read_u32(self.body, 0).map(|code| code as i32) {
            Some(0) => Ok(()),
            // The kernel sends errno with the sign turned.
            Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        })
    }
}

/// The messages of one datagram, up to the first damaged one.
pub fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = read_u32(rest, 0)? as usize;
        let body = rest.get(HEADER_LEN..len)?;
        let message = Message {
            kind: read_u16(rest, 4)?,
            flags: read_u16(rest, 6)?,
            sequence: read_u32(rest, 8)?,
            body,
        };
        rest = rest.get(aligned(len)..).unwrap_or_default();
        Some(message)
    })
}

/// Kind and value of the attributes, up to the first damaged one.
pub fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(read_u16(rest, 0)?);
        let kind = read_u16(rest, 2)? & !ATTRIBUTE_FLAGS;
        let value = rest.get(ATTRIBUTE_LEN..len)?;
        rest = rest.get(aligned(len)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A number in the machine's byte order, if it is all there.
pub fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// A number in the machine's byte order, if it is all there.
pub fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

/// An address; its family follows from its length.
pub fn read_ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(v6).into())
}

/// A text, without the zero behind it.
pub fn read_text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

fn aligned(len: usize) -> usize {
    len.saturating_add(3) & !3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn golden_bytes() {
        // As `strace ip link set lo up` shows them, with an attribute added.
        let request = Request::new(16, ACK)
            .fixed(&[0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0])
            .text(3, "lo")
            .nest(18, |nest| nest.number(1, 7));
        let golden = [
            &[52, 0, 0, 0, 16, 0, 5, 0, 9, 0, 0, 0, 0, 0, 0, 0][..],
            &[0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0],
            &[7, 0, 3, 0, b'l', b'o', 0, 0],
            &[12, 0, 18, 0x80, 8, 0, 1, 0, 7, 0, 0, 0],
        ];
        assert_eq!(request.finish(9), golden.concat());
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(
            kind: u16,
            sequence: u32,
            values in prop::collection::vec((0u16..0x4000, prop::collection::vec(any::<u8>(), 0..40)), 0..6),
        ) {
            let mut request = Request::new(kind, ACK).fixed(&[1, 2, 3, 4]);
            for (kind, value) in &values {
                request = request.attribute(*kind, value);
            }
            let bytes = request.finish(sequence);
            let read: Vec<Message<'_>> = messages(&bytes).collect();
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!((read[0].kind, read[0].sequence), (kind, sequence));
            let back: Vec<(u16, Vec<u8>)> =
                attributes(&read[0].body[4..]).map(|(kind, value)| (kind, value.to_vec())).collect();
            prop_assert_eq!(back, values);
        }

        #[test]
        fn damage_is_no_trouble(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                let _ = message.outcome();
                prop_assert!(attributes(message.body).count() <= bytes.len());
            }
        }
    }
}
