//! `tailscale version`.

use goflag::Parsed;
use serde::Serialize;

use super::no_arguments;
use crate::command::{Context, Error};
use crate::text::json;

/// What `--json` prints (the original's `version.Meta`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Meta<'a> {
    major_minor_patch: &'a str,
    short: &'a str,
    long: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unstable_branch: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon_long: Option<String>,
    cap: u16,
}

pub(crate) async fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    no_arguments(parsed)?;
    let daemon = if parsed.bool("daemon") {
        Some(context.status(false).await?.version)
    } else {
        None
    };
    if parsed.bool("upstream") {
        return Err("version --upstream: not built yet in this version".into());
    }
    if parsed.bool("json") {
        let meta = Meta {
            major_minor_patch: ipn::version::SHORT,
            short: ipn::version::SHORT,
            long: ipn::version::LONG,
            unstable_branch: is_unstable(ipn::version::SHORT),
            daemon_long: daemon,
            cap: tailcfg::CAP,
        };
        return context.out(json::indent(&json::encode(&meta), "", "\t") + "\n");
    }
    match daemon {
        None => context.out(ipn::version::text() + "\n"),
        Some(daemon) => context.out(format!(
            "Client: {}\nDaemon: {daemon}\n",
            ipn::version::text()
        )),
    }
}

/// Compat: odd minor versions are development branches.
fn is_unstable(version: &str) -> bool {
    let minor = version
        .split('.')
        .nth(1)
        .and_then(|minor| minor.parse::<u32>().ok());
    minor.is_some_and(|minor| minor % 2 == 1)
}
