//! `tailscale get`: what `set` would have to say.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use goflag::{Parsed, quote};
use ipn::{Prefs, Status};
use serde_json::Value;

use super::up::{self, Shown};
use crate::command::{Context, Error};
use crate::text::table::Columns;
use crate::text::{json, quoted_list};
use crate::usage::HIDDEN;

pub(crate) async fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let prefs = context.prefs().await?;
    let status = context.status(true).await?;
    let name = match parsed.args() {
        [] => None,
        [name] if name == "all" => None,
        [name] => Some(name.as_str()),
        args => return Err(format!("too many arguments: {}", quoted_list(args)).into()),
    };
    let settings = selected(name, &prefs, &status);
    if settings.is_empty() {
        let name = quote(name.unwrap_or_default());
        return Err(format!(
            "unknown setting {name}; see \"tailscale set --help\" for valid settings"
        )
        .into());
    }
    context.out(if parsed.bool("json") {
        as_json(&settings)
    } else if parsed.bool("set-flags") {
        as_arguments(&settings)
    } else if name.is_some() {
        settings
            .iter()
            .map(|(_, value)| format!("{}\n", text(value)))
            .collect()
    } else {
        as_table(&settings)
    })
}

/// The settings by name; hidden ones only when asked for by name.
fn selected(name: Option<&str>, prefs: &Prefs, status: &Status) -> Vec<(&'static str, Shown)> {
    let flags = up::set_flags();
    let wanted = flags.iter().filter(|flag| match name {
        Some(name) => flag.name == name,
        None => !flag.usage.starts_with(HIDDEN),
    });
    wanted
        .filter_map(|flag| up::setting(flag.name))
        .map(|setting| (setting.flag, value(setting, prefs, status)))
        .collect()
}

fn value(setting: &up::Setting, prefs: &Prefs, status: &Status) -> Shown {
    if setting.flag != "exit-node" {
        return (setting.show)(prefs);
    }
    if !prefs.auto_exit_node.is_empty() {
        return Shown::Text(format!("auto:{}", prefs.auto_exit_node));
    }
    let ip = up::exit_node_ip(prefs, status).map(|ip| ip.to_string());
    Shown::Text(ip.unwrap_or_default())
}

fn text(value: &Shown) -> String {
    match value {
        Shown::Switch(on) => on.to_string(),
        Shown::Text(text) => text.clone(),
    }
}

fn as_table(settings: &[(&'static str, Shown)]) -> String {
    let mut rows = "NAME\tVALUE\n".to_owned();
    for (name, value) in settings {
        let _ = writeln!(rows, "{name}\t{}", text(value));
    }
    Columns { min: 0, pad: 2 }.align(&rows)
}

fn as_json(settings: &[(&'static str, Shown)]) -> String {
    let object: BTreeMap<&str, Value> = settings
        .iter()
        .map(|(name, value)| match value {
            Shown::Switch(on) => (*name, Value::Bool(*on)),
            Shown::Text(text) => (*name, Value::String(text.clone())),
        })
        .collect();
    json::indent(&json::encode(&object), "", "  ") + "\n"
}

fn as_arguments(settings: &[(&'static str, Shown)]) -> String {
    let arguments: Vec<String> = settings
        .iter()
        .map(|(name, value)| up::argument(name, value))
        .collect();
    arguments.join(" ") + "\n"
}
