//! `tailscale` alone.

use goflag::Parsed;

use crate::command::{Context, Error};
use crate::docs;
use crate::table::ROOT;
use crate::text::json;

pub(crate) fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    if parsed.bool("json-docs") {
        return context.out(json::encode(&docs::json_docs(&ROOT)) + "\n");
    }
    match parsed.args().first() {
        Some(unknown) => Err(Error::Message(format!(
            "tailscale: unknown subcommand: {unknown}"
        ))),
        None => Err(Error::Help),
    }
}
