//! The HTTP API that peers reach through the tunnel (PeerAPI, the originals' `ipn/ipnlocal/peerapi.go`).
//!
//! The packet filter lets everybody of the tailnet open connections to it, so each path has rules of its own here. Browsers are kept out:
//! a page from elsewhere could have them ask with a peer's rights.

mod dns;
mod port;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backend::{Event, Snapshot};
use dataplane::{Incoming, IncomingTcp};
use filter::{Filter, Flows, LocalSet, Rules};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming as Body;
use ipn::State;
use metrics::UserMetrics;
use netmap::{NetMap, Peer};
use packet::Proto;
use rt::Task;
use tailcfg::{FilterRule, cap};
use tokio::sync::watch;
use transport::Stream;
use transport::server::{self, Limits, escape, full, serve_either, text};

use crate::brain::BrainHandle;
use crate::magic_dns::MagicDns;

/// Connections at once, of all and of one peer.
const MAX_CONNECTIONS: usize = 256;
const MAX_OF_ONE: usize = 32;
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(5);

type Answer = Response<server::Body>;

/// See the module.
pub(crate) struct PeerApi {
    brain: BrainHandle,
    magic_dns: Arc<MagicDns>,
    metrics: Arc<UserMetrics>,
    seats: Mutex<BTreeMap<IpAddr, usize>>,
    /// The rules as they were parsed last.
    rules: Mutex<Option<ParsedRules>>,
    /// Whether there is nothing to serve: connections end.
    closed: watch::Sender<bool>,
}

/// Rules as they came, and as they are looked up.
type ParsedRules = (Arc<[FilterRule]>, Arc<Filter>);

/// Who asks, and what is known then.
struct Asker {
    ip: IpAddr,
    peer: Arc<Peer>,
    map: Arc<NetMap>,
    snapshot: Arc<Snapshot>,
}

impl Asker {
    /// Whether it is another node of our own user.
    fn is_self(&self) -> bool {
        self.map.self_node.user == self.peer.user
    }

    fn may_debug(&self) -> bool {
        let is_granted = || {
            let granted = backend::status::whois(&self.snapshot, self.ip);
            let caps = granted.and_then(|granted| granted.cap_map);
            caps.is_some_and(|caps| caps.contains_key(cap::DEBUG_PEER))
        };
        self.map.self_node.has_cap(cap::DEBUG)
            && !self.peer.unsigned_peer_api_only
            && (self.is_self() || is_granted())
    }
}

