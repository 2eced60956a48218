//! Tables for people and files, JSON for scripts.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

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
