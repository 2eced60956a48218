//! The description of a program's flags.

use std::collections::BTreeMap;

use crate::{GoDuration, Kind, Value};

/// One flag: its name, kind, help and default.
#[derive(Clone, Debug)]
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// The help text; a word in backquotes names the value in usage texts.
    pub usage: String,
    /// How its text is read.
    pub kind: Kind,
    /// The value when it is not given.
    pub default: Value,
    /// The default as usage texts show it; usually the text of `default`.
    pub default_text: String,
}

/// The flags of one command, in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct FlagSet {
    pub(crate) name: String,
    pub(crate) flags: BTreeMap<&'static str, Flag>,
    pub(crate) once: bool,
}

impl FlagSet {
    /// An empty set; `name` is what the usage text calls the program (Go: `os.Args[0]`).
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Refuses a flag that is given twice (the `tailscale` command does; Go's plain `flag` lets the last one win).
    #[must_use]
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// The program's name as given to [`FlagSet::new`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All flags, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Flag> {
        self.flags.values()
    }

    /// The flag of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Flag> {
        self.flags.get(name)
    }

    /// Whether there is no flag.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    /// Adds a boolean.
    #[must_use]
    pub fn bool(self, name: &'static str, default: bool, usage: impl Into<String>) -> Self {
        self.with(name, Kind::Bool, Value::Bool(default), usage.into())
    }

    /// Adds a boolean that is unset unless given.
    #[must_use]
    pub fn opt_bool(self, name: &'static str, usage: impl Into<String>) -> Self {
        self.with(name, Kind::OptBool, Value::OptBool(None), usage.into())
    }

    /// Adds a signed number.
    #[must_use]
    pub fn int(self, name: &'static str, default: i64, usage: impl Into<String>) -> Self {
        self.with(name, Kind::Int, Value::Int(default), usage.into())
    }

    /// Adds an unsigned number.
    #[must_use]
    pub fn uint(self, name: &'static str, default: u64, usage: impl Into<String>) -> Self {
        self.with(name, Kind::Uint, Value::Uint(default), usage.into())
    }

    /// Adds a float.
    #[must_use]
    pub fn float(self, name: &'static str, default: f64, usage: impl Into<String>) -> Self {
        self.with(name, Kind::Float, Value::Float(default), usage.into())
    }

    /// Adds a text.
    #[must_use]
    pub fn string(
        self,
        name: &'static str,
        default: impl Into<String>,
        usage: impl Into<String>,
    ) -> Self {
        self.with(
            name,
            Kind::String,
            Value::String(default.into()),
            usage.into(),
        )
    }

    /// Adds a duration.
    #[must_use]
    pub fn duration(
        self,
        name: &'static str,
        default: GoDuration,
        usage: impl Into<String>,
    ) -> Self {
        self.with(name, Kind::Duration, Value::Duration(default), usage.into())
    }

    /// Adds a port number.
    #[must_use]
    pub fn port(self, name: &'static str, default: u16, usage: impl Into<String>) -> Self {
        self.with(name, Kind::Port, Value::Port(default), usage.into())
    }

    /// Adds a text that `check` must accept; its error says what is wrong, as `invalid value "v" for flag -x: <error>`.
    #[must_use]
    pub fn text(
        self,
        name: &'static str,
        default: impl Into<String>,
        check: fn(&str) -> Result<(), String>,
        usage: impl Into<String>,
    ) -> Self {
        self.with(
            name,
            Kind::Text(check),
            Value::String(default.into()),
            usage.into(),
        )
    }

    /// Adds a flag described by hand, for instance one whose shown default differs from the real one.
    ///
    /// # Panics
    ///
    /// When the name is taken, starts with a dash or has an equals sign: a mistake in the program, not in its input.
    #[must_use]
    pub fn flag(mut self, flag: Flag) -> Self {
        assert!(
            !flag.name.is_empty() && !flag.name.starts_with('-') && !flag.name.contains('='),
            "bad flag name {}",
            flag.name
        );
        let name = flag.name;
        assert!(
            self.flags.insert(name, flag).is_none(),
            "{} flag redefined: {name}",
            self.name
        );
        self
    }

    fn with(self, name: &'static str, kind: Kind, default: Value, usage: String) -> Self {
        let default_text = default.to_string();
        self.flag(Flag {
            name,
            usage,
            kind,
            default,
            default_text,
        })
    }
}
