//! MagicDNS on its two addresses: what the host asks is answered from the network map, or by the servers that the tailnet names.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use backend::Snapshot;
use dataplane::{Incoming, IncomingTcp, IncomingUdp};
use dns::{
    Attempt, Kind, Lookup, Name, Names, Query, Race, Rcode, Response, Server, Transport, Zones,
    entrants,
};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use host::BoxFuture;
use netmap::NetMap;
use packet::addr::is_service_ip;
use rand_core::Rng as _;
use rt::{OsRng, Task};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{Semaphore, mpsc};

use crate::Dial;
use crate::brain::BrainHandle;
use crate::http_dns::HttpServers;
use crate::userdial::UserDial;

const PORT: u16 = 53;
/// Questions that others are asked at once. More get no answer, and are asked again.
const MAX_ASKED: usize = 256;
/// The longest question, and how long a connection may be quiet (the original's limits).
const MAX_QUERY: usize = 4096;
const TCP_IDLE: Duration = Duration::from_secs(45);
/// Answers that may wait for a connection.
const TCP_ANSWERS: usize = 16;
/// How long a flow waits for one more question (the original's figure): resolvers ask for both kinds of addresses by one socket. Who asks
/// later begins a new flow.
const UDP_IDLE: Duration = Duration::from_millis(150);
/// Longer than any datagram.
const BUFFER_LEN: usize = 65_535;

/// See the module.
pub(crate) struct MagicDns {
    brain: BrainHandle,
    dial: UserDial,
    zones: Mutex<CachedZones>,
    asked: Semaphore,
    http: HttpServers,
}

/// What the last network map and settings said.
#[derive(Default)]
struct CachedZones {
    of: Option<(Weak<NetMap>, Weak<ipn::Prefs>, Weak<host::SystemDns>)>,
    zones: Arc<Zones>,
}

impl MagicDns {
    pub(crate) fn new(brain: BrainHandle, dial: UserDial) -> Arc<Self> {
        let own = Arc::clone(&dial.magic_dns);
        let magic_dns = Arc::new(Self {
            brain,
            dial,
            zones: Mutex::default(),
            asked: Semaphore::new(MAX_ASKED),
            http: HttpServers::default(),
        });
        // There is one in each node.
        let _ = own.set(Arc::downgrade(&magic_dns));
        magic_dns
    }

    /// Serves a flow if it is for us; else gives it back.
    pub(crate) fn take(self: &Arc<Self>, flow: Incoming) -> Option<Incoming> {
        let is_ours = |local: SocketAddr| is_service_ip(local.ip()) && local.port() == PORT;
        match flow {
            Incoming::Udp(caller) if is_ours(caller.local) => {
                Task::spawn("dns by udp", Arc::clone(self).udp(caller)).detach();
            }
            Incoming::Tcp(caller) if is_ours(caller.local) => {
                Task::spawn("dns by tcp", Arc::clone(self).tcp(caller)).detach();
            }
            other => return Some(other),
        }
        None
    }

