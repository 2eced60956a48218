//! What the server knows: people, nodes, auth keys, rules. No IO; `now` and randomness are arguments.

mod auth_key;
mod index;
mod login;
mod node;
mod orders;
mod paper;
mod register;
mod saved;
mod settings;
mod snapshot;

pub use auth_key::{AuthKeyInfo, NewAuthKey};
pub use login::{Approval, LoginInfo};
pub use node::NodeInfo;
pub(crate) use saved::Saved;
pub use settings::{Presence, Settings};
pub(crate) use snapshot::{NodeView, Snapshot};

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use keys::{MachinePrivate, MachinePublic, NodePublic};
use netmap::ChunkMap;
use packet::addr::{CGNAT, is_service_ip, is_tailscale_ip};
use rand_core::CryptoRng;
use tailcfg::go::GoTime;
use tailcfg::{DerpMap, DnsConfig, FilterRule, MapRequest, NodeId, UserId, UserProfile};

use auth_key::AuthKey;
use index::Index;
use login::Login;
use node::Node;

/// The user that tagged nodes belong to, as headscale has it.
const TAGGED_USER: UserId = 2_147_455_555;

/// One tailnet.
#[derive(Debug)]
pub(crate) struct Tailnet {
    domain: String,
    settings: Settings,
    noise_key: MachinePrivate,
    next_node: NodeId,
    next_user: UserId,
    next_host: u32,
    users: BTreeMap<UserId, String>,
    nodes: BTreeMap<NodeId, Node>,
    index: Index,
    auth_keys: BTreeMap<String, AuthKey>,
    /// Logins that wait for a person, the oldest first. They are not kept: a node that waits asks again.
    logins: Vec<Login>,
    derp_map: Arc<DerpMap>,
    /// What is told about name resolution beside the names of nodes.
    dns: Arc<DnsConfig>,
    filter: Arc<Vec<FilterRule>>,
    views: ChunkMap<NodeId, Arc<NodeView>>,
    /// The owners of nodes, past ones included.
    profiles: Arc<BTreeMap<UserId, UserProfile>>,
}

