//! The messages of RFC 1928, as bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The first byte of every message.
pub(crate) const VERSION: u8 = 5;
pub(crate) const NO_AUTHENTICATION: [u8; 2] = [VERSION, 0];
pub(crate) const NO_ACCEPTABLE_METHOD: [u8; 2] = [VERSION, 0xff];
/// The longest request: a name of 255 bytes.
pub(crate) const MAX_REQUEST: usize = 4 + 1 + 255 + 2;

/// At least so many bytes are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Incomplete(pub(crate) usize);

/// Which methods of authentication a client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) offers_no_authentication: bool,
}

impl Greeting {
    /// `None` if it is of another version.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, Incomplete> {
        let [version, count, methods @ ..] = bytes else {
            return Err(Incomplete(2 - bytes.len()));
        };
        if *version != VERSION {
            return Ok(None);
        }
        let count = usize::from(*count);
        match methods.get(..count) {
            Some(methods) => Ok(Some(Self {
                offers_no_authentication: methods.contains(&0),
            })),
            None => Err(Incomplete(count - methods.len())),
        }
    }
}

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Connect,
    UdpAssociate,
    /// BIND, and whatever else there may be.
    Other,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) target: Target,
}

impl Request {
    /// `None` if the kind of address is unknown or the name is not text.
    ///
    /// Compat: the originals do not look at the version here, nor at the reserved byte.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, Incomplete> {
        let [_, command, _, rest @ ..] = bytes else {
            return Err(Incomplete(4 - bytes.len()));
        };
        let command = match command {
            1 => Command::Connect,
            3 => Command::UdpAssociate,
            _ => Command::Other,
        };
        let target = Target::parse(rest)?;
        Ok(target.map(|(target, _)| Self { command, target }))
    }
}

/// Where to go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    Ip(IpAddr),
    Name(String),
}

impl Target {
    /// Reads an address; the rest of the bytes follows it. `None` if there is no such kind.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Self, &[u8])>, Incomplete> {
        let [kind, rest @ ..] = bytes else {
            return Err(Incomplete(1));
        };
        let (skip, len) = match (kind, rest) {
            (1, _) => (0, 4),
            (4, _) => (0, 16),
            (3, [len, ..]) => (1, usize::from(*len)),
            (3, []) => return Err(Incomplete(1)),
            _ => return Ok(None),
        };
        let whole = skip + len + 2;
        let (Some(host), Some(port), Some(behind)) = (
            rest.get(skip..skip + len),
            rest.get(skip + len..whole),
            rest.get(whole..),
        ) else {
            return Err(Incomplete(whole - rest.len()));
        };
        let host = match (kind, host.as_chunks::<4>().0, <[u8; 16]>::try_from(host)) {
            (1, [v4], _) => Host::Ip(Ipv4Addr::from(*v4).into()),
            (4, _, Ok(v6)) => Host::Ip(Ipv6Addr::from(v6).into()),
            _ => match std::str::from_utf8(host) {
                Ok(name) => Host::Name(name.to_owned()),
                Err(_) => return Ok(None),
            },
        };
        let port = port
            .iter()
            .fold(0, |port, byte| port << 8 | u16::from(*byte));
        Ok(Some((Self { host, port }, behind)))
    }

    /// The host as text.
    pub(crate) fn host(&self) -> String {
        match &self.host {
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name.clone(),
        }
    }

    /// Appends the address.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match &self.host {
            Host::Ip(ip) => write_ip(*ip, out),
            Host::Name(name) => {
                let name = name.as_bytes();
                let name = name.get(..255).unwrap_or(name);
                out.extend_from_slice(&[3, name.len() as u8]);
                out.extend_from_slice(name);
            }
        }
        out.extend_from_slice(&self.port.to_be_bytes());
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name:?}:{}", self.port),
        }
    }
}

fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => {
            out.push(1);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
    }
}

const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Succeeded = 0,
    GeneralFailure = 1,
    CommandNotSupported = 7,
}

impl Reply {
    /// The message; without an address it carries `0.0.0.0:0`.
    pub(crate) fn bytes(self, bound: Option<SocketAddr>) -> Vec<u8> {
        let bound = bound.unwrap_or(NO_ADDRESS);
        let mut out = vec![VERSION, self as u8, 0];
        write_ip(bound.ip().to_canonical(), &mut out);
        out.extend_from_slice(&bound.port().to_be_bytes());
        out
    }
}

/// A datagram in its envelope (RFC 1928 7): where it goes, or where it came from. `None` if it is malformed.
///
/// Compat: the fragment number is ignored.
pub(crate) fn open_datagram(bytes: &[u8]) -> Option<(Target, &[u8])> {
    let [0, 0, _fragment, rest @ ..] = bytes else {
        return None;
    };
    Target::parse(rest).ok().flatten()
}

/// Puts a datagram from `from` into its envelope.
pub(crate) fn seal_datagram(from: &Target, datagram: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + datagram.len());
    out.extend_from_slice(&[0, 0, 0]);
    from.write(&mut out);
    out.extend_from_slice(datagram);
    out
}

#[cfg(test)]
mod tests;
