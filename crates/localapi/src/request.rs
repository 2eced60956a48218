//! Requests, read and checked.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use ipn::{MaskedPrefs, Options, Prefs, WatchMask};
use keys::NodePublic;
use serde::de::DeserializeOwned;
use tailcfg::go::GoTime;

use crate::ApiError;

/// What a local client wants. Rights have been checked, and so has all that can be checked without the daemon.
#[derive(Debug)]
pub enum Request {
    /// The whole status, with or without peers.
    Status {
        /// Whether with peers.
        peers: bool,
    },
    /// The prefs.
    Prefs,
    /// Change prefs; answer with the new ones.
    EditPrefs(Box<MaskedPrefs>),
    /// Change prefs, and undo that unless it is confirmed in time; answer with the new ones.
    TryPrefs {
        /// What to change.
        edit: Box<MaskedPrefs>,
        /// For how long it stays without being confirmed.
        within: Duration,
    },
    /// What was tried is to stay.
    ConfirmPrefs,
    /// Say what about the machine would be changed with such prefs, in a list of [`SystemDifference`](crate::SystemDifference).
    SystemDiff(Box<MaskedPrefs>),
    /// Say whether these prefs would do, in a [`CheckPrefsResponse`](ipn::CheckPrefsResponse).
    CheckPrefs(Box<Prefs>),
    /// Start anew.
    Start(Box<Options>),
    /// Log in with somebody at hand.
    LoginInteractive,
    /// Log out.
    Logout,
    /// Forget all logins and the machine's key.
    ResetAuth,
    /// Follow the bus.
    WatchBus(WatchMask),
    /// Who is behind an address.
    WhoIs {
        /// `tcp`, `udp` or empty.
        proto: String,
        /// The address.
        addr: WhoIsAddr,
    },
    /// Ping a peer.
    Ping {
        /// Its address.
        ip: IpAddr,
        /// `disco`, `TSMP`, `ICMP` or `peerapi`.
        kind: String,
        /// Padding of a disco ping.
        size: usize,
    },
    /// All logins.
    Profiles,
    /// The current login.
    CurrentProfile,
    /// One login.
    Profile(String),
    /// Turn to a new, empty login.
    NewProfile,
    /// Turn to another login.
    SwitchProfile(String),
    /// Forget a login.
    DeleteProfile(String),
    /// The relays.
    DerpMap,
    /// The tailnet's DNS settings.
    DnsConfig,
    /// What the machine's resolver is without us.
    DnsSystem,
    /// The exit node that would be best.
    SuggestExitNode,
    /// Ask our resolver.
    DnsQuery {
        /// For what.
        name: ::dns::Name,
        /// Of which kind.
        kind: ::dns::Kind,
    },
    /// Connect to somewhere in the tailnet.
    Dial(DialRequest),
    /// Follow the daemon's log.
    LogTap,
    /// Stop the daemon.
    Shutdown,
    /// Counters for people who mend the daemon.
    Metrics,
    /// Counters for people who watch it.
    UserMetrics,
    /// One peer.
    PeerById(i64),
    /// One user.
    UserProfile(i64),
    /// A marker in the log; the note goes with it.
    BugReport {
        /// What the user wants to say.
        note: String,
        /// Whether to look deeper.
        diagnose: bool,
    },
    /// Whether the machine forwards what it advertises.
    CheckIpForwarding,
    /// Whether the machine's UDP forwarding could be faster.
    CheckUdpGroForwarding,
    /// Whether the daemon's sockets keep out of the tailnet by themselves.
    CheckSoMarkInUse,
    /// Names that we can get certificates for.
    CertDomains,
    /// Let our key run out at this moment.
    SetExpirySooner(GoTime),
    /// Turn the exit node that was used last on, or the present one off.
    UseExitNode(bool),
    /// Log more of one part for a while.
    ComponentDebugLogging {
        /// Which part.
        component: String,
    },
    /// Do something for debugging.
    Debug {
        /// What.
        action: String,
        /// With what.
        body: Bytes,
    },
}

/// Whom to ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhoIsAddr {
    /// An address, perhaps with a port; 0 is no port.
    Addr(SocketAddr),
    /// A node key.
    Key(NodePublic),
}

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialRequest {
    /// `tcp` or `udp`.
    pub network: String,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// What a route's reader gets.
pub(crate) struct Parts<'a> {
    /// What follows the name of a route that ends with a slash, decoded.
    pub(crate) rest: String,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: Bytes,
}

