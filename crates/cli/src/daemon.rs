//! The daemon as commands see it: LocalAPI's client, and errors in the words that users and scripts know.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{Method, StatusCode};
use ipn::{
    LoginProfile, MaskedPrefs, Notify, Options, PingResult, Prefs, Status, WatchMask, WhoIsResponse,
};
use localapi::{Client, ClientError, Dialed, DnsAnswer, Duplex, RawAnswer};
use serde::Deserialize;
use tokio::net::TcpStream;

use crate::command::{Context, Env, Error};

/// How long the socket of a daemon that runs may take to appear.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the daemon listens, and which version we compare its own with.
pub(crate) struct Daemon {
    socket: PathBuf,
    version: String,
    warned: bool,
}

impl Daemon {
    pub(crate) fn new(socket: PathBuf, env: &Env) -> Self {
        // Compat: tests of the original pretend another version by this variable.
        let fake = env.var("TS_DEBUG_FAKE_IPC_VERSION");
        let version = if fake.is_empty() {
            ipn::version::LONG
        } else {
            fake
        };
        Self {
            socket,
            version: version.to_owned(),
            warned: false,
        }
    }
}

/// Why a request has no answer.
pub(crate) type ApiError = ClientError;

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        let text = error.to_string();
        match error {
            ClientError::AccessDenied(_) => Self::Denied(text),
            _ => Self::Message(text),
        }
    }
}

/// The error with what was attempted in front.
pub(crate) fn prefixed(what: &str, error: &ClientError) -> Error {
    let text = format!("{what}: {error}");
    match error {
        ClientError::AccessDenied(_) => Error::Denied(text),
        _ => Error::Message(text),
    }
}

/// An OS error in Go's words: `no such file or directory`.
pub(crate) fn os_error(error: &io::Error) -> String {
    let text = error.to_string();
    let Some(code) = error.raw_os_error() else {
        return text;
    };
    let words = text
        .strip_suffix(&format!(" (os error {code})"))
        .unwrap_or(&text);
    let mut chars = words.chars();
    chars
        .next()
        .map(|first| first.to_lowercase().chain(chars).collect())
        .unwrap_or_default()
}

/// What a subscription yields until the daemon ends it.
pub(crate) type Items<T> = Pin<Box<dyn Stream<Item = Result<T, ClientError>>>>;