impl PeerApi {
    pub(crate) fn new(
        brain: BrainHandle,
        magic_dns: Arc<MagicDns>,
        metrics: Arc<UserMetrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            brain,
            magic_dns,
            metrics,
            seats: Mutex::default(),
            rules: Mutex::default(),
            closed: watch::Sender::new(true),
        })
    }

    /// Finds ports for our addresses as they come and go, until the brain ends.
    pub(crate) async fn keep_ports(self: Arc<Self>) {
        let mut snapshots = self.brain.follow();
        let mut known = Vec::new();
        loop {
            let own = addresses(&snapshots.borrow_and_update());
            if own != known {
                let port = |v6: bool| {
                    let ip = own.iter().find(|ip| ip.is_ipv6() == v6);
                    ip.map_or(0, |ip| port::port_of(*ip, |port| port::is_free(v6, port)))
                };
                let (port_v4, port_v6) = (port(false), port(true));
                self.closed.send_replace(own.is_empty());
                self.brain.report(Event::PeerApi { port_v4, port_v6 }).await;
                known = own;
            }
            if snapshots.changed().await.is_err() {
                return;
            }
        }
    }

    /// Serves a flow if it is for us; else gives it back.
    pub(crate) fn take(self: &Arc<Self>, flow: Incoming) -> Option<Incoming> {
        let is_ours = |local: SocketAddr| {
            let snapshot = self.brain.snapshot();
            let (v4, v6) = snapshot.peerapi_ports;
            let port = if local.is_ipv4() { v4 } else { v6 };
            port != 0 && port == local.port() && addresses(&snapshot).contains(&local.ip())
        };
        match flow {
            Incoming::Tcp(caller) if is_ours(caller.local) => {
                Task::spawn("peer api", Arc::clone(self).serve(caller)).detach();
                None
            }
            other => Some(other),
        }
    }

    async fn serve(self: Arc<Self>, caller: IncomingTcp) {
        let (local, remote) = (caller.local, caller.remote);
        if self.asker(remote.ip()).is_none() {
            tracing::debug!("peerapi: nobody of the tailnet is at {remote}");
            return caller.refuse();
        }
        let Some(_seat) = Seat::take(&self, remote.ip()) else {
            tracing::debug!("peerapi: too many connections to take one of {remote}");
            return caller.refuse();
        };
        let Ok(stream) = caller.accept().await else {
            return;
        };
        let peer = server::Peer {
            address: Some(remote),
            local: Some(local),
            credentials: None,
        };
        let handler = |_, request| Arc::clone(&self).answer(remote.ip(), request);
        let stopped = self.closed.subscribe();
        let limits = Limits::default();
        // Compat: the originals take both versions here, and ask for names in either.
        serve_either(Stream::new(stream), peer, &limits, stopped, &handler).await;
    }

    fn asker(&self, ip: IpAddr) -> Option<Asker> {
        let snapshot = self.brain.snapshot();
        let map = Arc::clone(snapshot.netmap.as_ref()?);
        let peer = Arc::clone(map.by_ip(ip).filter(|peer| !peer.expired)?);
        Some(Asker {
            ip,
            peer,
            map,
            snapshot,
        })
    }

    async fn answer(self: Arc<Self>, ip: IpAddr, request: Request<Body>) -> Answer {
        let is_browser = looks_like_a_browser(&request);
        let Some(asker) = self.asker(ip).filter(|asker| is_valid(&request, asker)) else {
            tracing::debug!("peerapi: a request of {ip} that is not for us");
            return refusal(StatusCode::FORBIDDEN, "invalid peerapi request");
        };
        let answered = tokio::time::timeout(PATIENCE, self.route(&asker, request)).await;
        let mut answer = answered
            .unwrap_or_else(|_| refusal(StatusCode::INTERNAL_SERVER_ERROR, "it took too long"));
        if is_browser {
            let headers = answer.headers_mut();
            for (name, value) in SECURITY {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        answer
    }

    async fn route(&self, asker: &Asker, request: Request<Body>) -> Answer {
        let path = request.uri().path();
        if path.starts_with("/dns-query") {
            return match self.may_ask_names(asker) {
                true => dns::answer(&self.magic_dns, request).await,
                false => refusal(StatusCode::FORBIDDEN, "DNS access denied"),
            };
        }
        match path {
            "/" => greeting(asker),
            "/v0/metrics" if asker.may_debug() => {
                text(StatusCode::OK, self.metrics.to_prometheus())
            }
            debug if DEBUG_PATHS.contains(&debug) => match asker.may_debug() {
                true => refusal(StatusCode::NOT_IMPLEMENTED, &format!("not built: {debug}")),
                false => refusal(StatusCode::FORBIDDEN, "denied; no debug access"),
            },
            _ => refusal(StatusCode::NOT_FOUND, "unsupported peerapi path"),
        }
    }

    /// Names are for our own user, and for those who may use us as their way to the Internet.
    fn may_ask_names(&self, asker: &Asker) -> bool {
        if asker.is_self() {
            return true;
        }
        if !asker.snapshot.prefs.advertises_exit_node() {
            return false;
        }
        let everywhere = internet(asker.ip);
        let caps = |ip: IpAddr, cap: &str| {
            let peer = asker.map.by_ip(ip);
            peer.is_some_and(|peer| peer.has_cap(cap))
        };
        let filter = self.filter(&asker.map.filter_rules);
        let verdict = filter.check(Proto::TCP, asker.ip, (everywhere, 53).into(), &caps);
        !verdict.is_drop()
    }

    /// What the rules say of the Internet; they are parsed once.
    fn filter(&self, rules: &Arc<[FilterRule]>) -> Arc<Filter> {
        let mut cached = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, filter)) = &*cached
            && Arc::ptr_eq(of, rules)
        {
            return Arc::clone(filter);
        }
        let (parsed, _) = Rules::parse(rules);
        let nets = [false, true].map(|v6| internet_of(v6).into());
        let filter = Arc::new(Filter::new(
            parsed,
            LocalSet::new(nets),
            Arc::new(Flows::new()),
        ));
        *cached = Some((Arc::clone(rules), Arc::clone(&filter)));
        filter
    }
}

/// An address that stands for the Internet in the tailnet's rules (the originals').
fn internet_of(v6: bool) -> IpAddr {
    match v6 {
        false => std::net::Ipv4Addr::UNSPECIFIED.into(),
        true => std::net::Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0).into(),
    }
}

