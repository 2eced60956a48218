//! `tailscale debug`.

pub(crate) mod actions;
pub(crate) mod convert;
pub(crate) mod localapi;
mod pretty;
pub(crate) mod system;
pub(crate) mod watch;

use std::fmt::Write as _;

use goflag::Parsed;
use serde::Deserialize;

use futures_util::StreamExt as _;

use super::up::{Risk, ask};
use crate::command::{Context, Error};
use crate::daemon::prefixed;
use crate::text::json;

pub(crate) fn run(_: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    match parsed.args().first() {
        Some(unknown) => Err(Error::Message(format!(
            "tailscale debug: unknown subcommand: {unknown}"
        ))),
        None => Err("tailscale debug: subcommand or flag required".into()),
    }
}

pub(crate) async fn derp_map(context: &mut Context<'_>, _: &Parsed) -> Result<(), Error> {
    let body = context.get("derpmap").await.map_err(|error| prefixed("failed to get local derp map, instead `curl https://controlplane.tailscale.com/derpmap/default`", &error))?;
    context.out(json::indent(&body, "", "\t") + "\n")
}

pub(crate) async fn prefs(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    if parsed.bool("pretty") {
        let prefs = context.prefs().await?;
        return context.out(pretty::prefs(&prefs) + "\n");
    }
    let body = context.get("prefs").await?;
    context.out(json::indent(&body, "", "\t") + "\n")
}

pub(crate) async fn metrics(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    if parsed.bool("watch") {
        return Err("debug metrics --watch: not built yet in this version".into());
    }
    let text = context.get("metrics").await?;
    context.out(text)
}

pub(crate) async fn test_risk(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    no_more(parsed)?;
    let risk = Risk {
        name: "test-risk",
        text: "This is a test risky action.",
    };
    ask(context, &risk, parsed.string("accept-risk")).await?;
    context.out("did-test-risky-action\n")
}

/// Refuses arguments.
fn no_more(parsed: &Parsed) -> Result<(), Error> {
    match parsed.args() {
        [] => Ok(()),
        _ => Err("unexpected arguments".into()),
    }
}

pub(crate) fn env(context: &mut Context<'_>, _: &Parsed) -> Result<(), Error> {
    let lines: String = context
        .env
        .vars
        .iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    context.out(lines)
}

pub(crate) fn stat(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    for path in parsed.args() {
        context.out(describe(path))?;
    }
    Ok(())
}

/// What a path is; at most 25 entries of a directory.
fn describe(path: &str) -> String {
    const SHOWN: usize = 25;
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) => {
            return format!(
                "{path}: lstat {path}: {}\n",
                crate::daemon::os_error(&error)
            );
        }
    };
    let mut out = format!("{path}: {}, {}\n", mode(&found), found.len());
    if found.is_dir() {
        let mut names: Vec<String> = std::fs::read_dir(path)
            .map(|entries| {
                entries
                    .flatten()
                    .map(|entry| entry.file_name().to_string_lossy().into_owned())
                    .collect()
            })
            .unwrap_or_default();
        names.sort();
        for name in names.iter().take(SHOWN) {
            let _ = writeln!(out, "  - {name}");
        }
        if names.len() > SHOWN {
            out.push_str("  ...\n");
        }
    }
    out
}

/// The file's kind and rights, as Go's `FileMode` prints them.
#[cfg(unix)]
fn mode(found: &std::fs::Metadata) -> String {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let (kind, bits) = (found.file_type(), found.mode());
    let flags = [
        (kind.is_dir(), "d"),
        (kind.is_symlink(), "L"),
        (kind.is_block_device() || kind.is_char_device(), "D"),
        (kind.is_fifo(), "p"),
        (kind.is_socket(), "S"),
        (bits & 0o4000 != 0, "u"),
        (bits & 0o2000 != 0, "g"),
        (kind.is_char_device(), "c"),
        (bits & 0o1000 != 0, "t"),
    ];
    let mut out: String = flags
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, letter)| *letter)
        .collect();
    if out.is_empty() {
        out.push('-');
    }
    out.extend((0..9).map(|at| {
        if bits & (0o400 >> at) != 0 {
            ['r', 'w', 'x'][at % 3]
        } else {
            '-'
        }
    }));
    out
}

#[cfg(not(unix))]
fn mode(found: &std::fs::Metadata) -> String {
    let kind = if found.is_dir() { 'd' } else { '-' };
    let rights = if found.permissions().readonly() {
        "r--r--r--"
    } else {
        "rw-rw-rw-"
    };
    format!("{kind}{rights}")
}

/// One line of the daemon's log.
#[derive(Default, Deserialize)]
#[serde(default)]
struct LogLine {
    text: String,
    v: i64,
    logtail: LogMeta,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LogMeta {
    client_time: String,
}

pub(crate) async fn daemon_logs(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let mut lines = context.tail_logs().await?;
    while let Some(line) = lines.next().await {
        let line: LogLine = serde_json::from_slice(&line?)
            .map_err(|error| format!("decode a log line: {error}"))?;
        let text = line.text.trim();
        if text.is_empty() || line.v > parsed.int("verbose") {
            continue;
        }
        let time =
            Some(&line.logtail.client_time).filter(|time| parsed.bool("time") && !time.is_empty());
        context.out(match time {
            Some(time) => format!("{time} {text}\n"),
            None => format!("{text}\n"),
        })?;
    }
    // Compat: the original reports the end of the stream in these words.
    Err("EOF".into())
}
