//! `tailscale down`.

use goflag::Parsed;
use ipn::{MaskedPrefs, State};

use super::{no_arguments, up};
use crate::command::{Context, Error};
use crate::daemon::prefixed;

pub(crate) async fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    no_arguments(parsed)?;
    if up::ssh_over_tailscale(context.env) {
        let text = "You are connected over Tailscale; this action will disable Tailscale and result in your session disconnecting.";
        up::ask(
            context,
            &up::Risk {
                name: "lose-ssh",
                text,
            },
            parsed.string("accept-risk"),
        )
        .await?;
    }
    let status = context
        .status(true)
        .await
        .map_err(|error| prefixed("error fetching current status", &error))?;
    if status.backend_state == State::Stopped.name() {
        context.err("Tailscale was already stopped.\n");
        return Ok(());
    }
    let edit = MaskedPrefs {
        want_running_set: true,
        ..MaskedPrefs::default()
    };
    context.edit_prefs(&edit, parsed.string("reason")).await?;
    Ok(())
}
