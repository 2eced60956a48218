//! The command line. All flags of the original are known; those whose parts do not exist here say so when they are used.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use derpserver::HomePage;
use goflag::{FlagSet, GoDuration, ParseEnd, Parsed};

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) dev: bool,
    pub(crate) version: bool,
    /// `host:port` of the main listener.
    pub(crate) addr: String,
    /// `None` disables the plain HTTP listener.
    pub(crate) http_port: Option<i64>,
    /// `None` disables STUN.
    pub(crate) stun_port: Option<i64>,
    pub(crate) derp: bool,
    pub(crate) key_file: String,
    pub(crate) cert_mode: String,
    pub(crate) cert_dir: PathBuf,
    pub(crate) hostname: String,
    pub(crate) home: String,
    pub(crate) verify_clients: bool,
    pub(crate) socket: String,
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) tcp_keepalive: Duration,
    pub(crate) tcp_user_timeout: Duration,
    /// Flags that ask for something that is not built.
    pub(crate) not_built: Vec<String>,
}

/// Texts and numbers that ask for parts that do not exist; given with any value, they are refused.
const NOT_BUILT: [(&str, &str); 10] = [
    ("mesh-with", "relays to form a region with"),
    (
        "mesh-psk-file",
        "path of the key that the relays of a region share",
    ),
    ("secrets-url", "server to fetch the region's key from"),
    (
        "verify-client-url",
        "URL to ask whether a client may connect",
    ),
    (
        "bootstrap-dns-names",
        "host names to publish at /bootstrap-dns",
    ),
    (
        "unpublished-bootstrap-dns-names",
        "host names to answer at /bootstrap-dns without listing them",
    ),
    ("rate-config", "path of a JSON file with rate limits"),
    ("acme-eab-kid", "key ID for ACME external account binding"),
    ("acme-eab-key", "key for ACME external account binding"),
    ("acme-email", "contact address for ACME"),
];

const SECOND: Duration = Duration::from_secs(1);

fn flag_set(program: &str) -> FlagSet {
    let duration = GoDuration::from_std;
    let mut set = FlagSet::new(program)
        .bool("dev", false, "run on localhost for development: a fresh key, plain HTTP on :3340 whatever -a says")
        .bool("version", false, "print the version and exit")
        .string("a", ":443", "address to listen on, as \":port\", \"ip:port\" or \"[ip]:port\"; without an IP, on all interfaces. It speaks HTTPS if the port is 443 or -certmode is manual, else HTTP")
        .int("http-port", 80, "port for plain HTTP beside HTTPS, on the IP of -a; -1 for none")
        .int("stun-port", 3478, "UDP port for STUN, on the IP of -a")
        .bool("stun", true, "answer STUN")
        .bool("derp", true, "relay packets")
        .string("c", "", "path of the file with the relay's private key; created if it is missing")
        .string("certmode", "letsencrypt", "where the certificate comes from: manual (files in -certdir, or self-signed for an IP address); letsencrypt and gcp are not built")
        .string("certdir", default_cert_dir(), "directory of <hostname>.crt and <hostname>.key")
        .string("hostname", "derp.tailscale.com", "host name or IP address of the relay, for its certificate")
        .string("home", "", "what to serve at /: empty for a short page, \"blank\", or a URL to redirect to")
        .bool("verify-clients", false, "relay only for nodes that the tailscaled on this machine knows")
        .string("socket", "", "path of that tailscaled's socket, if it is not the usual one")
        .duration("tcp-keepalive-time", duration(600 * SECOND), "when idle TCP connections are probed")
        .duration("tcp-user-timeout", duration(15 * SECOND), "when TCP gives up on data that nobody acknowledges")
        .duration("tcp-write-timeout", duration(2 * SECOND), "when a client is dropped that does not read; 0 for never")
        .bool("verify-client-url-fail-open", true, "whether clients may connect when -verify-client-url does not answer")
        .string("secrets-path-prefix", "prod/derp", "where the region's key is at -secrets-url")
        .string("secrets-cache-dir", "", "directory to keep secrets in")
        .float("accept-connection-limit", f64::INFINITY, "connections to accept per second (limits are not built)")
        .int("accept-connection-burst", i64::MAX, "connections to accept at once (limits are not built)")
        .bool("acme-ip-certs", false, "certificates for IP addresses by ACME (not built)")
        .bool("ace", false, "proxy CONNECT requests to control servers (not built)");
    for (name, usage) in NOT_BUILT {
        set = set.string(name, "", format!("{usage} (not built)"));
    }
    set
}

