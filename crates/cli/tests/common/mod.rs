//! Runs a command line of ours in memory.

#![allow(dead_code, reason = "each test program uses a part of it")]

#[cfg(unix)]
pub(crate) mod canned;
#[cfg(unix)]
#[macro_use]
pub(crate) mod story;

use std::collections::BTreeMap;
use std::path::Path;

use cli::{Env, Io};
use tokio::io::{AsyncWriteExt, DuplexStream};

/// What a command line leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Without what changes between two runs.
    pub(crate) fn normalised(self) -> Self {
        let told = self
            .stderr
            .lines()
            .filter(|line| !line.starts_with("Warning: client version"));
        Self {
            code: self.code,
            stdout: steady(self.stdout.lines()),
            stderr: steady(told),
        }
    }
}

/// The lines with `N` for numbers that change, and the health warnings, which come in any order, sorted.
fn steady<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut lines: Vec<String> = lines.map(steady_line).collect();
    lines
        .chunk_by_mut(|a, b| is_warning(a) && is_warning(b))
        .for_each(<[String]>::sort);
    lines.concat()
}

fn is_warning(line: &str) -> bool {
    line.starts_with("#     - ")
}

/// A line with `N` for latencies and byte counts, and without the date that the original's logger puts first.
fn steady_line(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let dated = words
        .first()
        .is_some_and(|w| w.len() == 10 && w.as_bytes()[4] == b'/');
    let mut before = "";
    let mut out = String::new();
    for word in words.into_iter().skip(if dated { 2 } else { 0 }) {
        let moving = matches!(before, "tx" | "rx") || (before == "in" && word.ends_with('s'));
        out.push_str(if moving { "N" } else { word });
        out.push(' ');
        before = word;
    }
    out.trim_end().to_owned() + "\n"
}

/// Runs `tailscale --socket=<socket> <args>`.
pub(crate) fn ours(socket: &Path, args: &[&str]) -> Outcome {
    ours_with_stdin(socket, args, b"", false)
}

/// As [`ours`], with bytes on standard input, which then ends or stays open.
pub(crate) fn ours_with_stdin(
    socket: &Path,
    args: &[&str],
    input: &[u8],
    stays_open: bool,
) -> Outcome {
    ours_in(
        &Env {
            vars: BTreeMap::from([("USER".to_owned(), user())]),
            uid: Some(0),
        },
        socket,
        args,
        input,
        stays_open,
    )
}

fn user() -> String {
    std::env::var("USER").unwrap_or_default()
}

pub(crate) fn ours_in(
    env: &Env,
    socket: &Path,
    args: &[&str],
    input: &[u8],
    stays_open: bool,
) -> Outcome {
    let all = [format!("--socket={}", socket.display())]
        .into_iter()
        .chain(args.iter().map(|&arg| arg.to_owned()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let (mut typing, mut stdin): (DuplexStream, DuplexStream) =
            tokio::io::duplex(input.len().max(1));
        typing.write_all(input).await.expect("fits");
        let open = stays_open.then_some(typing);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let io = Io {
            stdin: &mut stdin,
            stdout: &mut stdout,
            stderr: &mut stderr,
            interactive: false,
        };
        let code = cli::run(all.collect(), io, env).await;
        drop(open);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Outcome {
            code: i32::from(code),
            stdout: text(stdout),
            stderr: text(stderr),
        }
    })
}
