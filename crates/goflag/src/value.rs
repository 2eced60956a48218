//! What a flag can hold, and how its text is read and shown.

use std::fmt;

use crate::GoDuration;

/// The kind of a flag: how its text is read, and how the usage text names it.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`; like [`Kind::OptBool`] and [`Kind::BoolText`] it needs no value.
    Bool,
    /// A boolean that knows whether it was given; its default shows as `unset`.
    OptBool,
    /// A switch with a text value, `true` when it stands alone, that the function accepts as in [`Kind::Text`].
    BoolText(fn(&str) -> Result<(), String>),
    /// A signed 64-bit number in any of Go's notations.
    Int,
    /// An unsigned 64-bit number in any of Go's notations.
    Uint,
    /// A 64-bit float.
    Float,
    /// Any text.
    String,
    /// A Go duration.
    Duration,
    /// A port number, with the words that the daemon's `--port` uses for mistakes.
    Port,
    /// Any text that the function accepts; its error text follows `invalid value "..." for flag -x: `.
    Text(fn(&str) -> Result<(), String>),
}

impl Kind {
    /// Whether the flag stands alone, taking a value only after `=`.
    #[must_use]
    pub const fn is_bool(self) -> bool {
        matches!(self, Self::Bool | Self::OptBool | Self::BoolText(_))
    }

    /// The word for the value in usage texts when the flag's own text names none.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Bool | Self::OptBool | Self::BoolText(_) => "",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Float => "float",
            Self::String => "string",
            Self::Duration => "duration",
            Self::Port | Self::Text(_) => "value",
        }
    }

    /// What Go prints for the zero value of the kind: a default equal to it is not shown.
    pub(crate) const fn zero_text(self) -> &'static str {
        match self {
            Self::Bool => "false",
            Self::OptBool => "unset",
            Self::Int | Self::Uint | Self::Float => "0",
            Self::Duration => "0s",
            Self::String | Self::Port | Self::Text(_) | Self::BoolText(_) => "",
        }
    }

    pub(crate) fn read(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Bool => parse_bool(text)
                .map(Value::Bool)
                .ok_or_else(|| PARSE.to_owned()),
            Self::OptBool => parse_bool(text)
                .map(|b| Value::OptBool(Some(b)))
                .ok_or_else(|| {
                    format!(
                        "strconv.ParseBool: parsing {}: invalid syntax",
                        crate::quote(text)
                    )
                }),
            Self::Int => parse_int(text).map(Value::Int).map_err(ToOwned::to_owned),
            Self::Uint => parse_uint(text).map(Value::Uint).map_err(ToOwned::to_owned),
            Self::Float => parse_float(text)
                .map(Value::Float)
                .map_err(ToOwned::to_owned),
            Self::String => Ok(Value::String(text.to_owned())),
            Self::Duration => text
                .parse()
                .map(Value::Duration)
                .map_err(|_| PARSE.to_owned()),
            Self::Port => parse_port(text).map(Value::Port).map_err(ToOwned::to_owned),
            Self::Text(check) | Self::BoolText(check) => {
                check(text).map(|()| Value::String(text.to_owned()))
            }
        }
    }
}

/// The value of one flag.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "each variant is the value of the kind of the same name"
)]
pub enum Value {
    Bool(bool),
    OptBool(Option<bool>),
    Int(i64),
    Uint(u64),
    Float(f64),
    /// Of [`Kind::String`], [`Kind::Text`] and [`Kind::BoolText`].
    String(String),
    Duration(GoDuration),
    Port(u16),
}

impl fmt::Display for Value {
    /// As Go's `Value.String`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(b) | Self::OptBool(Some(b)) => write!(f, "{b}"),
            Self::OptBool(None) => f.write_str("unset"),
            Self::Int(n) => write!(f, "{n}"),
            Self::Uint(n) => write!(f, "{n}"),
            Self::Float(n) => f.write_str(&float_text(*n)),
            Self::String(s) => f.write_str(s),
            Self::Duration(d) => write!(f, "{d}"),
            Self::Port(p) => write!(f, "{p}"),
        }
    }
}

const PARSE: &str = "parse error";
const RANGE: &str = "value out of range";

/// Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn parse_int(text: &str) -> Result<i64, &'static str> {
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = parse_uint(magnitude)?;
    if negative {
        0i64.checked_sub_unsigned(magnitude).ok_or(RANGE)
    } else {
        i64::try_from(magnitude).map_err(|_| RANGE)
    }
}

/// Go's `ParseUint(text, 0, 64)`: `0x`, `0o`, `0b` and a leading `0` choose the base, underscores may stand between digits.
fn parse_uint(text: &str) -> Result<u64, &'static str> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let prefixed = digits.len() < lower.len();
    let digits = strip_underscores(digits, prefixed).ok_or(PARSE)?;
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(PARSE);
    }
    u64::from_str_radix(&digits, radix).map_err(|_| RANGE)
}

/// Removes underscores that stand between digits, or right after a base prefix.
fn strip_underscores(digits: &str, prefixed: bool) -> Option<String> {
    let well_placed =
        !digits.ends_with('_') && !digits.contains("__") && (prefixed || !digits.starts_with('_'));
    well_placed.then(|| digits.replace('_', ""))
}

/// Decimal notation, `inf` and `nan`.
///
/// Compat: Go also reads hexadecimal floats, which no flag of ours has a use for.
fn parse_float(text: &str) -> Result<f64, &'static str> {
    let value: f64 = text.parse().map_err(|_| PARSE)?;
    if value.is_infinite() && text.contains(|c: char| c.is_ascii_digit()) {
        return Err(RANGE);
    }
    Ok(value)
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    if text.is_empty() {
        return Err("can't be the empty string");
    }
    if text.contains(':') {
        return Err("expecting just a port number, without a colon");
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("not a valid number");
    }
    let number: u64 = text.parse().map_err(|_| "not a valid number")?;
    u16::try_from(number).map_err(|_| "out of range for port number")
}

/// Go's `FormatFloat(v, 'g', -1, 64)`.
fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}
