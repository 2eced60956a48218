//! What LocalAPI clients get: from the snapshot, from the engine that knows, or from the brain.

pub(crate) mod ping;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backend::{Answer, Command, Recipient};
use dataplane::Engine;
use futures_util::StreamExt as _;
use futures_util::stream;
use host::BoxFuture;
use ipn::{CheckPrefsResponse, MaskedPrefs};
use ipnet::IpNet;
use localapi::{
    Actor, ApiError, DialRequest, DnsAnswer, DnsSystem, Handler, Reply, Request, SuggestedExitNode,
    SystemDifference, WhoIsAddr,
};
use metrics::UserMetrics;
use packet::PeerId;
use rand_core::Rng as _;
use tokio::sync::Notify as Signal;

use crate::brain::BrainHandle;
use crate::bus::{Bus, PeerWatchers};
use crate::dns_runner::DnsComparer;
use crate::incoming::ProxyMap;
use crate::magic_dns::MagicDns;
use crate::run::{ForwardingProblem, UidOf};
use crate::status::StatusReader;
use crate::userdial::{UserDial, Way};
use crate::{Dial as _, LogTap};

/// Answers local clients.
pub(crate) struct Api {
    pub(crate) brain: BrainHandle,
    pub(crate) bus: Bus,
    pub(crate) peer_watchers: PeerWatchers,
    pub(crate) engine: Engine,
    pub(crate) status: StatusReader,
    pub(crate) dial: UserDial,
    pub(crate) pings: ping::Means,
    pub(crate) dns_comparer: DnsComparer,
    pub(crate) has_tun: bool,
    pub(crate) marks_sockets: bool,
    pub(crate) proxy_map: ProxyMap,
    pub(crate) magic_dns: Arc<MagicDns>,
    pub(crate) log: LogTap,
    pub(crate) metrics: Arc<UserMetrics>,
    pub(crate) shutdown: Arc<Signal>,
    pub(crate) uid_of: UidOf,
    pub(crate) forwarding_problem: ForwardingProblem,
    pub(crate) udp_problem: ForwardingProblem,
    pub(crate) var_root: Option<PathBuf>,
}

/// Of the originals' debug actions those that are not built.
const NOT_BUILT_ACTIONS: [&str; 11] = [
    "break-derp-conns",
    "break-tcp-conns",
    "control-knobs",
    "current-netmap",
    "derp-set-homeless",
    "derp-unset-homeless",
    "force-prefer-derp",
    "peer-disco-keys",
    "peer-relay-servers",
    "pick-new-derp",
    "rotate-disco-key",
];

impl Handler for Api {
    fn operator_uid(&self) -> Option<u32> {
        let snapshot = self.brain.snapshot();
        let name = snapshot.prefs.operator_user.as_str();
        (!name.is_empty()).then(|| (self.uid_of)(name)).flatten()
    }

    fn call(&self, actor: Actor, request: Request) -> BoxFuture<'_, Result<Reply, ApiError>> {
        Box::pin(self.answer(actor, request))
    }
}

