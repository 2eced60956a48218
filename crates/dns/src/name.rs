//! Domain names.

use std::fmt;
use std::str::FromStr;

/// Bytes of a label, and of a whole name as it is sent, its last, empty label included (RFC 1035, 2.3.4).
const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 255;

/// A domain name: its labels, each behind its length, without the last, empty one. Case is not kept, for names are the same whatever it is
/// (RFC 4343).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Name(Box<[u8]>);

/// No domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadName {
    /// There is a dot too many.
    EmptyLabel,
    /// A label or all of it is too long.
    TooLong,
    /// The message ends before it.
    CutOff,
    /// It refers to what comes behind it, or to nothing that can be.
    BadPointer,
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyLabel => "a domain name has an empty label",
            Self::TooLong => "a domain name or a label of it is too long",
            Self::CutOff => "a domain name is cut off",
            Self::BadPointer => "a domain name refers to no name before it",
        })
    }
}

impl std::error::Error for BadName {}

impl Name {
    /// The root, which is above all.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Whether it is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the name at `at` of a message; gives it, and where what follows it starts.
    pub fn read(message: &[u8], at: usize) -> Result<(Self, usize), BadName> {
        let (mut bytes, mut at, mut behind) = (Vec::new(), at, None);
        // A reference goes back behind all that was read so far: so it ends.
        let mut start = at;
        loop {
            let len = *message.get(at).ok_or(BadName::CutOff)?;
            match len >> 6 {
                0 if len == 0 => {
                    let name = Self(bytes.into_boxed_slice());
                    return Ok((name, behind.unwrap_or(at + 1)));
                }
                0 => {
                    let end = at + 1 + usize::from(len);
                    let label = message.get(at..end).ok_or(BadName::CutOff)?;
                    bytes.extend(label.iter().map(u8::to_ascii_lowercase));
                    if bytes.len() >= MAX_NAME {
                        return Err(BadName::TooLong);
                    }
                    at = end;
                }
                3 => {
                    let low = *message.get(at + 1).ok_or(BadName::CutOff)?;
                    let target = usize::from(u16::from_be_bytes([len & 0x3f, low]));
                    if target >= start {
                        return Err(BadName::BadPointer);
                    }
                    behind.get_or_insert(at + 2);
                    (at, start) = (target, target);
                }
                _ => return Err(BadName::BadPointer),
            }
        }
    }

    /// Writes it as it is sent, uncompressed.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
        out.push(0);
    }

    /// Bytes of it as it is sent, uncompressed.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "even the root has one byte")]
    pub fn len(&self) -> usize {
        self.0.len() + 1
    }

    /// Its labels, the most special first.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (len, behind) = rest.split_first()?;
            let (label, behind) = behind.split_at_checked(usize::from(*len))?;
            rest = behind;
            Some(label)
        })
    }

    /// The name without its first label; the root has none.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let len = usize::from(*self.0.first()?);
        self.0.get(1 + len..).map(|rest| Self(rest.into()))
    }

    /// Whether it is `zone` or below it.
    #[must_use]
    pub fn is_under(&self, zone: &Self) -> bool {
        let mut rest = &*self.0;
        while rest.len() > zone.0.len() {
            let len = usize::from(rest[0]);
            rest = rest.get(1 + len..).unwrap_or_default();
        }
        rest == &*zone.0
    }
}

impl FromStr for Name {
    type Err = BadName;

    /// Reads a name as people write it, with or without the last dot.
    fn from_str(text: &str) -> Result<Self, BadName> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut bytes = Vec::with_capacity(text.len() + 1);
        if text.is_empty() {
            return Ok(Self::root());
        }
        for label in text.split('.') {
            let len = u8::try_from(label.len()).map_err(|_| BadName::TooLong)?;
            if len == 0 {
                return Err(BadName::EmptyLabel);
            }
            if usize::from(len) > MAX_LABEL {
                return Err(BadName::TooLong);
            }
            bytes.push(len);
            bytes.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        if bytes.len() >= MAX_NAME {
            return Err(BadName::TooLong);
        }
        Ok(Self(bytes.into_boxed_slice()))
    }
}

/// With the last dot. Bytes that cannot be shown, and dots inside of labels, are escaped as in zone files (RFC 1035, 5.1).
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for label in self.labels() {
            for byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                    0x21..=0x7e => write!(f, "{}", char::from(*byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
        }
        match self.is_root() {
            true => f.write_str("."),
            false => Ok(()),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
