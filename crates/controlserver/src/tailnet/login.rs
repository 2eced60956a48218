//! Logins by people: a node without an auth key gets the address of a page and waits until somebody decides there.

use keys::{MachinePublic, NodePublic};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use tailcfg::RegisterRequest;
use tailcfg::go::GoTime;

use super::auth_key::{check_tag_names, random_text};
use super::register::{Admission, Registered};
use super::{Refused, Tailnet};

/// How long a login waits for somebody, in seconds.
const LIFETIME_SECS: i64 = 3600;
/// The most logins that wait at once; the oldest gives way.
const LOGINS_MAX: usize = 1000;
/// Random bytes of an id: whoever knows it may see who asks, and may decide where the settings say so.
const ID_LEN: usize = 20;

/// One node that waits.
#[derive(Debug)]
pub(crate) struct Login {
    id: String,
    machine: MachinePublic,
    node_key: NodePublic,
    hostname: String,
    os: String,
    /// Tags that the node asks for.
    tags: Vec<String>,
    asked: GoTime,
    decision: Option<Decision>,
}

#[derive(Debug, Clone)]
enum Decision {
    LetIn(Admission),
    Refuse,
}

/// Who asks to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginInfo {
    /// The last part of the page's address.
    pub id: String,
    /// What the host calls itself.
    pub hostname: String,
    /// Its operating system.
    pub os: String,
    /// Tags that it asks for.
    pub tags: Vec<String>,
    /// The key to be registered.
    pub node_key: NodePublic,
    /// The machine that proved to be the one asking.
    pub machine_key: MachinePublic,
    /// When it asked.
    pub asked: GoTime,
    /// Whether somebody has decided, and the node has not come back for the answer yet.
    pub decided: bool,
}

/// As whose node a machine is let in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Approval {
    /// The user; made if unknown. Empty is `lab`.
    pub user: String,
    /// The node's tags; `None` are those that it asks for.
    pub tags: Option<Vec<String>>,
}

impl Login {
    fn info(&self) -> LoginInfo {
        LoginInfo {
            id: self.id.clone(),
            hostname: self.hostname.clone(),
            os: self.os.clone(),
            tags: self.tags.clone(),
            node_key: self.node_key,
            machine_key: self.machine,
            asked: self.asked,
            decided: self.decision.is_some(),
        }
    }

    fn is_over(&self, now: GoTime) -> bool {
        now.unix_secs().saturating_sub(self.asked.unix_secs()) > LIFETIME_SECS
    }
}

impl Tailnet {
    /// All logins that wait.
    pub(crate) fn logins(&self) -> Vec<LoginInfo> {
        self.logins.iter().map(Login::info).collect()
    }

    /// The login with this id.
    pub(crate) fn login(&self, id: &str) -> Result<LoginInfo, Refused> {
        let login = self.logins.iter().find(|login| login.id == id);
        login.map(Login::info).ok_or(Refused::NoSuchLogin)
    }

    /// Whether nobody has decided about a login that is there.
    pub(crate) fn is_undecided(&self, id: &str) -> bool {
        self.login(id).is_ok_and(|login| !login.decided)
    }

    pub(crate) fn approve_login(&mut self, id: &str, approval: Approval) -> Result<(), Refused> {
        let login = self.login(id)?;
        let tags = approval.tags.unwrap_or(login.tags);
        check_tag_names(&tags)?;
        let admission = Admission {
            user: self.user_or_default(&approval.user),
            tags,
            ephemeral: false,
            preapproved: false,
            auth_key: None,
        };
        self.decide(id, Decision::LetIn(admission))
    }

    pub(crate) fn refuse_login(&mut self, id: &str) -> Result<(), Refused> {
        self.decide(id, Decision::Refuse)
    }

    fn decide(&mut self, id: &str, decision: Decision) -> Result<(), Refused> {
        let mut logins = self.logins.iter_mut();
        let login = logins.find(|login| login.id == id && login.decision.is_none());
        login.ok_or(Refused::NoSuchLogin)?.decision = Some(decision);
        Ok(())
    }

    /// Answers a node that has no auth key: it is sent to a page, or it comes back from there.
    pub(super) fn register_by_person(
        &mut self,
        machine: MachinePublic,
        request: RegisterRequest,
        now: GoTime,
        rng: &mut dyn CryptoRng,
    ) -> Registered {
        self.logins.retain(|login| !login.is_over(now));
        let own = |login: &Login| login.machine == machine && login.node_key == request.node_key;
        let Some(at) = self.logins.iter().position(own) else {
            return Registered::waiting(self.begin_login(machine, &request, now, rng));
        };
        let Some(login) = self.logins.get(at) else {
            return Registered::refused("node not found");
        };
        let Some(decision) = login.decision.clone() else {
            return Registered::waiting(login.id.clone());
        };
        self.logins.remove(at);
        match decision {
            Decision::LetIn(admission) => self.admit(&admission, None, machine, request, now, rng),
            Decision::Refuse => Registered::refused("an administrator has refused this machine"),
        }
    }

    fn begin_login(
        &mut self,
        machine: MachinePublic,
        request: &RegisterRequest,
        now: GoTime,
        rng: &mut dyn CryptoRng,
    ) -> String {
        if self.logins.len() >= LOGINS_MAX {
            self.logins.remove(0);
        }
        let id = random_text::<ID_LEN>(rng);
        let hostinfo = request.hostinfo.as_deref();
        let short = |text: Option<&String>| {
            let text = text.map(String::as_str).unwrap_or_default();
            text.chars().take(80).collect::<String>()
        };
        self.logins.push(Login {
            id: id.clone(),
            machine,
            node_key: request.node_key,
            hostname: short(hostinfo.map(|info| &info.hostname)),
            os: short(hostinfo.map(|info| &info.os)),
            tags: hostinfo
                .map(|info| info.request_tags.iter().take(64).cloned().collect())
                .unwrap_or_default(),
            asked: now,
            decision: None,
        });
        id
    }
}
