//! Tables for people and files, JSON for scripts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;

/// Runs one scenario; what went wrong is shown whole, and its first line is the error. The kit that starts programs panics where
/// one does not come up: the next scenario goes on all the same.
pub(crate) fn attempt<T>(scenario: impl FnOnce() -> Result<T>) -> Result<T, String> {
    let outcome = catch_unwind(AssertUnwindSafe(scenario))
        .unwrap_or_else(|_| Err(anyhow!("a part of the scenario panicked")));
    outcome.map_err(|error| {
        let text = format!("{error:#}");
        eprintln!("{text}");
        text.lines().next().unwrap_or_default().to_owned()
    })
}

/// Writes rows as one JSON document.
pub(crate) fn write_json<T: Serialize>(path: &Path, rows: &[T]) -> Result<()> {
    let text = serde_json::to_string_pretty(rows)?;
    std::fs::write(path, text + "\n").with_context(|| format!("write `{}`", path.display()))
}

/// A table in Markdown.
pub(crate) fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let mut text = line(&head);
    text += &format!("|{}\n", "---|".repeat(head.len()));
    for row in rows {
        text += &line(row);
    }
    text
}
