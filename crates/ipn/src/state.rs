//! The backend's state, as scripts and the bus know it (`ipn/backend.go`).

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the node as a whole is doing. On the bus it is a number, in `status` it is [`State::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum State {
    /// Nothing is known yet, or the state store cannot be trusted.
    #[default]
    NoState = 0,
    /// Another local user holds the daemon (Windows).
    InUseOtherUser = 1,
    /// Somebody must log in.
    NeedsLogin = 2,
    /// An administrator of the tailnet must approve this machine.
    NeedsMachineAuth = 3,
    /// Logged in, and the user wants it off.
    Stopped = 4,
    /// On its way to running: no relay and no peer answers yet.
    Starting = 5,
    /// Packets can flow.
    Running = 6,
}

impl State {
    /// Every state, by number.
    pub const ALL: [Self; 7] = [
        Self::NoState,
        Self::InUseOtherUser,
        Self::NeedsLogin,
        Self::NeedsMachineAuth,
        Self::Stopped,
        Self::Starting,
        Self::Running,
    ];

    /// The name that `status` shows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoState => "NoState",
            Self::InUseOtherUser => "InUseOtherUser",
            Self::NeedsLogin => "NeedsLogin",
            Self::NeedsMachineAuth => "NeedsMachineAuth",
            Self::Stopped => "Stopped",
            Self::Starting => "Starting",
            Self::Running => "Running",
        }
    }

    /// The state with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = usize::deserialize(deserializer)?;
        Self::ALL
            .get(number)
            .copied()
            .ok_or_else(|| serde::de::Error::custom(format_args!("no state has number {number}")))
    }
}
