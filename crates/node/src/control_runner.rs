//! Carries the brain's wishes to the control client, and the client's news to the brain.

use std::sync::{Arc, Weak};
use std::time::Duration;

use backend::{ClientId, ControlEffect, ControlEvent, Event, Registered};
use control::{Client, ClientConfig, LoginRequest, MapParams};
use dataplane::Engine;
use ipn::PingResult;
use keys::DiscoPublic;
use metrics::UserMetrics;
use rt::Task;
use tokio::sync::{Notify as Signal, mpsc, watch};
use transport::Dialer;

use crate::api;
use crate::api::ping::Means;
use crate::engine_runner::Endpoints;

/// How long the end of a node may wait for its logout.
const LAST_LOGOUT: Duration = Duration::from_secs(5);

/// How long a ping that the control server asks for may take.
const PING_LIMIT: Duration = Duration::from_secs(10);
/// There are four kinds of pings; whoever asks for more in one request means no good.
const KINDS_MAX: usize = 4;

/// The brain's hand on the control client.
pub(crate) struct ControlRunner {
    dialer: Arc<Dialer>,
    disco_key: DiscoPublic,
    means: Means,
    force_443: bool,
    metrics: Arc<UserMetrics>,
    /// Survives the clients.
    dial_plan: control::DialPlan,
    endpoints: watch::Receiver<Endpoints>,
    running: Option<Running>,
}

struct Running {
    client: Arc<Client>,
    logged_out: Arc<Signal>,
    _events: Task,
    endpoints: Task,
}

impl ControlRunner {
    pub(crate) fn new(
        dialer: Arc<Dialer>,
        means: Means,
        force_443: bool,
        metrics: Arc<UserMetrics>,
        endpoints: watch::Receiver<Endpoints>,
    ) -> Self {
        let disco_key = means.engine.disco_key();
        Self {
            dialer,
            disco_key,
            means,
            force_443,
            metrics,
            dial_plan: control::DialPlan::default(),
            endpoints,
            running: None,
        }
    }

    pub(crate) async fn carry_out(&mut self, effect: ControlEffect) {
        match effect {
            ControlEffect::Start {
                client,
                server_url,
                machine_key,
                paused,
            } => {
                let config = ClientConfig {
                    server_url,
                    machine_key,
                    dialer: Arc::clone(&self.dialer),
                    paused,
                    force_443: self.force_443,
                    disco_key: self.disco_key,
                    c2n: crate::c2n::router(&self.means.brain, &self.metrics),
                    dial_plan: self.dial_plan.clone(),
                };
                self.start(client, config);
            }
            ControlEffect::Shutdown => self.shut_down().await,
            other => {
                if let Some(running) = &self.running {
                    tell(&running.client, &self.means.engine, other);
                }
            }
        }
    }

    fn start(&mut self, id: ClientId, config: ClientConfig) {
        let (client, events) = match Client::start(config) {
            Ok(started) => started,
            Err(error) => {
                tracing::error!("control: {error}");
                let brain = self.means.brain.clone();
                let error = ControlEvent::RegisterFailed {
                    error: error.to_string(),
                    for_user: true,
                };
                Task::spawn("control trouble", async move {
                    brain
                        .report(Event::Control {
                            client: id,
                            event: error,
                        })
                        .await;
                })
                .detach();
                return;
            }
        };
        let client = Arc::new(client);
        let logged_out = Arc::new(Signal::new());
        let reporter = Reporter {
            id,
            means: self.means.clone(),
            client: Arc::downgrade(&client),
            logged_out: Arc::clone(&logged_out),
        };
        let events = Task::spawn("control events", reporter.run(events));
        let endpoints = Task::spawn(
            "control endpoints",
            tell_endpoints(Arc::downgrade(&client), self.endpoints.clone()),
        );
        self.running = Some(Running {
            client,
            logged_out,
            _events: events,
            endpoints,
        });
    }

    /// Waits until nothing of the client can reach the server any more.
    async fn shut_down(&mut self) {
        let Some(Running {
            client,
            _events,
            endpoints,
            ..
        }) = self.running.take()
        else {
            return;
        };
        drop((_events, endpoints));
        self.means.engine.set_map_streaming(false);
        // A ping that is being reported holds the client for a moment.
        match Arc::try_unwrap(client) {
            Ok(client) => client.shutdown().await,
            Err(shared) => drop(shared),
        }
    }

    /// Waits for the answer to a logout, for a while.
    pub(crate) async fn wait_logged_out(&self) {
        if let Some(running) = &self.running
            && tokio::time::timeout(LAST_LOGOUT, running.logged_out.notified())
                .await
                .is_err()
        {
            tracing::warn!(
                "control did not answer the logout in time; the node expires there by itself"
            );
        }
    }
}

