//! `tailscale switch`: one account after the other.

use std::fmt::Write as _;
use std::time::Duration;

use goflag::{Parsed, quote};
use ipn::{LoginProfile, State};
use serde::Serialize;

use super::why_not_running;
use crate::command::{Context, Error};
use crate::text::json;
use crate::text::table::Columns;

/// How often the state is looked at while the new account comes up.
const INTERVAL: Duration = Duration::from_millis(100);

pub(crate) async fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let as_json = parsed.bool("json");
    if parsed.bool("list") {
        let (current, all) = context.profiles().await?;
        return context.out(if as_json {
            list_json(&current, &all)
        } else {
            list(&current, &all)
        });
    }
    if as_json {
        return says(
            context,
            "--json argument cannot be used with tailscale switch NAME",
        );
    }
    let [name] = parsed.args() else {
        return says(context, "usage: tailscale switch NAME");
    };
    let Some(id) = other_profile(context, name, "switch to").await? else {
        return Ok(());
    };
    if let Err(error) = context.switch_profile(&id).await {
        return complains(context, &format!("Failed to switch to account: {error}\n"));
    }
    context.out(format!("Switching to account {}\n", quote(name)))?;
    until_settled(context).await
}

/// `tailscale switch remove`.
pub(crate) async fn remove(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let [name] = parsed.args() else {
        return says(context, "usage: tailscale switch remove NAME");
    };
    match other_profile(context, name, "remove").await? {
        Some(id) => Ok(context.delete_profile(&id).await?),
        None => Ok(()),
    }
}

/// A message on standard output, and exit code 1.
fn says<T>(context: &mut Context<'_>, text: &str) -> Result<T, Error> {
    context.out(format!("{text}\n"))?;
    Err(Error::Exit(1))
}

/// A message on standard error, and exit code 1.
fn complains<T>(context: &mut Context<'_>, text: &str) -> Result<T, Error> {
    context.err(text);
    Err(Error::Exit(1))
}

/// The id of the profile that the user named, unless it is the current one, which is said.
async fn other_profile(
    context: &mut Context<'_>,
    name: &str,
    verb: &str,
) -> Result<Option<String>, Error> {
    let (current, all) = match context.profiles().await {
        Ok(profiles) => profiles,
        Err(error) => {
            return complains(context, &format!("Failed to {verb} account: {error}\n"));
        }
    };
    let Some(found) = matching(name, &all) else {
        return complains(context, &format!("No profile named {}\n", quote(name)));
    };
    if found.id == current.id {
        context.out(format!("Already on account {}\n", quote(name)))?;
        return Ok(None);
    }
    Ok(Some(found.id.clone()))
}

/// By id, tailnet, account and the tailnet's display name, in this order.
fn matching<'a>(name: &str, all: &'a [LoginProfile]) -> Option<&'a LoginProfile> {
    let keys: [fn(&LoginProfile) -> &str; 4] = [
        |profile| &profile.id,
        |profile| &profile.network_profile.domain_name,
        |profile| &profile.name,
        |profile| &profile.network_profile.display_name,
    ];
    keys.iter()
        .find_map(|key| all.iter().find(|profile| key(profile) == name))
}

/// Waits until the new account runs or needs somebody.
async fn until_settled(context: &mut Context<'_>) -> Result<(), Error> {
    loop {
        let status = match context.status(false).await {
            Ok(status) => status,
            Err(error) => return complains(context, &format!("Error getting status: {error}")),
        };
        match State::from_name(&status.backend_state) {
            Some(State::NoState | State::Starting) => tokio::time::sleep(INTERVAL).await,
            Some(State::NeedsLogin) => {
                return context.out("Logged out.\nTo log in, run:\n  tailscale up\n");
            }
            Some(State::Running) => return context.out("Success.\n"),
            _ => {
                let why = why_not_running(&status).unwrap_or_default();
                return says(context, &why);
            }
        }
    }
}

fn list(current: &LoginProfile, all: &[LoginProfile]) -> String {
    let mut rows = "ID\tTailnet\tAccount\n".to_owned();
    for profile in all {
        let mark = if profile.id == current.id { "*" } else { "" };
        let tailnet = profile.network_profile.display_name_or_default();
        let _ = writeln!(rows, "{}\t{tailnet}\t{}{mark}", profile.id, profile.name);
    }
    Columns { min: 2, pad: 2 }.align(&rows)
}

fn list_json(current: &LoginProfile, all: &[LoginProfile]) -> String {
    #[derive(Serialize)]
    struct Row<'a> {
        id: &'a str,
        nickname: &'a str,
        tailnet: &'a str,
        account: &'a str,
        selected: bool,
    }
    let rows: Vec<Row<'_>> = all
        .iter()
        .map(|profile| Row {
            id: &profile.id,
            nickname: &profile.name,
            tailnet: profile.network_profile.display_name_or_default(),
            account: &profile.user_profile.login_name,
            selected: profile.id == current.id,
        })
        .collect();
    json::indent(&json::encode(&rows), "", "  ") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(id: &str, domain: &str, name: &str, display: &str) -> LoginProfile {
        let mut profile = LoginProfile {
            id: id.to_owned(),
            name: name.to_owned(),
            ..LoginProfile::default()
        };
        profile.network_profile.domain_name = domain.to_owned();
        profile.network_profile.display_name = display.to_owned();
        profile
    }

    #[test]
    fn an_id_comes_before_a_tailnet_and_that_before_an_account() {
        let all = [
            profile("1111", "x.test", "2222", "work"),
            profile("2222", "y.test", "x.test", "home"),
            profile("3333", "work", "z", ""),
        ];
        let id = |name: &str| matching(name, &all).map(|profile| profile.id.as_str());
        assert_eq!(id("2222"), Some("2222"));
        assert_eq!(id("x.test"), Some("1111"));
        assert_eq!(id("work"), Some("3333"));
        assert_eq!(id("home"), Some("2222"));
        assert_eq!((id("nobody"), id("")), (None, Some("3333")));
    }
}
