//! A login's identity, kept inside the prefs in the state file (`types/persist`).

use std::collections::BTreeMap;
use std::fmt;

use keys::{LockPrivate, NodePrivate, NodePublic};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};
use tailcfg::UserProfile;
use tailcfg::go::RawJson;
use tailcfg::wire;

use crate::wire_leaf;

wire! {
    /// Who this node is. It holds private keys, which are zeroised on drop and do not print.
    pub struct Persist {
        /// The node key.
        "PrivateNodeKey" = private_node_key: NodePrivate,
        /// The one before, which proves that a new key is the same node.
        "OldPrivateNodeKey" = old_private_node_key: NodePrivate,
        /// Who logged in.
        "UserProfile" = user_profile: UserProfile,
        /// The tailnet lock key.
        "NetworkLockKey" = network_lock_key: LockPrivate,
        /// The node's stable id.
        "NodeID" = node_id: String,
        /// A sealed hardware key. We cannot use it, and must not lose it.
        "AttestationKey" ? attestation_key: Option<Sealed>,
        /// Tailnet lock states that this node must not join again.
        "DisallowedTKAStateIDs" ? disallowed_tka_state_ids: Vec<String>,
    }
}

impl Eq for Persist {}

impl Persist {
    /// The names of all fields.
    pub(crate) const NAMES: [&'static str; 7] = [
        "PrivateNodeKey",
        "OldPrivateNodeKey",
        "UserProfile",
        "NetworkLockKey",
        "NodeID",
        "AttestationKey",
        "DisallowedTKAStateIDs",
    ];

    /// The public half of the node key, if there is one.
    pub fn public_node_key(&self) -> Option<NodePublic> {
        (!self.private_node_key.is_zero()).then(|| self.private_node_key.public())
    }

    /// Writes the fields and those that we do not know.
    pub(crate) fn serialize_with<S: Serializer>(
        &self,
        unknown: &Unknown,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("PrivateNodeKey", &self.private_node_key)?;
        map.serialize_entry("OldPrivateNodeKey", &self.old_private_node_key)?;
        map.serialize_entry("UserProfile", &self.user_profile)?;
        map.serialize_entry("NetworkLockKey", &self.network_lock_key)?;
        map.serialize_entry("NodeID", &self.node_id)?;
        if let Some(key) = &self.attestation_key {
            map.serialize_entry("AttestationKey", key)?;
        }
        if !self.disallowed_tka_state_ids.is_empty() {
            map.serialize_entry("DisallowedTKAStateIDs", &self.disallowed_tka_state_ids)?;
        }
        for (key, value) in unknown {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }

    /// The same with every secret replaced by its zero value, which is how the originals answer.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        Self {
            private_node_key: NodePrivate::default(),
            old_private_node_key: NodePrivate::default(),
            network_lock_key: LockPrivate::default(),
            attestation_key: None,
            user_profile: self.user_profile.clone(),
            node_id: self.node_id.clone(),
            disallowed_tka_state_ids: self.disallowed_tka_state_ids.clone(),
        }
    }
}

/// JSON that is carried along and never shown.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(RawJson);
wire_leaf!(Sealed);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(..)")
    }
}

/// Fields that we do not know, by name.
pub(crate) type Unknown = BTreeMap<String, Sealed>;
