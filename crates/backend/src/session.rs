//! One control client from its start to its end: everything here dies with it.

use std::sync::Arc;
use std::time::Duration;

use host::Instant;
use keys::{LockPrivate, NodePrivate, NodePublic};
use tailcfg::Hostinfo;
use tailcfg::go::Secret;

use crate::{ClientId, CommandId, Recipient};

/// A login page is good for seven days on the server; an hour is left for the user.
const AUTH_URL_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600 - 3600);

/// One control client.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) client: ClientId,
    /// Whether the client has been made. It is made when it is first needed, and the machine's key with it.
    pub(crate) started: bool,
    pub(crate) server_url: String,
    pub(crate) auth_key: Option<Secret>,
    pub(crate) phase: Phase,
    /// Whether a key was registered by this client.
    pub(crate) logged_in: bool,
    pub(crate) trying: Option<Trying>,
    /// What the user was told of the current attempt.
    pub(crate) refusal: Option<String>,
    pub(crate) auth_url: Option<AuthUrl>,
    /// Who waits for a page.
    pub(crate) page_wanted: Option<Recipient>,
    pub(crate) paused: bool,
    /// Whether this client has brought a map: only then does it know that the key has run out.
    pub(crate) has_map: bool,
    /// The key that the long poll was asked for with.
    pub(crate) map_key: Option<NodePublic>,
    /// What the server was last told of us.
    pub(crate) told: Option<Arc<Hostinfo>>,
    /// The command that waits for the logout.
    pub(crate) logout: Option<CommandId>,
    /// The command that waits for an earlier expiry.
    pub(crate) expiry: Option<CommandId>,
}

/// Where a login stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// Nothing is asked of the server.
    #[default]
    Idle,
    /// The server is asked.
    Trying,
    /// The server waits for the user.
    WaitingForUser,
}

/// The key that is being registered.
#[derive(Debug, Clone)]
pub(crate) struct Trying {
    pub(crate) key: NodePrivate,
    pub(crate) lock_key: LockPrivate,
    pub(crate) is_new: bool,
}

/// A page where the login goes on.
#[derive(Debug, Clone)]
pub(crate) struct AuthUrl {
    pub(crate) url: String,
    since: Instant,
}

impl AuthUrl {
    pub(crate) fn new(url: String, since: Instant) -> Self {
        Self { url, since }
    }

    pub(crate) fn is_good(&self, now: Instant) -> bool {
        now.since(self.since) < AUTH_URL_LIFETIME
    }
}

impl Session {
    /// Whether nothing will go on without a human.
    pub(crate) fn is_stuck(&self) -> bool {
        !self.logged_in && self.phase != Phase::Trying
    }

    /// Whether the current key is registered and nothing else is under way.
    pub(crate) fn is_settled(&self) -> bool {
        self.logged_in && self.phase == Phase::Idle
    }

    /// Forgets the page.
    pub(crate) fn reset_auth_url(&mut self) {
        self.auth_url = None;
        self.page_wanted = None;
    }
}
