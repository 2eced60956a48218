//! Which relays are asked.

use std::sync::Arc;

use derp::DerpMap;
use netmap::derp_map_from_wire;
use transport::Dialer;
use transport::client::{OneShot, send};

use crate::command::{Context, Error};
use crate::daemon::os_error;

/// Names a file or a URL of a DERP map to use instead of the daemon's.
const MAP_VARIABLE: &str = "TS_NETCHECK_DERP_MAP";
/// The longest map that is read.
const LEN_MAX: usize = 1 << 20;

/// The user's map, else the daemon's.
///
/// Compat: the original asks Tailscale's control server where there is no daemon. We contact nobody who was not named.
pub(super) async fn load(
    context: &mut Context<'_>,
    dialer: &Dialer,
) -> Result<Arc<DerpMap>, Error> {
    let named = context.env.var(MAP_VARIABLE).to_owned();
    let map = if named.is_empty() {
        of_daemon(context).await?
    } else {
        let body = read(&named, dialer).await?;
        serde_json::from_slice(&body)
            .map_err(|error| format!("decode the DERP map `{named}`: {error}"))?
    };
    let map = derp_map_from_wire(&map);
    if map.regions.is_empty() {
        return Err(no_map("the one at hand has no regions"));
    }
    Ok(Arc::new(map))
}

async fn of_daemon(context: &mut Context<'_>) -> Result<tailcfg::DerpMap, Error> {
    match context.derp_map().await {
        Ok(Some(map)) => Ok(map),
        Ok(None) => Err(no_map("tailscaled has none yet")),
        Err(error) => Err(no_map(&error.to_string())),
    }
}

fn no_map(why: &str) -> Error {
    Error::Message(format!(
        "no DERP map, so netcheck cannot continue: {why}\nLog in first, or set {MAP_VARIABLE} to a file or a URL of a DERP map \
         (\"tailscale debug derp-map\" prints one)."
    ))
}

async fn read(named: &str, dialer: &Dialer) -> Result<Vec<u8>, Error> {
    if !named.starts_with("http://") && !named.starts_with("https://") {
        let read = std::fs::read(named);
        return Ok(read.map_err(|error| format!("open {named}: {}", os_error(&error)))?);
    }
    let answer = send(dialer, OneShot::get(named, LEN_MAX)).await;
    let answer = answer.map_err(|error| format!("fetch the DERP map: {error}"))?;
    if !answer.status.is_success() {
        let (status, body) = (answer.status, answer.body_text());
        return Err(format!("fetch the DERP map `{named}`: {status}: {body}").into());
    }
    Ok(answer.body.to_vec())
}
