//! What a subscriber of the bus asks for (`ipn.NotifyWatchOpt`).

/// A set of wishes; in the query it is the decimal sum of the bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct WatchMask(pub u64);

impl WatchMask {
    /// Nothing but what everybody gets.
    pub const NONE: Self = Self(0);
    /// Engine figures every two seconds.
    pub const ENGINE_UPDATES: Self = Self(1 << 0);
    /// The first message has the state, the session's id and the pending login URL.
    pub const INITIAL_STATE: Self = Self(1 << 1);
    /// The first message has the prefs.
    pub const INITIAL_PREFS: Self = Self(1 << 2);
    /// The first message has the whole netmap, in the old shape.
    pub const INITIAL_NETMAP: Self = Self(1 << 3);
    /// Does nothing: private keys are never sent.
    pub const NO_PRIVATE_KEYS: Self = Self(1 << 4);
    /// The first message has the Taildrive shares.
    pub const INITIAL_DRIVE_SHARES: Self = Self(1 << 5);
    /// The first message has the Taildrop transfers.
    pub const INITIAL_OUTGOING_FILES: Self = Self(1 << 6);
    /// The first message has the health warnings.
    pub const INITIAL_HEALTH_STATE: Self = Self(1 << 7);
    /// At most one netmap or engine message in three seconds.
    pub const RATE_LIMIT: Self = Self(1 << 8);
    /// Health warnings carry their action apart instead of at the end of the text.
    pub const HEALTH_ACTIONS: Self = Self(1 << 9);
    /// The first message has the suggested exit node.
    pub const INITIAL_SUGGESTED_EXIT_NODE: Self = Self(1 << 10);
    /// The first message has what is known of newer versions.
    pub const INITIAL_CLIENT_VERSION: Self = Self(1 << 11);
    /// Peers that came, changed or went.
    pub const PEER_CHANGES: Self = Self(1 << 12);
    /// Never the whole netmap.
    pub const NO_NETMAP: Self = Self(1 << 13);
    /// The first message has the whole status.
    pub const INITIAL_STATUS: Self = Self(1 << 14);
    /// Narrow changes of peers as patches; implies [`Self::PEER_CHANGES`].
    pub const PEER_PATCHES: Self = Self(1 << 15);
    /// Only for callers inside the daemon; refused from outside.
    pub const IN_PROCESS_NO_DISCONNECT: Self = Self(1 << 16);
    /// Policy changes.
    pub const SYS_POLICY_CHANGES: Self = Self(1 << 17);
    /// WireGuard session states of peers.
    pub const PEER_WIREGUARD_STATE: Self = Self(1 << 18);

    /// What cannot be asked for together with [`Self::RATE_LIMIT`]: streams of deltas, which must not be merged.
    pub const RATE_LIMIT_INCOMPATIBLE: Self = Self(
        Self::PEER_CHANGES.0 | Self::NO_NETMAP.0 | Self::INITIAL_STATUS.0 | Self::PEER_PATCHES.0,
    );

    /// What makes a first message. Compat: health and outgoing files do not; they only come along in one.
    pub const INITIAL: Self = Self(
        Self::INITIAL_STATE.0
            | Self::INITIAL_PREFS.0
            | Self::INITIAL_NETMAP.0
            | Self::INITIAL_DRIVE_SHARES.0
            | Self::INITIAL_SUGGESTED_EXIT_NODE.0
            | Self::INITIAL_CLIENT_VERSION.0
            | Self::INITIAL_STATUS.0
            | Self::SYS_POLICY_CHANGES.0
            | Self::PEER_WIREGUARD_STATE.0,
    );

    /// Whether any bit of `other` is asked for.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The wishes that cannot be had together with [`Self::RATE_LIMIT`], by the originals' names.
    pub fn rate_limit_conflicts(self) -> String {
        let names = [
            (Self::PEER_CHANGES, "NotifyPeerChanges"),
            (Self::NO_NETMAP, "NotifyNoNetMap"),
            (Self::INITIAL_STATUS, "NotifyInitialStatus"),
            (Self::PEER_PATCHES, "NotifyPeerPatches"),
        ];
        let named = names.into_iter().filter(|(bit, _)| self.intersects(*bit));
        let names: Vec<_> = named.map(|(_, name)| format!("ipn.{name}")).collect();
        match names.as_slice() {
            [name] => name.clone(),
            names => format!("({})", names.join(" | ")),
        }
    }

    /// Whether this set contradicts itself.
    pub const fn is_contradictory(self) -> bool {
        self.intersects(Self::RATE_LIMIT) && self.intersects(Self::RATE_LIMIT_INCOMPATIBLE)
    }
}

impl std::ops::BitOr for WatchMask {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