impl Api {
    async fn answer(&self, actor: Actor, request: Request) -> Result<Reply, ApiError> {
        match request {
            Request::Status { peers } => Reply::json_tabs(&self.status.read(peers).await),
            Request::Prefs => Reply::json_tabs(&*self.brain.snapshot().prefs),
            Request::EditPrefs(edit) => match self.brain.command(Command::EditPrefs(edit)).await {
                Ok(Answer::Prefs(prefs)) => Reply::json_tabs(&*prefs),
                Ok(_) => Reply::json_tabs(&*self.brain.snapshot().prefs),
                Err(error) => Err(ApiError::refused_prefs(error.to_string())),
            },
            Request::TryPrefs { edit, within } => {
                match self.brain.command(Command::TryPrefs { edit, within }).await {
                    Ok(_) => Reply::json_tabs(&*self.brain.snapshot().prefs),
                    Err(error) => Err(ApiError::refused_prefs(error.to_string())),
                }
            }
            Request::ConfirmPrefs => match self.brain.command(Command::ConfirmPrefs).await {
                Ok(_) => Ok(Reply::Done),
                Err(error) => Err(ApiError::not_found(error.to_string())),
            },
            Request::SystemDiff(edit) => self.system_diff(edit).await,
            Request::CheckPrefs(prefs) => {
                let error = self.brain.command(Command::CheckPrefs(prefs)).await.err();
                Reply::json(&CheckPrefsResponse {
                    error: error.map(|error| error.to_string()).unwrap_or_default(),
                })
            }
            Request::Start(options) => self.command(Command::Start(options)).await,
            Request::LoginInteractive => {
                let who = actor.pid.map_or(Recipient::Everybody, Recipient::Process);
                self.command(Command::LoginInteractive(who)).await
            }
            Request::Logout => self.command(Command::Logout).await,
            Request::ResetAuth => self
                .command(Command::ResetAuth)
                .await
                .map_err(|error| error.prefixed("reset-auth failed: ")),
            Request::NewProfile => self.command(Command::NewProfile).await,
            Request::SwitchProfile(id) => self.command(Command::SwitchProfile(id)).await,
            Request::DeleteProfile(id) => self.command(Command::DeleteProfile(id)).await,
            Request::Profiles => Reply::json(&*self.brain.snapshot().profiles),
            Request::CurrentProfile => Reply::json(&*self.brain.snapshot().profile),
            Request::Profile(id) => self.profile(&id),
            Request::WatchBus(mask) => Ok(watch::stream(self, mask, actor.pid).await),
            Request::WhoIs { proto, addr } => self.whois(&proto, addr),
            Request::Ping { ip, kind, size } => ping::ping(&self.pings, ip, &kind, size).await,
            Request::Dial(wanted) => self.dial(wanted).await,
            Request::LogTap => Ok(self.log_tap()),
            Request::Shutdown => {
                self.shutdown.notify_one();
                Ok(Reply::Done)
            }
            Request::DerpMap => self.derp_map(),
            Request::DnsQuery { name, kind } => {
                let (bytes, servers) = self.magic_dns.query(&name, kind).await;
                let asked = dns::entrants(&servers);
                let names = asked.iter().map(|one| one.server.to_string());
                Reply::json(&DnsAnswer::new(bytes, &names.collect::<Vec<_>>()))
            }
            Request::DnsConfig => match &self.brain.snapshot().netmap {
                Some(netmap) => Reply::json_tabs(&*netmap.dns),
                None => Err(ApiError::unavailable("no netmap")),
            },
            Request::CertDomains => {
                let mut domains = match &self.brain.snapshot().netmap {
                    Some(netmap) => netmap.dns.cert_domains.clone(),
                    None => Vec::new(),
                };
                domains.sort();
                Reply::json(&(!domains.is_empty()).then_some(domains))
            }
            Request::SetExpirySooner(expiry) => {
                match self.brain.command(Command::SetExpirySooner(expiry)).await {
                    Ok(_) => Ok(Reply::Text("done\n".into())),
                    Err(error) => Err(ApiError::bad_request(error.to_string())),
                }
            }
            Request::UseExitNode(wanted) => {
                match self.brain.command(Command::UseExitNode(wanted)).await {
                    Ok(Answer::Prefs(prefs)) => Reply::json_tabs(&*prefs),
                    Ok(_) => Reply::json_tabs(&*self.brain.snapshot().prefs),
                    Err(error) => Err(ApiError::failed(error.to_string())),
                }
            }
            Request::SuggestExitNode => match self.brain.command(Command::SuggestExitNode).await {
                Ok(Answer::Suggestion(Some(found))) => Reply::json(&SuggestedExitNode {
                    id: found.id,
                    name: found.name,
                    location: found.location.map(Box::new),
                }),
                Ok(_) => Reply::json(&SuggestedExitNode::default()),
                Err(error) => Err(ApiError::failed_object(error.to_string())),
            },
            Request::DnsSystem => {
                let system = &self.brain.snapshot().system_dns;
                // Compat: where names can be shared out, the originals do not know what is asked without us.
                if system.splits {
                    return Err(ApiError::failed("getting OS base config is not supported"));
                }
                Reply::json(&DnsSystem {
                    nameservers: system.nameservers.iter().map(ToString::to_string).collect(),
                    search_domains: system.search.clone(),
                    match_domains: Vec::new(),
                })
            }
            Request::ComponentDebugLogging { component } => Reply::json(&BTreeMap::from([(
                "Error",
                no_component_logging(&component),
            )])),
            Request::Metrics | Request::UserMetrics => {
                Ok(Reply::Text(self.metrics.to_prometheus()))
            }
            Request::PeerById(id) => self.peer_by_id(id),
            Request::UserProfile(id) => self.user_profile(id),
            Request::BugReport { note, diagnose } => Ok(self.bug_report(&note, diagnose)),
            Request::CheckIpForwarding => {
                // Userspace mode forwards by itself.
                let problem = match self.has_tun {
                    true => (self.forwarding_problem)(),
                    false => String::new(),
                };
                Reply::json(&BTreeMap::from([("Warning", problem)]))
            }
            Request::CheckUdpGroForwarding => {
                let problem = match self.has_tun {
                    true => (self.udp_problem)(),
                    false => String::new(),
                };
                Reply::json(&BTreeMap::from([("Warning", problem)]))
            }
            // Compat: without a tunnel device the originals say so whatever their sockets do.
            Request::CheckSoMarkInUse => {
                let marked = self.marks_sockets || !self.has_tun;
                Reply::json(&BTreeMap::from([("UseSOMark", marked)]))
            }
            Request::Debug { action, body } => self.debug(&action, &body).await,
        }
    }

