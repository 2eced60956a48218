//! The control server's URL and what follows from it.

use std::net::IpAddr;

use http::Uri;

use crate::Error;

/// The server's base URL, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    /// As given, without trailing slashes.
    base: String,
    https: bool,
    host: String,
    explicit_port: Option<u16>,
    /// Host and port as written, for `Host` and `:authority`.
    authority: String,
}

/// Where the control protocol is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// TLS; `None` if it makes no sense to try.
    pub https: Option<u16>,
    /// Plain HTTP; `None` if the URL names no port for it, and then 80 is tried all the same.
    pub http: Option<u16>,
}

impl ServerUrl {
    /// Reads a URL.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |what: &str| Error::Url(format!("`{}`: {what}", text.escape_debug()));
        let base = text.trim_end_matches('/');
        let uri: Uri = base.parse().map_err(|_| bad("not a url"))?;
        let (https, host, _) = transport::client::target_of(base)
            .map_err(|_| bad("wants http or https, and a host"))?;
        let authority = uri.authority().ok_or_else(|| bad("no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("must not name a user"));
        }
        if uri.query().is_some() || base.contains('#') {
            return Err(bad("must not have a query"));
        }
        Ok(Self {
            base: base.to_owned(),
            https,
            host,
            explicit_port: authority.port_u16(),
            authority: authority.as_str().to_owned(),
        })
    }

    /// The host without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Host and port as written.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Where the server's key is fetched.
    pub fn key_url(&self) -> String {
        format!("{}/key?v={}", self.base, tailcfg::CAP)
    }

    /// The URL of a request inside Noise: always `https`, base path included.
    pub fn machine_url(&self, path: &str) -> String {
        let base = match self.base.split_once("://") {
            Some((_, rest)) => rest,
            None => &self.base,
        };
        format!("https://{base}{path}")
    }

    /// Where the control protocol is dialled.
    pub fn ports(&self) -> Ports {
        let private = self.host == "localhost"
            || self
                .host
                .parse::<IpAddr>()
                .is_ok_and(|address| match address.to_canonical() {
                    IpAddr::V4(v4) => v4.is_private() || v4.is_loopback(),
                    IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback(),
                });
        // No certificate can be had for a private name, so that TLS there is a waste of time.
        let https_beside_http = (!private).then_some(443);
        match (self.https, self.explicit_port) {
            (true, Some(port)) => Ports {
                https: Some(port),
                http: None,
            },
            (true, None) => Ports {
                https: Some(443),
                http: Some(80),
            },
            (false, port) => Ports {
                https: https_beside_http,
                http: port.or(Some(80)),
            },
        }
    }

    /// Whether a page that the server names may be shown to the user: `https`, or `http` where the server itself is.
    /// Tailscale's own server may name its own pages only.
    pub fn may_show(&self, url: &str) -> bool {
        let Ok((https, host, _)) = transport::client::target_of(url) else {
            return false;
        };
        if url.chars().any(char::is_control) {
            return false;
        }
        let official = |host: &str| host == "tailscale.com" || host.ends_with(".tailscale.com");
        (https || !self.https) && (!official(&self.host) || official(&host))
    }
}
