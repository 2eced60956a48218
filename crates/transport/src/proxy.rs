//! Which HTTP proxy to use for which target. Pure; the environment is a value.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Whether the proxy itself is spoken to over TLS.
    pub tls: bool,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The value of `Proxy-Authorization`. A secret.
    pub authorization: Option<String>,
}

/// Shows no credentials.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// Shows no credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", join_host_port(&self.host, self.port))
    }
}

impl Proxy {
    /// Reads `http://user:password@host:port`, `https://…` or `host:port`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (tls, rest) = match text.split_once("://") {
            None => (false, text),
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) => {
                return Err(format!("proxies of scheme `{scheme}` are not supported"));
            }
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        let default_port = if tls { 443 } else { 80 };
        let (host, port) = split_host_port(address, default_port)
            .ok_or_else(|| format!("proxy address `{address}` is not host and port"))?;
        Ok(Self {
            tls,
            host,
            port,
            authorization: user
                .map(|user| format!("Basic {}", STANDARD.encode(percent_decode(user)))),
        })
    }
}

/// What `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyConfig {
    /// For `http` targets.
    pub http: Option<Proxy>,
    /// For `https` targets.
    pub https: Option<Proxy>,
    /// Targets that are reached directly.
    pub bypass: Vec<Bypass>,
    /// What could not be understood, for the log.
    pub problems: Vec<String>,
}

/// One entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bypass {
    /// `*`.
    All,
    /// A name and its subdomains (`only_below`: written with a leading dot), perhaps on one port.
    Domain {
        /// Without the leading dot, lower case.
        name: String,
        /// Whether the name itself is not meant.
        only_below: bool,
        /// The one port that is meant.
        port: Option<u16>,
    },
    /// Addresses under a prefix, perhaps on one port.
    Prefix {
        /// An address of the prefix.
        address: IpAddr,
        /// How many bits count.
        bits: u8,
        /// The one port that is meant.
        port: Option<u16>,
    },
}

impl ProxyConfig {
    /// Reads the environment; upper case names win.
    pub fn from_env(env: &BTreeMap<String, String>) -> Self {
        let get = |name: &str| {
            let value = env.get(name).filter(|value| !value.is_empty());
            value.or_else(|| env.get(&name.to_ascii_lowercase()))
        };
        let mut this = Self::default();
        for (name, https) in [("HTTP_PROXY", false), ("HTTPS_PROXY", true)] {
            let Some(text) = get(name).filter(|text| !text.is_empty()) else {
                continue;
            };
            let slot = if https {
                &mut this.https
            } else {
                &mut this.http
            };
            match Proxy::parse(text) {
                Ok(proxy) => *slot = Some(proxy),
                Err(error) => this.problems.push(format!("{name}: {error}")),
            }
        }
        if let Some(text) = get("NO_PROXY") {
            let entries = text
                .split(',')
                .map(str::trim)
                .filter(|entry| !entry.is_empty());
            this.bypass = entries.map(Bypass::parse).collect();
        }
        this
    }

    /// The proxy for `http` or `https` to this target, if it goes through one. Loopback never does.
    pub fn for_target(&self, https: bool, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = if https { &self.https } else { &self.http };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        let local = host == "localhost" || address.is_some_and(|a| a.to_canonical().is_loopback());
        let bypassed = local
            || self
                .bypass
                .iter()
                .any(|entry| entry.matches(&host, address, port));
        proxy.as_ref().filter(|_| !bypassed)
    }
}

impl Bypass {
    fn parse(entry: &str) -> Self {
        if entry == "*" {
            return Self::All;
        }
        if let Some((address, bits)) = entry.split_once('/')
            && let Ok(address) = address.parse::<IpAddr>()
            && let Ok(bits) = bits.parse::<u8>()
        {
            return Self::Prefix {
                address,
                bits,
                port: None,
            };
        }
        let (host, port) = match entry.parse::<IpAddr>() {
            Ok(_) => (entry.to_owned(), None),
            Err(_) => match split_host_port(entry, 0) {
                Some((host, 0)) => (host, None),
                Some((host, port)) => (host, Some(port)),
                None => (entry.to_owned(), None),
            },
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            return Self::Prefix {
                address,
                bits: 128,
                port,
            };
        }
        let host = host.trim_start_matches('*').to_ascii_lowercase();
        Self::Domain {
            name: host.trim_start_matches('.').to_owned(),
            only_below: host.starts_with('.'),
            port,
        }
    }

    fn matches(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Domain {
                name,
                only_below,
                port: only,
            } => {
                let below = host.strip_suffix(name.as_str());
                let below = match below {
                    Some("") => !only_below,
                    Some(rest) => rest.ends_with('.'),
                    None => false,
                };
                below && only.is_none_or(|only| only == port)
            }
            Self::Prefix {
                address: net,
                bits,
                port: only,
            } => {
                address.is_some_and(|a| in_prefix(a.to_canonical(), *net, *bits))
                    && only.is_none_or(|only| only == port)
            }
        }
    }
}

fn in_prefix(address: IpAddr, net: IpAddr, bits: u8) -> bool {
    let (a, n, width): (u128, u128, u32) = match (address, net) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (a.to_bits().into(), n.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    let dropped = width.saturating_sub(bits.into());
    a.checked_shr(dropped).unwrap_or(0) == n.checked_shr(dropped).unwrap_or(0)
}

/// `host:port`, `[v6]:port`, `host` or a bare address.
pub(crate) fn split_host_port(text: &str, default_port: u16) -> Option<(String, u16)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().ok()?,
            None if rest.is_empty() => default_port,
            None => return None,
        };
        return Some((host.to_owned(), port));
    }
    if text.is_empty() {
        return None;
    }
    match text.split_once(':') {
        None => Some((text.to_owned(), default_port)),
        Some((_, rest)) if rest.contains(':') => {
            text.parse::<IpAddr>().ok()?;
            Some((text.to_owned(), default_port))
        }
        Some((host, port)) if !host.is_empty() => Some((host.to_owned(), port.parse().ok()?)),
        Some(_) => None,
    }
}

/// `host:port`, with brackets around a v6 address.
pub(crate) fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Undoes percent encoding; what is none stays.
pub fn percent_decode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%'
            && let Some((&[high, low], after)) = tail.split_first_chunk::<2>()
            && let Some(value) = hex_pair(high, low)
        {
            out.push(value);
            rest = after;
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    out
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}