impl Parts<'_> {
    /// The first value of a query parameter; empty if there is none.
    pub(crate) fn query(&self, name: &str) -> String {
        parameter(self.query, name).unwrap_or_default()
    }

    /// The first value of a parameter of the form in the body, else of the query; empty if there is none.
    pub(crate) fn form(&self, name: &str) -> String {
        let kind = self.header("content-type");
        let is_form = kind.split(';').next().map(str::trim) == Some(FORM);
        let body = std::str::from_utf8(&self.body).ok().filter(|_| is_form);
        body.and_then(|body| parameter(body, name))
            .unwrap_or_else(|| self.query(name))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The body's JSON. What follows the first document is not looked at, as the originals do not.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        let mut documents = serde_json::Deserializer::from_slice(&self.body).into_iter::<T>();
        match documents.next() {
            Some(Ok(value)) => Ok(value),
            // Its own words could repeat a key from the body.
            Some(Err(error)) => Err(ApiError::bad_request(format!(
                "invalid JSON body at line {} column {}",
                error.line(),
                error.column()
            ))),
            None => Err(ApiError::bad_request("EOF")),
        }
    }
}

/// What a form's body says that it is.
const FORM: &str = "application/x-www-form-urlencoded";

/// A parameter of a query or form, decoded.
pub fn parameter(text: &str, name: &str) -> Option<String> {
    text.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key, true)? == name).then(|| decode(value, true))?
    })
}

/// Undoes percent encoding; `None` if it is broken or gives no text.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

pub(crate) fn status(parts: &Parts<'_>) -> Result<Request, ApiError> {
    let peers = !matches!(
        parts.query("peers").as_str(),
        "0" | "f" | "F" | "false" | "FALSE" | "False"
    );
    Ok(Request::Status { peers })
}

pub(crate) fn try_prefs(parts: &Parts<'_>) -> Result<Request, ApiError> {
    let seconds = parts.query("seconds").parse();
    let seconds = seconds.map_err(|_| ApiError::bad_request("invalid seconds"))?;
    Ok(Request::TryPrefs {
        edit: Box::new(parts.json()?),
        within: Duration::from_secs(seconds),
    })
}

pub(crate) fn system_diff(parts: &Parts<'_>) -> Result<Request, ApiError> {
    let edit = match parts.body.is_empty() {
        true => MaskedPrefs::default(),
        false => parts.json()?,
    };
    Ok(Request::SystemDiff(Box::new(edit)))
}

pub(crate) fn check_prefs(parts: &Parts<'_>) -> Result<Request, ApiError> {
    parts
        .json()
        .map(|prefs| Request::CheckPrefs(Box::new(prefs)))
        .map_err(|_| ApiError::bad_request("invalid JSON body"))
}

pub(crate) fn watch(parts: &Parts<'_>) -> Result<Request, ApiError> {
    let text = parts.query("mask");
    let mask = match text.as_str() {
        "" => WatchMask::NONE,
        text => WatchMask(
            text.parse()
                .map_err(|_| ApiError::bad_request("bad mask"))?,
        ),
    };
    if mask.intersects(WatchMask::IN_PROCESS_NO_DISCONNECT) {
        return Err(ApiError::bad_request(
            "NotifyInProcessNoDisconnect is only valid for in-process IPN bus subscribers",
        ));
    }
    if mask.is_contradictory() {
        return Err(ApiError::bad_request(format!(
            "NotifyRateLimit is incompatible with new-style IPN bus subscription bits {}",
            mask.rate_limit_conflicts()
        )));
    }
    Ok(Request::WatchBus(mask))
}

pub(crate) fn whois(parts: &Parts<'_>) -> Result<Request, ApiError> {
    let text = parts.query("addr");
    let addr = if text.is_empty() {
        return Err(ApiError::bad_request("missing 'addr' parameter"));
    } else if text.starts_with(NodePublic::PREFIX) {
        WhoIsAddr::Key(
            text.parse()
                .map_err(|_| ApiError::bad_request("invalid nodekey in 'addr' parameter"))?,
        )
    } else if let Ok(ip) = text.parse::<IpAddr>() {
        WhoIsAddr::Addr(SocketAddr::new(ip, 0))
    } else {
        WhoIsAddr::Addr(
            text.parse()
                .map_err(|_| ApiError::bad_request("invalid 'addr' parameter"))?,
        )
    };
    Ok(Request::WhoIs {
        proto: parts.query("proto"),
        addr,
    })
}

