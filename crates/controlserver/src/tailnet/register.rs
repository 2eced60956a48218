//! Letting nodes in, confirming them, rotating their keys, letting them go.

use keys::MachinePublic;
use rand_core::CryptoRng;
use tailcfg::go::{Bytes, GoTime};
use tailcfg::{Hostinfo, Login, NodeId, RegisterRequest, RegisterResponse, User, UserId};

use super::auth_key::AuthKey;
use super::node::Node;
use super::{Refused, Tailnet};

/// What a registration leads to.
#[derive(Debug)]
pub(crate) struct Registered {
    /// The answer.
    pub(crate) response: RegisterResponse,
    /// A node whose stream must end: it has logged out or changed its key.
    pub(crate) end_stream: Option<NodeId>,
    /// The login that a person must decide about before there is an answer.
    pub(crate) login: Option<String>,
}

/// As what a node is let in.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    pub(super) user: UserId,
    pub(super) tags: Vec<String>,
    pub(super) ephemeral: bool,
    pub(super) preapproved: bool,
    /// The key that made it possible.
    pub(super) auth_key: Option<String>,
}

impl From<AuthKey> for Admission {
    fn from(key: AuthKey) -> Self {
        Self {
            user: key.user,
            ephemeral: key.ephemeral,
            preapproved: key.preapproved,
            auth_key: Some(key.id().to_owned()),
            tags: key.tags,
        }
    }
}

impl Registered {
    pub(super) fn waiting(login: String) -> Self {
        Self {
            response: RegisterResponse::default(),
            end_stream: None,
            login: Some(login),
        }
    }

    pub(super) fn refused(error: impl Into<String>) -> Self {
        Self {
            response: RegisterResponse {
                error: error.into(),
                ..RegisterResponse::default()
            },
            end_stream: None,
            login: None,
        }
    }
}

impl Tailnet {
    /// Answers a registration. `machine` is the key that the connection is proved to come from.
    pub(crate) fn register(
        &mut self,
        machine: MachinePublic,
        request: RegisterRequest,
        now: GoTime,
        rng: &mut dyn CryptoRng,
    ) -> Registered {
        if request.node_key.is_zero() {
            return Registered::refused("the node key is missing");
        }
        let known = self.index.by_key(&request.node_key);
        let known = known.and_then(|id| self.nodes.get(&id));
        let known = known.map(|node| (node.id, node.machine));
        if known.is_some_and(|(_, owner)| owner != machine) {
            return Registered::refused("the node key belongs to another machine");
        }
        let id = known.map(|(id, _)| id);
        if !request.expiry.is_zero() && request.expiry <= now {
            return self.log_out(id, now);
        }
        let auth = request.auth.as_deref();
        let auth = auth
            .map(|auth| &auth.auth_key)
            .filter(|key| !key.expose().is_empty());
        let is_valid = id
            .and_then(|id| self.nodes.get(&id))
            .is_some_and(|node| !node.is_expired(now));
        match (id, auth) {
            // An auth key is of no interest while the node is in: daemons present theirs at each start.
            (Some(id), _) if is_valid => self.confirm(id, request),
            (Some(id), None) => self.answer(id, true),
            (None, None) => self.register_by_person(machine, request, now, rng),
            (_, Some(text)) => match self.check_auth_key(text, now) {
                Ok(key) => self.admit(&key.into(), id, machine, request, now, rng),
                Err(error) => Registered::refused(error),
            },
        }
    }

    fn log_out(&mut self, id: Option<NodeId>, now: GoTime) -> Registered {
        let Some(id) = id else {
            return Registered::refused("node not found");
        };
        let mut done = self.answer(id, true);
        // Both cannot fail: the node is there.
        let _ = match self.is_ephemeral(id) {
            true => self.remove_node(id),
            false => self.set_key_expiry(id, now),
        };
        done.end_stream = Some(id);
        done
    }

    /// The same node with the same key: a daemon has started again.
    fn confirm(&mut self, id: NodeId, request: RegisterRequest) -> Registered {
        let tags = self.nodes.get(&id).map(|node| node.tags.clone());
        let hostinfo = request.hostinfo.as_deref();
        if let Err(error) = check_tags(hostinfo, &tags.unwrap_or_default()) {
            return Registered::refused(error);
        }
        let sooner = request.expiry;
        let _ = self.edit(id, |node| {
            if !sooner.is_zero() && (node.key_expiry.is_zero() || sooner < node.key_expiry) {
                node.key_expiry = sooner;
            }
        });
        self.take_registration(id, request);
        self.answer(id, false)
    }

