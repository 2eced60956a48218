//! `tailscale debug system diff`.

use goflag::Parsed;

use crate::cmd::{no_arguments, trial};
use crate::command::{Context, Error};
use crate::text::json;

pub(crate) async fn diff(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    no_arguments(parsed)?;
    let found = trial::differences(context, "").await?;
    if parsed.bool("json") {
        let text = json::indent(&json::encode(&found), "", "  ");
        return context.out(format!("{text}\n"));
    }
    match found.is_empty() {
        true => context.out("The machine is as it should be.\n"),
        false => context.out(format!(
            "The machine is not as it should be. This is to be done:\n{}",
            trial::table(&found)
        )),
    }
}
