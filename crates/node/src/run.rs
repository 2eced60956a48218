//! Start and end of a node.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use backend::Backend;
use dataplane::{Engine, EngineConfig, RelayDialer};
use host::{DnsConfigurator, Egress, LinkMonitor, Router, StateStore, Tun, UdpBinder};
use metrics::UserMetrics;
use rt::Task;
use tailcfg::Hostinfo;
use tokio::sync::{Notify as Signal, oneshot, watch};
use transport::derp::DerpDialOptions;
use transport::{DialConfig, Dialer, ProxyConfig};

use crate::api::Api;
use crate::api::ping::Means;
use crate::brain::{self, Hands};
use crate::bus::{Bus, PeerWatchers};
use crate::control_runner::ControlRunner;
use crate::dns_runner::DnsRunner;
use crate::engine_runner::{self, EngineRunner};
use crate::incoming::{self, ProxyMap, Services};
use crate::init::{self, TellInit};
use crate::links;
use crate::magic_dns::MagicDns;
use crate::peer_api::PeerApi;
use crate::status::StatusReader;
use crate::userdial::UserDial;
use crate::{Feature, FeatureHost, LogTap, Registry};

/// How long requests in progress may take at the end.
const LAST_REQUESTS: std::time::Duration = std::time::Duration::from_millis(200);

/// What the user asked for.
pub struct Config {
    /// The LocalAPI's unix socket.
    pub socket: PathBuf,
    /// Where everything but the state is kept; `None` switches what needs it off.
    pub var_root: Option<PathBuf>,
    /// The UDP port; 0 chooses one.
    pub port: u16,
    /// The optional parts.
    pub features: Vec<Box<dyn Feature>>,
    /// The environment, for proxies and debugging switches.
    pub environment: BTreeMap<String, String>,
    /// Where our own proxies listen: they are never used to reach control or relays.
    pub own_proxies: Vec<SocketAddr>,
}

/// What the node needs of its machine.
pub struct HostParts {
    /// Where identity and preferences are kept.
    pub store: Arc<dyn StateStore>,
    /// The TUN device; `None` is userspace networking.
    pub tun: Option<Box<dyn Tun>>,
    /// Keeps our own connections out of the tunnel; without a device there is nothing to be kept out of.
    pub egress: Option<Arc<dyn Egress>>,
    /// Makes UDP sockets.
    pub udp: Arc<dyn UdpBinder>,
    /// How many threads take datagrams of each address family.
    pub workers: usize,
    /// Watches the machine's links.
    pub links: Box<dyn LinkMonitor>,
    /// The machine's routing.
    pub router: Box<dyn Router>,
    /// The machine's resolver.
    pub dns: Box<dyn DnsConfigurator>,
    /// What control is told about the machine.
    pub hostinfo: Hostinfo,
    /// The number of a local user.
    pub uid_of: UidOf,
    /// What stands in the way of routing for others.
    pub forwarding_problem: ForwardingProblem,
    /// What stands in the way of routing UDP for others as fast as could be.
    pub udp_problem: ForwardingProblem,
    /// Tells the init system that started us, if there is one.
    pub tell_init: TellInit,
}

/// Says what keeps the machine from forwarding packets, in words for people; empty if nothing does.
pub type ForwardingProblem = Box<dyn Fn() -> String + Send + Sync>;

/// Finds the number of a local user by name.
pub type UidOf = Box<dyn Fn(&str) -> Option<u32> + Send + Sync>;

/// Why a node could not start. The text is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Runs a node until `stop` resolves or a client shuts it down.
pub async fn run(
    config: Config,
    host: HostParts,
    tap: LogTap,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    // What others may already hold (socket, proxy ports) is taken before anything is changed.
    let socket = localapi::bind(&config.socket)
        .map_err(|error| Error(format!("safesocket.Listen: {error}")))?;
    let mut registry = Registry::default();
    for feature in config.features {
        feature.register(&mut registry).map_err(Error)?;
    }
    let node = Node::start(NodeParts {
        socket,
        registry,
        port: config.port,
        environment: config.environment,
        var_root: config.var_root,
        own_proxies: config.own_proxies,
        host,
        tap,
    })?;
    let shutdown = Arc::clone(&node.shutdown);
    let mut lost = node.tun_lost.clone();
    let outcome = tokio::select! {
        () = stop => Ok(()),
        () = shutdown.notified() => {
            tracing::info!("a local client asked for the end; shutting down");
            Ok(())
        }
        error = tun_loss(&mut lost) => Err(Error(format!("the TUN device is gone: {error}"))),
    };
    node.stop().await;
    outcome
}

/// Resolves when the TUN device is gone: whoever started us must do so again.
async fn tun_loss(lost: &mut watch::Receiver<Option<String>>) -> String {
    match lost.wait_for(Option::is_some).await {
        Ok(error) => error.clone().unwrap_or_default(),
        // The engine ends with the node.
        Err(_) => std::future::pending().await,
    }
}

struct NodeParts {
    socket: transport::server::Listener,
    registry: Registry,
    port: u16,
    environment: BTreeMap<String, String>,
    var_root: Option<PathBuf>,
    own_proxies: Vec<SocketAddr>,
    host: HostParts,
    tap: LogTap,
}

/// A running node.
struct Node {
    shutdown: Arc<Signal>,
    /// Why the TUN device is gone.
    tun_lost: watch::Receiver<Option<String>>,
    stop_brain: oneshot::Sender<()>,
    brain: Task,
    api: transport::server::Server,
    tell_init: TellInit,
    _tasks: Vec<Task>,
}

