//! `tailscale licenses`.

use goflag::Parsed;

use crate::command::{Context, Error};

pub(crate) fn run(context: &mut Context<'_>, _parsed: &Parsed) -> Result<(), Error> {
    context.out(
        "This program is free software under the BSD 3-Clause licence. The libraries that it is made of, and the licences\n\
         that they may have, are listed in its source, in Cargo.lock and deny.toml; `cargo tree` and `cargo deny list` show\n\
         both together. Those of the original are at https://tailscale.com/licenses/tailscale\n",
    )
}