/// Why an order of the administrator or a request of a node cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// There is no node with this number or key.
    NoSuchNode,
    /// There is no auth key with this id.
    NoSuchAuthKey,
    /// There is no login with this id that waits for a decision.
    NoSuchLogin,
    /// The request makes no sense.
    Invalid(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSuchNode => f.write_str("node not found"),
            Self::NoSuchAuthKey => f.write_str("auth key not found"),
            Self::NoSuchLogin => f.write_str("login not found; it may be over or decided"),
            Self::Invalid(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Refused {}

impl Tailnet {
    /// A tailnet without nodes.
    pub(crate) fn new(domain: String, derp_map: DerpMap, rng: &mut dyn CryptoRng) -> Self {
        Self {
            domain,
            settings: Settings::default(),
            noise_key: MachinePrivate::generate(rng),
            next_node: 1,
            next_user: 1,
            next_host: 1,
            users: BTreeMap::new(),
            nodes: BTreeMap::new(),
            index: Index::default(),
            auth_keys: BTreeMap::new(),
            logins: Vec::new(),
            derp_map: Arc::new(derp_map),
            dns: Arc::default(),
            filter: Arc::new(vec![FilterRule::allow_all()]),
            views: ChunkMap::default(),
            profiles: Arc::default(),
        }
    }

    pub(crate) fn noise_key(&self) -> &MachinePrivate {
        &self.noise_key
    }

    /// The node with this key, if the machine is the one that registered it.
    pub(crate) fn node_of(&self, key: &NodePublic, machine: &MachinePublic) -> Option<NodeId> {
        let node = self.nodes.get(&self.index.by_key(key)?)?;
        (node.machine == *machine).then_some(node.id)
    }

    /// The machine of a node.
    pub(crate) fn machine_of(&self, id: NodeId) -> Result<MachinePublic, Refused> {
        let node = self.nodes.get(&id).ok_or(Refused::NoSuchNode)?;
        Ok(node.machine)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    pub(crate) fn dns(&self) -> &Arc<DnsConfig> {
        &self.dns
    }

    pub(crate) fn set_dns(&mut self, dns: DnsConfig) {
        self.dns = Arc::new(dns);
    }

    pub(crate) fn nodes(&self) -> Vec<NodeInfo> {
        self.nodes.values().map(|node| self.info(node)).collect()
    }

    fn info(&self, node: &Node) -> NodeInfo {
        node.info(&self.domain, self.user_name(node.owner()))
    }

    fn user_name(&self, id: UserId) -> &str {
        match id {
            TAGGED_USER => "tagged-devices",
            id => self.users.get(&id).map_or("", String::as_str),
        }
    }

    fn user_profile(&self, id: UserId) -> UserProfile {
        let name = self.user_name(id);
        UserProfile {
            id,
            login_name: name.into(),
            display_name: name.into(),
            ..UserProfile::default()
        }
    }

    fn user_or_default(&mut self, name: &str) -> UserId {
        match name {
            "" => self.user_by_name("lab"),
            name => self.user_by_name(name),
        }
    }

    fn user_by_name(&mut self, name: &str) -> UserId {
        if let Some((id, _)) = self.users.iter().find(|(_, known)| *known == name) {
            return *id;
        }
        let id = self.next_user;
        self.next_user += 1;
        self.users.insert(id, name.into());
        id
    }

    /// What all may know at this moment.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            domain: self.domain.clone(),
            presence: self.settings.presence,
            dns: Arc::clone(&self.dns),
            nodes: self.views.clone(),
            users: Arc::clone(&self.profiles),
            derp_map: Arc::clone(&self.derp_map),
            filter: Arc::clone(&self.filter),
        }
    }

    /// Brings the public view of a node up to date.
    fn refresh(&mut self, id: NodeId) {
        self.index.update(id, self.nodes.get(&id));
        match self.nodes.get(&id) {
            Some(node) => {
                let owner = node.owner();
                if !self.profiles.contains_key(&owner) {
                    let profile = self.user_profile(owner);
                    Arc::make_mut(&mut self.profiles).insert(owner, profile);
                }
                let view = Arc::new(NodeView::new(node, &self.domain));
                if self.views.get(&id) != Some(&view) {
                    self.views.insert(id, view);
                }
            }
            None => {
                self.views.remove(&id);
            }
        }
    }

    fn edit(&mut self, id: NodeId, edit: impl FnOnce(&mut Node)) -> Result<(), Refused> {
        edit(self.nodes.get_mut(&id).ok_or(Refused::NoSuchNode)?);
        self.refresh(id);
        Ok(())
    }

    /// Takes what a node tells about itself. Whether that is news.
    pub(crate) fn update(&mut self, id: NodeId, request: MapRequest) -> Result<bool, Refused> {
        let before = self.nodes.get(&id).cloned();
        let hostname = request.hostinfo.as_ref().map(|info| info.hostname.clone());
        self.edit(id, |node| node.update(request))?;
        if let Some(hostname) = hostname {
            self.rename(id, &hostname);
        }
        Ok(self.nodes.get(&id) != before.as_ref())
    }

    /// Takes the disco key of a stream request, if no better source has told one. Whether that is news.
    pub(crate) fn offer_disco(&mut self, id: NodeId, request: &MapRequest) -> bool {
        let before = self.nodes.get(&id).cloned();
        // A node that is gone is noticed elsewhere.
        let _ = self.edit(id, |node| {
            if node.disco.is_zero() {
                node.disco = request.disco_key;
            }
            node.cap = request.version;
        });
        self.nodes.get(&id) != before.as_ref()
    }

    /// Notes whether a node is connected.
    pub(crate) fn set_online(
        &mut self,
        id: NodeId,
        online: bool,
        now: GoTime,
    ) -> Result<(), Refused> {
        self.edit(id, |node| {
            node.online = online;
            if !online {
                node.last_seen = Some(now);
            }
        })
    }

    /// Whether the node shall vanish once it is offline.
    pub(crate) fn is_ephemeral(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.ephemeral)
    }

    /// All nodes that shall vanish once they are offline.
    pub(crate) fn ephemeral_nodes(&self) -> Vec<NodeId> {
        let ephemeral = self.nodes.values().filter(|node| node.ephemeral);
        ephemeral.map(|node| node.id).collect()
    }

    /// Whether the node is connected.
    pub(crate) fn is_online(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.online)
    }

    pub(crate) fn remove_node(&mut self, id: NodeId) -> Result<(), Refused> {
        self.nodes.remove(&id).ok_or(Refused::NoSuchNode)?;
        self.refresh(id);
        Ok(())
    }

    pub(crate) fn filter(&self) -> &Arc<Vec<FilterRule>> {
        &self.filter
    }

    pub(crate) fn set_filter(&mut self, rules: Vec<FilterRule>) {
        self.filter = Arc::new(rules);
    }

    pub(crate) fn derp_map(&self) -> &Arc<DerpMap> {
        &self.derp_map
    }

    pub(crate) fn set_derp_map(&mut self, derp_map: DerpMap) {
        self.derp_map = Arc::new(derp_map);
    }

    /// The next address that no node has. Addresses of nodes that are gone come back only after all others.
    fn free_address(&mut self) -> Result<Ipv4Addr, Refused> {
        let size = 1u32 << (32 - CGNAT.prefix_len());
        for _ in 0..size {
            let host = self.next_host % size;
            self.next_host = host.wrapping_add(1);
            let ip = Ipv4Addr::from_bits(CGNAT.network().to_bits() | host);
            let usable = is_tailscale_ip(ip.into())
                && !is_service_ip(ip.into())
                && !matches!(ip.octets()[3], 0 | 255);
            if usable && !self.index.has_address(ip) {
                return Ok(ip);
            }
        }
        Err(Refused::Invalid("all addresses are in use".into()))
    }

    /// Gives the node the name that its host wants, with a number behind it if another has that name.
    fn rename(&mut self, id: NodeId, hostname: &str) {
        let base = match netmap::sanitize_hostname(hostname) {
            base if base.is_empty() => "node".to_owned(),
            base => base,
        };
        if self.nodes.get(&id).is_none_or(|node| node.hostname == base) {
            return;
        }
        let taken = |label: &str| self.index.by_label(label).is_some_and(|other| other != id);
        let numbered = |n: u64| match n {
            0 => base.clone(),
            n => {
                let number = n.to_string();
                let room = 62usize.saturating_sub(number.len()).min(base.len());
                format!("{}-{number}", base.get(..room).unwrap_or(&base))
            }
        };
        let label = (0..).map(numbered).find(|label| !taken(label));
        // There are fewer nodes than numbers.
        let label = label.unwrap_or_default();
        let _ = self.edit(id, |node| {
            node.hostname = base;
            if !node.is_named {
                node.label = label;
            }
        });
    }
}

#[cfg(test)]
mod tests;