    /// What about the machine is not as it is wanted, or would not be with other prefs.
    async fn system_diff(&self, edit: Box<MaskedPrefs>) -> Result<Reply, ApiError> {
        let wanted = match self.brain.command(Command::Preview(edit)).await {
            Ok(Answer::Preview(wanted)) => *wanted,
            Ok(_) => return Err(ApiError::failed("there is nothing to compare with")),
            Err(error) => return Err(ApiError::refused_prefs(error.to_string())),
        };
        let snapshot = self.brain.snapshot();
        let name = |net: IpNet| {
            let map = snapshot.netmap.as_ref()?;
            let peer = map.peers.get(wanted.routes.owner(net)?)?;
            Some(peer.display_names(map.suffix()).0)
        };
        let routing = self.brain.compare(wanted.router).await;
        let dns = self.dns_comparer.compare(wanted.dns).await;
        let mut lines = Vec::new();
        for found in [routing, dns] {
            for difference in found.map_err(ApiError::failed)? {
                let peer = difference.about.and_then(name);
                lines.push(SystemDifference {
                    part: difference.part.to_owned(),
                    step: difference.step,
                    why: peer
                        .map(|peer| format!("{peer} has it"))
                        .unwrap_or_default(),
                });
            }
        }
        Reply::json(&lines)
    }

    async fn command(&self, command: Command) -> Result<Reply, ApiError> {
        match self.brain.command(command).await {
            Ok(_) => Ok(Reply::Done),
            // Compat: whatever the reason, the originals answer 500.
            Err(error) => Err(ApiError::failed(error.to_string())),
        }
    }

    fn profile(&self, id: &str) -> Result<Reply, ApiError> {
        let snapshot = self.brain.snapshot();
        match snapshot.profiles.iter().find(|profile| profile.id == id) {
            Some(profile) => Reply::json(profile),
            None => Err(ApiError::not_found("Profile not found")),
        }
    }

