//! Reading a command line.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Flag, FlagSet, GoDuration, Value, quote};

/// The values of a command line.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    values: BTreeMap<&'static str, Value>,
    given: BTreeMap<&'static str, ()>,
    args: Vec<String>,
}

/// Why a command line gives no values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// `-h`, `-help` or their two-dash forms, where no flag has that name.
    Help,
    /// A mistake, in Go's words.
    Bad(BadUsage),
}

/// A mistake on the command line, in the words of Go's `flag` package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadUsage(pub String);

impl fmt::Display for BadUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadUsage {}

impl Stop {
    /// 0 for help, 2 for a mistake.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Help => 0,
            Self::Bad(_) => 2,
        }
    }
}

/// Why a program ends at its command line. Its text is what Go prints on standard error: the mistake, if any, then the usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseEnd {
    /// What ended it.
    pub stop: Stop,
    /// The usage text, with its final newline.
    pub usage: String,
}

impl ParseEnd {
    /// 0 for help, 2 for a mistake.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        self.stop.exit_code()
    }
}

impl fmt::Display for ParseEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Stop::Bad(bad) = &self.stop {
            writeln!(f, "{bad}")?;
        }
        f.write_str(&self.usage)
    }
}

impl std::error::Error for ParseEnd {}

impl FlagSet {
    /// Reads the arguments (without the program's name).
    ///
    /// # Errors
    ///
    /// Help was asked for, or there is a mistake: print the error's text as it is on standard error and exit with its code.
    pub fn parse<S: Into<String>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Parsed, ParseEnd> {
        self.read(args).map_err(|stop| ParseEnd {
            stop,
            usage: self.usage(),
        })
    }

    /// As [`FlagSet::parse`], for programs with a usage text of their own.
    ///
    /// # Errors
    ///
    /// Help was asked for, or there is a mistake.
    pub fn read<S: Into<String>>(&self, args: impl IntoIterator<Item = S>) -> Result<Parsed, Stop> {
        let mut parsed = Parsed {
            values: self
                .flags
                .iter()
                .map(|(name, flag)| (*name, flag.default.clone()))
                .collect(),
            ..Parsed::default()
        };
        let mut args = args.into_iter().map(Into::into).peekable();
        while let Some(arg) = args.next_if(|arg: &String| arg.len() >= 2 && arg.starts_with('-')) {
            if arg == "--" {
                break;
            }
            self.one(&arg, &mut args, &mut parsed)?;
        }
        parsed.args = args.collect();
        Ok(parsed)
    }

    fn one(
        &self,
        arg: &str,
        rest: &mut impl Iterator<Item = String>,
        parsed: &mut Parsed,
    ) -> Result<(), Stop> {
        let body = arg
            .strip_prefix("--")
            .or_else(|| arg.strip_prefix('-'))
            .unwrap_or(arg);
        if body.is_empty() || body.starts_with(['-', '=']) {
            return Err(bad(format!("bad flag syntax: {arg}")));
        }
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let Some(flag) = self.flags.get(name) else {
            if name == "help" || name == "h" {
                return Err(Stop::Help);
            }
            return Err(bad(format!("flag provided but not defined: -{name}")));
        };
        let value = match inline {
            Some(value) => value.to_owned(),
            None if flag.kind.is_bool() => "true".to_owned(),
            None => rest
                .next()
                .ok_or_else(|| bad(format!("flag needs an argument: -{name}")))?,
        };
        self.set(flag, &value, parsed).map_err(|error| {
            bad(match (flag.kind.is_bool(), inline) {
                (true, Some(_)) => format!(
                    "invalid boolean value {} for -{name}: {error}",
                    quote(&value)
                ),
                (true, None) => format!("invalid boolean flag {name}: {error}"),
                (false, _) => format!("invalid value {} for flag -{name}: {error}", quote(&value)),
            })
        })
    }

    fn set(&self, flag: &Flag, text: &str, parsed: &mut Parsed) -> Result<(), String> {
        if self.once && parsed.given.contains_key(flag.name) {
            return Err("flag provided multiple times".to_owned());
        }
        let value = flag.kind.read(text)?;
        parsed.values.insert(flag.name, value);
        parsed.given.insert(flag.name, ());
        Ok(())
    }
}

fn bad(text: String) -> Stop {
    Stop::Bad(BadUsage(text))
}

/// Each getter panics when the set has no flag of that name and kind: a mistake in the program, not in its input.
impl Parsed {
    /// What follows the flags.
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// Whether the command line named the flag.
    #[must_use]
    pub fn given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The names of the flags that the command line gave, sorted.
    pub fn given_names(&self) -> impl Iterator<Item = &'static str> {
        self.given.keys().copied()
    }

    /// Whatever kind it is.
    #[must_use]
    pub fn value(&self, name: &str) -> &Value {
        self.values
            .get(name)
            .unwrap_or_else(|| panic!("no flag {name} was defined"))
    }

    /// The value of a boolean that not every command has.
    #[must_use]
    pub fn get_bool(&self, name: &str) -> Option<bool> {
        match self.values.get(name)? {
            Value::Bool(b) => Some(*b),
            other => wrong_kind(name, other),
        }
    }

    /// The value of a text flag that not every command has.
    #[must_use]
    pub fn get_string(&self, name: &str) -> Option<&str> {
        match self.values.get(name)? {
            Value::String(text) => Some(text),
            other => wrong_kind(name, other),
        }
    }

    /// A boolean.
    #[must_use]
    pub fn bool(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Bool(b) => *b,
            other => wrong_kind(name, other),
        }
    }

    /// A boolean that may be unset.
    #[must_use]
    pub fn opt_bool(&self, name: &str) -> Option<bool> {
        match self.value(name) {
            Value::OptBool(b) => *b,
            other => wrong_kind(name, other),
        }
    }

    /// A signed number.
    #[must_use]
    pub fn int(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Int(n) => *n,
            other => wrong_kind(name, other),
        }
    }

    /// An unsigned number.
    #[must_use]
    pub fn uint(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Uint(n) => *n,
            other => wrong_kind(name, other),
        }
    }

    /// A float.
    #[must_use]
    pub fn float(&self, name: &str) -> f64 {
        match self.value(name) {
            Value::Float(n) => *n,
            other => wrong_kind(name, other),
        }
    }

    /// A text, checked or not.
    #[must_use]
    pub fn string(&self, name: &str) -> &str {
        match self.value(name) {
            Value::String(s) => s,
            other => wrong_kind(name, other),
        }
    }

    /// A duration.
    #[must_use]
    pub fn duration(&self, name: &str) -> GoDuration {
        match self.value(name) {
            Value::Duration(d) => *d,
            other => wrong_kind(name, other),
        }
    }

    /// A port number.
    #[must_use]
    pub fn port(&self, name: &str) -> u16 {
        match self.value(name) {
            Value::Port(p) => *p,
            other => wrong_kind(name, other),
        }
    }
}

fn wrong_kind(name: &str, value: &Value) -> ! {
    panic!("flag {name} has another kind: {value:?}")
}
