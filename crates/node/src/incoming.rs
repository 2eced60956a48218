//! Flows that peers open to us: in userspace mode they go to the same port on 127.0.0.1.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dataplane::{Incoming, IncomingFlows, IncomingTcp, IncomingUdp};
use rt::Task;
use tokio::net::{TcpStream, UdpSocket};

use crate::magic_dns::MagicDns;
use crate::peer_api::PeerApi;

/// Bytes that a copy moves at once.
const COPY_LEN: usize = 64 << 10;

/// Which peer is behind a connection that a local server sees coming from loopback. Clones are handles to the same map.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProxyMap(Arc<Mutex<BTreeMap<(Transport, SocketAddr), SocketAddr>>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Transport {
    Tcp,
    Udp,
}

impl ProxyMap {
    fn map(&self) -> MutexGuard<'_, BTreeMap<(Transport, SocketAddr), SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer behind `local`, one of our sockets' addresses; `proto` is `udp`, or anything else for TCP.
    pub(crate) fn client_of(&self, proto: &str, local: SocketAddr) -> Option<SocketAddr> {
        let transport = if proto == "udp" {
            Transport::Udp
        } else {
            Transport::Tcp
        };
        self.map().get(&(transport, local)).copied()
    }

    fn register(&self, transport: Transport, local: SocketAddr, client: SocketAddr) -> Registered {
        self.map().insert((transport, local), client);
        Registered {
            map: self.clone(),
            key: (transport, local),
        }
    }
}

/// An entry of the map, for as long as this lives.
struct Registered {
    map: ProxyMap,
    key: (Transport, SocketAddr),
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.map.map().remove(&self.key);
    }
}

/// What is served by this node itself, and who has the rest.
pub(crate) struct Services {
    pub(crate) magic_dns: Arc<MagicDns>,
    pub(crate) peer_api: Arc<PeerApi>,
    /// Where all else goes; without, nobody is there: with a device it is the host's and does not come here.
    pub(crate) others: Option<ProxyMap>,
}

/// Gives what comes to whom it is for, until the engine stops.
pub(crate) async fn serve(mut flows: IncomingFlows, services: Services) {
    while let Some(flow) = flows.recv().await {
        let flow = services.magic_dns.take(flow);
        let flow = flow.and_then(|flow| services.peer_api.take(flow));
        match (flow, services.others.clone()) {
            (None, _) => {}
            (Some(Incoming::Tcp(caller)), Some(map)) => {
                Task::spawn("incoming tcp", forward_tcp(caller, map)).detach();
            }
            (Some(Incoming::Udp(caller)), Some(map)) => {
                Task::spawn("incoming udp", forward_udp(caller, map)).detach();
            }
            (Some(Incoming::Tcp(caller)), None) => caller.refuse(),
            // Whoever sends to nobody hears nothing.
            (Some(Incoming::Udp(caller)), None) => drop(caller),
        }
    }
}

/// Compat: IPv6 callers reach 127.0.0.1 too.
fn target(local: SocketAddr) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, local.port()).into()
}

/// The local server is asked before the caller gets an answer, so that a closed port looks closed from afar.
async fn forward_tcp(caller: IncomingTcp, proxy_map: ProxyMap) {
    let (local, remote) = (caller.local, caller.remote);
    let connected = tokio::select! {
        connected = TcpStream::connect(target(local)) => connected,
        () = caller.gone() => return,
    };
    let mut server = match connected {
        Ok(server) => server,
        Err(error) => {
            tracing::debug!(
                "incoming connection from {remote} to port {}: {error}",
                local.port()
            );
            caller.refuse();
            return;
        }
    };
    let _registered = server
        .local_addr()
        .ok()
        .map(|own| proxy_map.register(Transport::Tcp, own, remote));
    let mut client = match caller.accept().await {
        Ok(client) => client,
        Err(error) => {
            tracing::debug!(
                "incoming connection from {remote} to port {}: {error}",
                local.port()
            );
            return;
        }
    };
    let copied =
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, COPY_LEN, COPY_LEN)
            .await;
    if let Err(error) = copied {
        tracing::trace!("connection from {remote} to port {}: {error}", local.port());
    }
}

async fn forward_udp(caller: IncomingUdp, proxy_map: ProxyMap) {
    let (local, remote) = (caller.local, caller.remote);
    let socket = match connected_socket(target(local)).await {
        Ok(socket) => socket,
        Err(error) => {
            tracing::debug!(
                "incoming datagrams from {remote} to port {}: {error}",
                local.port()
            );
            return;
        }
    };
    let _registered = socket
        .local_addr()
        .ok()
        .map(|own| proxy_map.register(Transport::Udp, own, remote));
    let Ok(flow) = caller.accept().await else {
        return;
    };
    let mut question = vec![0; 65_535];
    let mut answer = vec![0; 65_535];
    loop {
        tokio::select! {
            asked = flow.recv(&mut question) => match asked {
                Ok(len) => {
                    // Nobody may be listening: then it is lost, as on a real network.
                    let _ = socket.send(&question[..len]).await;
                }
                Err(_) => return,
            },
            answered = socket.recv(&mut answer) => {
                if let Ok(len) = answered
                    && let Err(error) = flow.send(&answer[..len]).await
                {
                    tracing::trace!("datagram to {remote}: {error}");
                }
            }
        }
    }
}

async fn connected_socket(target: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(target).await?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_known_as_long_as_its_connection() {
        let map = ProxyMap::default();
        let own: SocketAddr = "127.0.0.1:5".parse().unwrap();
        let client: SocketAddr = "100.64.0.9:7".parse().unwrap();
        let registered = map.register(Transport::Tcp, own, client);
        assert_eq!(map.client_of("tcp", own), Some(client));
        assert_eq!(map.client_of("", own), Some(client));
        assert_eq!(map.client_of("udp", own), None);
        drop(registered);
        assert_eq!(map.client_of("tcp", own), None);
    }
}