impl Context<'_> {
    /// The status with or without peers.
    pub(crate) async fn status(&mut self, peers: bool) -> Result<Status, ApiError> {
        let client = self.client();
        let answer = if peers {
            client.status().await
        } else {
            client.status_without_peers().await
        };
        self.compare_versions(&client);
        answer
    }

    /// As [`Context::status`], for commands that explain at length why nobody listens.
    pub(crate) async fn status_or_hint(&mut self, peers: bool) -> Result<Status, Error> {
        self.status(peers)
            .await
            .map_err(|error| connect_hint(&error))
    }

    /// The status as the daemon wrote it.
    pub(crate) async fn status_text(&mut self, peers: bool) -> Result<String, Error> {
        let path = if peers {
            "status"
        } else {
            "status?peers=false"
        };
        self.get(path).await.map_err(|error| connect_hint(&error))
    }

    pub(crate) async fn dns_query(
        &mut self,
        name: &str,
        kind: &str,
    ) -> Result<DnsAnswer, ApiError> {
        let client = self.client();
        let answer = client.dns_query(name, kind).await;
        self.compare_versions(&client);
        answer
    }

    pub(crate) async fn prefs(&mut self) -> Result<Prefs, ApiError> {
        let client = self.client();
        let answer = client.prefs().await;
        self.compare_versions(&client);
        answer
    }

    pub(crate) async fn edit_prefs(
        &mut self,
        edit: &MaskedPrefs,
        reason: &str,
    ) -> Result<Prefs, ApiError> {
        let client = self.client().because(reason);
        let answer = client.patch_prefs(edit).await;
        self.compare_versions(&client);
        answer
    }

    pub(crate) async fn check_prefs(&mut self, prefs: &Prefs) -> Result<(), Error> {
        match self.client().check_prefs(prefs).await? {
            None => Ok(()),
            Some(why_not) => Err(why_not.into()),
        }
    }

    pub(crate) async fn start(&mut self, options: &Options) -> Result<(), ApiError> {
        self.client().start(options).await
    }

    pub(crate) async fn login_interactive(&mut self) -> Result<(), ApiError> {
        self.client().login_interactive().await
    }

    pub(crate) async fn logout(&mut self, reason: &str) -> Result<(), ApiError> {
        let client = self.client().because(reason);
        let answer = client.logout().await;
        self.compare_versions(&client);
        answer
    }

    /// Turns to a new, empty profile.
    pub(crate) async fn new_profile(&mut self) -> Result<(), ApiError> {
        let client = self.client();
        let answer = client.new_profile().await;
        self.compare_versions(&client);
        answer
    }

    /// The current profile and all of them.
    pub(crate) async fn profiles(&mut self) -> Result<(LoginProfile, Vec<LoginProfile>), ApiError> {
        let client = self.client();
        let current = client.current_profile().await;
        self.compare_versions(&client);
        Ok((current?, client.profiles().await?))
    }

    pub(crate) async fn switch_profile(&mut self, id: &str) -> Result<(), ApiError> {
        self.client().switch_profile(id).await
    }

    pub(crate) async fn delete_profile(&mut self, id: &str) -> Result<(), ApiError> {
        self.client().delete_profile(id).await
    }

    /// The relays that the daemon knows; `None` while it knows none.
    pub(crate) async fn derp_map(&mut self) -> Result<Option<tailcfg::DerpMap>, ApiError> {
        let client = self.client();
        let answer = client.derp_map().await;
        self.compare_versions(&client);
        answer
    }

    /// A document as the daemon wrote it; `path` is what follows `/localapi/v0/`.
    pub(crate) async fn get(&mut self, path: &str) -> Result<String, ApiError> {
        let client = self.client();
        let answer = client.send(Method::GET, path, 200, Bytes::new()).await;
        self.compare_versions(&client);
        answer.map(|body| String::from_utf8_lossy(&body).into_owned())
    }

    /// As [`Context::post`] without a body, for what succeeds with this status.
    pub(crate) async fn post_for(&mut self, path: &str, success: u16) -> Result<(), ApiError> {
        let client = self.client();
        let answer = client.send(Method::POST, path, success, Bytes::new()).await;
        answer.map(drop)
    }

    /// Has the daemon do something; `path` is what follows `/localapi/v0/`.
    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Result<String, ApiError> {
        let client = self.client();
        let body = Bytes::copy_from_slice(body.as_bytes());
        let answer = client.send(Method::POST, path, 200, body).await;
        self.compare_versions(&client);
        answer.map(|body| String::from_utf8_lossy(&body).into_owned())
    }

    /// Any request; `path` is the whole path.
    pub(crate) async fn open(
        &mut self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<RawAnswer, ApiError> {
        let client = self.client();
        let answer = client.open(method, path, Bytes::from(body)).await;
        self.compare_versions(&client);
        answer
    }

    pub(crate) async fn whois(&mut self, proto: &str, addr: &str) -> Result<WhoIsResponse, Error> {
        let client = self.client();
        let answer = client.whois(proto, addr).await;
        self.compare_versions(&client);
        answer?.ok_or_else(|| "peer not found".into())
    }

    pub(crate) async fn ping(
        &mut self,
        ip: IpAddr,
        kind: &str,
        size: usize,
    ) -> Result<PingResult, ApiError> {
        self.client().ping(ip, kind, size).await
    }

    /// What one of the daemon's checks complains about; nothing where the daemon does not have it.
    pub(crate) async fn check(&mut self, name: &str) -> Option<String> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "Warning", default)]
            warning: String,
        }
        match self.get(name).await {
            Ok(body) => serde_json::from_str::<Answer>(&body)
                .ok()
                .map(|a| a.warning)
                .filter(|w| !w.is_empty()),
            Err(ClientError::Status {
                status: StatusCode::NOT_FOUND,
                ..
            }) => None,
            Err(error) => Some(error.to_string()),
        }
    }

    pub(crate) async fn watch(&mut self, mask: WatchMask) -> Result<Items<Notify>, ApiError> {
        Ok(self.client().watch(mask).await?.boxed_local())
    }

    /// The bus, as the daemon wrote it.
    pub(crate) async fn watch_text(&mut self, mask: WatchMask) -> Result<Items<Bytes>, ApiError> {
        let client = self.client();
        let lines = client.watch_text(mask).await;
        self.compare_versions(&client);
        Ok(lines?.boxed_local())
    }

    pub(crate) async fn tail_logs(&mut self) -> Result<Items<Bytes>, ApiError> {
        let client = self.client();
        let lines = client.log_tap().await;
        self.compare_versions(&client);
        Ok(lines?.boxed_local())
    }

    /// A TCP connection from the node to a peer, or from here where the daemon says that it is not the node's business.
    pub(crate) async fn dial_tcp(
        &mut self,
        host: &str,
        port: u16,
    ) -> Result<Box<dyn Duplex>, String> {
        match self
            .client()
            .dial("tcp", host, port)
            .await
            .map_err(|error| error.to_string())?
        {
            Dialed::Connected(stream) => Ok(stream),
            Dialed::DialSelf(address) => connect(address).await.map_err(|error| os_error(&error)),
        }
    }

    /// A client with more patience than usual where a daemon is seen that may be about to listen.
    fn client(&self) -> Client {
        let client = Client::new(&self.daemon.socket);
        let starting = !self.daemon.socket.exists() && find_daemon().is_some();
        if starting {
            client.patient(PATIENCE)
        } else {
            client
        }
    }

    /// Warns once when the daemon is another version.
    fn compare_versions(&mut self, client: &Client) {
        let Some(server) = client
            .server_version()
            .filter(|v| !v.is_empty() && *v != self.daemon.version)
        else {
            return;
        };
        if !std::mem::replace(&mut self.daemon.warned, true) {
            let (client, server) = (goflag::quote(&self.daemon.version), goflag::quote(server));
            self.err(format!(
                "Warning: client version {client} != tailscaled server version {server}\n"
            ));
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<Box<dyn Duplex>> {
    Ok(Box::new(TcpStream::connect(address).await?))
}

/// Explains a failed request: is there a daemon at all?
fn connect_hint(error: &ClientError) -> Error {
    match find_daemon() {
        Some(pid) => {
            let what = format!(
                "failed to connect to local tailscaled (which appears to be running as tailscaled, pid {pid}). Got error"
            );
            prefixed(&what, error)
        }
        None => {
            let hint = if has_systemctl() {
                " (sudo systemctl start tailscaled ?)"
            } else {
                ""
            };
            Error::Message(format!(
                "failed to connect to local tailscaled; it doesn't appear to be running{hint}"
            ))
        }
    }
}

/// The process id of a running daemon, where the system shows processes as files.
fn find_daemon() -> Option<u32> {
    let named = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.trim() == "tailscaled")
    };
    let entries = std::fs::read_dir("/proc").ok()?;
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(named)
}

fn has_systemctl() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    cfg!(target_os = "linux")
        && std::env::split_paths(&path).any(|dir| dir.join("systemctl").is_file())
}