impl Node {
    fn start(parts: NodeParts) -> Result<Self, Error> {
        let NodeParts {
            socket,
            registry,
            port,
            environment,
            var_root,
            own_proxies,
            host,
            tap,
        } = parts;
        let is_set = |name: &str| {
            let value = environment.get(name);
            value.is_some_and(|value| matches!(value.as_str(), "1" | "t" | "true"))
        };
        let force_443 = is_set("TS_FORCE_NOISE_443");
        let proxy = ProxyConfig::from_env(&environment);
        for problem in &proxy.problems {
            tracing::warn!("proxy settings: {problem}");
        }
        let marks_sockets = host.egress.is_some();
        let dialer = Arc::new(Dialer::new(DialConfig {
            egress: host.egress,
            proxy,
        }));
        dialer.set_own_proxies(own_proxies);
        let metrics = Arc::new(UserMetrics::default());
        let has_tun = host.tun.is_some();
        let (tun_lost, lost) = watch::channel(None);
        let (engine, events, flows) = Engine::start(EngineConfig {
            tun: host.tun,
            udp: host.udp,
            port,
            workers: host.workers,
            ignore_path_mtu: environment
                .get("TS_PATH_MTU")
                .is_some_and(|value| value == "off"),
            relay_only: is_set("TS_DEBUG_ALWAYS_USE_DERP"),
            relays: Arc::new(RelayDialer::new(
                Arc::clone(&dialer),
                DerpDialOptions::default(),
            )),
            metrics: Arc::clone(&metrics),
        })
        .map_err(|error| Error(format!("start the packet engine: {error}")))?;

        let backend = Backend::new(read_store(&*host.store)?, host.hostinfo);
        let (brain, mailbox) = brain::channel(backend.snapshot());
        let (endpoints, told_endpoints) = watch::channel(Vec::new());
        let bus = Bus::default();
        let proxy_map = ProxyMap::default();
        let dial = UserDial {
            brain: brain.clone(),
            // With a device the kernel knows the ways into the tunnel.
            flows: (!has_tun).then(|| engine.dialer().clone()),
            system: Arc::clone(&dialer),
            magic_dns: Arc::default(),
        };
        let pings = Means {
            brain: brain.clone(),
            engine: engine.clone(),
            dial: dial.clone(),
        };
        let dns = DnsRunner::start(host.dns, brain.clone());
        let dns_comparer = dns.comparer();
        let hands = Hands {
            store: host.store,
            control: ControlRunner::new(
                Arc::clone(&dialer),
                pings.clone(),
                force_443,
                Arc::clone(&metrics),
                told_endpoints,
            ),
            engine: EngineRunner::new(engine.clone(), brain.clone()),
            router: host.router,
            dns,
            bus: bus.clone(),
        };
        let status = StatusReader {
            has_tun,
            brain: brain.clone(),
            engine: engine.clone(),
        };
        let feature_host = FeatureHost {
            dial: Arc::new(dial.clone()),
            status: Arc::new(status.clone()),
            metrics: Arc::clone(&metrics),
            log: tap.clone(),
        };
        let mut tasks = registry.start(&feature_host);
        let magic_dns = MagicDns::new(brain.clone(), dial.clone());
        let peer_api = PeerApi::new(brain.clone(), magic_dns.clone(), Arc::clone(&metrics));
        let services = Services {
            magic_dns: magic_dns.clone(),
            peer_api: peer_api.clone(),
            others: (!has_tun).then(|| proxy_map.clone()),
        };
        tasks.push(Task::spawn(
            "incoming flows",
            incoming::serve(flows, services),
        ));
        tasks.push(Task::spawn("peer api ports", peer_api.keep_ports()));
        tasks.push(Task::spawn(
            "engine events",
            engine_runner::report(events, engine.clone(), brain.clone(), endpoints, tun_lost),
        ));
        tasks.push(Task::spawn(
            "links",
            links::watch(host.links, engine.clone(), brain.clone()),
        ));
        let shutdown = Arc::new(Signal::new());
        let api = Api {
            has_tun,
            marks_sockets,
            brain: brain.clone(),
            bus,
            peer_watchers: PeerWatchers::default(),
            engine,
            status,
            dial,
            pings,
            dns_comparer,
            proxy_map,
            magic_dns,
            log: tap,
            metrics,
            shutdown: Arc::clone(&shutdown),
            uid_of: host.uid_of,
            forwarding_problem: host.forwarding_problem,
            udp_problem: host.udp_problem,
            var_root,
        };
        let (stop_brain, stopped) = oneshot::channel();
        let api = localapi::serve(socket, Arc::new(api));
        let told = init::keep_told(Arc::clone(&host.tell_init), brain.follow());
        tasks.push(Task::spawn("tell the init system", told));
        Ok(Self {
            shutdown,
            tun_lost: lost,
            stop_brain,
            brain: Task::spawn("brain", brain::run(backend, hands, mailbox, stopped)),
            api,
            tell_init: host.tell_init,
            _tasks: tasks,
        })
    }

    async fn stop(self) {
        (self.tell_init)("STOPPING=1");
        let _ = self.stop_brain.send(());
        self.brain.join().await;
        self.api.stop(LAST_REQUESTS).await;
    }
}

/// Everything in the store, for the brain; and whether the store can be trusted.
fn read_store(store: &dyn StateStore) -> Result<backend::Stored, Error> {
    let failed = |error: host::StoreError| Error(format!("read the state: {error}"));
    let mut values = BTreeMap::new();
    for key in store.keys().map_err(failed)? {
        if let Some(value) = store.read(&key).map_err(failed)? {
            values.insert(key, value.into());
        }
    }
    Ok(backend::Stored {
        values,
        ephemeral: store.is_ephemeral(),
        trouble: store.trouble(),
    })
}
