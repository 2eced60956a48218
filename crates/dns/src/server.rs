//! Those who are asked, and in which order.
//!
//! Providers of public servers take questions by HTTPS too, which nobody on the way can read or change. Where one of their
//! addresses is named, that comes first, and the plain way follows if it does not answer at once (the originals'
//! `net/dns/publicdns` and `net/dns/resolver/forwarder.go`, whose table and times these are).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// The port of DNS.
pub const PORT: u16 = 53;
const HTTPS_PORT: u16 = 443;
/// The head start of HTTPS, and what a second address of a provider waits beyond it.
const HEAD_START: Duration = Duration::from_millis(500);
const BACKUP_AFTER: Duration = Duration::from_millis(200);

/// Somebody who answers questions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Server {
    /// By UDP and TCP.
    Plain(SocketAddr),
    /// By HTTP (RFC 8484).
    Http {
        /// What is asked.
        url: String,
        /// Where it is; one is enough.
        addresses: Vec<SocketAddr>,
    },
}

impl Server {
    /// The server that a tailnet's settings name: an address with or without a port, or the URL of a known provider.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Some(Self::Plain((ip, PORT).into()));
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Plain(address));
        }
        let ips = addresses_of(text);
        (!ips.is_empty()).then(|| Self::https(text.to_owned(), &ips))
    }

    /// A peer that asks others for us; within the tunnel nobody else hears it.
    #[must_use]
    pub fn peer(address: SocketAddr) -> Self {
        Self::Http {
            url: format!("http://{address}/dns-query"),
            addresses: vec![address],
        }
    }

    fn https(url: String, ips: &[IpAddr]) -> Self {
        let addresses = ips.iter().map(|ip| (*ip, HTTPS_PORT).into());
        Self::Http {
            url,
            addresses: addresses.collect(),
        }
    }

    /// Whether it can be asked by anybody who knows nothing but its address.
    #[must_use]
    pub fn plain_ip(&self) -> Option<IpAddr> {
        let Self::Plain(address) = self else {
            return None;
        };
        let ip = address.ip();
        (address.port() == PORT && !speaks_https_only(ip)).then_some(ip)
    }
}

/// As the tailnet's settings name it.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(address) if address.port() == PORT => address.ip().fmt(f),
            Self::Plain(address) => address.fmt(f),
            Self::Http { url, .. } => f.write_str(url),
        }
    }
}

/// A server, and how long after the question it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrant {
    /// Which.
    pub server: Server,
    /// When.
    pub after: Duration,
}

/// Who takes part in the race for one question: the servers, and before them what their providers offer by HTTPS.
#[must_use]
pub fn entrants(servers: &[Server]) -> Vec<Entrant> {
    let now = |server| Entrant {
        server,
        after: Duration::ZERO,
    };
    let mut providers: Vec<String> = Vec::new();
    let mut all = Vec::new();
    for server in servers {
        if let Some(url) = provider_of(server)
            && !providers.contains(&url)
        {
            let ips = addresses_of(&url);
            providers.push(url.clone());
            all.push(now(Server::https(url, &ips)));
        }
    }
    let mut asked: Vec<(String, bool)> = Vec::new();
    for server in servers {
        let (Some(url), Server::Plain(address)) = (provider_of(server), server) else {
            all.push(now(server.clone()));
            continue;
        };
        if speaks_https_only(address.ip()) {
            continue;
        }
        let family = (url, address.is_ipv6());
        let is_second = asked.contains(&family);
        asked.push(family);
        all.push(Entrant {
            server: server.clone(),
            after: HEAD_START
                + if is_second {
                    BACKUP_AFTER
                } else {
                    Duration::ZERO
                },
        });
    }
    all
}

fn provider_of(server: &Server) -> Option<String> {
    match server {
        Server::Plain(address) => provider(address.ip()),
        Server::Http { .. } => None,
    }
}

const NEXT_DNS: &str = "https://dns.nextdns.io/";
const CONTROL_D: &str = "https://dns.controld.com/";
const NEXT_DNS_V4: [[u8; 4]; 2] = [[45, 90, 28, 0], [45, 90, 30, 0]];
const NEXT_DNS_V6: [u16; 2] = [0xa8c0, 0xa8c1];
const WIKIMEDIA: [&str; 2] = ["185.71.138.138", "2001:67c:930::1"];

