//! What a command is: a row of a table, and a function.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, Write};
use std::path::PathBuf;
use std::pin::Pin;

use goflag::{FlagSet, Parsed};
use tokio::io::AsyncRead;

use crate::daemon::Daemon;

/// A command or a group of commands.
pub struct Command {
    /// What the user types.
    pub name: &'static str,
    /// The synopsis; one line per form.
    pub usage: &'static str,
    /// One line, shown in the list of the parent.
    pub short: &'static str,
    /// Paragraphs of help.
    pub long: &'static str,
    /// Left out of the parent's list.
    pub hidden: bool,
    /// The flags that it takes.
    pub flags: fn() -> FlagSet,
    /// Whether help tells the flags' defaults.
    pub shows_defaults: bool,
    /// What it does.
    pub act: Act,
    /// Commands below it.
    pub subs: &'static [Self],
}

/// What a command does when the command line ends at it.
pub enum Act {
    /// Nothing: one of its subcommands must follow.
    Group,
    /// It is known, but this version cannot do it.
    NotBuilt,
    /// Runs the function with the flags and arguments.
    Run(Run),
}

/// A command's function.
pub type Run = for<'a> fn(
    &'a mut Context<'_>,
    &'a Parsed,
) -> Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>>;

impl Command {
    /// A command without flags, subcommands and long help; the starting point of each row.
    pub(crate) const fn new(
        name: &'static str,
        usage: &'static str,
        short: &'static str,
        act: Act,
    ) -> Self {
        Self {
            name,
            usage,
            short,
            long: "",
            hidden: false,
            flags: no_flags,
            shows_defaults: true,
            act,
            subs: &[],
        }
    }
}

fn no_flags() -> FlagSet {
    FlagSet::new("")
}

/// The streams of a command.
pub struct Io<'a> {
    /// Read by `nc` and by questions.
    pub stdin: &'a mut (dyn AsyncRead + Unpin),
    /// What was asked for.
    pub stdout: &'a mut dyn Write,
    /// What went wrong, and what to do meanwhile.
    pub stderr: &'a mut dyn Write,
    /// Whether both stdin and stdout are a terminal, so that a question can be answered.
    pub interactive: bool,
}

/// What commands know of the process that runs them.
#[derive(Clone, Debug, Default)]
pub struct Env {
    /// Environment variables.
    pub vars: BTreeMap<String, String>,
    /// The user id, where there is such a thing.
    pub uid: Option<u32>,
}

impl Env {
    /// The variable's value, empty when it is not set.
    #[must_use]
    pub fn var(&self, name: &str) -> &str {
        self.vars.get(name).map_or("", String::as_str)
    }
}

/// All that a command works with.
pub struct Context<'a> {
    pub(crate) io: Io<'a>,
    pub(crate) env: &'a Env,
    pub(crate) daemon: Daemon,
}

impl Context<'_> {
    /// Writes to standard output.
    pub(crate) fn out(&mut self, text: impl AsRef<str>) -> Result<(), Error> {
        self.out_bytes(text.as_ref().as_bytes())
    }

    /// Writes what may be no text to standard output.
    pub(crate) fn out_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.io
            .stdout
            .write_all(bytes)
            .and_then(|()| self.io.stdout.flush())
            .map_err(Error::Stdout)
    }

    /// Writes to standard error; if that fails there is nobody to tell.
    pub(crate) fn err(&mut self, text: impl AsRef<str>) {
        let _ = self
            .io
            .stderr
            .write_all(text.as_ref().as_bytes())
            .and_then(|()| self.io.stderr.flush());
    }
}

/// Why a command ends with another exit code than 0.
#[derive(Debug)]
pub enum Error {
    /// A message for standard error, and exit code 1.
    Message(String),
    /// As `Message`, because the daemon refused this user: a hint follows.
    Denied(String),
    /// All has been said; exit with this code.
    Exit(u8),
    /// The usage text on standard error, and exit code 0.
    Help,
    /// Standard output is closed or full.
    Stdout(io::Error),
}

impl From<String> for Error {
    fn from(text: String) -> Self {
        Self::Message(text)
    }
}

impl From<&str> for Error {
    fn from(text: &str) -> Self {
        Self::Message(text.to_owned())
    }
}

/// Where the daemon listens when `--socket` does not tell.
#[must_use]
pub fn default_socket() -> PathBuf {
    if std::path::Path::new("/var/run").is_dir() {
        PathBuf::from("/var/run/tailscale/tailscaled.sock")
    } else {
        PathBuf::from("tailscaled.sock")
    }
}