fn internet(like: IpAddr) -> IpAddr {
    internet_of(like.is_ipv6())
}

/// Our addresses, where peers can reach us.
fn addresses(snapshot: &Snapshot) -> Vec<IpAddr> {
    let is_on = matches!(snapshot.state, State::Running | State::Starting);
    let map = snapshot.netmap.as_ref().filter(|_| is_on);
    map.map(|map| map.self_node.ips().collect())
        .unwrap_or_default()
}

/// A place among the connections, for as long as it lives.
struct Seat {
    api: Arc<PeerApi>,
    ip: IpAddr,
}

impl Seat {
    fn take(api: &Arc<PeerApi>, ip: IpAddr) -> Option<Self> {
        let mut seats = api.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = seats.values().sum();
        let of_one = seats.get(&ip).copied().unwrap_or_default();
        if all >= MAX_CONNECTIONS || of_one >= MAX_OF_ONE {
            return None;
        }
        seats.insert(ip, of_one + 1);
        Some(Self {
            api: Arc::clone(api),
            ip,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self
            .api
            .seats
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match seats.get_mut(&self.ip) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                seats.remove(&self.ip);
            }
        }
    }
}

/// Paths for those who look for faults.
const DEBUG_PATHS: [&str; 7] = [
    "/v0/goroutines",
    "/v0/env",
    "/v0/metrics",
    "/v0/magicsock",
    "/v0/dnsfwd",
    "/v0/interfaces",
    "/v0/sockstats",
];

const SECURITY: [(header::HeaderName, &str); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'; script-src 'none'; script-src-elem 'none'; \
         script-src-attr 'none'; style-src 'unsafe-inline'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

fn refusal(status: StatusCode, why: &str) -> Answer {
    text(status, format!("{why}\n"))
}

/// Compat: the originals are sparing with headers, and have these only for browsers.
fn looks_like_a_browser<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let value = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let agent = value(header::USER_AGENT).unwrap_or_default();
    let encodings = value(header::ACCEPT_ENCODING).unwrap_or_default();
    encodings
        .split(',')
        .any(|one| one.trim().starts_with("deflate"))
        || agent.starts_with("Mozilla/")
        || agent.matches(' ').count() > 2
        || headers.contains_key(header::ACCEPT_LANGUAGE)
}

/// Whether a request was meant for us, and by the peer itself: no page of another site has its browser send it, and no name that somebody
/// else can point at us was asked for (TS-2022-005).
fn is_valid<B>(request: &Request<B>, asker: &Asker) -> bool {
    let headers = request.headers();
    let is_empty = |name| headers.get(name).is_none_or(HeaderValue::is_empty);
    if !is_empty(header::REFERER) || !is_empty(header::ORIGIN) {
        return false;
    }
    let in_uri = request.uri().authority().map(http::uri::Authority::as_str);
    let in_head = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = in_uri.or(in_head).unwrap_or_default();
    let is_known = |ip| known_as(asker, ip);
    host == "peer"
        || host
            .parse()
            .is_ok_and(|host: SocketAddr| is_known(host.ip()))
}

/// Whether the asker knows us by this address.
fn known_as(asker: &Asker, ip: IpAddr) -> bool {
    let masquerade = asker.peer.rare.as_ref();
    let masks = masquerade.map(|rare| [rare.masquerade_v4, rare.masquerade_v6]);
    match masks.filter(|masks| masks.iter().any(Option::is_some)) {
        Some(masks) => masks.contains(&Some(ip)),
        None => asker.map.self_node.ips().any(|own| own == ip),
    }
}

fn greeting(asker: &Asker) -> Answer {
    let user = asker.map.users.get(&asker.peer.user);
    let who = user
        .map(|user| user.display_name.clone())
        .unwrap_or_default();
    let (device, _) = asker.peer.display_names(asker.map.suffix());
    let owner = match asker.is_self() {
        true => "<p>This node is yours.</p>\n",
        false => "",
    };
    let page = format!(
        "<!DOCTYPE html>\n<html>\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Tailscale node</title>\n<h1>Hello, {} ({})</h1>\n<p>This is a Tailscale node. You come from {}.</p>\n{owner}</html>\n",
        escape(&who),
        asker.ip,
        escape(&device),
    );
    let mut answer = Response::new(full(page));
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, html);
    answer
}

#[cfg(test)]
mod tests;
