//! The TCP header and the options that we speak (RFC 9293 3.1, 7323 window scale, 2018 SACK).
//!
//! Non-goals: timestamps (one sample per round trip is enough, and a sequence number does not wrap within the life of a
//! packet at the rates of a tunnel), urgent data, ECN.

use packet::TcpFlags;

pub(crate) const FIN: u8 = TcpFlags::FIN;
pub(crate) const SYN: u8 = TcpFlags::SYN;
pub(crate) const RST: u8 = TcpFlags::RST;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = TcpFlags::ACK;

/// A header without options, in bytes.
pub(crate) const HEADER: usize = 20;
/// SACK blocks that fit beside nothing else.
const SACK_MAX: usize = 4;

/// Options of a segment. Unknown ones are skipped, malformed ones end the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Options {
    pub(crate) mss: Option<u16>,
    pub(crate) window_scale: Option<u8>,
    pub(crate) sack_permitted: bool,
    pub(crate) sack: SackBlocks,
}

/// SACK blocks as on the wire: sequence numbers of the first byte and of the byte behind the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SackBlocks {
    blocks: [(u32, u32); SACK_MAX],
    count: u8,
}

impl SackBlocks {
    pub(crate) fn push(&mut self, block: (u32, u32)) {
        if let Some(slot) = self.blocks.get_mut(usize::from(self.count)) {
            *slot = block;
            self.count += 1;
        }
    }

    pub(crate) fn as_slice(&self) -> &[(u32, u32)] {
        self.blocks
            .get(..usize::from(self.count))
            .unwrap_or_default()
    }
}

/// One segment, as numbers of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) options: Options,
    pub(crate) payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Reads a TCP header (ports excluded, they are the caller's) and what follows it.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, _) = bytes.split_first_chunk::<HEADER>()?;
        let length = usize::from(head[12] >> 4) * 4;
        if length < HEADER {
            return None;
        }
        let (header, payload) = bytes.split_at_checked(length)?;
        Some(Self {
            seq: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
            ack: u32::from_be_bytes([head[8], head[9], head[10], head[11]]),
            flags: head[13],
            window: u16::from_be_bytes([head[14], head[15]]),
            options: Options::parse(header.get(HEADER..).unwrap_or_default()),
            payload,
        })
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What it takes of the sequence space.
    pub(crate) fn sequence_len(&self) -> u32 {
        let payload = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        payload + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }

    /// The reset that answers a segment for which there is no connection (RFC 9293 3.10.7.1); none for a reset.
    pub(crate) fn reset_for(&self) -> Option<Segment<'static>> {
        if self.has(RST) {
            return None;
        }
        let (seq, ack, flags) = if self.has(ACK) {
            (self.ack, 0, RST)
        } else {
            (0, self.seq.wrapping_add(self.sequence_len()), RST | ACK)
        };
        Some(Segment {
            seq,
            ack,
            flags,
            window: 0,
            options: Options::default(),
            payload: &[],
        })
    }

    /// Appends the segment with a zero checksum; `payload` is what the caller appends behind it.
    pub(crate) fn write_header(&self, src_port: u16, dst_port: u16, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&src_port.to_be_bytes());
        out.extend_from_slice(&dst_port.to_be_bytes());
        out.extend_from_slice(&self.seq.to_be_bytes());
        out.extend_from_slice(&self.ack.to_be_bytes());
        out.extend_from_slice(&[0, self.flags]);
        out.extend_from_slice(&self.window.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        self.options.write(out);
        let words = (out.len() - start) / 4;
        if let Some(byte) = out.get_mut(start + 12) {
            *byte = (words as u8) << 4;
        }
    }
}

impl Options {
    fn parse(mut bytes: &[u8]) -> Self {
        let mut options = Self::default();
        loop {
            bytes = match bytes {
                [] | [0, ..] => return options,
                [1, rest @ ..] => rest,
                [kind, length, rest @ ..] => {
                    let Some(body) = usize::from(*length).checked_sub(2) else {
                        return options;
                    };
                    let Some((body, rest)) = rest.split_at_checked(body) else {
                        return options;
                    };
                    options.read(*kind, body);
                    rest
                }
                [_] => return options,
            };
        }
    }

    fn read(&mut self, kind: u8, body: &[u8]) {
        match (kind, body) {
            (2, [a, b]) => self.mss = Some(u16::from_be_bytes([*a, *b])),
            // RFC 7323 2.3: a larger shift counts as 14.
            (3, [shift]) => self.window_scale = Some((*shift).min(14)),
            (4, []) => self.sack_permitted = true,
            (5, blocks) => {
                for block in blocks.as_chunks::<8>().0 {
                    let [a, b, c, d, e, f, g, h] = *block;
                    self.sack.push((
                        u32::from_be_bytes([a, b, c, d]),
                        u32::from_be_bytes([e, f, g, h]),
                    ));
                }
            }
            _ => {}
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        if let Some(mss) = self.mss {
            out.extend_from_slice(&[2, 4]);
            out.extend_from_slice(&mss.to_be_bytes());
        }
        if let Some(shift) = self.window_scale {
            out.extend_from_slice(&[1, 3, 3, shift]);
        }
        if self.sack_permitted {
            out.extend_from_slice(&[1, 1, 4, 2]);
        }
        let sack = self.sack.as_slice();
        if !sack.is_empty() {
            out.extend_from_slice(&[1, 1, 5, 2 + 8 * self.sack.count]);
            for (from, to) in sack {
                out.extend_from_slice(&from.to_be_bytes());
                out.extend_from_slice(&to.to_be_bytes());
            }
        }
    }
}
