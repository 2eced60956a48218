//! `tailscale logout`.

use goflag::Parsed;

use super::no_arguments;
use crate::command::{Context, Error};

pub(crate) async fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    no_arguments(parsed)?;
    Ok(context.logout(parsed.string("reason")).await?)
}