fn tell(client: &Client, engine: &Engine, effect: ControlEffect) {
    match effect {
        ControlEffect::Login(login) => client.login(LoginRequest {
            node_key: login.node_key.public(),
            old_node_key: login.old_node_key,
            lock_key: login.lock_key,
            auth_key: login.auth_key,
            hostinfo: login.hostinfo,
            ephemeral: login.ephemeral,
        }),
        ControlEffect::Logout { node_key } => client.logout(node_key.public()),
        ControlEffect::SetExpiry {
            node_key,
            old_node_key,
            lock_key,
            expiry,
        } => client.set_expiry(
            LoginRequest {
                node_key: node_key.public(),
                old_node_key,
                lock_key,
                ..LoginRequest::default()
            },
            expiry,
        ),
        ControlEffect::Pause(paused) => {
            if paused {
                engine.set_map_streaming(false);
            }
            client.pause(paused);
        }
        ControlEffect::StartMap { node_key, hostinfo } => {
            client.start_map(MapParams {
                node_key: node_key.public(),
                hostinfo,
            });
        }
        ControlEffect::StopMap => client.stop_map(),
        ControlEffect::Update { hostinfo } => client.set_hostinfo(hostinfo),
        ControlEffect::Learned(change) => client.learn(*change),
        // Handled by the runner itself.
        ControlEffect::Start { .. } | ControlEffect::Shutdown => {}
    }
}

/// Tells the client where we can be reached, now and at each change.
async fn tell_endpoints(client: Weak<Client>, mut endpoints: watch::Receiver<Endpoints>) {
    loop {
        let now = endpoints.borrow_and_update().clone();
        let Some(client) = client.upgrade() else {
            return;
        };
        client.set_endpoints(now);
        drop(client);
        if endpoints.changed().await.is_err() {
            return;
        }
    }
}

/// Turns the client's news into the brain's.
struct Reporter {
    id: ClientId,
    means: Means,
    client: Weak<Client>,
    logged_out: Arc<Signal>,
}

impl Reporter {
    async fn run(self, mut events: mpsc::Receiver<control::Event>) {
        while let Some(event) = events.recv().await {
            if let Some(event) = self.translate(event) {
                self.means
                    .brain
                    .report(Event::Control {
                        client: self.id,
                        event,
                    })
                    .await;
            }
        }
    }

    fn translate(&self, event: control::Event) -> Option<ControlEvent> {
        Some(match event {
            control::Event::AuthUrl(url) => ControlEvent::AuthUrl(url),
            control::Event::Registered(user) => {
                ControlEvent::Registered(Registered { user: *user })
            }
            control::Event::RegisterFailed { error, for_user } => {
                tracing::warn!("control: register: {error}");
                ControlEvent::RegisterFailed { error, for_user }
            }
            control::Event::KeyExpired => ControlEvent::KeyExpired,
            control::Event::NotRegistered => ControlEvent::NotRegistered,
            control::Event::Map(change) => {
                self.means.engine.set_map_streaming(true);
                ControlEvent::NetMap(change)
            }
            control::Event::MapHeard => ControlEvent::MapHeard,
            control::Event::MapDown { error } => {
                self.means.engine.set_map_streaming(false);
                if let Some(error) = &error {
                    tracing::info!("control: map: {error}");
                }
                ControlEvent::MapDown { error }
            }
            control::Event::LoggedOut(done) => {
                self.logged_out.notify_one();
                ControlEvent::LoggedOut(done)
            }
            control::Event::ExpirySet(done) => ControlEvent::ExpirySet(done),
            control::Event::BrowseTo(url) => ControlEvent::BrowseTo(url),
            control::Event::ClientVersion(version) => ControlEvent::ClientVersion(version),
            control::Event::Ping(request) => {
                self.answer_ping(*request);
                return None;
            }
        })
    }

    /// Control wants to know whether we reach a peer; each kind is tried and reported apart.
    fn answer_ping(&self, request: tailcfg::PingRequest) {
        let (means, client) = (self.means.clone(), self.client.clone());
        let pings = async move {
            for kind in request.types.split(',').take(KINDS_MAX) {
                let response = ping(&means, &request, kind).await;
                let Some(client) = client.upgrade() else {
                    return;
                };
                if let Err(error) = client.report_ping(&request, &response).await {
                    tracing::debug!("control: report of a ping: {error}");
                }
            }
        };
        Task::spawn("control ping", pings).detach();
    }
}

/// What a ping of this kind comes to, for the control server.
async fn ping(means: &Means, request: &tailcfg::PingRequest, kind: &str) -> tailcfg::PingResponse {
    let failed = |err: String| PingResult {
        ip: request.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        err,
        ..PingResult::default()
    };
    let result = match request.ip {
        None => failed("no matching peer".to_owned()),
        Some(ip) => {
            let pinged = api::ping::of_kind(means, ip, kind, 0);
            match tokio::time::timeout(PING_LIMIT, pinged).await {
                Ok(Ok(Some(result))) => result,
                Ok(Err(problem)) => failed(problem),
                Ok(Ok(None)) | Err(_) => failed("timeout".to_owned()),
            }
        }
    };
    tailcfg::PingResponse {
        kind: kind.into(),
        ip: result.ip,
        node_ip: result.node_ip,
        node_name: result.node_name,
        err: result.err,
        latency_seconds: result.latency_seconds,
        endpoint: result.endpoint,
        peer_relay: result.peer_relay,
        derp_region_id: result.derp_region_id,
        derp_region_code: result.derp_region_code,
        peer_api_port: result.peer_api_port,
        is_local_ip: result.is_local_ip,
    }
}
