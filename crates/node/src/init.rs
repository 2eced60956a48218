//! What the init system that started us is told: that we are ready, how things are in one line, and that we are about to end.

use std::sync::Arc;

use backend::Snapshot;
use ipn::State;
use tokio::sync::watch;

/// Tells it a line of sd_notify(3).
pub type TellInit = Arc<dyn Fn(&str) + Send + Sync>;

/// Tells it that clients can connect, and then how things are, until the brain ends.
pub(crate) async fn keep_told(tell: TellInit, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    tell("READY=1");
    let mut told = None;
    loop {
        let status = status(&snapshots.borrow_and_update());
        if status.is_some() && status != told {
            tell(&format!("STATUS={}", status.as_deref().unwrap_or_default()));
            told = status;
        }
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

/// Compat: the originals' lines, which `systemctl status` shows and scripts look for. While there is nothing to say, what was said stands.
fn status(now: &Snapshot) -> Option<String> {
    let line = match now.state {
        State::NeedsLogin => format!("Needs login: {}", now.auth_url),
        State::Stopped if now.auth_url.is_empty() => {
            "Stopped; run 'tailscale up' to log in".to_owned()
        }
        State::Running => {
            let map = now.netmap.as_ref()?;
            let ips: Vec<String> = map.self_node.ips().map(|ip| ip.to_string()).collect();
            let login = &now.profile.user_profile.login_name;
            format!("Connected; {login}; {}", ips.join(" "))
        }
        _ => return None,
    };
    // A line is one line.
    Some(line.replace(char::is_control, " "))
}