    pub(super) fn admit(
        &mut self,
        admission: &Admission,
        id: Option<NodeId>,
        machine: MachinePublic,
        request: RegisterRequest,
        now: GoTime,
        rng: &mut dyn CryptoRng,
    ) -> Registered {
        if let Err(error) = check_tags(request.hostinfo.as_deref(), &admission.tags) {
            return Registered::refused(error);
        }
        let same = id.or_else(|| self.earlier_life(admission, machine, &request));
        let id = match same {
            Some(id) => id,
            None => match self.add_node(machine, now, rng) {
                Ok(id) => id,
                Err(error) => return Registered::refused(error.to_string()),
            },
        };
        let expiry = self.first_expiry(admission, request.expiry, now);
        let approve = admission.preapproved || !self.settings.device_approval;
        let mut rotated = false;
        let _ = self.edit(id, |node| {
            rotated = node.key != request.node_key && !node.key.is_zero();
            node.key = request.node_key;
            node.key_expiry = expiry;
            node.user = admission.user;
            node.tags.clone_from(&admission.tags);
            node.ephemeral = admission.ephemeral || request.ephemeral;
            node.approved |= approve;
        });
        if let Some(key) = &admission.auth_key {
            self.note_use(key);
        }
        self.take_registration(id, request);
        Registered {
            end_stream: rotated.then_some(id),
            ..self.answer(id, false)
        }
    }

    /// When a new key runs out: by the rules, or sooner if the node wants that.
    fn first_expiry(&self, admission: &Admission, wanted: GoTime, now: GoTime) -> GoTime {
        let lifetime = self.settings.key_lifetime_secs;
        match lifetime.filter(|_| admission.tags.is_empty()) {
            Some(secs) => {
                let nanos = i128::from(secs) * 1_000_000_000;
                let end = GoTime::from_unix_nanos(now.unix_nanos() + nanos);
                if wanted.is_zero() {
                    end
                } else {
                    end.min(wanted)
                }
            }
            None => wanted,
        }
    }

    /// The node that this registration continues: the one whose key is replaced, else one of the same machine and user.
    fn earlier_life(
        &self,
        admission: &Admission,
        machine: MachinePublic,
        request: &RegisterRequest,
    ) -> Option<NodeId> {
        let mine = || {
            let ids = self.index.by_machine(&machine);
            ids.filter_map(|id| self.nodes.get(&id))
        };
        let replaced = mine().find(|node| node.key == request.old_node_key);
        let same_user =
            || mine().find(|node| node.user == admission.user && node.tags == admission.tags);
        replaced.or_else(same_user).map(|node| node.id)
    }

    pub(super) fn add_node(
        &mut self,
        machine: MachinePublic,
        now: GoTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<NodeId, Refused> {
        let v4 = self.free_address()?;
        let id = self.next_node;
        self.next_node += 1;
        let mut random = [0; 6];
        rng.fill_bytes(&mut random);
        let mut stable_id = format!("n{id}");
        keys::encode_hex(&random, &mut stable_id);
        let node = Node {
            id,
            stable_id,
            machine,
            key: keys::NodePublic::ZERO,
            disco: keys::DiscoPublic::ZERO,
            user: 0,
            hostname: String::new(),
            label: String::new(),
            is_named: false,
            approved: false,
            jailed: false,
            attributes: Default::default(),
            routes: Vec::new(),
            v4,
            tags: Vec::new(),
            ephemeral: false,
            key_expiry: GoTime::ZERO,
            created: now,
            last_seen: None,
            endpoints: Vec::new(),
            home_derp: 0,
            cap: 0,
            hostinfo: Hostinfo::default(),
            online: false,
        };
        self.nodes.insert(id, node);
        Ok(id)
    }

    fn take_registration(&mut self, id: NodeId, request: RegisterRequest) {
        let hostname = request.hostinfo.as_ref().map(|info| info.hostname.clone());
        // The node is there: it has just been found or made.
        let _ = self.edit(id, |node| {
            node.cap = request.version;
            if let Some(hostinfo) = request.hostinfo {
                node.take_hostinfo(*hostinfo);
            }
        });
        self.rename(id, &hostname.unwrap_or_default());
    }

    fn answer(&self, id: NodeId, key_expired: bool) -> Registered {
        let node = self.nodes.get(&id);
        let owner = node.map(Node::owner).unwrap_or_default();
        let approved = node.is_some_and(|node| node.approved);
        let name = self.user_name(owner);
        let response = RegisterResponse {
            user: User {
                id: owner,
                display_name: name.into(),
                ..User::default()
            },
            login: Login {
                id: owner,
                login_name: name.into(),
                display_name: name.into(),
                ..Login::default()
            },
            node_key_expired: key_expired,
            machine_authorized: approved,
            node_key_signature: Bytes::default(),
            ..RegisterResponse::default()
        };
        Registered {
            response,
            end_stream: None,
            login: None,
        }
    }
}

/// A node may ask for the tags that it may have, or for none.
fn check_tags(hostinfo: Option<&Hostinfo>, allowed: &[String]) -> Result<(), String> {
    let wanted = hostinfo.map(|info| info.request_tags.as_slice());
    match wanted
        .unwrap_or_default()
        .iter()
        .find(|tag| !allowed.contains(tag))
    {
        Some(tag) => Err(format!("requested tag `{tag}` is invalid or not permitted")),
        None => Ok(()),
    }
}
