//! `tailscale completion`: scripts for shells, which ask `__complete` what may come next.
//!
//! Compat: the question and its answer are the original's, one candidate a line, a tab before what it is about, and at the end a colon
//! and a number: 0 where files may follow as well, 4 where nothing else can, 1 where the daemon did not tell. Scripts that the original
//! has printed before go on to work.

use goflag::{FlagSet, Kind, Parsed};

use crate::command::{Command, Context, Error};
use crate::table::ROOT;
use crate::usage::HIDDEN;

const FILES_TOO: u8 = 0;
const FAILED: u8 = 1;
const NOTHING_ELSE: u8 = 4;

/// Commands whose arguments are machines of the tailnet.
const OF_PEERS: [&str; 4] = ["ping", "nc", "whois", "ip"];

/// The flags of each shell's subcommand.
pub(crate) fn flags() -> FlagSet {
    FlagSet::new("completion")
        .bool("flags", true, "complete flags, too")
        .bool("descs", true, "say what each candidate is about")
}

/// Prints the script for a shell.
pub(crate) fn script(
    context: &mut Context<'_>,
    parsed: &Parsed,
    shell: &'static str,
) -> Result<(), Error> {
    let text = match shell {
        "bash" => include_str!("bash.sh"),
        "zsh" => include_str!("zsh.sh"),
        "fish" => include_str!("fish.sh"),
        _ => include_str!("powershell.ps1"),
    };
    let flag = |name| parsed.bool(name).to_string();
    context.out(
        text.replace("@FLAGS@", &flag("flags"))
            .replace("@DESCS@", &flag("descs")),
    )
}

/// Answers a script.
pub(crate) async fn complete(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let Some((word, before)) = parsed.args().split_last() else {
        return context.out(format!(":{NOTHING_ELSE}\n"));
    };
    let place = find(before);
    let (mut found, mut directive) = place.candidates(word, parsed.bool("flags"));
    if place.wants_peer() && !word.starts_with('-') {
        match peers(context).await {
            Ok(names) => {
                directive = NOTHING_ELSE;
                found.extend(
                    names
                        .into_iter()
                        .filter(|(name, _)| name.starts_with(word.as_str())),
                );
            }
            Err(error) => {
                directive = FAILED;
                context.err(format!("completing {} args: {error}\n", place.command.name));
            }
        }
    }
    let line = |(name, about): &(String, String)| match parsed.bool("descs") && !about.is_empty() {
        true => format!("{name}\t{about}\n"),
        false => format!("{name}\n"),
    };
    let lines: String = found.iter().map(line).collect();
    context.out(format!("{lines}:{directive}\n"))
}

/// Names of the tailnet's machines, each with its address.
async fn peers(context: &mut Context<'_>) -> Result<Vec<(String, String)>, String> {
    let status = context
        .status(true)
        .await
        .map_err(|error| error.to_string())?;
    let peers = status.peer.iter().flat_map(|peers| peers.values());
    let mut names: Vec<(String, String)> = peers
        .filter_map(|peer| {
            let name = peer
                .dns_name
                .split('.')
                .next()
                .filter(|name| !name.is_empty())?;
            let address = peer.tailscale_ips.iter().flatten().next();
            Some((
                name.to_owned(),
                address.map(ToString::to_string).unwrap_or_default(),
            ))
        })
        .collect();
    names.sort();
    Ok(names)
}

/// Where in the table a command line is.
struct Place {
    command: &'static Command,
    /// Whether the next word is the value of a flag.
    in_flag: bool,
    /// Arguments that are no flags and no subcommands.
    arguments: usize,
}

fn find(words: &[String]) -> Place {
    let mut place = Place {
        command: &ROOT,
        in_flag: false,
        arguments: 0,
    };
    for word in words {
        if std::mem::take(&mut place.in_flag) {
            continue;
        }
        if let Some(flag) = word.strip_prefix('-') {
            let name = flag.trim_start_matches('-');
            place.in_flag = (place.command.flags)()
                .get(name)
                .is_some_and(|flag| !matches!(flag.kind, Kind::Bool | Kind::OptBool));
            continue;
        }
        let sub = place.command.subs.iter().find(|sub| sub.name == word);
        match sub.filter(|_| place.arguments == 0) {
            Some(sub) => place.command = sub,
            None => place.arguments += 1,
        }
    }
    place
}

impl Place {
    fn wants_peer(&self) -> bool {
        !self.in_flag && self.arguments == 0 && OF_PEERS.contains(&self.command.name)
    }

    /// What may come in place of `word`, each with what it is about.
    fn candidates(&self, word: &str, with_flags: bool) -> (Vec<(String, String)>, u8) {
        if self.in_flag || word.contains('=') {
            return (Vec::new(), FILES_TOO);
        }
        let mut found = Vec::new();
        let dashes = if word.starts_with('-') && !word.starts_with("--") {
            "-"
        } else {
            "--"
        };
        if with_flags && (word.is_empty() || word.starts_with('-')) {
            let flags = (self.command.flags)();
            let shown = flags.iter().filter(|flag| {
                // The root's hidden flag is for those who make documents.
                !flag.usage.starts_with(HIDDEN)
            });
            found.extend(
                shown.map(|flag| (format!("{dashes}{}", flag.name), first_line(&flag.usage))),
            );
        }
        if !word.starts_with('-') && self.arguments == 0 {
            let subs = self.command.subs.iter().filter(|sub| !sub.hidden);
            found.extend(subs.map(|sub| (sub.name.to_owned(), sub.short.to_owned())));
        }
        found.retain(|(name, _)| name.starts_with(word));
        let directive = match self.command.subs.is_empty() {
            true => FILES_TOO,
            false => NOTHING_ELSE,
        };
        (found, directive)
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Vec<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let (word, before) = words.split_last().unwrap();
        let (found, _) = find(before).candidates(word, true);
        found.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn commands_flags_and_what_follows_them() {
        assert_eq!(names(&["ne"]), ["netcheck"]);
        assert_eq!(names(&["exit-node", "su"]), ["suggest"]);
        assert_eq!(names(&["set", "--accept-d"]), ["--accept-dns"]);
        assert_eq!(names(&["set", "-accept-d"]), ["-accept-dns"]);
        // Flags with values of their own, and without.
        assert!(
            names(&["up", "--operator", "x", "--accept-r"]).contains(&"--accept-routes".to_owned())
        );
        assert!(names(&["up", "--operator", ""]).is_empty());
        assert!(names(&["status", "--json", "--pee"]).contains(&"--peers".to_owned()));
        assert!(names(&[""]).contains(&"status".to_owned()));
        assert!(names(&["completion", ""]).contains(&"bash".to_owned()));
        assert!(!names(&["completion", "_"]).contains(&"__complete".to_owned()));
        assert_eq!(names(&["up", "stray", "n"]), Vec::<String>::new());
    }

    #[test]
    fn machines_are_asked_for_where_they_are_meant() {
        let at = |words: &[&str]| {
            find(
                &words
                    .iter()
                    .map(|word| (*word).to_owned())
                    .collect::<Vec<_>>(),
            )
            .wants_peer()
        };
        assert!(at(&["ping"]) && at(&["ping", "-c", "3"]));
        assert!(!at(&["ping", "-c"]) && !at(&["ping", "node"]) && !at(&["up"]) && !at(&[]));
    }
}
