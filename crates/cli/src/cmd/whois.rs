//! `tailscale whois`.

use std::fmt::Write as _;

use goflag::Parsed;
use ipn::WhoIsResponse;

use crate::command::{Context, Error};
use crate::text::table::Columns;
use crate::text::{json, list};

pub(crate) async fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let addr = match parsed.args() {
        [addr] => addr,
        [] => return Err("missing argument, expected one peer".into()),
        _ => return Err("too many arguments, expected at most one peer".into()),
    };
    let who = context.whois(parsed.string("proto"), addr).await?;
    if parsed.bool("json") {
        return context.out(json::indent(&json::encode(&who), "", "  ") + "\n");
    }
    context.out(describe(&who))
}

fn describe(who: &WhoIsResponse) -> String {
    let node = who.node.clone().unwrap_or_default();
    let mut rows = String::from("Machine:\n");
    let _ = writeln!(
        rows,
        "  Name:\t{}",
        node.name.strip_suffix('.').unwrap_or(&node.name)
    );
    let _ = writeln!(rows, "  ID:\t{}", node.stable_id);
    let _ = writeln!(rows, "  Addresses:\t{}", list(&node.addresses));
    if let Some(routed) = node
        .allowed_ips
        .as_ref()
        .and_then(|ips| ips.get(2..))
        .filter(|routed| !routed.is_empty())
    {
        let _ = writeln!(rows, "  AllowedIPs:\t{}", list(routed));
    }
    if node.tags.is_empty() {
        let user = who.user_profile.clone().unwrap_or_default();
        let _ = writeln!(
            rows,
            "User:\n  Name:\t{}\n  ID:\t{}",
            user.login_name, user.id
        );
    } else {
        let _ = writeln!(rows, "  Tags:\t{}", node.tags.join(", "));
    }
    let mut out = Columns { min: 10, pad: 5 }.align(&rows);
    let capabilities = who.cap_map.as_ref().filter(|caps| !caps.is_empty());
    if capabilities.is_some() {
        out.push_str("Capabilities:\n");
    }
    for (name, values) in capabilities.into_iter().flatten() {
        match values.as_ref().filter(|values| !values.is_empty()) {
            Some(values) => {
                let _ = writeln!(
                    out,
                    "  - {name}:\n      {}",
                    json::indent(&json::encode(values), "      ", "  ")
                );
            }
            None => {
                let _ = writeln!(out, "  - {name}");
            }
        }
    }
    out
}
