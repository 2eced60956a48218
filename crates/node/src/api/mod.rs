//! What LocalAPI clients get: from the snapshot, from the engine that knows, or from the brain.

mod ping;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use backend::{Answer, Command, CommandError};
use dataplane::Engine;
use futures_util::StreamExt as _;
use futures_util::stream;
use host::BoxFuture;
use ipn::CheckPrefsResponse;
use localapi::{Actor, ApiError, DialRequest, Handler, Reply, Request, WhoIsAddr};
use metrics::UserMetrics;
use packet::PeerId;
use rand_core::Rng as _;
use tokio::sync::Notify as Signal;

use crate::brain::BrainHandle;
use crate::bus::{Bus, PeerWatchers};
use crate::incoming::ProxyMap;
use crate::run::UidOf;
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
    pub(crate) proxy_map: ProxyMap,
    pub(crate) log: LogTap,
    pub(crate) metrics: Arc<UserMetrics>,
    pub(crate) shutdown: Arc<Signal>,
    pub(crate) uid_of: UidOf,
}

impl Handler for Api {
    fn operator_uid(&self) -> Option<u32> {
        let snapshot = self.brain.snapshot();
        let name = snapshot.prefs.operator_user.as_str();
        (!name.is_empty()).then(|| (self.uid_of)(name)).flatten()
    }

    fn call(&self, _actor: Actor, request: Request) -> BoxFuture<'_, Result<Reply, ApiError>> {
        Box::pin(self.answer(request))
    }
}

impl Api {
    async fn answer(&self, request: Request) -> Result<Reply, ApiError> {
        match request {
            Request::Status { peers } => Reply::json_tabs(&self.status.read(peers).await),
            Request::Prefs => Reply::json_tabs(&*self.brain.snapshot().prefs),
            Request::EditPrefs(edit) => match self.brain.command(Command::EditPrefs(edit)).await {
                Ok(Answer::Prefs(prefs)) => Reply::json_tabs(&*prefs),
                Ok(Answer::Done) => Reply::json_tabs(&*self.brain.snapshot().prefs),
                Err(error) => Err(ApiError::refused_prefs(error.to_string())),
            },
            Request::CheckPrefs(prefs) => {
                let error = self.brain.command(Command::CheckPrefs(prefs)).await.err();
                Reply::json(&CheckPrefsResponse {
                    error: error.map(|error| error.to_string()).unwrap_or_default(),
                })
            }
            Request::Start(options) => self.command(Command::Start(options)).await,
            Request::LoginInteractive => self.command(Command::LoginInteractive).await,
            Request::Logout => self.command(Command::Logout).await,
            Request::ResetAuth => self.command(Command::ResetAuth).await,
            Request::NewProfile => self.command(Command::NewProfile).await,
            Request::SwitchProfile(id) => self.command(Command::SwitchProfile(id)).await,
            Request::DeleteProfile(id) => self.command(Command::DeleteProfile(id)).await,
            Request::Profiles => Reply::json(&*self.brain.snapshot().profiles),
            Request::CurrentProfile => Reply::json(&*self.brain.snapshot().profile),
            Request::Profile(id) => self.profile(&id),
            Request::WatchBus(mask) => Ok(watch::stream(self, mask).await),
            Request::WhoIs { proto, addr } => self.whois(&proto, addr),
            Request::Ping { ip, kind, size } => ping::ping(self, ip, &kind, size).await,
            Request::Dial(wanted) => self.dial(wanted).await,
            Request::LogTap => Ok(self.log_tap()),
            Request::Shutdown => {
                self.shutdown.notify_one();
                Ok(Reply::Done)
            }
            Request::DerpMap => self.derp_map(),
            Request::DnsConfig => match &self.brain.snapshot().netmap {
                Some(netmap) => Reply::json(&*netmap.dns),
                None => Reply::json(&tailcfg::DnsConfig::default()),
            },
            Request::Metrics | Request::UserMetrics => {
                Ok(Reply::Text(self.metrics.to_prometheus()))
            }
            Request::PeerById(id) => self.peer_by_id(id),
            Request::UserProfile(id) => self.user_profile(id),
            Request::BugReport { note } => Ok(self.bug_report(&note)),
            // Userspace mode forwards by itself.
            Request::CheckIpForwarding | Request::CheckUdpGroForwarding => {
                Reply::json(&BTreeMap::from([("Warning", "")]))
            }
            // Compat: without a tunnel device the originals say so whatever their sockets do, and we have none.
            Request::CheckSoMarkInUse => Reply::json(&BTreeMap::from([("UseSOMark", true)])),
            Request::Debug { action, .. } => self.debug(&action),
        }
    }

    async fn command(&self, command: Command) -> Result<Reply, ApiError> {
        match self.brain.command(command).await {
            Ok(_) => Ok(Reply::Done),
            Err(CommandError::Invalid(text)) => Err(ApiError::bad_request(text)),
            Err(CommandError::NotFound(text)) => Err(ApiError::not_found(text)),
            Err(CommandError::Unavailable(text)) => Err(ApiError::unavailable(text)),
            Err(CommandError::Failed(text)) => Err(ApiError::failed(text)),
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
        let netmap = snapshot
            .netmap
            .as_ref()
            .ok_or_else(|| ApiError::unavailable("no netmap"))?;
        let own = Some(&netmap.self_node).filter(|node| node.id == PeerId(id));
        match own.or_else(|| netmap.peers.get(PeerId(id))) {
            Some(peer) => Reply::json(&peer.to_wire(netmap.suffix())),
            None => Err(ApiError::not_found("no such peer")),
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
            None => Err(ApiError::not_found("no such user")),
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
            Way::Tunnel(_) if network != "tcp" => Err(ApiError::bad_gateway(format!(
                "dial failure: network `{network}` is not built"
            ))),
            Way::Tunnel(target) => match self.dial.tcp(&target.ip().to_string(), port).await {
                Ok(stream) => Ok(Reply::Dialed(Box::new(stream))),
                Err(error) => Err(ApiError::bad_gateway(format!("dial failure: {error}"))),
            },
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

    fn bug_report(&self, note: &str) -> Reply {
        let snapshot = self.brain.snapshot();
        if snapshot.hostinfo.no_logs_no_support {
            let marker = "BUG-NO-LOGS-NO-SUPPORT-this-node-has-had-its-logging-disabled";
            return Reply::Text(marker.into());
        }
        let seconds = rt::wall().as_unix_secs();
        let stamp = jiff::Timestamp::from_second(seconds)
            .unwrap_or_default()
            .strftime("%Y%m%d%H%M%SZ")
            .to_string();
        let marker = format!(
            "BUG-{}-{stamp}-{:016x}",
            snapshot.hostinfo.backend_log_id,
            rt::OsRng.next_u64()
        );
        tracing::info!("user bugreport: {marker}");
        if !note.is_empty() {
            tracing::info!("user bugreport note: {note}");
        }
        Reply::Text(marker)
    }

    fn debug(&self, action: &str) -> Result<Reply, ApiError> {
        match action {
            "rebind" => self.engine.link_changed(true),
            "restun" => self.engine.link_changed(false),
            "" => return Err(ApiError::bad_request("missing parameter 'action'")),
            other => {
                return Err(ApiError::bad_request(format!(
                    "not built: debug action {other:?}"
                )));
            }
        }
        Ok(Reply::Text("done\n".into()))
    }
}
