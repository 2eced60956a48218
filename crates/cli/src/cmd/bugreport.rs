//! `tailscale bugreport`.

use goflag::Parsed;

use super::up;
use crate::command::{Context, Error};

pub(crate) async fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let note = match parsed.args() {
        [] => "",
        [note] => note.as_str(),
        _ => return Err("unknown arguments".into()),
    };
    let path = format!(
        "bugreport?diagnose={}&note={}",
        parsed.bool("diagnose"),
        escape(note)
    );
    let marker = context.post(&path, "").await?;
    context.out(format!("{}\n", marker.trim()))?;
    if !parsed.bool("record") {
        return Ok(());
    }
    context.out("Recording started; please reproduce your issue and then press Enter...\n")?;
    up::read_line(context).await;
    let marker = context.post(&path, "").await?;
    context.out(format!(
        "{}\nPlease provide both bugreport markers above to the support team or GitHub issue.\n",
        marker.trim()
    ))
}

/// A text as the value of a parameter (RFC 3986, 2.1).
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
