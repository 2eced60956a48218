//! `tailscale metrics`.

use goflag::Parsed;

use crate::command::{Context, Error};
use crate::daemon::os_error;

pub(crate) async fn print(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    if !parsed.args().is_empty() {
        return Err("too many arguments, expected none".into());
    }
    let text = context.get("usermetrics").await?;
    context.out(text)
}

/// Whoever reads the file at any moment finds all of the metrics in it.
pub(crate) async fn write(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let [path] = parsed.args() else {
        return Err("usage: tailscale metrics write <path>".into());
    };
    let text = context.get("usermetrics").await?;
    let failed = |error: std::io::Error| format!("write `{path}`: {}", os_error(&error));
    let beside = format!("{path}.tmp{}", std::process::id());
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // There is nothing left of it, or never was.
        let _ = std::fs::remove_file(&beside);
    }
    written.map_err(|error| failed(error).into())
}
