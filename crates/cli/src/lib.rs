//! Every `tailscale` subcommand, as data plus a function that talks LocalAPI.
//!
//! [`run`] takes a command line, streams and an [`Env`], and gives the exit code: 0 done, 1 failed with a message on standard error,
//! 2 a mistake in the flags, with the usage text. A command is a row of the table ([`Command`]: names, help, flags) and a function on
//! a [`Context`]; nothing else in the process is touched, so that tests run commands in memory.
//!
//! What scripts read is kept as the original prints it: standard output, error texts that they match, exit codes, JSON. Help texts
//! have the original's layout and our words.

mod cmd;
mod command;
mod daemon;
mod dispatch;
mod docs;
mod table;
mod text;
mod usage;

pub use command::{Act, Command, Context, Env, Error, Io, Run, default_socket};
pub use dispatch::run;
