//! How the tailnet treats its nodes.

use serde::{Deserialize, Serialize};

/// What an administrator may choose. The server starts with its configuration's choice.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether new machines wait for an administrator's approval, unless their auth key approves them.
    pub device_approval: bool,
    /// Whether anybody who knows the address of a login page may let its machine in; otherwise only an administrator.
    pub open_logins: bool,
    /// How many seconds a key is good for, those of tagged nodes excepted; `None` is for ever.
    pub key_lifetime_secs: Option<u64>,
    /// How others are told that a node comes or goes.
    pub presence: Presence,
}

/// How clients are told that a peer comes or goes. Both forms are in use: clients must know both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// `PeersChangedPatch` with `Online` and `LastSeen`.
    #[default]
    Patches,
    /// `OnlineChange` and `PeerSeenChange`.
    Maps,
}
