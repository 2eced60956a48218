//! The first line on standard error, the exit code and the usage layout, beside the original programs.

#![expect(
    clippy::disallowed_methods,
    reason = "the originals are started to compare with them"
)]

use std::process::{Command, Output};

use goflag::{FlagSet, GoDuration};

fn original(test: &str, variable: &str) -> Option<String> {
    let path = std::env::var(variable).ok().filter(|p| !p.is_empty());
    if path.is_none() {
        testkit::originals::skip(
            test,
            &format!(
                "set {variable} to the path of the original program (go install tailscale.com/cmd/...)"
            ),
        );
    }
    path
}

fn run(path: &str, args: &[&str]) -> (Output, String) {
    let out = Command::new(path)
        .args(args)
        .output()
        .expect("start the original");
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    (out, stderr)
}

#[test]
fn mistakes_are_told_as_tailscaled_tells_them() {
    let Some(path) = original(
        "mistakes_are_told_as_tailscaled_tells_them",
        "TS_GO_TAILSCALED",
    ) else {
        return;
    };
    let set = FlagSet::new(path.as_str())
        .bool("cleanup", false, "")
        .opt_bool("encrypt-state", "")
        .port("port", 0, "")
        .string("socket", "", "")
        .int("verbose", 0, "");
    for args in [
        &["--foo"][..],
        &["---port"],
        &["-=1"],
        &["--port"],
        &["--port=abc"],
        &["--port", "1:2"],
        &["--port="],
        &["--port=65536"],
        &["--verbose=\u{1}x\u{e9}"],
        &["--verbose=99999999999999999999"],
        &["--verbose", "1_0_"],
        &["--cleanup=maybe"],
        &["--encrypt-state=maybe"],
        &["--socket"],
        &["-h"],
    ] {
        let (out, stderr) = run(&path, args);
        let end = set.parse(args.iter().copied()).expect_err("a mistake");
        assert_eq!(
            out.status.code(),
            Some(i32::from(end.exit_code())),
            "{args:?}"
        );
        assert_eq!(
            end.to_string().lines().next(),
            stderr.lines().next(),
            "{args:?}"
        );
    }
}

/// Reads the original's usage text back into a set; the set must print the same text.
#[test]
fn the_usage_layout_is_that_of_derper() {
    let Some(path) = original("the_usage_layout_is_that_of_derper", "TS_GO_DERPER") else {
        return;
    };
    let (_, text) = run(&path, &["-h"]);
    let body = text
        .strip_prefix(&format!("Usage of {path}:\n"))
        .expect("a heading");
    let mut set = FlagSet::new(path.as_str());
    for entry in body
        .trim_end()
        .split("\n  -")
        .map(|e| e.trim_start_matches("  -"))
    {
        set = add(set, entry);
    }
    assert_eq!(set.usage(), text);
}

fn add(set: FlagSet, entry: &str) -> FlagSet {
    let (head, help) = entry.split_once("\t").expect("help after a tab");
    let (name, kind) = head
        .trim()
        .split_once(' ')
        .unwrap_or_else(|| (head.trim(), ""));
    let name: &'static str = name.to_owned().leak();
    let help = help.replace("\n    \t", "\n");
    let (usage, default) = match help.rsplit_once(" (default ") {
        Some((usage, rest)) if rest.ends_with(')') => {
            (usage.to_owned(), rest.trim_end_matches(')').to_owned())
        }
        _ => (help.clone(), String::new()),
    };
    match kind {
        "" => set.bool(name, default == "true", usage),
        "int" => set.int(name, default.parse().unwrap_or(0), usage),
        "float" => set.float(
            name,
            default.replace("+Inf", "inf").parse().unwrap_or(0.0),
            usage,
        ),
        "duration" => set.duration(name, default.parse().unwrap_or(GoDuration::ZERO), usage),
        "string" => set.string(name, default.trim_matches('"'), usage),
        other => set.string(
            name,
            default.trim_matches('"'),
            usage.replacen(other, &format!("`{other}`"), 1),
        ),
    }
}
