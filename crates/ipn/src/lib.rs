//! The types promised to users, scripts and disk: prefs, state, status, notify, profiles, health codes and texts.
//!
//! What is here is read by programs that we do not ship: the originals' command line, graphical clients, and their
//! daemon on our state file and we on theirs. So every name, every order of fields and every spelling of "nothing" is
//! that of Go's encoder (see [`tailcfg::go`]). Nothing here decides anything.
//!
//! The one invariant: what leaves the daemon carries no secret, which is what [`Prefs::without_secrets`] is for; only
//! [`Prefs::to_stored`] writes them.

pub mod dns;
pub mod health;
pub mod version;

mod local;
mod notify;
mod persist;
mod prefs;
mod profile;
mod state;
mod status;
mod watch;

pub use local::{CheckPrefsResponse, ErrorResponse, Options, PingResult};
pub use notify::{Empty, EngineStatus, Notify, PeerStatusLite};
pub use persist::{Persist, Sealed};
pub use prefs::{
    AppConnectorPrefs, AutoUpdateMask, AutoUpdatePrefs, DEFAULT_CONTROL_URL, DriveShare,
    MaskedPrefs, NetfilterMode, Prefs, StoredPrefsError, UnknownPrefs, is_login_server_synonym,
};
pub use profile::{LoginProfile, NetworkProfile};
pub use state::State;
pub use status::{ExitNodeStatus, PeerStatus, Status, TaildropTarget, TailnetStatus};
pub use tailcfg::WhoIsResponse;
pub use watch::WatchMask;

/// Makes serde types usable as fields of [`tailcfg::wire!`] structs.
macro_rules! wire_leaf {
    ($($ty:ty),* $(,)?) => {$(
        impl tailcfg::go::Wire for $ty {
            fn de<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
                <$ty as serde::Deserialize>::deserialize(deserializer).map(Some)
            }
        }
        impl tailcfg::go::Zero for $ty {
            fn is_zero(&self) -> bool {
                *self == <$ty>::default()
            }
        }
    )*};
}
use wire_leaf;

#[cfg(test)]
mod tests;
