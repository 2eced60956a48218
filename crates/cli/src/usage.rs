//! Help texts, in the layout of the original's (`ffcli` with its own usage function).

use std::fmt::Write as _;

use goflag::{Flag, FlagSet, unquote_usage};

use crate::command::Command;
use crate::text::table::Columns;

/// A flag whose help starts with this is left out of help texts.
pub(crate) const HIDDEN: &str = "HIDDEN: ";

/// The help text of a command, without a final newline.
pub(crate) fn usage(command: &Command, flags: &FlagSet) -> String {
    let mut out = String::new();
    if !command.short.is_empty() {
        let _ = write!(out, "{}\n\n", command.short);
    }
    let synopsis = if command.usage.is_empty() {
        command.name
    } else {
        command.usage
    };
    let _ = write!(out, "USAGE\n  {}\n\n", synopsis.replace('\n', "\n  "));
    if !command.long.is_empty() {
        let _ = write!(out, "{}\n\n", command.long);
    }
    if !command.subs.is_empty() {
        let rows: String = command
            .subs
            .iter()
            .filter(|c| !c.hidden)
            .map(|c| format!("  {}\t{}\n", c.name, c.short))
            .collect();
        let _ = write!(
            out,
            "SUBCOMMANDS\n{}\n",
            Columns { min: 0, pad: 2 }.align(&rows)
        );
    }
    if !flags.is_empty() {
        out.push_str("FLAGS\n");
        flags
            .iter()
            .filter(|f| !f.usage.starts_with(HIDDEN))
            .for_each(|flag| flag_help(&mut out, flag, command.shows_defaults));
    }
    out.trim().to_owned()
}

fn flag_help(out: &mut String, flag: &Flag, with_default: bool) {
    let (quoted, usage) = unquote_usage(flag);
    let name = flag.name;
    // Compat: a wrapper hides the flags' types from the original's usage function, so that all but booleans take a `value`.
    let value = if flag.usage.contains('`') {
        quoted
    } else {
        "value".to_owned()
    };
    let head = if flag.kind.is_bool() {
        format!("--{name}, --{name}=false")
    } else {
        format!("--{name} {value}")
    };
    let _ = write!(out, "  {head}\n    \t{}", usage.replace('\n', "\n    \t"));
    if with_default && !flag.default_text.is_empty() {
        let _ = write!(out, " (default {})", flag.default_text);
    }
    out.push('\n');
}
