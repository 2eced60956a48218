//! What stands before each packet of a TUN device: `struct virtio_net_hdr` (`linux/virtio_net.h`).
//!
//! flags u8, segmentation u8, length of the headers u16, size of the segments u16, where summing starts u16, where from there
//! the sum goes u16, all in the machine's byte order.

use host::{Csum, Gso, GsoKind};

/// How long it is.
pub(super) const LEN: usize = 10;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
/// A flag beside the kind: the first segment says that the sender has slowed down. The header says it too.
const GSO_ECN: u8 = 0x80;

/// Reads a header. `None` for segmentation that we did not ask for.
pub(super) fn read(header: &[u8; LEN]) -> Option<(Gso, Csum)> {
    let number = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    let kind = match header[1] & !GSO_ECN {
        GSO_NONE => GsoKind::None,
        GSO_TCP4 => GsoKind::Tcp4,
        GSO_TCP6 => GsoKind::Tcp6,
        GSO_UDP => GsoKind::Udp,
        _ => return None,
    };
    let csum = match header[0] {
        flags if flags & NEEDS_CSUM != 0 => Csum::Partial {
            start: number(6),
            offset: number(8),
        },
        flags if flags & DATA_VALID != 0 => Csum::Verified,
        _ => Csum::Full,
    };
    let gso = Gso {
        kind,
        hdr_len: number(2),
        size: number(4),
    };
    Some((gso, csum))
}

/// Writes a header.
pub(super) fn write(gso: Gso, csum: Csum) -> [u8; LEN] {
    let mut header = [0; LEN];
    let mut put = |at: usize, value: u16| {
        header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    };
    if gso.kind != GsoKind::None {
        put(2, gso.hdr_len);
        put(4, gso.size);
    }
    if let Csum::Partial { start, offset } = csum {
        put(6, start);
        put(8, offset);
    }
    header[0] = match csum {
        Csum::Partial { .. } => NEEDS_CSUM,
        Csum::Verified => DATA_VALID,
        Csum::Full => 0,
    };
    header[1] = match gso.kind {
        GsoKind::None => GSO_NONE,
        GsoKind::Tcp4 => GSO_TCP4,
        GsoKind::Tcp6 => GSO_TCP6,
        GsoKind::Udp => GSO_UDP,
    };
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(hdr_len: u16, size: u16, start: u16, offset: u16, kind in 1usize..4) {
            let kind = [GsoKind::None, GsoKind::Tcp4, GsoKind::Tcp6, GsoKind::Udp][kind];
            let gso = Gso { kind, hdr_len, size };
            for csum in [Csum::Partial { start, offset }, Csum::Verified, Csum::Full] {
                prop_assert_eq!(read(&write(gso, csum)), Some((gso, csum)));
            }
        }

        #[test]
        fn any_header_can_be_read(header: [u8; LEN]) {
            let _ = read(&header);
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn golden_bytes() {
        let gso = Gso {
            kind: GsoKind::Tcp4,
            hdr_len: 52,
            size: 1228,
        };
        let csum = Csum::Partial {
            start: 20,
            offset: 16,
        };
        assert_eq!(write(gso, csum), [1, 1, 52, 0, 0xcc, 4, 20, 0, 16, 0]);
        assert_eq!(write(Gso::default(), Csum::Full), [0; LEN]);
        assert_eq!(
            read(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0]),
            None,
            "fragmentation of old"
        );
    }
}
