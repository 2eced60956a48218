//! The client: three conversations and one connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keys::{DiscoPublic, LockPublic, MachinePrivate, NodePublic};
use netmap::NetMapChange;
use rt::Backoff;
use tailcfg::go::{GoTime, Secret};
use tailcfg::{
    ClientVersion, EndpointType, Hostinfo, PeerChange, PingRequest, PingResponse, UserProfile,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use transport::Dialer;

use crate::connection::Connector;
use crate::map::{Memory, Poll};
use crate::register::{Outcome, logout, register, set_expiry};
use crate::update::{NodeInfo, send_update};
use crate::{C2nRouter, DialPlan, Error, Retry, ServerUrl, ping};

/// Events that wait for the node; then the conversations wait too.
const QUEUE: usize = 64;
/// Servers send something about once a minute.
const SILENCE_MAX: Duration = Duration::from_secs(120);
const REGISTER_TIMEOUT: Duration = Duration::from_secs(60);
const LOGOUT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait after the server refused a registration: it is not the network's fault, so haste is of no use.
const REFUSED_CAP: Duration = Duration::from_secs(30);
/// A stream that lived this long was a success, however it ended.
const LIVED: Duration = Duration::from_secs(10);
/// How long a connection is kept while nothing is wanted of it.
const LINGER: Duration = Duration::from_secs(2);

/// What a client is made of.
#[derive(Debug)]
pub struct ClientConfig {
    /// Base URL of the server.
    pub server_url: String,
    /// The machine's key.
    pub machine_key: MachinePrivate,
    /// Opens connections.
    pub dialer: Arc<Dialer>,
    /// Whether it starts paused.
    pub paused: bool,
    /// Never use plain HTTP where TLS is possible (`TS_FORCE_NOISE_443`).
    pub force_443: bool,
    /// Our disco key.
    pub disco_key: DiscoPublic,
    /// Answers requests of the server to this node.
    pub c2n: C2nRouter,
    /// Where the server said that it can be reached.
    pub dial_plan: DialPlan,
}

/// A registration to be made.
#[derive(Debug, Clone, Default)]
pub struct LoginRequest {
    /// The key to register.
    pub node_key: NodePublic,
    /// The key before it; zero if there is none.
    pub old_node_key: NodePublic,
    /// The tailnet lock key.
    pub lock_key: LockPublic,
    /// A key that makes nobody necessary.
    pub auth_key: Option<Secret>,
    /// What to say of this node.
    pub hostinfo: Arc<Hostinfo>,
    /// Whether the server should forget the node once it is gone.
    pub ephemeral: bool,
}

/// A long poll to be kept.
#[derive(Debug, Clone, Default)]
pub struct MapParams {
    /// The registered key.
    pub node_key: NodePublic,
    /// What to say of this node.
    pub hostinfo: Arc<Hostinfo>,
}

/// News.
#[derive(Debug)]
pub enum Event {
    /// Somebody must open this page; the registration goes on by itself after that.
    AuthUrl(String),
    /// The key of the last login is registered.
    Registered(Box<UserProfile>),
    /// The registration failed; it is tried again with back-off.
    RegisterFailed {
        /// Why.
        error: String,
        /// Whether these are the server's words for the user.
        for_user: bool,
    },
    /// The server does not take the key of the last login because it has run out. Nothing happens until another login.
    KeyExpired,
    /// The server does not know the long poll's key. Nothing happens until another login or long poll is asked for.
    NotRegistered,
    /// The tailnet has changed.
    Map(NetMapChange),
    /// Something came on the long poll that changed nothing.
    MapHeard,
    /// The long poll has ended; it is opened again with back-off, or as soon as it is wanted again.
    MapDown {
        /// Why, unless it was asked to.
        error: Option<String>,
    },
    /// What became of a logout.
    LoggedOut(Result<(), String>),
    /// What became of [`Client::set_expiry`].
    ExpirySet(Result<(), String>),
    /// The user should see this page.
    BrowseTo(String),
    /// What is known of newer versions.
    ClientVersion(ClientVersion),
    /// The server wants a peer pinged; answer with [`Client::report_ping`].
    Ping(Box<PingRequest>),
}

/// What the long poll is for; the number tells two orders with the same key apart.
type Want = Option<(NodePublic, u64)>;

struct Shared {
    connector: Arc<Connector>,
    c2n: C2nRouter,
    silence_max: Duration,
    events: mpsc::Sender<Event>,
    login: watch::Sender<Option<LoginRequest>>,
    want: watch::Sender<Want>,
    /// Numbers for [`Want`].
    numbers: AtomicU64,
    /// Counts long polls that came up again after a failure: such a server may have forgotten what it was told.
    reopened: watch::Sender<u64>,
    paused: watch::Sender<bool>,
    info: watch::Sender<NodeInfo>,
    learned: mpsc::Sender<PeerChange>,
}

/// A connection with one control server. Dropping it ends everything at once, without a word to the server.
pub struct Client {
    shared: Arc<Shared>,
    tasks: Vec<rt::Task>,
    logout: Mutex<Option<rt::Task>>,
    expiry: Mutex<Option<rt::Task>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.shared.connector.url)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Starts a client; it does nothing until told to. The only error is a URL that cannot be used.
    pub fn start(config: ClientConfig) -> Result<(Self, mpsc::Receiver<Event>), Error> {
        Self::start_with(config, SILENCE_MAX)
    }

    /// As [`start`](Self::start); a long poll on which nothing comes for `silence_max` counts as dead.
    pub(crate) fn start_with(
        config: ClientConfig,
        silence_max: Duration,
    ) -> Result<(Self, mpsc::Receiver<Event>), Error> {
        let url = ServerUrl::parse(&config.server_url)?;
        let connector = Connector::new(
            url,
            config.machine_key,
            config.dialer,
            config.force_443,
            config.dial_plan,
        );
        let (events, receiver) = mpsc::channel(QUEUE);
        let (learned, told) = mpsc::channel(QUEUE);
        let info = NodeInfo {
            disco_key: config.disco_key,
            ..NodeInfo::default()
        };
        let shared = Arc::new(Shared {
            connector: Arc::new(connector),
            c2n: config.c2n,
            silence_max,
            events,
            login: watch::Sender::new(None),
            want: watch::Sender::new(None),
            numbers: AtomicU64::new(0),
            reopened: watch::Sender::new(0),
            paused: watch::Sender::new(config.paused),
            info: watch::Sender::new(info),
            learned,
        });
        let tasks = vec![
            rt::Task::spawn("control login", keep_registering(Arc::clone(&shared))),
            rt::Task::spawn("control map", keep_polling(Arc::clone(&shared), told)),
            rt::Task::spawn("control updates", keep_updating(Arc::clone(&shared))),
        ];
        let this = Self {
            shared,
            tasks,
            logout: Mutex::default(),
            expiry: Mutex::default(),
        };
        Ok((this, receiver))
    }

    /// Registers a key, until told otherwise; a login under way is given up for it.
    pub fn login(&self, request: LoginRequest) {
        self.set_hostinfo(Arc::clone(&request.hostinfo));
        self.shared.login.send_replace(Some(request));
    }

    /// Keeps a long poll with this key. One with another key is closed, one with the same key goes on, unless the server
    /// has refused it.
    pub fn start_map(&self, params: MapParams) {
        self.set_hostinfo(params.hostinfo);
        self.shared.want.send_if_modified(|want| match want {
            Some((key, _)) if *key == params.node_key => false,
            other => {
                *other = Some((params.node_key, self.shared.next_number()));
                true
            }
        });
    }

    /// Ends the long poll.
    pub fn stop_map(&self) {
        self.shared
            .want
            .send_if_modified(|want| want.take().is_some());
    }

    /// Closes the long poll and opens it again, so that the server says everything anew.
    pub fn restart_map(&self) {
        self.shared.want.send_if_modified(|want| match want {
            Some((_, number)) => {
                *number = self.shared.next_number();
                true
            }
            None => false,
        });
    }

    /// What to say of this node has changed: tells it as soon as a long poll is wanted.
    pub fn set_hostinfo(&self, hostinfo: Arc<Hostinfo>) {
        self.change_info(|info| {
            let changed = *info.hostinfo != *hostinfo;
            info.hostinfo = hostinfo;
            changed
        });
    }

    /// Where this node can be reached has changed.
    pub fn set_endpoints(&self, endpoints: Vec<(SocketAddr, EndpointType)>) {
        self.change_info(|info| {
            let changed = *info.endpoints != *endpoints;
            info.endpoints = endpoints.into();
            changed
        });
    }

    /// Our disco key has changed.
    pub fn set_disco_key(&self, disco_key: DiscoPublic) {
        self.change_info(|info| std::mem::replace(&mut info.disco_key, disco_key) != disco_key);
    }

    /// A peer told us something of itself through the tunnel. Peers repeat it, so too much of it at once is left out.
    pub fn learn(&self, change: PeerChange) {
        if self.shared.learned.try_send(change).is_err() {
            tracing::debug!("leaving out what a peer says of itself: too much at once");
        }
    }

    fn change_info(&self, change: impl FnOnce(&mut NodeInfo) -> bool) {
        self.shared.info.send_if_modified(|info| {
            let changed = change(info);
            info.generation += u64::from(changed);
            changed
        });
    }

    /// While paused, no long poll and no updates. Logins go on.
    pub fn pause(&self, paused: bool) {
        self.shared
            .paused
            .send_if_modified(|now| std::mem::replace(now, paused) != paused);
    }

    /// Expires a key on the server, once; then [`Event::LoggedOut`]. Login and long poll end at once.
    pub fn logout(&self, node_key: NodePublic) {
        let last = self.shared.login.send_replace(None).unwrap_or_default();
        self.stop_map();
        let request = LoginRequest {
            node_key,
            lock_key: last.lock_key,
            ephemeral: last.ephemeral,
            hostinfo: Arc::clone(&self.shared.info.borrow().hostinfo),
            ..LoginRequest::default()
        };
        let shared = Arc::clone(&self.shared);
        let task = rt::Task::spawn("control logout", async move {
            let done = timeout(LOGOUT_TIMEOUT, logout(&shared.connector, &request)).await;
            let done = done.unwrap_or(Err(Error::Timeout("logout")));
            shared
                .report(Event::LoggedOut(done.map_err(|error| error.to_string())))
                .await;
        });
        if let Ok(mut slot) = self.logout.lock() {
            *slot = Some(task);
        }
    }

    /// Has the key in the request run out at this moment, once; then [`Event::ExpirySet`]. Login and long poll go on.
    pub fn set_expiry(&self, request: LoginRequest, expiry: GoTime) {
        let request = LoginRequest {
            hostinfo: Arc::clone(&self.shared.info.borrow().hostinfo),
            ..request
        };
        let shared = Arc::clone(&self.shared);
        let task = rt::Task::spawn("control expiry", async move {
            let done = set_expiry(&shared.connector, &request, expiry);
            let done = timeout(REGISTER_TIMEOUT, done).await;
            let done = done.unwrap_or(Err(Error::Timeout("register")));
            shared
                .report(Event::ExpirySet(done.map_err(|error| error.to_string())))
                .await;
        });
        if let Ok(mut slot) = self.expiry.lock() {
            *slot = Some(task);
        }
    }

    /// Answers [`Event::Ping`].
    pub async fn report_ping(
        &self,
        request: &PingRequest,
        response: &PingResponse,
    ) -> Result<(), Error> {
        ping::report(&self.shared.connector, request, response).await
    }

    /// Ends everything; nothing reaches the server any more.
    pub async fn shutdown(mut self) {
        self.tasks.clear();
        for slot in [&self.logout, &self.expiry] {
            if let Ok(mut slot) = slot.lock() {
                *slot = None;
            }
        }
        self.shared.connector.close().await;
    }
}

