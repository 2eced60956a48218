//! The 8-byte Geneve header (RFC 8926) in front of what travels over a peer relay.
//!
//! ```text
//! 0    version (2 bits, 0), option length (6 bits, 0)
//! 1    control (1 bit), critical (1 bit), reserved (6 bits, 0)
//! 2-3  protocol: 0x7a11 disco, 0x7a12 WireGuard
//! 4-6  virtual network identifier
//! 7    reserved, 0
//! ```

/// Bytes of the header.
pub const LEN: usize = 8;

/// What follows the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inner {
    /// A disco envelope.
    Disco,
    /// A WireGuard message.
    WireGuard,
}

/// The header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which relay endpoint: 24 bits.
    pub vni: u32,
    /// Whether the message is between a client and the relay itself.
    pub control: bool,
    /// What follows.
    pub inner: Inner,
}

impl Header {
    /// Reads the header and returns what follows it. `None` if this is not one of ours.
    pub fn split(datagram: &[u8]) -> Option<(Self, &[u8])> {
        let (h, rest) = datagram.split_first_chunk::<LEN>()?;
        if h[0] & 0xc0 != 0 || h[1] & 0x3f != 0 || h[7] != 0 {
            return None;
        }
        let inner = match u16::from_be_bytes([h[2], h[3]]) {
            DISCO => Inner::Disco,
            WIREGUARD => Inner::WireGuard,
            _ => return None,
        };
        // Options are not ours to skip: the relay neither adds nor understands any.
        if h[0] != 0 {
            return None;
        }
        let header = Self {
            vni: u32::from_be_bytes([0, h[4], h[5], h[6]]),
            control: h[1] & 0x80 != 0,
            inner,
        };
        Some((header, rest))
    }

    /// The bytes of the header.
    pub fn bytes(&self) -> [u8; LEN] {
        let [_, a, b, c] = self.vni.to_be_bytes();
        let [p, q] = match self.inner {
            Inner::Disco => DISCO,
            Inner::WireGuard => WIREGUARD,
        }
        .to_be_bytes();
        [0, u8::from(self.control) << 7, p, q, a, b, c, 0]
    }
}

const DISCO: u16 = 0x7a11;
const WIREGUARD: u16 = 0x7a12;

#[cfg(test)]
mod tests;