/// The largest padded disco ping that the originals admit (`magicsock.MaxDiscoPingSize`): the largest WireGuard payload
/// without an IPv4 and a UDP header.
const MAX_PING_SIZE: usize = 65_535 - 32 - 8 - 20 - 8;

pub(crate) fn ping(parts: &Parts<'_>) -> Result<Request, ApiError> {
    let bad = |text: &str| Err(ApiError::bad_request(text));
    let ip = match parts.query("ip") {
        text if text.is_empty() => return bad("missing 'ip' parameter"),
        text => match text.parse() {
            Ok(ip) => ip,
            Err(_) => return bad("invalid IP"),
        },
    };
    let kind = parts.query("type");
    if kind.is_empty() {
        return bad("missing 'type' parameter");
    }
    let size = match parts.query("size") {
        text if text.is_empty() => 0,
        text => match text.parse() {
            Ok(size) => size,
            Err(_) => return bad("invalid 'size' parameter"),
        },
    };
    if size != 0 && kind != "disco" {
        return bad("'size' parameter is only supported with disco pings");
    }
    if size > MAX_PING_SIZE {
        return bad(&format!("maximum value for 'size' is {MAX_PING_SIZE}"));
    }
    Ok(Request::Ping { ip, kind, size })
}

pub(crate) fn dial(parts: &Parts<'_>) -> Result<Request, ApiError> {
    // Compat: the originals look for this spelling anywhere in the header.
    if !parts.header("Connection").contains("upgrade") || parts.header("Upgrade") != "ts-dial" {
        return Err(ApiError::bad_request("bad ts-dial upgrade"));
    }
    let (host, port) = (parts.header("Dial-Host"), parts.header("Dial-Port"));
    if host.is_empty() || port.is_empty() {
        return Err(ApiError::bad_request(
            "missing Dial-Host or Dial-Port header",
        ));
    }
    let Ok(port) = port.parse() else {
        return Err(ApiError::bad_gateway(format!(
            "resolve failure: `{port}` is no port"
        )));
    };
    let network = match parts.header("Dial-Network") {
        "" => "tcp",
        network => network,
    };
    Ok(Request::Dial(DialRequest {
        network: network.to_owned(),
        host: host.to_owned(),
        port,
    }))
}

pub(crate) fn set_expiry_sooner(parts: &Parts<'_>) -> Result<Request, ApiError> {
    match parts.form("expiry").as_str() {
        "" => Err(ApiError::bad_request(
            "missing 'expiry' parameter, a unix timestamp",
        )),
        text => text
            .parse()
            .map(|secs| Request::SetExpirySooner(GoTime::from_unix_secs(secs)))
            .map_err(|_| {
                ApiError::bad_request("can't parse expiry time, expects a unix timestamp")
            }),
    }
}

pub(crate) fn use_exit_node(parts: &Parts<'_>) -> Result<Request, ApiError> {
    match parts.query("enabled").as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Request::UseExitNode(true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Request::UseExitNode(false)),
        _ => Err(ApiError::bad_request("invalid 'enabled' parameter")),
    }
}

/// A whole message does not fit into a parameter, so that action is named in a header.
pub(crate) fn debug(parts: &Parts<'_>) -> Result<Request, ApiError> {
    let action = match parts.header("Debug-Action") {
        "notify" => "notify".to_owned(),
        _ => parts.form("action"),
    };
    Ok(Request::Debug {
        action,
        body: parts.body.clone(),
    })
}

pub(crate) fn dns_query(parts: &Parts<'_>) -> Result<Request, ApiError> {
    let kind = match parts.query("type").trim().to_ascii_uppercase() {
        none if none.is_empty() => ::dns::Kind::A,
        name => ::dns::Kind::named(&name)
            .ok_or_else(|| ApiError::bad_request(format!("unknown DNS message type: {name}")))?,
    };
    let name = parts.query("name");
    let name = name
        .parse()
        .map_err(|error| ApiError::failed(format!("`{name}`: {error}")))?;
    Ok(Request::DnsQuery { name, kind })
}

pub(crate) fn number(parts: &Parts<'_>, make: fn(i64) -> Request) -> Result<Request, ApiError> {
    parts
        .query("id")
        .parse()
        .map(make)
        .map_err(|_| ApiError::bad_request("invalid 'id' parameter"))
}
