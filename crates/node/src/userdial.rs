//! Connections on behalf of a user of this node: by the proxies, `tailscale nc`, and whoever else asks.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use host::BoxFuture;
use ipn::State;
use packet::addr;
use rt::Task;
use tokio::sync::{Mutex, mpsc};
use transport::Dialer;

use crate::brain::BrainHandle;
use crate::magic_dns::MagicDns;
use crate::{DatagramFlow, Dial, Stream};

/// Bytes of a connection to MagicDNS that may wait, and answers to datagrams.
const DNS_BUFFER: usize = 16 << 10;
const DNS_ANSWERS: usize = 64;
/// How long a connection waits for a node that is coming up.
const COMING_UP: Duration = Duration::from_secs(4);

/// Opens connections as a user of this node would.
#[derive(Clone)]
pub(crate) struct UserDial {
    pub(crate) brain: BrainHandle,
    /// Flows through the tunnel of our own; `None` where the kernel knows the way.
    pub(crate) flows: Option<dataplane::Dialer>,
    pub(crate) system: Arc<Dialer>,
    /// MagicDNS, which without a device only our own connections reach.
    pub(crate) magic_dns: Arc<OnceLock<Weak<MagicDns>>>,
}

/// Where a name or address leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// Into the tunnel.
    Tunnel(SocketAddr),
    /// To our own MagicDNS.
    MagicDns(SocketAddr),
    /// Out of the machine by its own routes; never empty.
    System(Vec<SocketAddr>),
}

impl UserDial {
    /// Finds out where `host` leads, without connecting.
    ///
    /// What can only be meant for the tailnet never leaves the machine another way: a node that has just started waits
    /// a moment for its network map, and what nobody in the tailnet owns is an error.
    pub(crate) async fn way(&self, host: &str, port: u16) -> io::Result<Way> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.split('%').next().unwrap_or_default().parse::<IpAddr>() {
            if self.flows.is_some() && addr::is_service_ip(ip) && port == dns::PORT {
                return Ok(Way::MagicDns((ip, port).into()));
            }
            if addr::is_tailscale_ip(ip) {
                self.wait_until_running().await?;
                return match self.way_to(&[ip], port) {
                    Way::System(_) => Err(io::Error::new(
                        io::ErrorKind::HostUnreachable,
                        format!("no node of the tailnet has or routes {ip}"),
                    )),
                    other => Ok(other),
                };
            }
            return Ok(self.way_to(&[ip], port));
        }
        if !bare.trim_end_matches('.').contains('.') && bare != "localhost" {
            // Only the tailnet has names of one label; the error is the system resolver's to find.
            let _ = self.wait_until_running().await;
        }
        if let Some(ips) = self.tailnet_name(bare) {
            return Ok(self.way_to(&ips, port));
        }
        let found = self.system.resolve(bare).await.map_err(io::Error::other)?;
        if found.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no address for `{host}`"),
            ));
        }
        Ok(self.way_to(&found, port))
    }

    /// Waits for a node that is coming up; one that is down or logged out is an error at once.
    async fn wait_until_running(&self) -> io::Result<()> {
        let mut snapshots = self.brain.follow();
        let up = snapshots.wait_for(|snapshot| match snapshot.state {
            State::NoState | State::Starting => !snapshot.prefs.want_running,
            State::Running
            | State::Stopped
            | State::NeedsLogin
            | State::NeedsMachineAuth
            | State::InUseOtherUser => true,
        });
        let state = match tokio::time::timeout(COMING_UP, up).await {
            Ok(Ok(snapshot)) => snapshot.state,
            Ok(Err(_)) | Err(_) => self.brain.snapshot().state,
        };
        if state == State::Running {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::NotConnected,
            format!("the tailnet cannot be reached: this node is {state}"),
        ))
    }

    /// IPv4 first, which every node has.
    fn tailnet_name(&self, name: &str) -> Option<Vec<IpAddr>> {
        let snapshot = self.brain.snapshot();
        let mut ips = snapshot.netmap.as_ref()?.resolve(name)?;
        ips.sort_by_key(IpAddr::is_ipv6);
        (!ips.is_empty()).then_some(ips)
    }

    fn way_to(&self, ips: &[IpAddr], port: u16) -> Way {
        let snapshot = self.brain.snapshot();
        let routes = &snapshot.routes;
        match ips.iter().find(|ip| routes.lookup(**ip).is_some()) {
            Some(ip) => Way::Tunnel((*ip, port).into()),
            None => Way::System(ips.iter().map(|ip| (*ip, port).into()).collect()),
        }
    }

    /// A connection to the first of these addresses, all of one server, that can be had.
    pub(crate) async fn any(&self, addresses: &[SocketAddr]) -> io::Result<Box<dyn Stream>> {
        let port = addresses.first().map_or(0, SocketAddr::port);
        let ips: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
        self.open(self.way_to(&ips, port)).await
    }

    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
        self.open(self.way(host, port).await?).await
    }

    async fn open(&self, way: Way) -> io::Result<Box<dyn Stream>> {
        match way {
            Way::Tunnel(target) => match &self.flows {
                Some(flows) => Ok(Box::new(flows.tcp(target).await?)),
                None => Ok(Box::new(tokio::net::TcpStream::connect(target).await?)),
            },
            Way::MagicDns(_) => {
                let (client, server) = tokio::io::duplex(DNS_BUFFER);
                let serve = self.magic_dns()?.serve_dialled(server);
                Task::spawn("dns by a proxy", serve).detach();
                Ok(Box::new(client))
            }
            Way::System(targets) => Ok(Box::new(self.system.race(&targets).await?)),
        }
    }

    fn magic_dns(&self) -> io::Result<Arc<MagicDns>> {
        let magic_dns = self.magic_dns.get().and_then(Weak::upgrade);
        magic_dns.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    async fn open_udp(&self, host: &str, port: u16) -> io::Result<Box<dyn DatagramFlow>> {
        match self.way(host, port).await? {
            Way::Tunnel(target) => match &self.flows {
                Some(flows) => Ok(Box::new(TunnelFlow(flows.udp(target).await?))),
                None => system_flow(target).await,
            },
            Way::MagicDns(local) => Ok(Box::new(DnsFlow::new(self.magic_dns()?, local))),
            Way::System(targets) => {
                let target = *targets.first().ok_or(io::ErrorKind::NotFound)?;
                system_flow(target).await
            }
        }
    }
}