/// Reads the command line; `args` without the program's name.
pub(crate) fn parse(program: &str, args: Vec<String>) -> Result<Flags, ParseEnd> {
    let parsed = flag_set(program).parse(args)?;
    let dev = parsed.bool("dev");
    let text = |name| parsed.string(name).to_owned();
    let time = |name| parsed.duration(name).to_std();
    let http_port = parsed.int("http-port");
    Ok(Flags {
        dev,
        version: parsed.bool("version"),
        addr: if dev { ":3340".to_owned() } else { text("a") },
        http_port: (http_port > -1).then_some(http_port),
        stun_port: parsed.bool("stun").then(|| parsed.int("stun-port")),
        derp: parsed.bool("derp"),
        key_file: text("c"),
        cert_mode: text("certmode"),
        cert_dir: text("certdir").into(),
        hostname: text("hostname"),
        home: text("home"),
        verify_clients: parsed.bool("verify-clients"),
        socket: text("socket"),
        write_timeout: Some(time("tcp-write-timeout")).filter(|limit| !limit.is_zero()),
        tcp_keepalive: time("tcp-keepalive-time"),
        tcp_user_timeout: time("tcp-user-timeout"),
        not_built: not_built(&parsed),
    })
}

fn not_built(parsed: &Parsed) -> Vec<String> {
    let texts = NOT_BUILT.iter().map(|(name, _)| *name);
    let texts = texts.filter(|name| !parsed.string(name).is_empty());
    let switches = ["ace", "acme-ip-certs"];
    let switches = switches.into_iter().filter(|name| parsed.bool(name));
    let limits = ["accept-connection-limit", "accept-connection-burst"];
    let limits = limits.into_iter().filter(|name| parsed.given(name));
    texts
        .chain(switches)
        .chain(limits)
        .map(|name| format!("-{name}"))
        .collect()
}

impl Flags {
    /// Host (empty for all interfaces) and port of the main listener.
    pub(crate) fn listen(&self) -> anyhow::Result<(&str, u16)> {
        let bad = || anyhow::anyhow!("invalid server address: {:?}", self.addr);
        let (host, port) = self.addr.rsplit_once(':').ok_or_else(bad)?;
        let port = if port.is_empty() {
            0
        } else {
            port.parse().map_err(|_| bad())?
        };
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(bad)?,
            None if host.contains(':') => return Err(bad()),
            None => host,
        };
        Ok((host, port))
    }

    /// Whether the main listener speaks TLS.
    pub(crate) fn tls(&self) -> bool {
        self.addr.ends_with(":443") || self.addr.ends_with(":https") || self.cert_mode == "manual"
    }

    /// The host name as an address, which needs no certificate of an authority.
    pub(crate) fn host_ip(&self) -> Option<IpAddr> {
        self.hostname.parse().ok()
    }

    pub(crate) fn home_page(&self) -> anyhow::Result<HomePage> {
        HomePage::parse(&self.home)
            .ok_or_else(|| anyhow::anyhow!("unknown --home value {:?}", self.home))
    }
}

fn default_cert_dir() -> String {
    let env = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    match env("XDG_CACHE_HOME").or_else(|| Some(env("HOME")? + "/.cache")) {
        Some(cache) => cache + "/tailscale/derper-certs",
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Flags {
        parse(
            "derper",
            line.split_whitespace().map(str::to_owned).collect(),
        )
        .unwrap()
    }

    #[test]
    fn addresses() {
        let listen = |line: &str| {
            let flags = flags(line);
            flags
                .listen()
                .map(|(host, port)| (host.to_owned(), port))
                .ok()
        };
        assert_eq!(listen(""), Some((String::new(), 443)));
        assert_eq!(listen("-a 127.0.0.1:0"), Some(("127.0.0.1".to_owned(), 0)));
        assert_eq!(listen("--a=[::1]:3340"), Some(("::1".to_owned(), 3340)));
        assert_eq!(listen("-dev -a nonsense"), Some((String::new(), 3340)));
        for bad in ["-a x", "-a ::1:1", "-a [::1:1", "-a :99999"] {
            assert_eq!(listen(bad), None, "{bad}");
        }
    }

    #[test]
    fn tls_by_port_or_mode() {
        assert!(flags("").tls());
        assert!(!flags("-a :3340").tls());
        assert!(flags("-a :3340 -certmode manual").tls());
        assert!(!flags("-dev").tls());
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(
            flags("-verify-client-url-fail-open=false")
                .not_built
                .is_empty()
        );
        assert_eq!(
            flags("-mesh-with a,b -ace -accept-connection-limit 5").not_built,
            ["-mesh-with", "-ace", "-accept-connection-limit"]
        );
    }

    #[test]
    fn mistakes_are_gos() {
        let end = parse("derper", vec!["-nope".to_owned()]).unwrap_err();
        assert_eq!(end.exit_code(), 2);
        assert!(
            end.to_string()
                .starts_with("flag provided but not defined: -nope\nUsage of derper:\n")
        );
        assert_eq!(
            parse("derper", vec!["-h".to_owned()])
                .unwrap_err()
                .exit_code(),
            0
        );
    }

    #[test]
    fn switches() {
        let off = flags("-http-port=-1 -stun=false -derp=false -tcp-write-timeout 0");
        assert_eq!(
            (off.http_port, off.stun_port, off.derp, off.write_timeout),
            (None, None, false, None)
        );
        let on = flags("");
        assert_eq!(
            (on.http_port, on.stun_port, on.derp),
            (Some(80), Some(3478), true)
        );
        assert_eq!(on.write_timeout, Some(Duration::from_secs(2)));
        assert!(flags("-home nope").home_page().is_err());
    }
}
