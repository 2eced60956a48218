//! Go's `time.Duration` as text.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A signed length of time in nanoseconds, with the text form of Go's `time.Duration` (`1h2m3.5s`, `250ms`, `0s`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(i64);

/// The text is not a duration, or does not fit in 64 bits of nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadDuration;

impl fmt::Display for BadDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parse error")
    }
}

impl std::error::Error for BadDuration {}

impl GoDuration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From whole seconds, saturating.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// From a std duration, saturating.
    #[must_use]
    pub fn from_std(d: Duration) -> Self {
        Self(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
    }

    /// Nanoseconds.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// As a std duration; negative ones become zero.
    #[must_use]
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => write!(f, "{}µs", Fraction(nanos, 1_000)),
            1_000_000..1_000_000_000 => write!(f, "{}ms", Fraction(nanos, 1_000_000)),
            _ => {
                let minutes = nanos / 60_000_000_000;
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                write!(f, "{}s", Fraction(nanos % 60_000_000_000, 1_000_000_000))
            }
        }
    }
}

/// `value / unit` with as many decimals as needed; `unit` is a power of ten.
struct Fraction(u64, u64);

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, unit) = *self;
        write!(f, "{}", value / unit)?;
        let rest = value % unit;
        if rest == 0 {
            return Ok(());
        }
        let width = unit.ilog10() as usize;
        let digits = format!("{rest:0width$}");
        write!(f, ".{}", digits.trim_end_matches('0'))
    }
}

impl FromStr for GoDuration {
    type Err = BadDuration;

    fn from_str(text: &str) -> Result<Self, BadDuration> {
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(BadDuration);
        }
        let mut total = 0u64;
        while !rest.is_empty() {
            let (nanos, tail) = one_term(rest)?;
            rest = tail;
            // One more than i64::MAX is allowed, for the most negative value.
            total = total
                .checked_add(nanos)
                .filter(|t| *t <= 1 << 63)
                .ok_or(BadDuration)?;
        }
        match (negative, i64::try_from(total)) {
            (false, Ok(n)) => Ok(Self(n)),
            (true, Ok(n)) => Ok(Self(-n)),
            (true, Err(_)) => Ok(Self(i64::MIN)),
            (false, Err(_)) => Err(BadDuration),
        }
    }
}

/// Reads one `<number><unit>` from the front; gives its nanoseconds and the rest.
fn one_term(text: &str) -> Result<(u64, &str), BadDuration> {
    let (whole, rest) = digits(text);
    let (fraction, rest, dotted) = match rest.strip_prefix('.') {
        Some(after) => {
            let (fraction, rest) = digits(after);
            (fraction, rest, true)
        }
        None => ("", rest, false),
    };
    if whole.is_empty() && (!dotted || fraction.is_empty()) {
        return Err(BadDuration);
    }
    let end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let unit = unit_nanos(name).ok_or(BadDuration)?;
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| BadDuration)?
    };
    let nanos = whole
        .checked_mul(unit)
        .filter(|n| *n <= 1 << 63)
        .ok_or(BadDuration)?;
    let nanos = nanos
        .checked_add(fraction_nanos(fraction, unit))
        .ok_or(BadDuration)?;
    Ok((nanos, rest))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

fn unit_nanos(name: &str) -> Option<u64> {
    Some(match name {
        "ns" => 1,
        // Both micro signs, as Go: U+00B5 and U+03BC.
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Nanoseconds of `0.<digits>` units, cut (not rounded); digits beyond what 128 bits hold do not matter at this precision.
fn fraction_nanos(digits: &str, unit: u64) -> u64 {
    let mut value = 0u128;
    let mut scale = 1u128;
    for digit in digits.bytes().take(20) {
        value = value * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    u64::try_from(value * u128::from(unit) / scale).unwrap_or(0)
}