async fn system_flow(target: SocketAddr) -> io::Result<Box<dyn DatagramFlow>> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = tokio::net::UdpSocket::bind((any, 0)).await?;
    socket.connect(target).await?;
    let local = socket.local_addr()?;
    Ok(Box::new(SystemFlow { socket, local }))
}

impl Dial for UserDial {
    fn tcp<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(self.connect(host, port))
    }

    fn udp<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Box<dyn DatagramFlow>>> {
        Box::pin(self.open_udp(host, port))
    }
}

/// Questions for our own MagicDNS, and its answers.
struct DnsFlow {
    magic_dns: Arc<MagicDns>,
    local: SocketAddr,
    answers: mpsc::Sender<Vec<u8>>,
    answered: Mutex<mpsc::Receiver<Vec<u8>>>,
}

impl DnsFlow {
    fn new(magic_dns: Arc<MagicDns>, local: SocketAddr) -> Self {
        let (answers, answered) = mpsc::channel(DNS_ANSWERS);
        Self {
            magic_dns,
            local,
            answers,
            answered: Mutex::new(answered),
        }
    }

    async fn next(&self, buf: &mut [u8]) -> io::Result<usize> {
        let answer = self.answered.lock().await.recv().await;
        let answer = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
        let len = answer.len().min(buf.len());
        buf[..len].copy_from_slice(&answer[..len]);
        Ok(len)
    }
}

impl DatagramFlow for DnsFlow {
    fn send<'a>(&'a self, datagram: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        let (magic_dns, answers) = (Arc::clone(&self.magic_dns), self.answers.clone());
        let question = datagram.to_vec();
        Box::pin(async move {
            // Who asks more than that waits.
            let Ok(room) = answers.reserve_owned().await else {
                return Err(io::ErrorKind::BrokenPipe.into());
            };
            let one = async move {
                if let Some(answer) = magic_dns.answer_dialled(question).await {
                    room.send(answer);
                }
            };
            Task::spawn("dns by a proxy", one).detach();
            Ok(())
        })
    }

    fn recv<'a>(&'a self, buf: &'a mut [u8]) -> BoxFuture<'a, io::Result<usize>> {
        Box::pin(self.next(buf))
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

struct TunnelFlow(dataplane::UdpFlow);

impl DatagramFlow for TunnelFlow {
    fn send<'a>(&'a self, datagram: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(self.0.send(datagram))
    }

    fn recv<'a>(&'a self, buf: &'a mut [u8]) -> BoxFuture<'a, io::Result<usize>> {
        Box::pin(self.0.recv(buf))
    }

    fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }
}

struct SystemFlow {
    socket: tokio::net::UdpSocket,
    local: SocketAddr,
}

impl DatagramFlow for SystemFlow {
    fn send<'a>(&'a self, datagram: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move { self.socket.send(datagram).await.map(drop) })
    }

    fn recv<'a>(&'a self, buf: &'a mut [u8]) -> BoxFuture<'a, io::Result<usize>> {
        Box::pin(self.socket.recv(buf))
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}