    async fn udp(self: Arc<Self>, caller: IncomingUdp) {
        let Ok(flow) = caller.accept().await else {
            return;
        };
        let mut question = vec![0; MAX_QUERY];
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                asked = tokio::time::timeout(UDP_IDLE, flow.recv(&mut question)) => match asked {
                    Ok(Ok(len)) => {
                        let question = question[..len].to_vec();
                        running.push(self.answer(question, Transport::Udp));
                    }
                    Ok(Err(_)) => return,
                    Err(_) if running.is_empty() => return,
                    Err(_) => {}
                },
                Some(answer) = running.next() => {
                    if let Some(answer) = answer
                        && let Err(error) = flow.send(&answer).await
                    {
                        tracing::trace!("send a DNS answer: {error}");
                    }
                }
            }
        }
    }

    async fn tcp(self: Arc<Self>, caller: IncomingTcp) {
        if let Ok(stream) = caller.accept().await {
            self.serve(stream).await;
        }
    }

    /// Answers what comes on a connection within the daemon, for whoever dials us.
    pub(crate) fn serve_dialled(self: Arc<Self>, stream: DuplexStream) -> BoxFuture<'static, ()> {
        Box::pin(self.serve(stream))
    }

    /// The answer to a datagram within the daemon, for whoever dials us.
    pub(crate) fn answer_dialled(
        self: Arc<Self>,
        message: Vec<u8>,
    ) -> BoxFuture<'static, Option<Vec<u8>>> {
        Box::pin(async move { self.answer(message, Transport::Udp).await })
    }

    /// Answers what comes on a connection until it ends, or is quiet for too long.
    async fn serve(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let (mut from, mut to) = tokio::io::split(stream);
        let (answers, mut answered) = mpsc::channel::<Vec<u8>>(TCP_ANSWERS);
        let writer = Task::spawn("dns answers", async move {
            while let Some(answer) = answered.recv().await {
                if write_framed(&mut to, &answer).await.is_err() {
                    return;
                }
            }
            let _ = to.shutdown().await;
        });
        while let Ok(Ok(question)) =
            tokio::time::timeout(TCP_IDLE, read_framed(&mut from, MAX_QUERY)).await
        {
            // Whoever asks much waits until there is room for the answer.
            let Ok(room) = answers.clone().reserve_owned().await else {
                break;
            };
            let magic_dns = Arc::clone(&self);
            let one = async move {
                if let Some(answer) = magic_dns.answer(question, Transport::Tcp).await {
                    room.send(answer);
                }
            };
            Task::spawn("dns question", one).detach();
        }
        drop(answers);
        writer.join().await;
    }

    /// The answer to a question of our own, and who would be asked.
    pub(crate) async fn query(&self, name: &Name, kind: Kind) -> (Vec<u8>, Vec<Server>) {
        let query = Query::new(1, name, kind);
        let servers = self.zones(&self.brain.snapshot()).servers(name).to_vec();
        let reply = match self.look_up(&query) {
            Lookup::Answer(reply) => reply,
            Lookup::Ask(servers) => self.ask(&query, &servers, Transport::Tcp).await,
        };
        (reply, servers)
    }

    /// The answer to a question of a peer whose exit node we are. The tailnet's names are not for it to ask here. `None` if it is no
    /// question, or too many ask.
    pub(crate) async fn answer_peer(&self, message: &[u8]) -> Option<Vec<u8>> {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(bad) => return bad.reply(),
        };
        let snapshot = self.brain.snapshot();
        let refused = snapshot
            .netmap
            .as_ref()
            .map(|map| &map.dns.exit_node_filtered_set);
        if refused.is_none_or(|refused| is_refused(&query.name, refused)) {
            return Some(query.answer_nothing(Rcode::REFUSED, None));
        }
        let zones = self.zones(&snapshot);
        // The machine's own resolver would ask us.
        if zones.own(&query.name).is_some() {
            return Some(query.answer_nothing(Rcode::NX_DOMAIN, None));
        }
        let servers = backend::dns_for_others(&snapshot.system_dns);
        let servers = servers.unwrap_or_else(|| zones.servers(&query.name).to_vec());
        let _one = self.asked.try_acquire().ok()?;
        Some(self.ask(&query, &servers, Transport::Tcp).await)
    }

    /// The answer to a message; `None` if there is none to give.
    pub(crate) async fn answer(&self, message: Vec<u8>, transport: Transport) -> Option<Vec<u8>> {
        let query = match Query::parse(&message) {
            Ok(query) => query,
            Err(bad) => return bad.reply(),
        };
        let mut reply = match self.look_up(&query) {
            Lookup::Answer(reply) => reply,
            Lookup::Ask(servers) => {
                let _one = self.asked.try_acquire().ok()?;
                self.ask(&query, &servers, transport).await
            }
        };
        if transport == Transport::Udp {
            dns::limit(&mut reply, query.udp_len);
        }
        Some(reply)
    }

    fn look_up(&self, query: &Query) -> Lookup {
        let snapshot = self.brain.snapshot();
        let zones = self.zones(&snapshot);
        let serial = rt::wall().as_unix_nanos() / 1_000_000_000;
        let names = TailnetNames(snapshot.netmap.as_deref());
        dns::look_up(query, &names, &zones, serial as u32)
    }

    fn zones(&self, snapshot: &Snapshot) -> Arc<Zones> {
        let map = snapshot.netmap.as_ref();
        let now = (
            map.map_or_else(Weak::new, Arc::downgrade),
            Arc::downgrade(&snapshot.prefs),
            Arc::downgrade(&snapshot.system_dns),
        );
        let mut cached = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = cached.of.as_ref().is_some_and(|(map, prefs, system)| {
            map.ptr_eq(&now.0) && prefs.ptr_eq(&now.1) && system.ptr_eq(&now.2)
        });
        if !is_same {
            let (zones, problems) =
                backend::dns_zones(map.map(|map| &**map), &snapshot.prefs, &snapshot.system_dns);
            if *cached.zones != zones {
                for problem in problems {
                    tracing::warn!("dns: {problem}");
                }
                cached.zones = Arc::new(zones);
            }
            cached.of = Some(now);
        }
        Arc::clone(&cached.zones)
    }

    async fn ask(&self, query: &Query, servers: &[Server], transport: Transport) -> Vec<u8> {
        let entrants = entrants(servers);
        let mut race = Race::new(&entrants, transport, rt::now());
        let mut running = FuturesUnordered::new();
        loop {
            for attempt in race.poll(rt::now()) {
                let entrant = entrants.get(attempt.server);
                running.push(self.attempt(query, attempt, entrant.map(|entrant| &entrant.server)));
            }
            if let Some(reply) = race.outcome(query) {
                if !race.has_answer() {
                    tracing::debug!("nobody answers a DNS question of kind {}", query.kind.0);
                }
                return reply;
            }
            let timeout = race.next_timeout().map(|at| at.since(rt::now()));
            tokio::select! {
                Some((attempt, response)) = running.next() => match response {
                    Ok(response) => race.answered(attempt, response),
                    Err(error) => {
                        tracing::trace!("ask DNS server {:?}: {error}", entrants.get(attempt.server));
                        race.failed(attempt, rt::now());
                    }
                },
                () = tokio::time::sleep(timeout.unwrap_or_default()) => {}
            }
        }
    }

    async fn attempt(
        &self,
        query: &Query,
        attempt: Attempt,
        server: Option<&Server>,
    ) -> (Attempt, io::Result<Response>) {
        let response = match server {
            // Whoever names us as the server for others has us ask ourselves.
            Some(Server::Plain(server)) if is_service_ip(server.ip()) => {
                Err(io::ErrorKind::AddrInUse.into())
            }
            Some(Server::Plain(server)) => match attempt.transport {
                Transport::Tcp => self.ask_by_tcp(query, *server).await,
                Transport::Udp | Transport::Http => self.ask_by_udp(query, *server).await,
            },
            Some(Server::Http { url, addresses }) => {
                self.http.ask(&self.dial, query, url, addresses).await
            }
            None => Err(io::ErrorKind::NotFound.into()),
        };
        (attempt, response)
    }

    /// Each question has a socket and an id of its own, so that nobody can guess both.
    async fn ask_by_udp(&self, query: &Query, server: SocketAddr) -> io::Result<Response> {
        let flow = self
            .dial
            .udp(&server.ip().to_string(), server.port())
            .await?;
        let id = OsRng.next_u32() as u16;
        flow.send(&query.to_send(id)).await?;
        let mut answer = vec![0; BUFFER_LEN];
        loop {
            let len = flow.recv(&mut answer).await?;
            if let Some(response) = Response::parse(&answer[..len], query, id) {
                return Ok(response);
            }
        }
    }

    async fn ask_by_tcp(&self, query: &Query, server: SocketAddr) -> io::Result<Response> {
        let mut stream = self
            .dial
            .tcp(&server.ip().to_string(), server.port())
            .await?;
        let id = OsRng.next_u32() as u16;
        write_framed(&mut stream, &query.to_send(id)).await?;
        let answer = read_framed(&mut stream, BUFFER_LEN).await?;
        let response = Response::parse(&answer, query, id);
        response.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not the answer"))
    }
}

