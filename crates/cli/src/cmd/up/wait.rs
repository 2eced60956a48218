//! After `up` has told the daemon what to do: show what the user must do, and wait for the network to run.

use std::time::Duration;

use futures_util::StreamExt as _;
use goflag::quote;
use ipn::{Notify, State, Status};
use keys::NodePublic;
use serde::Serialize;

use super::flags::UpArgs;
use crate::command::{Context, Error};
use crate::daemon::Items;
use crate::text::json;
use crate::text::qr::{Code, Format};

/// What is waited for, and what has been told.
pub(super) struct Waiting {
    json: bool,
    qr: Option<String>,
    timeout: Option<Duration>,
    /// A login URL from the bus is shown: with an auth key it would be an old one.
    show_urls: bool,
    /// The URL of an older login that is not the one asked for.
    stale_url: Option<String>,
    /// The node key before; a new login is over when it has changed.
    old_key: Option<NodePublic>,
    new_key_wanted: bool,
    admin_url: String,
    state: String,
    /// The state will not be told again, so that it must be shown at once.
    already_pending: bool,
}

/// The objects that `--json` prints: one with a URL while somebody must act, one at the end.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Output<'a> {
    #[serde(rename = "AuthURL", skip_serializing_if = "str::is_empty")]
    auth_url: &'a str,
    #[serde(rename = "QR", skip_serializing_if = "String::is_empty")]
    qr: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    backend_state: &'a str,
}

/// The side of the picture that `--json` prints, in pixels.
const PICTURE: usize = 128;

impl Waiting {
    pub(super) fn new(
        args: &UpArgs,
        status: &Status,
        admin_url: String,
        turned_on_only: bool,
    ) -> Self {
        Self {
            json: args.json,
            qr: args.qr.clone(),
            timeout: (args.timeout.nanos() > 0).then(|| args.timeout.to_std()),
            show_urls: args.auth_key.is_empty(),
            stale_url: args.force_reauth.then(|| status.auth_url.clone()),
            old_key: status.self_status.as_ref().map(|own| own.public_key),
            new_key_wanted: args.force_reauth,
            admin_url,
            state: status.backend_state.clone(),
            already_pending: turned_on_only
                && status.backend_state == State::NeedsMachineAuth.name(),
        }
    }
}

/// Follows the bus until the node runs.
///
/// # Errors
///
/// The daemon reports an error or goes away, time is up, or the user interrupts.
pub(super) async fn until_running(
    context: &mut Context<'_>,
    bus: Items<Notify>,
    waiting: &Waiting,
) -> Result<(), Error> {
    let time_up = async {
        match waiting.timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        result = follow(context, bus, waiting) => result,
        () = interrupted() => Err("context canceled".into()),
        () = time_up => {
            Err("timeout waiting for Tailscale service to enter a Running state; check health with \"tailscale status\"".into())
        }
    }
}

async fn follow(
    context: &mut Context<'_>,
    mut bus: Items<Notify>,
    waiting: &Waiting,
) -> Result<(), Error> {
    let mut told = Told::default();
    let (mut running, mut old_key) = (false, waiting.new_key_wanted);
    if waiting.already_pending {
        told.approval(context, waiting)?;
    }
    loop {
        let Notify {
            err_message,
            state,
            self_change,
            browse_to_url,
            ..
        } = bus.next().await.ok_or("EOF")??;
        if let Some(message) = err_message {
            return Err(format!("backend error: {message}").into());
        }
        if state == Some(State::NeedsMachineAuth) {
            told.approval(context, waiting)?;
        }
        running = state.map_or(running, |state| state == State::Running);
        old_key &= self_change.is_none_or(|own| waiting.old_key == Some(own.key));
        if running && !old_key {
            return told.success(context, waiting);
        }
        let fresh = |url: &String| {
            !url.is_empty() && waiting.show_urls && waiting.stale_url.as_ref() != Some(url)
        };
        if let Some(url) = browse_to_url.filter(fresh) {
            told.login(context, waiting, &url)?;
        }
    }
}

/// What the user has seen.
#[derive(Default)]
struct Told {
    something: bool,
    last_url: String,
}

impl Told {
    fn login(
        &mut self,
        context: &mut Context<'_>,
        waiting: &Waiting,
        url: &str,
    ) -> Result<(), Error> {
        if self.last_url == url {
            return Ok(());
        }
        self.something = true;
        url.clone_into(&mut self.last_url);
        if waiting.json {
            let output = Output {
                auth_url: url,
                qr: Code::new(url)
                    .map(|code| code.data_url(PICTURE))
                    .unwrap_or_default(),
                backend_state: &waiting.state,
            };
            return context.out(json::indent(&json::encode(&output), "", "\t") + "\n");
        }
        context.err(format!("\nTo authenticate, visit:\n\n\t{url}\n\n"));
        if let Some(format) = &waiting.qr {
            show_qr(context, format, url);
        }
        Ok(())
    }

    fn approval(&mut self, context: &mut Context<'_>, waiting: &Waiting) -> Result<(), Error> {
        self.something = true;
        if waiting.json {
            return done(context, State::NeedsMachineAuth);
        }
        if self.last_url != waiting.admin_url {
            self.last_url.clone_from(&waiting.admin_url);
            context.err(format!(
                "\nTo approve your machine, visit (as admin):\n\n\t{}\n\n",
                waiting.admin_url
            ));
        }
        Ok(())
    }

    fn success(&self, context: &mut Context<'_>, waiting: &Waiting) -> Result<(), Error> {
        if waiting.json {
            return done(context, State::Running);
        }
        if self.something {
            context.err("Success.\n");
        }
        Ok(())
    }
}

/// Draws the URL for a camera. That it cannot be drawn keeps nobody from logging in.
fn show_qr(context: &mut Context<'_>, format: &str, url: &str) {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(|name| context.env.var(name));
    let locale = locale.into_iter().find(|value| !value.is_empty());
    let Some(known) = Format::from_name(format, locale.unwrap_or_default()) else {
        let format = quote(format);
        return context.err(format!("unknown QR code format: {format}\n"));
    };
    match Code::new(url) {
        Some(code) => context.err(code.draw(known) + "\n"),
        None => context.err("QR code error: the URL is too long for a QR code\n"),
    }
}

fn done(context: &mut Context<'_>, state: State) -> Result<(), Error> {
    let output = Output {
        auth_url: "",
        qr: String::new(),
        backend_state: state.name(),
    };
    context.out(json::indent(&json::encode(&output), "", "  ") + "\n")
}

/// Ends when the user or the system asks the program to stop.
async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
