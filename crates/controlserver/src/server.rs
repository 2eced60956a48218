//! Starting and stopping.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tailcfg::DerpMap;
use transport::server::{Limits, Listener};

use crate::admin::Admin;
use crate::admin_http;
use crate::public::Public;
use crate::state::State;
use crate::store::Store;
use crate::tailnet::{Saved, Settings, Tailnet};

/// How long requests in progress may take when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where nodes connect.
    pub listen: SocketAddr,
    /// What nodes use as `--login-server`, where that is not `http://` and the address.
    pub url: Option<String>,
    /// The state file; without one all is forgotten at the end.
    pub state: Option<PathBuf>,
    /// The admin socket; without one there is only [`Server::admin`].
    pub admin_socket: Option<PathBuf>,
    /// The suffix of names, without dots around it.
    pub domain: String,
    /// The relays.
    pub derp_map: DerpMap,
    /// How nodes are treated.
    pub settings: Settings,
    /// The time between signs of life on a quiet map stream. Clients give up after 120 s.
    pub keep_alive: Duration,
    /// How long an ephemeral node may be offline.
    pub ephemeral_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            url: None,
            state: None,
            admin_socket: None,
            domain: "tailnet.test".into(),
            derp_map: DerpMap {
                regions: Some(Default::default()),
                omit_default_regions: true,
                ..DerpMap::default()
            },
            settings: Settings::default(),
            keep_alive: Duration::from_secs(50),
            ephemeral_timeout: Duration::from_secs(5 * 60),
        }
    }
}

/// Why a server cannot start.
#[derive(Debug)]
pub enum Error {
    /// The address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The admin socket cannot be listened on.
    AdminSocket(PathBuf, io::Error),
    /// The state file cannot be read or written.
    StateIo(PathBuf, io::Error),
    /// The state file has no content that we understand. It has not been touched.
    StateContent(PathBuf, String),
    /// The domain is no name.
    Domain(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(address, error) => write!(f, "listening on {address}: {error}"),
            Self::AdminSocket(path, error) => {
                write!(
                    f,
                    "listening on the admin socket `{}`: {error}",
                    path.display()
                )
            }
            Self::StateIo(path, error) => write!(f, "state file `{}`: {error}", path.display()),
            Self::StateContent(path, why) => write!(f, "state file `{}`: {why}", path.display()),
            Self::Domain(domain) => write!(f, "`{domain}` is no domain"),
        }
    }
}

impl std::error::Error for Error {}

/// A running server. Dropping it closes all at once; [`Server::stop`] also saves what may be lost in a crash.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
    public: Arc<Public>,
    listener: transport::server::Server,
    admin_listener: Option<transport::server::Server>,
    _housekeeper: rt::Task,
}

impl Server {
    /// Starts a server.
    ///
    /// # Errors
    /// [`Error`]; then nothing runs.
    pub async fn start(config: Config) -> Result<Self, Error> {
        if !is_domain(&config.domain) {
            return Err(Error::Domain(config.domain));
        }
        let store = config.state.map(Store::new);
        let mut tailnet = match &store {
            Some(store) => load(store, config.domain, config.derp_map)?,
            None => Tailnet::new(config.domain, config.derp_map, &mut rt::OsRng),
        };
        tailnet.set_settings(config.settings);
        let listener = Listener::bind_tcp(config.listen)
            .await
            .map_err(|error| Error::Listen(config.listen, error))?;
        let address = listener.local_addr().unwrap_or(config.listen);
        let admin_socket = config.admin_socket.map(bind_admin).transpose()?;
        let url = match config.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{address}"),
        };
        let (state, housekeeper) = State::new(
            tailnet,
            store,
            url,
            config.keep_alive,
            config.ephemeral_timeout,
        );
        // A server whose key is not on disk would be another server after a crash.
        state.save().await;
        let public = Arc::new(Public::new(Arc::clone(&state)));
        let limits = Limits {
            connections: 4096,
            ..Limits::default()
        };
        let answering = Arc::clone(&public);
        let listener =
            transport::server::Server::start(listener, None, limits, move |_, request| {
                let public = Arc::clone(&answering);
                async move { public.answer(request).await }
            });
        let admin = Admin::new(Arc::clone(&state));
        let admin_listener = admin_socket.map(|listener| serve_admin(listener, admin));
        tracing::info!("control server at {}", state.url());
        Ok(Self {
            address,
            state,
            public,
            listener,
            admin_listener,
            _housekeeper: housekeeper,
        })
    }

    /// Where nodes connect.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What nodes use as `--login-server`.
    #[must_use]
    pub fn url(&self) -> String {
        self.state.url().to_owned()
    }

    /// The administrator's functions.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.state))
    }

    /// Ends all connections and saves.
    pub async fn stop(self) {
        self.state.end_all_streams();
        self.listener.stop(STOP_GRACE).await;
        self.public.close();
        if let Some(listener) = self.admin_listener {
            listener.stop(STOP_GRACE).await;
        }
        self.state.save().await;
    }
}

fn serve_admin(listener: Listener, admin: Admin) -> transport::server::Server {
    transport::server::Server::start(listener, None, Limits::default(), move |_, request| {
        let admin = admin.clone();
        async move { admin_http::answer(&admin, request).await }
    })
}

fn bind_admin(path: PathBuf) -> Result<Listener, Error> {
    Listener::bind_unix(&path, 0o600).map_err(|error| Error::AdminSocket(path, error))
}

fn load(store: &Store, domain: String, derp_map: DerpMap) -> Result<Tailnet, Error> {
    let path = || store.path().to_owned();
    let content = store
        .read()
        .map_err(|error| Error::StateIo(path(), error))?;
    let Some(content) = content else {
        let tailnet = Tailnet::new(domain, derp_map, &mut rt::OsRng);
        let written = tailnet
            .save()
            .map_err(io::Error::from)
            .and_then(|bytes| store.write(&bytes));
        written.map_err(|error| Error::StateIo(path(), error))?;
        return Ok(tailnet);
    };
    let saved =
        Saved::parse(&content).map_err(|error| Error::StateContent(path(), error.to_string()))?;
    Ok(Tailnet::load(saved, domain, derp_map))
}

/// Labels of letters, digits and dashes, with dots between them.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.len() <= 200 && text.split('.').all(is_label)
}
