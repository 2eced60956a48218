//! Hex of fixed-size keys. Private keys pass through here, so nothing is kept.

use crate::ParseKeyError;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends the lower-case hex of `bytes` to `out`.
pub fn encode_hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Reads exactly `out.len()` bytes of hex, in either case.
pub fn decode_hex(text: &str, out: &mut [u8]) -> Result<(), ParseKeyError> {
    let text = text.as_bytes();
    if text.len() != out.len() * 2 {
        return Err(ParseKeyError::WrongLength {
            want: out.len() * 2,
        });
    }
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(())
}

fn digit(c: u8) -> Result<u8, ParseKeyError> {
    match c {
        b'0'..=b'9' => Ok(c - b'0'),
        b'a'..=b'f' => Ok(c - b'a' + 10),
        b'A'..=b'F' => Ok(c - b'A' + 10),
        _ => Err(ParseKeyError::NotHex),
    }
}

pub(crate) fn parse_prefixed<const N: usize>(
    text: &str,
    prefix: &'static str,
) -> Result<[u8; N], ParseKeyError> {
    let digits = text
        .strip_prefix(prefix)
        .ok_or(ParseKeyError::WrongPrefix { want: prefix })?;
    let mut bytes = [0; N];
    decode_hex(digits, &mut bytes)?;
    Ok(bytes)
}
