//! Commands that have the daemon do one thing.

use std::time::Duration;

use goflag::{Parsed, quote};
use serde::Deserialize;

use super::no_more;
use crate::command::{Context, Error};
use crate::daemon::prefixed;
use crate::text::json;

/// Has the daemon do what goes by this name.
pub(crate) async fn run(
    context: &mut Context<'_>,
    parsed: &Parsed,
    action: &str,
) -> Result<(), Error> {
    no_more(parsed)?;
    act(context, action, "").await.map(drop)
}

async fn act(context: &mut Context<'_>, action: &str, body: &str) -> Result<String, Error> {
    let answer = context.post(&format!("debug?action={action}"), body).await;
    // Compat: the original adds the body of a failed answer, which its client has already thrown away.
    answer.map_err(|error| match prefixed("error", &error) {
        Error::Message(text) => Error::Message(text.replacen("error:", "error", 1) + ": "),
        Error::Denied(text) => Error::Denied(text.replacen("error:", "error", 1) + ": "),
        other => other,
    })
}

pub(crate) async fn netmap(context: &mut Context<'_>, _: &Parsed) -> Result<(), Error> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let answer = tokio::time::timeout(PATIENCE, act(context, "current-netmap", "")).await;
    let answer = answer.map_err(|_| "context deadline exceeded")??;
    context.out(json::indent(&json::sorted(&answer)?, "", "\t") + "\n")
}

pub(crate) async fn control_knobs(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    no_more(parsed)?;
    let answer = act(context, "control-knobs", "").await?;
    context.out(json::indent(&json::sorted(&answer)?, "", "  ") + "\n")
}

pub(crate) async fn state_dir(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    no_more(parsed)?;
    let answer = act(context, "statedir", "").await?;
    match serde_json::from_str::<String>(&answer) {
        Ok(dir) if dir.is_empty() => Err("no statedir is set".into()),
        Ok(dir) => context.out(dir + "\n"),
        Err(_) => Err(format!("got unexpected response from debug API: {}", answer.trim()).into()),
    }
}

pub(crate) async fn force_prefer_derp(
    context: &mut Context<'_>,
    parsed: &Parsed,
) -> Result<(), Error> {
    const USAGE: &str = "expected exactly one integer argument";
    let [text] = parsed.args() else {
        return Err(USAGE.into());
    };
    let region: i64 = text.parse().map_err(|_| {
        let text = quote(text);
        format!("{USAGE}: strconv.Atoi: parsing {text}: invalid syntax")
    })?;
    let done = act(context, "force-prefer-derp", &region.to_string()).await;
    match done {
        Err(Error::Message(text)) => Err(format!("failed to force preferred DERP: {text}").into()),
        done => done.map(drop),
    }
}

pub(crate) async fn reload_config(context: &mut Context<'_>, _: &Parsed) -> Result<(), Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    #[derive(Default)]
    struct Answer {
        reloaded: bool,
        err: String,
    }
    let answer = context.post("reload-config", "").await?;
    let answer: Answer = serde_json::from_str(&answer)
        .map_err(|error| format!("decode the answer to reload-config: {error}"))?;
    if !answer.err.is_empty() {
        return Err(answer.err.into());
    }
    if answer.reloaded {
        return context.out("config reloaded\n");
    }
    context.out("config mode not in use\n")?;
    Err(Error::Exit(1))
}

pub(crate) async fn set_expire(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let lead = parsed.duration("in").nanos();
    if !parsed.args().is_empty() || lead == 0 {
        return Err("usage: tailscale debug set-expire --in=<duration>".into());
    }
    let expiry = (rt::wall().as_unix_nanos() + i128::from(lead)).div_euclid(1_000_000_000);
    let path = format!("set-expiry-sooner?expiry={expiry}");
    Ok(context.post(&path, "").await.map(drop)?)
}

pub(crate) async fn component_logs(
    context: &mut Context<'_>,
    parsed: &Parsed,
) -> Result<(), Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Answer {
        error: String,
    }
    let [component] = parsed.args() else {
        return Err("usage: tailscale debug component-logs [magicsock|sockstats|syspolicy]".into());
    };
    let period = parsed.duration("for");
    let secs = period.nanos() / 1_000_000_000;
    let name = ::localapi::escape(component);
    let path = format!("component-debug-logging?component={name}&secs={secs}");
    let answer = context
        .post(&path, "")
        .await
        .map_err(|error| format!("error {error}: "))?;
    let answer: Answer = serde_json::from_str(&answer)
        .map_err(|error| format!("decode the answer to component-debug-logging: {error}"))?;
    if !answer.error.is_empty() {
        return Err(answer.error.into());
    }
    let component = quote(component);
    context.out(if period.nanos() <= 0 {
        format!("Disabled debug logs for component {component}\n")
    } else {
        format!("Enabled debug logs for component {component} for {period}\n")
    })
}

/// `tailscale debug derp`: has the daemon try a relay region.
pub(crate) async fn derp(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let [region] = parsed.args() else {
        return Err("usage: tailscale debug derp <region>".into());
    };
    let path = format!("debug-derp-region?region={}", ::localapi::escape(region));
    let report = context
        .post(&path, "")
        .await
        .map_err(|error| format!("error {error}: "))?;
    context.out(json::indent(&report, "", " ") + "\n")
}
