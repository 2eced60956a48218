//! The meta certificate: how a relay tells its key in the TLS handshake.
//!
//! A relay appends a certificate to its chain that nobody verifies. Its subject's common name is `derpkey` and the relay's
//! public key in hex, its serial number the protocol version. A client that finds it (over TLS 1.3, where it comes encrypted)
//! may send its first frame together with its request: fast start.

use keys::{NodePublic, decode_hex};

/// How the common name of a meta certificate starts. Such certificates are left out before a chain is verified.
pub const META_CERT_PREFIX: &str = "derpkey";

const TAG_INTEGER: u8 = 0x02;
const TAG_OID: u8 = 0x06;
const TAG_SEQUENCE: u8 = 0x30;
const TAG_SET: u8 = 0x31;
const TAG_VERSION: u8 = 0xa0;
const OID_COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// The relay's key, if `der` is a meta certificate of a protocol that we speak.
pub fn meta_cert_key(der: &[u8]) -> Option<NodePublic> {
    let (serial, name) = serial_and_common_name(der)?;
    // The originals want the version to be one byte and not zero.
    if !matches!(serial, [1..=0x7f] | [0, 0x80..=0xff]) {
        return None;
    }
    let digits = std::str::from_utf8(name)
        .ok()?
        .strip_prefix(META_CERT_PREFIX)?;
    let mut key = [0; 32];
    decode_hex(digits, &mut key).ok()?;
    Some(NodePublic::from_bytes(key))
}

/// Whether a certificate calls itself a meta certificate, of whatever version.
pub fn is_meta_cert(der: &[u8]) -> bool {
    serial_and_common_name(der)
        .is_some_and(|(_, name)| name.starts_with(META_CERT_PREFIX.as_bytes()))
}

/// Walks RFC 5280's `Certificate` as far as the subject.
fn serial_and_common_name(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (certificate, _) = element(der, TAG_SEQUENCE)?;
    let (mut rest, _) = element(certificate, TAG_SEQUENCE)?;
    if rest.first() == Some(&TAG_VERSION) {
        rest = element(rest, TAG_VERSION)?.1;
    }
    let (serial, rest) = element(rest, TAG_INTEGER)?;
    let (_signature, rest) = element(rest, TAG_SEQUENCE)?;
    let (_issuer, rest) = element(rest, TAG_SEQUENCE)?;
    let (_validity, rest) = element(rest, TAG_SEQUENCE)?;
    let (mut names, _) = element(rest, TAG_SEQUENCE)?;
    while !names.is_empty() {
        let (set, rest) = element(names, TAG_SET)?;
        names = rest;
        let (attribute, _) = element(set, TAG_SEQUENCE)?;
        let (oid, value) = element(attribute, TAG_OID)?;
        if *oid == OID_COMMON_NAME {
            let text = element(value, *value.first()?)?.0;
            return Some((serial, text));
        }
    }
    None
}

/// Splits off one element with this tag: its content and what follows.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let ([found, len], rest) = der.split_first_chunk::<2>()?;
    if *found != tag {
        return None;
    }
    let (len, rest) = match usize::from(*len) {
        len @ 0..=0x7f => (len, rest),
        0x81 => {
            let ([len], rest) = rest.split_first_chunk()?;
            (usize::from(*len), rest)
        }
        0x82 => {
            let (len, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*len)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}
