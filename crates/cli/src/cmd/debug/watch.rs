//! `tailscale debug watch-ipn`.

use futures_util::StreamExt as _;
use goflag::{FlagSet, Parsed};
use ipn::WatchMask;

use crate::command::{Context, Error};
use crate::text::json;

/// Switches, their defaults, what they ask for and their help.
const WISHES: [(&str, bool, WatchMask, &str); 12] = [
    (
        "initial",
        false,
        WatchMask(WatchMask::INITIAL_STATE.0 | WatchMask::INITIAL_PREFS.0),
        "start with the state and the settings",
    ),
    (
        "engine-updates",
        false,
        WatchMask::ENGINE_UPDATES,
        "show figures of the engine",
    ),
    (
        "initial-drive-shares",
        false,
        WatchMask::INITIAL_DRIVE_SHARES,
        "start with the Taildrive shares",
    ),
    (
        "initial-outgoing-files",
        false,
        WatchMask::INITIAL_OUTGOING_FILES,
        "start with the files being sent",
    ),
    (
        "initial-health",
        false,
        WatchMask::INITIAL_HEALTH_STATE,
        "start with the health warnings",
    ),
    (
        "health-actions",
        false,
        WatchMask::HEALTH_ACTIONS,
        "show the actions of health warnings apart",
    ),
    (
        "initial-suggested-exit-node",
        false,
        WatchMask::INITIAL_SUGGESTED_EXIT_NODE,
        "start with the suggested exit node",
    ),
    (
        "initial-client-version",
        false,
        WatchMask::INITIAL_CLIENT_VERSION,
        "start with what is known of newer versions",
    ),
    (
        "peer-changes",
        true,
        WatchMask::PEER_CHANGES,
        "show peers that came, changed or went",
    ),
    (
        "initial-status",
        false,
        WatchMask::INITIAL_STATUS,
        "start with the whole status",
    ),
    (
        "peer-patches",
        true,
        WatchMask::PEER_PATCHES,
        "show narrow changes of peers as such",
    ),
    (
        "peer-wireguard-state",
        false,
        WatchMask::PEER_WIREGUARD_STATE,
        "show the states of WireGuard sessions",
    ),
];

pub(crate) fn flags() -> FlagSet {
    let set = FlagSet::new("watch-ipn").int("count", 0, "end after so many messages; 0 never ends");
    WISHES.iter().fold(set, |set, (name, default, _, help)| {
        set.bool(name, *default, *help)
    })
}

pub(crate) async fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let wished = WISHES.iter().filter(|(name, ..)| parsed.bool(name));
    let mask = wished.fold(WatchMask::NO_NETMAP, |mask, (_, _, wish, _)| mask | *wish);
    let mut messages = context.watch_text(mask).await?;
    context.err("Connected.\n");
    let count = parsed.int("count");
    let mut seen = 0;
    while count == 0 || seen < count {
        let message = messages.next().await.ok_or("EOF")??;
        let message = String::from_utf8_lossy(&message).into_owned();
        context.out(json::indent(&message, "", "\t") + "\n")?;
        seen += 1;
    }
    Ok(())
}
