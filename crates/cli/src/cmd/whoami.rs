//! `tailscale whoami`.

use goflag::Parsed;

use super::whois;
use crate::command::{Context, Error};

pub(crate) async fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    if !parsed.args().is_empty() {
        return Err("too many arguments, expected none".into());
    }
    let status = context.status(false).await?;
    let own = status.tailscale_ips.iter().flatten().next();
    let own = own.ok_or_else(|| {
        format!(
            "no current Tailscale IP address; state: {}",
            status.backend_state
        )
    })?;
    let who = context.whois("", &own.to_string()).await?;
    whois::show(
        context,
        who,
        status.current_tailnet.as_ref(),
        parsed.bool("json"),
    )
}
