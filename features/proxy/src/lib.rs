//! The SOCKS5 and HTTP proxy listeners, also both on one port.
//!
//! Applications that cannot see the tailnet (userspace networking has no interface for them) reach it through these. Where
//! a name or address leads is the node's [`Dial`](node::Dial)'s affair; this crate knows the two protocols and nothing else.
//!
//! Whoever reaches a listener may use it: neither protocol asks for a password here, as with the originals.

#[doc(hidden)]
pub mod fuzzing;
mod http;
mod listen;
mod relay;
mod socks;

use std::sync::Arc;

use node::{Dial, Feature, FeatureHost, Registry};
use tokio::net::TcpListener;

pub use listen::Speaks;

/// Where to listen, each `[host]:port` or empty for not at all. The same address for both, unless it ends in `:0`, means
/// one port for both.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// For SOCKS5.
    pub socks5: String,
    /// For HTTP.
    pub http: String,
}

/// The proxies that `config` asks for.
pub fn feature(config: Config) -> Box<dyn Feature> {
    Box::new(Proxy(config))
}

struct Proxy(Config);

impl Feature for Proxy {
    fn name(&self) -> &'static str {
        "proxy"
    }

    fn register(self: Box<Self>, registry: &mut Registry) -> Result<(), String> {
        for (listener, speaks) in self.listeners()? {
            registry.task("proxy", move |host: FeatureHost| {
                serve(listener, speaks, host.dial)
            });
        }
        Ok(())
    }
}

impl Proxy {
    fn listeners(&self) -> Result<Vec<(TcpListener, Speaks)>, String> {
        let open = |what: &str, address: &str| {
            listen::bind(address)
                .map_err(|error| format!("{what}: cannot listen on `{address}`: {error}"))
        };
        if self.0.socks5 == self.0.http
            && !self.0.socks5.is_empty()
            && !self.0.socks5.ends_with(":0")
        {
            return Ok(vec![(
                open("proxy listener", &self.0.socks5)?,
                Speaks::Both,
            )]);
        }
        let mut listeners = Vec::new();
        if !self.0.socks5.is_empty() {
            let listener = open("SOCKS5 listener", &self.0.socks5)?;
            // Compat: the originals' test harness finds the port in this line.
            announce("SOCKS5 listening on", &self.0.socks5, &listener);
            listeners.push((listener, Speaks::Socks));
        }
        if !self.0.http.is_empty() {
            let listener = open("HTTP proxy listener", &self.0.http)?;
            announce("HTTP proxy listening on", &self.0.http, &listener);
            listeners.push((listener, Speaks::Http));
        }
        Ok(listeners)
    }
}

/// Tells the port that the system chose.
fn announce(what: &str, wanted: &str, listener: &TcpListener) {
    if wanted.ends_with(":0")
        && let Ok(bound) = listener.local_addr()
    {
        tracing::info!("{what} {bound}");
    }
}

/// Serves a listener for ever.
pub async fn serve(listener: TcpListener, speaks: Speaks, dial: Arc<dyn Dial>) {
    listen::run(listener, speaks, dial).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners(socks5: &str, http: &str) -> Result<Vec<Speaks>, String> {
        let config = Config {
            socks5: socks5.to_owned(),
            http: http.to_owned(),
        };
        let listeners = Proxy(config).listeners()?;
        Ok(listeners.into_iter().map(|(_, speaks)| speaks).collect())
    }

    #[tokio::test]
    async fn one_address_is_one_listener_unless_the_system_chooses_the_port() {
        use Speaks::{Both, Http, Socks};
        let free = listen::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let free = free.to_string();
        assert_eq!(listeners(&free, &free).unwrap(), [Both]);
        assert_eq!(
            listeners("localhost:0", "localhost:0").unwrap(),
            [Socks, Http]
        );
        assert_eq!(listeners(&free, "").unwrap(), [Socks]);
        assert_eq!(listeners("", ":0").unwrap(), [Http]);
        assert_eq!(listeners("", "").unwrap(), []);
    }

    #[tokio::test]
    async fn what_cannot_be_listened_on_is_an_error_that_says_so() {
        let taken = listen::bind("127.0.0.1:0").unwrap();
        let taken_text = taken.local_addr().unwrap().to_string();
        for bad in [
            taken_text.as_str(),
            "nonsense",
            "127.0.0.1",
            "127.0.0.1:99999",
        ] {
            let error = listeners(bad, "").unwrap_err();
            assert!(
                error.starts_with("SOCKS5 listener: ") && error.contains(bad),
                "{error}"
            );
        }
    }
}
