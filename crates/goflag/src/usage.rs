//! Usage texts in the layout of Go's `PrintDefaults`.

use std::fmt::Write as _;

use crate::{Flag, FlagSet, Kind, quote};

/// Splits a flag's help into the name of its value and the text without backquotes (Go's `UnquoteUsage`). Without a quoted name it
/// is the word for the kind, which is empty for booleans.
#[must_use]
pub fn unquote_usage(flag: &Flag) -> (String, String) {
    let quoted = flag
        .usage
        .split_once('`')
        .and_then(|(before, rest)| Some((before, rest.split_once('`')?)));
    match quoted {
        Some((before, (name, after))) => (name.to_owned(), format!("{before}{name}{after}")),
        None => (flag.kind.word().to_owned(), flag.usage.clone()),
    }
}

impl FlagSet {
    /// What Go prints on `-h`: a heading and all flags.
    #[must_use]
    pub fn usage(&self) -> String {
        let mut out = match self.name.as_str() {
            "" => "Usage:\n".to_owned(),
            name => format!("Usage of {name}:\n"),
        };
        for flag in self.iter() {
            print_flag(&mut out, flag);
        }
        out
    }
}

fn print_flag(out: &mut String, flag: &Flag) {
    let (value, usage) = unquote_usage(flag);
    let mut head = format!("  -{}", flag.name);
    if !value.is_empty() {
        let _ = write!(head, " {value}");
    }
    out.push_str(&head);
    // A boolean of one letter has its text on the same line.
    out.push_str(if head.len() <= 4 { "\t" } else { "\n    \t" });
    out.push_str(&usage.replace('\n', "\n    \t"));
    if flag.default_text != flag.kind.zero_text() {
        let shown = match flag.kind {
            Kind::String => quote(&flag.default_text),
            _ => flag.default_text.clone(),
        };
        let _ = write!(out, " (default {shown})");
    }
    out.push('\n');
}
