//! Go's `time.Time`.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Maybe, Wire, Zero};

/// An instant in UTC with nanoseconds. Its zero value is the first moment of the year 1, which means "none".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoTime(Timestamp);

impl GoTime {
    /// `0001-01-01T00:00:00Z`, which means "none".
    pub const ZERO: Self = Self(Timestamp::constant(-62_135_596_800, 0));

    /// From nanoseconds since 1970. Outside the years that can be written, the nearest one.
    #[must_use]
    pub fn from_unix_nanos(nanos: i128) -> Self {
        let bound = if nanos < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        };
        Self(Timestamp::from_nanosecond(nanos).unwrap_or(bound))
    }

    /// From seconds since 1970.
    #[must_use]
    pub fn from_unix_secs(secs: i64) -> Self {
        Self::from_unix_nanos(i128::from(secs) * 1_000_000_000)
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub fn unix_nanos(self) -> i128 {
        self.0.as_nanosecond()
    }

    /// Seconds since 1970, rounded down.
    #[must_use]
    pub fn unix_secs(self) -> i64 {
        i64::try_from(self.unix_nanos().div_euclid(1_000_000_000)).unwrap_or(i64::MIN)
    }

    /// Whether this is the zero value.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// `None` for the zero value.
    #[must_use]
    pub fn some(self) -> Option<Self> {
        (!self.is_zero()).then_some(self)
    }
}

impl Default for GoTime {
    fn default() -> Self {
        Self::ZERO
    }
}

impl fmt::Display for GoTime {
    /// RFC 3339, with as many fractional digits as needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for GoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for GoTime {
    type Err = jiff::Error;
    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        match text.parse() {
            // The last day that Go can write is beyond the last one that can be held here.
            Err(_) if text.starts_with("9999-12-3") => Ok(Self(Timestamp::MAX)),
            result => result.map(Self),
        }
    }
}

impl Serialize for GoTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Maybe::<Self>::deserialize(deserializer).map(|time| time.0.unwrap_or_default())
    }
}

impl Wire for GoTime {
    fn de<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Some).map_err(|_| {
            serde::de::Error::custom(format_args!("parse `{text}` as an RFC 3339 time"))
        })
    }
}

impl Zero for GoTime {
    fn is_zero(&self) -> bool {
        Self::is_zero(*self)
    }
}
