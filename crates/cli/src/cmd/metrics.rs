//! `tailscale metrics`.

use std::io::{self, Write as _};
use std::path::Path;

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
    let path = Path::new(path);
    // A device or a directory must not be replaced by a file.
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        let path = path.display();
        return Err(format!("{path} already exists and is not a regular file").into());
    }
    replace(path, &text)
        .map_err(|error| format!("write `{}`: {}", path.display(), os_error(&error)).into())
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let mut file = builder.tempfile_in(directory.unwrap_or_else(|| Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}
