//! Where the probes are sent from.

use std::net::{IpAddr, SocketAddr};

use goflag::quote;

/// An address to bind, one for both families or only for its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bind {
    /// `None` is any address.
    pub(super) ip: Option<IpAddr>,
    /// 0 is any port.
    pub(super) port: u16,
}

/// What the flags and `TS_DEBUG_NETCHECK_UDP_BIND` ask for; the flags win.
pub(super) fn address(ip: Option<&str>, port: Option<i64>, env: &str) -> Result<Bind, String> {
    let bad_port = |port| format!("invalid bind port number: {port}");
    let given_port = port.map(|port| u16::try_from(port).map_err(|_| bad_port(port)));
    let given_port = given_port.transpose()?;
    if let Some(text) = ip {
        let ip = text
            .parse()
            .map_err(|_| format!("invalid bind address: {}", quote(text)))?;
        return Ok(Bind {
            ip: Some(ip),
            port: given_port.unwrap_or(0),
        });
    }
    match given_port {
        None if !env.is_empty() => {
            from_env(env).ok_or_else(|| format!("invalid bind address: {}", quote(env)))
        }
        port => Ok(Bind {
            ip: None,
            port: port.unwrap_or(0),
        }),
    }
}

/// `ip:port` or `:port`.
fn from_env(text: &str) -> Option<Bind> {
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse().ok()?;
        return Some(Bind { ip: None, port });
    }
    let address: SocketAddr = text.parse().ok()?;
    Some(Bind {
        ip: Some(address.ip()),
        port: address.port(),
    })
}