    fn derp_map(&self) -> Result<Reply, ApiError> {
        let wire = self
            .brain
            .snapshot()
            .netmap
            .as_ref()
            .and_then(|netmap| netmap.derp_map_wire.clone());
        match wire {
            Some(wire) => Reply::json_tabs(&*wire),
            None => Ok(Reply::Json(b"null\n".to_vec())),
        }
    }

    /// A local server may ask about a connection that we forwarded to it: it sees a loopback address.
    fn whois(&self, proto: &str, addr: WhoIsAddr) -> Result<Reply, ApiError> {
        let snapshot = self.brain.snapshot();
        let found = match addr {
            WhoIsAddr::Key(key) => backend::status::whois_key(&snapshot, &key),
            WhoIsAddr::Addr(addr) => {
                let client = self.proxy_map.client_of(proto, addr).unwrap_or(addr);
                backend::status::whois(&snapshot, client.ip())
            }
        };
        match found {
            Some(found) => Reply::json_tabs_bare(&found),
            None => Err(ApiError::not_found("no match for IP:port")),
        }
    }

    fn peer_by_id(&self, id: i64) -> Result<Reply, ApiError> {
        let snapshot = self.brain.snapshot();
        let absent = || ApiError::not_found("no peer with that NodeID");
        let netmap = snapshot.netmap.as_ref().ok_or_else(absent)?;
        let own = Some(&netmap.self_node).filter(|node| node.id == PeerId(id));
        match own.or_else(|| netmap.peers.get(PeerId(id))) {
            Some(peer) => Reply::json(&peer.to_wire(netmap.suffix())),
            None => Err(absent()),
        }
    }

    fn user_profile(&self, id: i64) -> Result<Reply, ApiError> {
        let snapshot = self.brain.snapshot();
        match snapshot
            .netmap
            .as_ref()
            .and_then(|netmap| netmap.users.get(&id))
        {
            Some(user) => Reply::json(&**user),
            None => Err(ApiError::not_found("no user with that UserID")),
        }
    }

    async fn dial(&self, wanted: DialRequest) -> Result<Reply, ApiError> {
        let DialRequest {
            network,
            host,
            port,
        } = wanted;
        let way = self.dial.way(&host, port).await;
        match way.map_err(|error| ApiError::bad_gateway(format!("resolve failure: {error}")))? {
            Way::System(targets) => match targets.first() {
                Some(target) => Ok(Reply::DialSelf(*target)),
                None => Err(ApiError::bad_gateway(format!(
                    "resolve failure: no address for {host}"
                ))),
            },
            Way::Tunnel(_) | Way::MagicDns(_) if network != "tcp" => Err(ApiError::bad_gateway(
                format!("dial failure: network `{network}` is not built"),
            )),
            Way::Tunnel(target) | Way::MagicDns(target) => {
                match self.dial.tcp(&target.ip().to_string(), port).await {
                    Ok(stream) => Ok(Reply::Dialed(Box::new(stream))),
                    Err(error) => Err(ApiError::bad_gateway(format!("dial failure: {error}"))),
                }
            }
        }
    }

    fn log_tap(&self) -> Reply {
        let hello = stream::iter(["{\"text\":\"[logtap connected]\\n\"}\n".to_owned()]);
        let lines = stream::unfold(self.log.subscribe(), |mut log| async move {
            let mut line = log.next().await?.to_json();
            line.push('\n');
            Some((line, log))
        });
        Reply::Lines(hello.chain(lines).boxed())
    }