/// Whether an exit node must not resolve a name for others. What begins with a dot stands for all below it.
fn is_refused(name: &Name, refused: &[String]) -> bool {
    let is_it = |entry: &String| match entry.strip_prefix('.') {
        Some(suffix) => suffix.parse().is_ok_and(|suffix| name.is_under(&suffix)),
        None => entry.parse().is_ok_and(|exact: Name| exact == *name),
    };
    refused.iter().filter(|entry| !entry.is_empty()).any(is_it)
}

/// A message behind its length (RFC 1035, 4.2.2).
async fn read_framed(from: &mut (impl AsyncRead + Unpin), max: usize) -> io::Result<Vec<u8>> {
    let len = usize::from(from.read_u16().await?);
    if len > max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a DNS message is too long",
        ));
    }
    let mut message = vec![0; len];
    from.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_framed(to: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let len = u16::try_from(message.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a DNS message is too long"))?;
    let mut framed = len.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    to.write_all(&framed).await?;
    to.flush().await
}

/// The names in a network map.
struct TailnetNames<'a>(Option<&'a NetMap>);

impl Names for TailnetNames<'_> {
    fn addresses(&self, name: &Name) -> Option<Vec<IpAddr>> {
        let map = self.0?;
        // Names of one label are for the tailnet only where it has names at all.
        if name.labels().nth(1).is_none() && !map.dns.proxied {
            return None;
        }
        map.resolve(&name.to_string())
    }

    fn has_names_below(&self, name: &Name) -> bool {
        let node = self.0.and_then(|map| map.by_name(&name.to_string()));
        node.is_some_and(|node| {
            node.cap_map
                .contains_key(tailcfg::cap::DNS_SUBDOMAIN_RESOLVE)
        })
    }

    fn name_of(&self, address: IpAddr) -> Option<Name> {
        let map = self.0?;
        // An IPv4 address may have been put into an IPv6 one.
        let within = match address {
            IpAddr::V6(v6) => packet::addr::v4_from_v6(v6).map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        let node = map.by_ip(address).or_else(|| map.by_ip(within?))?;
        node.name.parse().ok()
    }
}
