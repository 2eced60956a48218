//! Changes of settings: a look at what they would do, and those that may cut the connection that they are typed in.

use std::time::Duration;

use ipn::{MaskedPrefs, Prefs, Status};
use localapi::SystemDifference;
use packet::addr;

use super::up;
use crate::command::{Context, Env, Error};
use crate::text::table::Columns;

/// How long a change stays that nobody confirms.
const PATIENCE: Duration = Duration::from_secs(30);
const COLUMNS: Columns = Columns { min: 0, pad: 2 };

/// Changes settings. What may cut the user's own connection is undone unless the user can still say that it is to stay; scripts are told,
/// and go on.
pub(crate) async fn apply(
    context: &mut Context<'_>,
    edit: &MaskedPrefs,
    current: &Prefs,
    status: &Status,
    accepted: &str,
) -> Result<(), Error> {
    let is_accepted = accepted
        .split(',')
        .any(|name| matches!(name, "lose-ssh" | "all"));
    let danger = danger(context.env, edit, current, status).filter(|_| !is_accepted);
    let Some(danger) = danger else {
        context.edit_prefs(edit, "").await?;
        return Ok(());
    };
    if !context.io.interactive {
        context.err(format!(
            "hint: this may cut the connection that it is typed in: {danger}. On a terminal it would be undone unless confirmed.\n"
        ));
        context.edit_prefs(edit, "").await?;
        return Ok(());
    }
    let path = format!("prefs-trial?seconds={}", PATIENCE.as_secs());
    let body = serde_json::to_string(edit).map_err(|error| error.to_string())?;
    if let Err(error) = context.post(&path, &body).await {
        if !is_unknown(&error) {
            return Err(error.into());
        }
        // An original has nothing of the kind.
        context.edit_prefs(edit, "").await?;
        return Ok(());
    }
    context.out(format!(
        "This may cut the connection that you type in: {danger}.\nIt is undone in {} seconds unless you confirm it. Keep it? [y/N] ",
        PATIENCE.as_secs()
    ))?;
    let answer = tokio::time::timeout(PATIENCE, up::read_line(context)).await;
    let is_kept = answer.is_ok_and(|answer| matches!(answer.trim(), "y" | "Y" | "yes"));
    if is_kept {
        context.post_for("prefs-confirm", 204).await?;
        return Ok(());
    }
    let undo = MaskedPrefs {
        prefs: current.clone(),
        ..edit.clone()
    };
    context.edit_prefs(&undo, "").await?;
    Err("not confirmed: the change is undone".into())
}

fn is_unknown(error: &localapi::ClientError) -> bool {
    matches!(error, localapi::ClientError::Status { status, .. } if status.as_u16() == 404)
}

/// What about a change may cut the connection of whoever sits at SSH.
fn danger(env: &Env, edit: &MaskedPrefs, current: &Prefs, status: &Status) -> Option<String> {
    let client = up::ssh_client(env).filter(|ip| !ip.is_loopback())?;
    let mut after = current.clone();
    after.apply(edit);
    let is_tailnet = addr::is_tailscale_ip(client);
    let exit_node = |prefs: &Prefs| {
        let Prefs {
            exit_node_id,
            exit_node_ip,
            auto_exit_node,
            ..
        } = prefs;
        (exit_node_id.clone(), exit_node_ip.0, auto_exit_node.clone())
    };
    let none = (String::new(), None, String::new());
    if !is_tailnet && exit_node(&after) != none && exit_node(&after) != exit_node(current) {
        return Some(format!(
            "what goes to {client} would go through the exit node"
        ));
    }
    if is_tailnet && after.shields_up && !current.shields_up {
        return Some(format!("nothing from {client} would be let in any more"));
    }
    let turns_on_routes = after.route_all && !current.route_all && !is_tailnet;
    let peers = status.peer.iter().flatten();
    let mut routes = peers.flat_map(|(_, peer)| {
        let routes = peer.primary_routes.iter().flatten();
        routes.map(|net| (net, peer.host_name.as_str()))
    });
    let (net, peer) = routes.find(|(net, _)| turns_on_routes && net.contains(&client))?;
    Some(format!(
        "what goes to {client} would go to {peer}, which offers a route to {net}"
    ))
}

/// Says what a change would do to the machine, without doing it.
pub(crate) async fn preview(context: &mut Context<'_>, edit: &MaskedPrefs) -> Result<(), Error> {
    let body = serde_json::to_string(edit).map_err(|error| error.to_string())?;
    let found = differences(context, &body).await?;
    match found.is_empty() {
        true => context.out("Nothing about the machine would change.\n"),
        false => context.out(format!("This would be done:\n{}", table(&found))),
    }
}

/// What is not as it should be.
pub(crate) async fn differences(
    context: &mut Context<'_>,
    body: &str,
) -> Result<Vec<SystemDifference>, Error> {
    let answer = match context.post("system-diff", body).await {
        Err(error) if is_unknown(&error) => {
            return Err("this daemon does not tell what it would do to the machine".into());
        }
        answer => answer?,
    };
    serde_json::from_str(&answer).map_err(|error| Error::Message(format!("decode: {error}")))
}

/// A line for each, with where it comes from.
pub(crate) fn table(found: &[SystemDifference]) -> String {
    let line = |one: &SystemDifference| {
        let why = match one.why.as_str() {
            "" => String::new(),
            why => format!("({why})"),
        };
        format!("  {}\t{}\t{why}", one.part, one.step)
            .trim_end()
            .to_owned()
            + "\n"
    };
    COLUMNS.align(&found.iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ipn::PeerStatus;

    use super::*;

    fn dangerous(client: &str, change: impl FnOnce(&mut MaskedPrefs)) -> bool {
        let env = Env {
            vars: BTreeMap::from([("SSH_CLIENT".to_owned(), format!("{client} 50000 22"))]),
            uid: None,
        };
        let peer = PeerStatus {
            host_name: "router".to_owned(),
            primary_routes: Some(vec!["10.0.0.0/8".parse().unwrap()]),
            ..PeerStatus::default()
        };
        let status = Status {
            peer: Some([(keys::NodePublic::from_bytes([1; 32]), peer)].into()),
            ..Status::default()
        };
        let mut edit = MaskedPrefs::default();
        change(&mut edit);
        danger(&env, &edit, &Prefs::default(), &status).is_some()
    }

    #[test]
    fn what_cuts_the_users_own_connection_is_known() {
        let exit = |edit: &mut MaskedPrefs| {
            edit.exit_node_id_set = true;
            edit.prefs.exit_node_id = "n1".to_owned();
        };
        let shields = |edit: &mut MaskedPrefs| {
            edit.shields_up_set = true;
            edit.prefs.shields_up = true;
        };
        let routes = |edit: &mut MaskedPrefs| {
            edit.route_all_set = true;
            edit.prefs.route_all = true;
        };
        let name = |edit: &mut MaskedPrefs| {
            edit.hostname_set = true;
            edit.prefs.hostname = "x".to_owned();
        };
        assert!(dangerous("192.0.2.1", exit) && !dangerous("100.64.0.9", exit));
        assert!(dangerous("100.64.0.9", shields) && !dangerous("192.0.2.1", shields));
        assert!(dangerous("10.1.2.3", routes) && !dangerous("192.0.2.1", routes));
        assert!(!dangerous("127.0.0.1", exit) && !dangerous("", exit));
        assert!(!dangerous("192.0.2.1", name));
    }
}