    fn bug_report(&self, note: &str, diagnose: bool) -> Reply {
        let snapshot = self.brain.snapshot();
        let marker = bug_marker(&snapshot.hostinfo);
        tracing::info!("user bugreport: {marker}");
        if !note.is_empty() {
            tracing::info!("user bugreport note: {note}");
        }
        if let Ok(hostinfo) = tailcfg::go::to_string(&*snapshot.hostinfo) {
            tracing::info!("user bugreport hostinfo: {hostinfo}");
        }
        match snapshot.health_texts.join("; ") {
            ok if ok.is_empty() => tracing::info!("user bugreport health: ok"),
            trouble => tracing::info!("user bugreport health: {trouble}"),
        }
        match &snapshot.netmap {
            None => tracing::info!("user bugreport netmap: no active netmap"),
            Some(map) => {
                let own = &map.self_node;
                tracing::info!(
                    "user bugreport node info: nodeid={:?} stableid={:?}",
                    own.id,
                    own.stable_id
                );
                if let Some(key) = snapshot.node_key {
                    tracing::info!("user bugreport public keys: node={:?}", key.to_string());
                }
            }
        }
        if diagnose {
            diagnose_into_log(&snapshot);
        }
        Reply::Text(format!("{marker}\n"))
    }

    async fn debug(&self, action: &str, body: &[u8]) -> Result<Reply, ApiError> {
        let bad = |text: String| Err(ApiError::bad_request(text));
        match action {
            "rebind" => self.engine.link_changed(true),
            "restun" => self.engine.link_changed(false),
            "force-netmap-update" => {
                if let Err(error) = self.brain.command(Command::RefreshNetMap).await {
                    return bad(error.to_string());
                }
            }
            // There is no cache, so it is as empty as was asked for.
            "clear-netmap-cache" => {}
            "notify" => match serde_json::from_slice(body) {
                Ok(message) => self.bus.publish(message, Recipient::Everybody),
                Err(_) => return bad("invalid JSON body".into()),
            },
            "statedir" => {
                let root = self.var_root.as_deref().unwrap_or_else(|| Path::new(""));
                return Reply::json(&root.display().to_string());
            }
            "" => return bad("missing parameter 'action'".into()),
            known if NOT_BUILT_ACTIONS.contains(&known) => {
                return bad(format!("not built: debug action {known:?}"));
            }
            other => return bad(format!("unknown action {other:?}")),
        }
        Ok(Reply::Text("done\n".into()))
    }
}

/// Why a component's debug logging cannot be turned on.
pub(crate) fn no_component_logging(component: &str) -> String {
    match component {
        "magicsock" | "sockstats" | "syspolicy" => {
            format!("not built: debug logging of component {component:?}")
        }
        _ => format!("unknown component {component:?}"),
    }
}

/// What the author of a report passes on, and what is looked for in the logs. Compat: the originals' form.
fn bug_marker(hostinfo: &tailcfg::Hostinfo) -> String {
    if hostinfo.no_logs_no_support {
        return "BUG-NO-LOGS-NO-SUPPORT-this-node-has-had-its-logging-disabled".to_owned();
    }
    let stamp = jiff::Timestamp::from_second(rt::wall().as_unix_secs())
        .unwrap_or_default()
        .strftime("%Y%m%d%H%M%SZ");
    let log_id = &hostinfo.backend_log_id;
    format!("BUG-{log_id}-{stamp}-{:016x}", rt::OsRng.next_u64())
}

/// What else those who look for a fault ask for.
fn diagnose_into_log(snapshot: &backend::Snapshot) {
    if let Ok(prefs) = tailcfg::go::to_string(&*snapshot.prefs) {
        tracing::info!("diag: prefs: {prefs}");
    }
    let dns = &snapshot.system_dns;
    tracing::info!(
        "diag: resolver: through {}, which asks {:?} for others, and tries {:?}",
        dns.manager,
        dns.nameservers,
        dns.search
    );
    let Some(map) = &snapshot.netmap else {
        return;
    };
    let routes: Vec<String> = snapshot
        .routes
        .prefixes()
        .map(|net| net.to_string())
        .collect();
    tracing::info!("diag: {} peers, {} routes", map.peers.len(), routes.len());
    let far = routes
        .iter()
        .filter(|net| !net.ends_with("/32") && !net.ends_with("/128"));
    tracing::info!("diag: routes to networks: {:?}", far.collect::<Vec<_>>());
}
