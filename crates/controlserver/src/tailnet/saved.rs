//! The state file's content.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use keys::MachinePrivate;
use serde::{Deserialize, Serialize};
use tailcfg::{DerpMap, DnsConfig, FilterRule, NodeId, UserId};

use super::Tailnet;
use super::auth_key::AuthKey;
use super::node::Node;

/// The version of the format that is written.
const VERSION: u32 = 1;

/// The state file's content. It holds the server's private key.
#[derive(Serialize, Deserialize)]
pub(crate) struct Saved {
    version: u32,
    noise_key: MachinePrivate,
    next_node: NodeId,
    next_user: UserId,
    next_host: u32,
    users: BTreeMap<UserId, String>,
    auth_keys: Vec<AuthKey>,
    filter: Vec<FilterRule>,
    #[serde(default)]
    dns: DnsConfig,
    nodes: Vec<Node>,
}

/// Why a state file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LoadError {
    /// Not JSON of the expected shape.
    Malformed(String),
    /// Written by a newer server.
    Newer(u32),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "the content is damaged: {why}"),
            Self::Newer(version) => write!(
                f,
                "the content has version {version}, and this server knows versions up to {VERSION}"
            ),
        }
    }
}

impl Saved {
    /// Reads a state file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, LoadError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        // The message of the JSON library tells a position and a type, no values of keys.
        let malformed = |error: serde_json::Error| LoadError::Malformed(error.to_string());
        let Version { version } = serde_json::from_slice(bytes).map_err(malformed)?;
        if version > VERSION {
            return Err(LoadError::Newer(version));
        }
        serde_json::from_slice(bytes).map_err(malformed)
    }
}

impl Tailnet {
    /// Everything that must survive.
    ///
    /// # Errors
    /// Those of the JSON library, which knows none for what is kept here.
    pub(crate) fn save(&self) -> Result<Vec<u8>, serde_json::Error> {
        let saved = Saved {
            version: VERSION,
            noise_key: self.noise_key.clone(),
            next_node: self.next_node,
            next_user: self.next_user,
            next_host: self.next_host,
            users: self.users.clone(),
            auth_keys: self.auth_keys.values().cloned().collect(),
            filter: (*self.filter).clone(),
            dns: (*self.dns).clone(),
            nodes: self.nodes.values().cloned().collect(),
        };
        serde_json::to_vec_pretty(&saved)
    }

    /// The tailnet as it was saved, with all nodes offline.
    pub(crate) fn load(saved: Saved, domain: String, derp_map: DerpMap) -> Self {
        let mut tailnet = Self {
            domain,
            settings: Default::default(),
            noise_key: saved.noise_key,
            next_node: saved.next_node,
            next_user: saved.next_user,
            next_host: saved.next_host,
            users: saved.users,
            nodes: saved
                .nodes
                .into_iter()
                .map(|node| (node.id, node))
                .collect(),
            auth_keys: saved
                .auth_keys
                .into_iter()
                .map(|key| (key.id().to_owned(), key))
                .collect(),
            index: Default::default(),
            logins: Vec::new(),
            derp_map: Arc::new(derp_map),
            dns: Arc::new(saved.dns),
            filter: Arc::new(saved.filter),
            views: Default::default(),
            profiles: Arc::default(),
        };
        let ids: Vec<NodeId> = tailnet.nodes.keys().copied().collect();
        for id in ids {
            tailnet.refresh(id);
        }
        tailnet
    }
}