/// Providers: the URL, and the addresses of their plain servers, which speak HTTPS too.
const PROVIDERS: [(&str, [&str; 4]); 22] = [
    (
        "https://cloudflare-dns.com/dns-query",
        [
            "1.1.1.1",
            "1.0.0.1",
            "2606:4700:4700::1111",
            "2606:4700:4700::1001",
        ],
    ),
    (
        "https://security.cloudflare-dns.com/dns-query",
        [
            "1.1.1.2",
            "1.0.0.2",
            "2606:4700:4700::1112",
            "2606:4700:4700::1002",
        ],
    ),
    (
        "https://family.cloudflare-dns.com/dns-query",
        [
            "1.1.1.3",
            "1.0.0.3",
            "2606:4700:4700::1113",
            "2606:4700:4700::1003",
        ],
    ),
    (
        "https://dns.google/dns-query",
        [
            "8.8.8.8",
            "8.8.4.4",
            "2001:4860:4860::8888",
            "2001:4860:4860::8844",
        ],
    ),
    (
        "https://dns.quad9.net/dns-query",
        ["9.9.9.9", "149.112.112.112", "2620:fe::fe", "2620:fe::9"],
    ),
    (
        "https://dns11.quad9.net/dns-query",
        [
            "9.9.9.11",
            "149.112.112.11",
            "2620:fe::11",
            "2620:fe::fe:11",
        ],
    ),
    (
        "https://dns10.quad9.net/dns-query",
        [
            "9.9.9.10",
            "149.112.112.10",
            "2620:fe::10",
            "2620:fe::fe:10",
        ],
    ),
    (
        "https://dns.mullvad.net/dns-query",
        ["194.242.2.2", "2a07:e340::2", "", ""],
    ),
    (
        "https://adblock.dns.mullvad.net/dns-query",
        ["194.242.2.3", "2a07:e340::3", "", ""],
    ),
    (
        "https://base.dns.mullvad.net/dns-query",
        ["194.242.2.4", "2a07:e340::4", "", ""],
    ),
    (
        "https://extended.dns.mullvad.net/dns-query",
        ["194.242.2.5", "2a07:e340::5", "", ""],
    ),
    (
        "https://family.dns.mullvad.net/dns-query",
        ["194.242.2.6", "2a07:e340::6", "", ""],
    ),
    (
        "https://all.dns.mullvad.net/dns-query",
        ["194.242.2.9", "2a07:e340::9", "", ""],
    ),
    (
        "https://wikimedia-dns.org/dns-query",
        [WIKIMEDIA[0], WIKIMEDIA[1], "", ""],
    ),
    (
        "https://freedns.controld.com/p0",
        ["76.76.2.0", "76.76.10.0", "2606:1a40::", "2606:1a40:1::"],
    ),
    (
        "https://freedns.controld.com/p1",
        ["76.76.2.1", "76.76.10.1", "2606:1a40::1", "2606:1a40:1::1"],
    ),
    (
        "https://freedns.controld.com/p2",
        ["76.76.2.2", "76.76.10.2", "2606:1a40::2", "2606:1a40:1::2"],
    ),
    (
        "https://freedns.controld.com/p3",
        ["76.76.2.3", "76.76.10.3", "2606:1a40::3", "2606:1a40:1::3"],
    ),
    (
        "https://freedns.controld.com/family",
        ["76.76.2.4", "76.76.10.4", "2606:1a40::4", "2606:1a40:1::4"],
    ),
    (
        "https://private.canadianshield.cira.ca/dns-query",
        [
            "149.112.121.10",
            "149.112.122.10",
            "2620:10a:80bb::10",
            "2620:10a:80bc::10",
        ],
    ),
    (
        "https://protected.canadianshield.cira.ca/dns-query",
        [
            "149.112.121.20",
            "149.112.122.20",
            "2620:10a:80bb::20",
            "2620:10a:80bc::20",
        ],
    ),
    (
        "https://family.canadianshield.cira.ca/dns-query",
        [
            "149.112.121.30",
            "149.112.122.30",
            "2620:10a:80bb::30",
            "2620:10a:80bc::30",
        ],
    ),
];

/// Where the provider of a public server takes questions by HTTPS.
fn provider(ip: IpAddr) -> Option<String> {
    let text = ip.to_string();
    let known = PROVIDERS.iter().find(|(_, ips)| ips.contains(&&*text));
    if let Some((url, _)) = known {
        return Some((*url).to_owned());
    }
    // The lower twelve bytes of the address are the customer's profile.
    let v6 = next_dns_v6(ip)?;
    let profile = v6
        .octets()
        .into_iter()
        .skip(4)
        .skip_while(|byte| *byte == 0);
    let profile: String = profile.map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{NEXT_DNS}{profile}"))
}

fn next_dns_v6(ip: IpAddr) -> Option<Ipv6Addr> {
    let IpAddr::V6(v6) = ip else { return None };
    let [first, second, third, ..] = v6.segments();
    let is_it = first == 0x2a07 && NEXT_DNS_V6.contains(&second) && third < 0x8000;
    is_it.then_some(v6)
}

/// Whether questions in the plain way are of no use there.
fn speaks_https_only(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            NEXT_DNS_V4.contains(&[a, b, c, 0])
                || [[76, 76, 2, 22], [76, 76, 10, 22]].contains(&v4.octets())
                || v4.to_string() == WIKIMEDIA[0]
        }
        IpAddr::V6(v6) => next_dns_v6(ip).is_some() || v6.to_string() == WIKIMEDIA[1],
    }
}

/// Where a provider's URL is served; empty if it is nobody's.
fn addresses_of(url: &str) -> Vec<IpAddr> {
    if let Some((_, ips)) = PROVIDERS.iter().find(|(known, _)| *known == url) {
        return ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    }
    if let Some(path) = url.strip_prefix(NEXT_DNS) {
        let profile = path.split(['/', '?']).next().and_then(unhex);
        return profile
            .map(|profile| next_dns(&profile))
            .unwrap_or_default();
    }
    if url.starts_with(CONTROL_D) {
        let ips = [
            "76.76.2.22",
            "76.76.10.22",
            "2606:1a40::22",
            "2606:1a40:1::22",
        ];
        return ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    }
    Vec::new()
}

fn next_dns(profile: &[u8]) -> Vec<IpAddr> {
    let v4 = NEXT_DNS_V4.map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    let v6 = NEXT_DNS_V6.map(|second| {
        let mut octets = Ipv6Addr::new(0x2a07, second, 0, 0, 0, 0, 0, 0).octets();
        for (place, byte) in octets.iter_mut().rev().zip(profile.iter().rev()) {
            *place = *byte;
        }
        IpAddr::V6(octets.into())
    });
    v4.into_iter().chain(v6).collect()
}

/// One to twelve bytes.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() || pairs.is_empty() || pairs.len() > 12 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| Some((digit(*high)? << 4 | digit(*low)?) as u8);
    pairs.iter().map(byte).collect()
}
