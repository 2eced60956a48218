//! The whole command line as one text: for reading, for completion generators, and for the tests that compare it.

use std::fmt::Write as _;

use serde::Serialize;

use crate::command::Command;
use crate::usage::{HIDDEN, usage};

/// The help texts of all commands, each after a `===` line.
pub(crate) fn all_help(root: &'static Command) -> String {
    let mut out = String::new();
    walk(root, &mut |command| {
        let _ = writeln!(out, "===\n{}", usage(command, &(command.flags)()));
    });
    out
}

fn walk(command: &'static Command, visit: &mut impl FnMut(&'static Command)) {
    visit(command);
    for sub in command.subs {
        walk(sub, visit);
    }
}

/// What `--json-docs` prints of a command.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CommandDoc {
    name: &'static str,
    desc: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subcommands: Vec<Self>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    flags: Vec<FlagDoc>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct FlagDoc {
    name: &'static str,
    desc: String,
}

/// The documentation of the command and of those below it that are not hidden.
pub(crate) fn json_docs(command: &Command) -> CommandDoc {
    let desc = [command.long, command.short, command.usage]
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or("");
    let flags = (command.flags)();
    CommandDoc {
        name: command.name,
        desc,
        subcommands: command
            .subs
            .iter()
            .filter(|sub| !sub.hidden)
            .map(json_docs)
            .collect(),
        flags: flags
            .iter()
            .filter(|flag| !flag.usage.starts_with(HIDDEN))
            .map(|flag| FlagDoc {
                name: flag.name,
                desc: flag.usage.clone(),
            })
            .collect(),
    }
}