impl Shared {
    fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    async fn report(&self, event: Event) {
        // A node that is gone needs no news.
        let _ = self.events.send(event).await;
    }
}

/// Takes one login after the other; a newer one interrupts.
async fn keep_registering(shared: Arc<Shared>) {
    let mut logins = shared.login.subscribe();
    loop {
        let login = logins.borrow_and_update().clone();
        let Some(login) = login else {
            if logins.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            biased;
            changed = logins.changed() => if changed.is_err() {
                return;
            },
            () = attempt_login(&shared, &login) => {
                // Settled. What came meanwhile is seen at once, otherwise this waits.
                if logins.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Tries until the key is registered or cannot be.
async fn attempt_login(shared: &Shared, login: &LoginRequest) {
    let mut page = String::new();
    let mut retry = Retry::new();
    let mut refused = Backoff::new(REFUSED_CAP);
    loop {
        let ask = register(&shared.connector, login, &page);
        // Somebody opening a page may take days.
        let asked = match page.is_empty() {
            true => timeout(REGISTER_TIMEOUT, ask)
                .await
                .unwrap_or(Err(Error::Timeout("register"))),
            false => ask.await,
        };
        match asked {
            Ok(Outcome::Registered(user)) => return shared.report(Event::Registered(user)).await,
            Ok(Outcome::KeyExpired) => return shared.report(Event::KeyExpired).await,
            Ok(Outcome::Visit(url)) if url == page => retry.wait().await,
            Ok(Outcome::Visit(url)) => {
                retry.reset();
                page.clone_from(&url);
                shared.report(Event::AuthUrl(url)).await;
            }
            Err(error) => {
                let failed = Event::RegisterFailed {
                    error: error.to_string(),
                    for_user: error.is_for_user(),
                };
                shared.report(failed).await;
                match error {
                    Error::RateLimited { after, .. } => sleep(after).await,
                    Error::Refused(_) | Error::Unable(_) => refused.wait().await,
                    _ => retry.wait().await,
                }
            }
        }
    }
}

/// Keeps the long poll open while it is wanted and not paused.
async fn keep_polling(shared: Arc<Shared>, learned: mpsc::Receiver<PeerChange>) {
    let mut wants = shared.want.subscribe();
    let mut pauses = shared.paused.subscribe();
    let mut memory = Memory::new(learned);
    loop {
        let want = *wants.borrow_and_update();
        let paused = *pauses.borrow_and_update();
        let changed = async {
            tokio::select! {
                changed = wants.changed() => changed.is_ok(),
                changed = pauses.changed() => changed.is_ok(),
            }
        };
        let going_on = match want.filter(|_| !paused) {
            None if paused => tokio::select! {
                going_on = changed => going_on,
                never = rest(&shared.connector) => never,
            },
            None => changed.await,
            Some((node_key, number)) => {
                let going_on = tokio::select! {
                    biased;
                    going_on = changed => going_on,
                    () = poll_until_refused(&shared, node_key, &mut memory) => {
                        // Whoever wants this key polled again must say so, after registering it.
                        shared.want.send_if_modified(|want| {
                            let same = *want == Some((node_key, number));
                            *want = if same { None } else { *want };
                            same
                        });
                        true
                    }
                };
                shared.report(Event::MapDown { error: None }).await;
                going_on
            }
        };
        if !going_on {
            return;
        }
    }
}

/// Who is paused needs no connection, and its keep-alives would wake the machine.
async fn rest(connector: &Connector) -> bool {
    // What was begun before may end in peace.
    rt::sleep_until(rt::now() + LINGER).await;
    connector.close().await;
    std::future::pending().await
}

/// One stream after the other, until the server says that it does not know the key.
async fn poll_until_refused(shared: &Shared, node_key: NodePublic, memory: &mut Memory) {
    let mut retry = Retry::new();
    let mut again = None;
    loop {
        let info = shared.info.borrow().clone();
        let started = rt::now();
        let mut poll = Poll {
            connector: &shared.connector,
            c2n: &shared.c2n,
            silence_max: shared.silence_max,
            events: &shared.events,
            memory,
            heard: false,
            again,
        };
        let error = poll.run(node_key, &info).await;
        if poll.heard && rt::now().since(started) >= LIVED {
            retry.reset();
        }
        if let Error::Status {
            status: 401 | 404, ..
        } = error
        {
            return shared.report(Event::NotRegistered).await;
        }
        let error = Some(error.to_string());
        shared.report(Event::MapDown { error }).await;
        again = Some(&shared.reopened);
        retry.wait().await;
    }
}

/// Uploads what has changed here while a long poll is wanted and not paused.
async fn keep_updating(shared: Arc<Shared>) {
    let mut infos = shared.info.subscribe();
    let mut wants = shared.want.subscribe();
    let mut pauses = shared.paused.subscribe();
    let mut reopened = shared.reopened.subscribe();
    let mut retry = Retry::new();
    // For which order, and which state of our own, the server has been told.
    let mut told = None;
    loop {
        let want = *wants.borrow_and_update();
        let paused = *pauses.borrow_and_update();
        let info = infos.borrow_and_update().clone();
        let epoch = *reopened.borrow_and_update();
        let state = want.map(|want| (want, info.generation, epoch));
        let due = state.filter(|_| !paused && state != told && info.generation > 0);
        let changed = async {
            tokio::select! {
                changed = infos.changed() => changed.is_ok(),
                changed = reopened.changed() => changed.is_ok(),
                changed = wants.changed() => changed.is_ok(),
                changed = pauses.changed() => changed.is_ok(),
            }
        };
        let Some(((node_key, _), ..)) = due else {
            if !changed.await {
                return;
            }
            continue;
        };
        // An upload under way is finished even if there is news: the next round tells it.
        match send_update(&shared.connector, node_key, &info).await {
            Ok(()) => {
                told = state;
                retry.reset();
            }
            Err(error) => {
                tracing::debug!("{error}");
                retry.wait().await;
            }
        }
    }
}
