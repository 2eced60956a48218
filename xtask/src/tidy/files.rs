//! What must hold of each source file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::comments::comments;
use super::crates::{Crate, Workspace};

/// A file longer than this, tests not counted, is two things.
const LINES_MAX: usize = 900;

/// Checks the Rust files of all crates.
pub(super) fn check(workspace: &Workspace, root: &Path, problems: &mut Vec<String>) {
    for own in workspace.crates.values() {
        let all = sources(&own.dir);
        let included = module_tree(own);
        for file in &all {
            let shown = file
                .strip_prefix(root)
                .unwrap_or(file)
                .display()
                .to_string();
            if !included.contains(file) {
                problems.push(format!("{shown}: no module includes it"));
            }
            let text = std::fs::read_to_string(file).unwrap_or_default();
            check_comments(&shown, &text, problems);
            let lines = lines_without_tests(file, &text);
            if lines > LINES_MAX {
                problems.push(format!(
                    "{shown}: {lines} lines without tests; {LINES_MAX} is the most"
                ));
            }
        }
    }
}

/// All Rust files below a crate's directory, but for what cargo built.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            if path.is_dir() {
                if !path.ends_with("target") {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The files that the compiler reads, starting from the crate's roots.
fn module_tree(own: &Crate) -> BTreeSet<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<(PathBuf, bool)> =
        own.roots.iter().map(|root| (root.clone(), true)).collect();
    while let Some((file, is_root)) = open.pop() {
        if seen.insert(file.clone()) {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            open.extend(
                included_by(&file, is_root, &text)
                    .into_iter()
                    .map(|file| (file, false)),
            );
        }
    }
    seen
}

/// The files that `mod name;`, `#[path = "..."]` and `include!("...")` in a file name.
fn included_by(file: &Path, is_root: bool, text: &str) -> Vec<PathBuf> {
    let beside = file.parent().unwrap_or_else(|| Path::new("")).to_path_buf();
    let owns_directory = is_root || file.ends_with("mod.rs");
    let below = if owns_directory {
        beside.clone()
    } else {
        file.with_extension("")
    };
    let mut found = Vec::new();
    let mut path = None;
    for line in text.lines().map(str::trim) {
        if let Some(given) = line
            .strip_prefix("#[path = \"")
            .and_then(|rest| rest.strip_suffix("\"]"))
        {
            path = Some(beside.join(given));
        } else if let Some(given) = line
            .split("include!(\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
        {
            found.push(beside.join(given));
        } else if let Some(name) = declared_module(line) {
            let plain = [
                below.join(format!("{name}.rs")),
                below.join(name).join("mod.rs"),
            ];
            found.extend(
                path.take()
                    .into_iter()
                    .chain(plain)
                    .find(|candidate| candidate.exists()),
            );
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            path = None;
        }
    }
    found
}

/// The name in `mod name;`, whatever its visibility.
fn declared_module(line: &str) -> Option<&str> {
    let line = line.split("//").next().unwrap_or(line).trim_end();
    let (before, name) = line.strip_suffix(';')?.rsplit_once(' ')?;
    let is_module = before == "mod" || (before.starts_with("pub") && before.ends_with(" mod"));
    is_module.then_some(name)
}

/// Comments speak of the code, not of its past, of plans without an owner, or of somebody's machine.
fn check_comments(shown: &str, text: &str, problems: &mut Vec<String>) {
    for comment in comments(text) {
        if let Some(why) = objection(comment.text) {
            problems.push(format!("{shown}:{}: comment {why}", comment.line));
        }
    }
}

fn objection(comment: &str) -> Option<&'static str> {
    let lower = comment.to_lowercase();
    let says = |phrase: &str| {
        let boundary = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
        lower.match_indices(phrase).any(|(at, found)| {
            boundary(lower[..at].chars().next_back())
                && boundary(lower[at + found.len()..].chars().next())
        })
    };
    let phase = lower
        .match_indices("phase ")
        .any(|(at, found)| lower[at + found.len()..].starts_with(|c: char| c.is_ascii_digit()));
    if says("previously") || says("no longer") || phase {
        return Some("tells history; say what is");
    }
    if ["/home/", "/root/", "/Users/"]
        .iter()
        .any(|dir| comment.contains(dir))
    {
        return Some("names a directory of somebody's machine");
    }
    let unowned = |mark: &str| {
        comment
            .match_indices(mark)
            .any(|(at, _)| !comment[at + mark.len()..].starts_with('('))
    };
    if unowned("TODO") || unowned("FIXME") {
        return Some("has a TODO without an owner: TODO(name)");
    }
    None
}

/// Lines that are not tests: files of tests have none, and an inline test module ends the count.
fn lines_without_tests(file: &Path, text: &str) -> usize {
    let in_tests = file
        .components()
        .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "benches");
    if in_tests || file.file_name().is_some_and(|name| name == "tests.rs") {
        return 0;
    }
    let lines: Vec<&str> = text.lines().collect();
    let inline = lines.windows(2).position(|pair| {
        pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    });
    inline.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_as_the_compiler_finds_them() {
        for (line, name) in [
            ("mod a;", Some("a")),
            ("pub mod a; // why", Some("a")),
            ("pub(crate) mod a;", Some("a")),
            ("mod a {", None),
            ("use a::b;", None),
            ("let module = mod_a;", None),
        ] {
            assert_eq!(declared_module(line), name, "{line}");
        }
    }

    #[test]
    fn comments_about_the_past_are_refused() {
        for (comment, ok) in [
            ("why it is so", true),
            ("the previous packet", true),
            ("TODO(ann): ask", true),
            ("TODO: ask", false),
            ("it no longer does", false),
            ("Previously it did", false),
            ("phase 2", false),
            ("the phase of the moon", true),
            ("see /home/ann/notes", false),
        ] {
            assert_eq!(objection(comment).is_none(), ok, "{comment}");
        }
    }

    #[test]
    fn comments_are_told_from_strings() {
        let source = "let a = \"// no\"; // one\nlet b = r#\"// \"no\"#; /* two\nthree /* nested */ */ let c = '\"'; // four\nfn x<'a>() {} /// five\nlet d = '\\''; // six\nlet e = br\"\\\"; //! seven";
        let found: Vec<(usize, &str)> = comments(source)
            .iter()
            .map(|c| (c.line, c.text.trim()))
            .collect();
        assert_eq!(
            found,
            [
                (1, "one"),
                (2, "/* two"),
                (3, "three /* nested */ */"),
                (3, "four"),
                (4, "five"),
                (5, "six"),
                (6, "seven")
            ]
        );
    }
}
