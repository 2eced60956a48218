//! What readers see: the brain after its last event.

use std::sync::Arc;

use derp::DerpMap;
use host::SystemDns;
use ipn::health::HealthState;
use ipn::{LoginProfile, Prefs, State};
use keys::NodePublic;
use netmap::NetMap;
use tailcfg::{ClientVersion, Hostinfo};

use crate::Routes;

/// The brain after one event. Holds no secret.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The state.
    pub state: State,
    /// The prefs, without secrets.
    pub prefs: Arc<Prefs>,
    /// The node key, if there is one.
    pub node_key: Option<NodePublic>,
    /// The current login; its id is empty if it was never saved.
    pub profile: Arc<LoginProfile>,
    /// All logins that were saved, in the order in which lists show them.
    pub profiles: Arc<Vec<LoginProfile>>,
    /// The tailnet, if it is known.
    pub netmap: Option<Arc<NetMap>>,
    /// Which peer gets packets for which destination, by the user's wishes too.
    pub routes: Arc<Routes>,
    /// The page where a login goes on; empty if there is none.
    pub auth_url: String,
    /// The health warnings that are shown.
    pub health: Arc<HealthState>,
    /// Their texts, as `status` lists them.
    pub health_texts: Arc<Vec<String>>,
    /// What we say of ourselves.
    pub hostinfo: Arc<Hostinfo>,
    /// What is known of newer versions.
    pub client_version: Option<ClientVersion>,
    /// Whether the long poll with the control server is open.
    pub in_map_poll: bool,
    /// Ports of our own API for peers, on our IPv4 and on our IPv6 address; 0 if it is not there.
    pub peerapi_ports: (u16, u16),
    /// What the machine's resolver is without us.
    pub system_dns: Arc<SystemDns>,
}

impl Snapshot {
    /// The relays, if they are known.
    pub fn derp_map(&self) -> Option<&Arc<DerpMap>> {
        self.netmap.as_ref().map(|map| &map.derp_map)
    }
}
