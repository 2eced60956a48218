//! Go's command-line flag syntax, as data: names, kinds, defaults, usage text and exit codes.
//!
//! The programs we stand in for are written with Go's `flag` package, and scripts, service units and wrappers depend on its habits:
//! `-x` and `--x` are the same flag, `-x=v` and `-x v` too, a boolean takes a value only after `=`, `--` ends the flags and so does
//! the first argument that is not one; a usage error prints one line and the usage text on standard error and exits with 2, `-h`
//! exits with 0.
//!
//! A [`FlagSet`] describes the flags; [`FlagSet::parse`] gives [`Parsed`] values or the [`ParseEnd`] that tells what to print and
//! how to exit. Nothing here prints or exits.
//!
//! ```
//! let set = goflag::FlagSet::new("tailscaled")
//!     .string("socket", "/run/d.sock", "path of the service unix socket")
//!     .int("verbose", 0, "log verbosity level");
//! let parsed = set.parse(["-verbose=2", "--socket", "/tmp/s", "rest"]).expect("good flags");
//! assert_eq!((parsed.int("verbose"), parsed.string("socket"), parsed.args()), (2, "/tmp/s", &["rest".to_owned()][..]));
//! assert!(parsed.given("socket"));
//! ```

mod duration;
mod parse;
mod quote;
mod set;
mod usage;
mod value;

pub use duration::GoDuration;
pub use parse::{BadUsage, ParseEnd, Parsed, Stop};
pub use quote::quote;
pub use set::{Flag, FlagSet};
pub use usage::unquote_usage;
pub use value::{Kind, Value};

#[cfg(test)]
mod tests;
