//! `tailscale whois`.

use std::fmt::Write as _;

use goflag::Parsed;
use ipn::{TailnetStatus, WhoIsResponse};
use serde::Serialize;
use tailcfg::Node;

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
    show(context, who, None, parsed.bool("json"))
}

/// What `--json` prints.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    who: &'a WhoIsResponse,
    #[serde(rename = "CurrentTailnet", skip_serializing_if = "Option::is_none")]
    tailnet: Option<&'a TailnetStatus>,
}

/// Shows a node and whose it is; with the tailnet if it is told.
pub(super) fn show(
    context: &mut Context<'_>,
    who: WhoIsResponse,
    tailnet: Option<&TailnetStatus>,
    as_json: bool,
) -> Result<(), Error> {
    context.out(if as_json {
        let shown = Shown { who: &who, tailnet };
        json::indent(&json::encode(&shown), "", "  ") + "\n"
    } else {
        describe(&who, tailnet)
    })
}

fn describe(who: &WhoIsResponse, tailnet: Option<&TailnetStatus>) -> String {
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
    if let Some(tailnet) = tailnet {
        let shown = display_name(&node).unwrap_or_else(|| tailnet.name.clone());
        let _ = writeln!(
            rows,
            "Tailnet:\n  Name:\t{shown}\n  MagicDNS Suffix:\t{}",
            tailnet.magic_dns_suffix
        );
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

/// The tailnet's name for people, which the control server tells as an attribute of the node.
fn display_name(node: &Node) -> Option<String> {
    let values = node.cap_map.get("tailnet-display-name")?.as_ref()?;
    let name: String = values.first()?.parse().ok()?;
    Some(name).filter(|name| !name.is_empty())
}
